"""Reads the files of Planetoid, which are pickles of Python 2, without running anything that they name."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from morphobench.data.download import CorruptFile


class Rows:
    """Stands in for a sparse matrix of SciPy: what the file says of it becomes attributes, no code of SciPy sees it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.parts = state

    def dense(self) -> np.ndarray:
        """Return the matrix; an index outside it is a ValueError."""
        data, indices, indptr = (np.asarray(self.parts[name]) for name in ("data", "indices", "indptr"))
        matrix = sparse.csr_matrix((data, indices, indptr), shape=self.parts["_shape"])
        matrix.check_format(full_check=True)
        return matrix.toarray()


# The only names that a file may use, as Python 2 calls them, and what each means here.
ALLOWED: dict[tuple[str, str], Any] = {
    ("scipy.sparse.csr", "csr_matrix"): Rows,
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Refuses every name that is not in `ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name means; a pickle calls whatever it names, so that nothing else may be."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            known = ", ".join(".".join(pair) for pair in ALLOWED)
            raise pickle.UnpicklingError(f"found the name {module}.{name}, expected one of {known}") from None


def read_pickle(path: Path) -> Any:
    """Return the content of a file: a matrix of `Rows` as a dense array, anything else as it is.

    Raises
    ------
    CorruptFile
        If it names anything that is not allowed, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            found = RestrictedUnpickler(stream, encoding="latin1").load()
        return found.dense() if isinstance(found, Rows) else found
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise CorruptFile(f"{path}: not a readable Planetoid file: {error}") from error
