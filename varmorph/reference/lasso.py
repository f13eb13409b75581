"""The lasso in NumPy, float64: every support and every choice of signs is tried, and the one that is the minimiser is kept.

z*(x, D, s) = argmin_z  |x - D z|^2 / 2 + sum_j s_j |z_j| + (ridge / 2) |z|^2
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

__all__ = ["SparseGradient", "sparse_code", "sparse_code_gradient"]

MOST_ATOMS = 9  # 3^9 choices of signs


class SparseGradient(NamedTuple):
    """Gradients of a scalar of the code in x (n,), dictionary (n, m) and strength (m,)."""

    x: np.ndarray
    dictionary: np.ndarray
    strength: np.ndarray


def sparse_code(x: np.ndarray, dictionary: np.ndarray, strength: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """Return the code (m,) of one feature vector (n,) by exhaustion.

    Parameters
    ----------
    x : (n,)
    dictionary : (n, m)
        At most `MOST_ATOMS` atoms.
    strength : (m,)
        > 0.
    ridge : float
        >= 0.

    Raises
    ------
    ValueError
        For more atoms.

    Examples
    --------
    >>> sparse_code(np.array([3.0, 0.2]), np.eye(2), np.ones(2)).tolist()
    [2.0, 0.0]
    """
    atoms = dictionary.shape[1]
    if atoms > MOST_ATOMS:
        raise ValueError(f"dictionary must have at most {MOST_ATOMS} atoms to try all signs, found {atoms}")
    hessian, seen = dictionary.T @ dictionary + ridge * np.eye(atoms), dictionary.T @ x
    best, least = np.zeros(atoms), np.inf
    for signs in itertools.product((-1, 0, 1), repeat=atoms):
        on = np.flatnonzero(signs)
        z = np.zeros(atoms)
        block = hessian[np.ix_(on, on)]
        if np.linalg.matrix_rank(block) < len(on):
            continue  # another support of the same minimum has fewer atoms
        z[on] = np.linalg.solve(block, seen[on] - strength[on] * np.array(signs)[on])
        if (z[on] * np.array(signs)[on] < 0).any():
            continue
        energy = 0.5 * ((x - dictionary @ z) ** 2).sum() + (strength * abs(z)).sum() + 0.5 * ridge * (z**2).sum()
        if energy < least:
            best, least = z, energy
    return best


def sparse_code_gradient(
    x: np.ndarray,
    dictionary: np.ndarray,
    strength: np.ndarray,
    cotangent: np.ndarray,
    ridge: float = 0.0,
    code: np.ndarray | None = None,
) -> SparseGradient:
    """Differentiate cotangent . code where signs and support stay: dense and coordinate by coordinate.

    The equation of the support, D_S^T (D_S z_S - x) + s_S sign(z_S) + ridge z_S = 0, is differentiated as it stands, for one entry
    of the arguments after the other.

    Parameters
    ----------
    cotangent : (m,)
    code : (m,), optional
        The code, if it is known.
    """
    z = sparse_code(x, dictionary, strength, ridge) if code is None else code
    on = np.flatnonzero(z)
    part = dictionary[:, on]
    inverse = np.linalg.inv(part.T @ part + ridge * np.eye(len(on)))

    def follows(change: np.ndarray) -> float:
        """Change of the scalar when the equation's left side changes."""
        return float(-cotangent[on] @ (inverse @ change))

    by_x = np.array([follows(-part[i]) for i in range(len(x))])
    by_strength, by_dictionary = np.zeros(len(z)), np.zeros(dictionary.shape)
    residual = x - dictionary @ z
    for place, j in enumerate(on):
        unit = np.eye(len(on))[place]
        by_strength[j] = follows(unit * np.sign(z[j]))
        for i in range(len(x)):
            by_dictionary[i, j] = follows(part[i] * z[j] - unit * residual[i])
    return SparseGradient(by_x, by_dictionary, by_strength)
