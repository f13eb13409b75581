"""Sparse codes one after the other: coordinate descent until the support stays, then the linear system of the support.

All is computed in float64: the systems are small, and what is rounded decides which atoms take part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.threads import over_planes

__all__ = ["apply_inverses", "minimise"]

ROUNDING = 1e-14  # of the greatest correlation: by so much a coefficient may miss its bound and still be 0


@part
def _sweep(z: Any, c: Any, hessian: Any, strength: Any, slack: float) -> tuple[bool, float]:
    """Minimise over one atom after the other; c = seen - H z is kept up. Tell whether signs stayed, and the largest change."""
    atoms, stayed, largest = z.size, True, 0.0
    for j in range(atoms):
        size = hessian[j, j]
        pull = c[j] + size * z[j]
        new = 0.0
        if abs(pull) > strength[j] + slack:
            new = (pull - strength[j] if pull > 0 else pull + strength[j]) / size
        change = new - z[j]
        if change != 0.0:
            stayed &= (new > 0) == (z[j] > 0) and (new < 0) == (z[j] < 0)
            largest = max(largest, abs(change) * size)
            for i in range(atoms):
                c[i] -= hessian[i, j] * change
            z[j] = new
    return stayed, largest


@part
def _finish(
    z: Any, seen: Any, hessian: Any, strength: Any, slack: float, root: Any, chosen: Any, found: Any, c: Any
) -> bool:
    """Solve the system of the support by Cholesky's method; take the result if it is the minimiser, and tell so."""
    atoms, count = z.size, 0
    for j in range(atoms):
        if z[j] != 0.0:
            chosen[count] = j
            count += 1
    for a in range(count):
        j = chosen[a]
        total = seen[j] - (strength[j] if z[j] > 0 else -strength[j])
        for b in range(a + 1):
            entry = hessian[j, chosen[b]]
            for k in range(b):
                entry -= root[a, k] * root[b, k]
            if a == b:
                if not entry > 1e-13 * hessian[j, j]:
                    return False
                root[a, a] = np.sqrt(entry)
            else:
                root[a, b] = entry / root[b, b]
        for k in range(a):
            total -= root[a, k] * found[k]
        found[a] = total / root[a, a]
    for a in range(count - 1, -1, -1):
        for k in range(a + 1, count):
            found[a] -= root[k, a] * found[k]
        found[a] /= root[a, a]
        if (found[a] > 0) != (z[chosen[a]] > 0) or found[a] == 0.0:
            return False
    for i in range(atoms):
        c[i] = seen[i]
        for a in range(count):
            c[i] -= hessian[i, chosen[a]] * found[a]
        if z[i] == 0.0 and abs(c[i]) > strength[i] + slack:
            return False
    for a in range(count):
        z[chosen[a]] = found[a]
    return True


@kernel
def _minimise(
    seen: Any, hessian: Any, strength: Any, most: int, codes: Any, sweeps: Any, tries: Any, start: int, stop: int
) -> None:
    atoms = hessian.shape[0]
    root, chosen, found = np.empty((atoms, atoms)), np.empty(atoms, np.int64), np.empty(atoms)
    z, c, trial = np.empty(atoms), np.empty(atoms), np.empty(atoms)
    for p in range(start, stop):
        slack = 0.0
        for j in range(atoms):
            z[j], c[j] = 0.0, seen[p, j]
            slack = max(slack, ROUNDING * abs(c[j]))
        done, pause, waited = False, 1, 0
        while not done and sweeps[p] < most:
            stayed, largest = _sweep(z, c, hessian, strength, slack)
            sweeps[p] += 1
            waited += 1
            if stayed and waited >= pause:
                done = _finish(z, seen[p], hessian, strength, slack, root, chosen, found, trial)
                tries[p] += 1
                # A support that is not the last one yet is tried more and more rarely.
                pause, waited = 2 * pause, 0
            done = done or largest <= slack / 8
        for j in range(atoms):
            codes[p, j] = z[j]


@kernel
def _apply(inverses: Any, which: Any, right: Any, found: Any, start: int, stop: int) -> None:
    atoms = right.shape[1]
    for p in range(start, stop):
        matrix = inverses[which[p]]
        for i in range(atoms):
            total = 0.0
            for j in range(atoms):
                total += matrix[i, j] * right[p, j]
            found[p, i] = total


def minimise(
    seen: np.ndarray, hessian: np.ndarray, strength: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes (N, m), and sweeps and tries of the support's system (N,).

    seen : (N, m), D^T x.  hessian : (m, m), D^T D + ridge I.  strength : (m,).  most : limit of the sweeps.
    """
    codes = np.empty(seen.shape)
    sweeps, tries = np.zeros(len(seen), np.int64), np.zeros(len(seen), np.int64)
    exact = (seen.astype(np.float64), hessian.astype(np.float64), strength.astype(np.float64))
    over_planes(lambda start, stop: _minimise(*exact, most, codes, sweeps, tries, start, stop), len(seen), seen.size)
    return codes.astype(seen.dtype), sweeps, tries


def apply_inverses(inverses: np.ndarray, which: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Multiply each row of right (N, m) by one of the matrices (U, m, m), that of the number which (N,)."""
    found = np.empty(right.shape)
    exact = (inverses.astype(np.float64), which, right.astype(np.float64))
    over_planes(lambda start, stop: _apply(*exact, found, start, stop), len(right), right.size)
    return found.astype(right.dtype)
