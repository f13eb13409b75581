"""Files that are either whole or absent: write to a temporary name beside the target, then rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["atomic", "digest", "digest_files", "file_digests", "write_json", "write_table", "write_text"]


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; rename it to ``path`` if the block ends without an error.

    The temporary name keeps the suffix of ``path``, since some writers look at it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; results are meant to be read by whoever may read the folder.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_table(stem: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as ``stem.csv`` and ``stem.parquet``, each whole or not at all."""
    with atomic(stem.with_name(f"{stem.name}.csv")) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    with atomic(stem.with_name(f"{stem.name}.parquet")) as temporary:
        table.to_parquet(temporary, index=False)


def digest(*parts: str | bytes) -> str:
    """SHA-256 (first 16 hexadecimal digits) of the parts, each preceded by its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()[:16]


def file_digests(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """SHA-256 of the contents of ``paths`` by their names (relative to ``root``), in sorted order."""
    found = {}
    for path in sorted(paths):
        with path.open("rb") as stream:
            found[path.relative_to(root).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """Digest of the names (relative to ``root``) and contents of ``paths``."""
    return digest(json.dumps(file_digests(paths, root)))
