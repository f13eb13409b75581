"""Sparse codes by the lasso, differentiated on their active set: the canonical nonsmooth implicit layer.

    z*(x, D, s) = argmin_z  |x - D z|^2 / 2 + sum_j s_j |z_j| + (ridge / 2) |z|^2

The code is a piecewise smooth function of x, D and s: on each piece its support S and its signs stay as they are, and there

    (D_S^T D_S + ridge I) z_S = D_S^T x - s_S sign(z_S)

holds. Its derivative is the conservative Jacobian of Bolte, Le, Pauwels and Silveti-Falls (NeurIPS 2021), who treat the lasso as
an example. It needs D_E^T D_E + ridge I to be invertible for the atoms E whose correlation with the residual reaches s_j, in the
support or not: then it is invertible for every selection between S and E. The certificate says where it is not.

Nothing here is morphological; it stands here because the layer shares certificates and failure policies with the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from varmorph.convergence import OnFailure, check_settings
from varmorph.formulas.per_problem import power_of_two
from varmorph.torch.backend.choice import implementation
from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.energy.adjoints import solved
from varmorph.torch.energy.certificates import (
    ActiveSet,
    BackwardCertificate,
    Certificate,
    ForwardCertificate,
    apply_policy,
)
from varmorph.torch.energy.minimisation import Solution
from varmorph.torch.energy.namespace import xp
from varmorph.torch.energy.transforms import solved_under_transforms
from varmorph.torch.lasso.supports import Systems, solve_on_supports
from varmorph.torch.shapes import Dictionary, PerAtom, Samples

__all__ = ["Lasso", "sparse_code"]

SWEEPS = 4  # of coordinate descent between two tries of the active set
MOST_SWEEPS = 4000
KINK = {torch.float64: 1e-9, torch.float32: 1e-4}  # a correlation so near its bound, relative to it, counts as on it


@solved_under_transforms
def sparse_code(
    x: Samples,
    dictionary: Dictionary,
    strength: PerAtom,
    *,
    ridge: float = 0.0,
    tolerance: float | None = None,
    max_sweeps: int = MOST_SWEEPS,
    on_failure: OnFailure = "warn",
) -> Solution:
    """Code feature vectors by the lasso.

    Sweeps of coordinate descent find the support; the linear system of the support is then solved, once for all samples that
    share it, so that the code is exact to rounding. The duality gap certifies both.

    Parameters
    ----------
    x : (N, n)
        Feature vectors, float32 or float64.
    dictionary : (n, m)
        Atoms as columns, none of them 0.
    strength : number, () or (m,)
        Weight of the absolute values, > 0.
    ridge : float
        >= 0; a positive one makes the code unique and its derivative bounded.
    tolerance : float, optional
        Duality gap relative to |x|^2 / 2. Default: 1e-13 in float64, 1e-6 in float32.
    max_sweeps : int
        Most sweeps over all atoms.
    on_failure : {"warn", "raise", "nan"}
        What happens to samples that have not converged, and in the backward pass to those that are singular.

    Returns
    -------
    Solution
        `value` and `unknowns` (N, m); entries of `certificate` (N,). `forward.iterations` counts sweeps, `linear_steps` tries of
        an active set; `active.margin` is the distance to a change of the active set in units of the strength: the least of
        1 - |c_j| / s_j off the support, c the correlations with the residual, and of (|D_j|^2 + ridge) |z_j| / s_j on it;
        `active.identified` is the sweep after which the support stayed. `forward.unique` and `backward.singular` are about the
        atoms that reach s_j within 1e-9 (float32: 1e-4) of it: whether their system is invertible to half of the digits.

    Raises
    ------
    TypeError, ValueError
        For arguments of a wrong type, shape or range.
    ConvergenceError
        If a sample has failed and the policy is "raise".

    Notes
    -----
    At a kink the support holds the atoms whose coefficient is not 0: one selection of the conservative Jacobian. The gradient
    where `singular` is True is the one of least norm on that support; nothing says that it is near any derivative.
    The systems take m^2 numbers a sample while they are applied.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[3.0, 0.2]], requires_grad=True)
    >>> code = sparse_code(x, torch.eye(2), 1.0)
    >>> code.value.detach(), code.certificate.forward.active.margin
    (tensor([[2., 0.]]), tensor([0.8000]))
    >>> torch.autograd.grad(code.value.sum(), x)
    (tensor([[1., 0.]]),)
    """
    lasso = Lasso.of(x, dictionary, strength, ridge)
    check_settings(tolerance, on_failure)
    if not isinstance(max_sweeps, int) or max_sweeps < 1:
        raise ValueError(f"max_sweeps must be a positive integer, found {max_sweeps!r}")
    goal = tolerance if tolerance is not None else 1e-13 if x.dtype == torch.float64 else 1e-6
    return _solve(lasso, goal, max_sweeps, on_failure)


@dataclass(frozen=True)
class Lasso:
    """One dictionary and many feature vectors, stored as columns: x (n, N), codes (m, N).

    Parameters
    ----------
    x, dictionary, strength : Tensor
        (n, N), (n, m) and (m,).
    ridge : float
        Weight of the squares.
    """

    x: Tensor
    dictionary: Tensor
    strength: Tensor
    ridge: float

    @classmethod
    def of(cls, x: Tensor, dictionary: Tensor, strength: Tensor | float, ridge: float) -> Lasso:
        """Check the arguments of `sparse_code`."""
        for name, value in (("x", x), ("dictionary", dictionary)):
            if not isinstance(value, Tensor) or value.dtype not in KINK:
                found = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name} must be a torch.Tensor of float32 or float64, found {found}")
        if x.ndim != 2 or dictionary.ndim != 2 or x.shape[1] != dictionary.shape[0] or 0 in dictionary.shape:
            shapes = f"{tuple(x.shape)} and {tuple(dictionary.shape)}"
            raise ValueError(f"x and dictionary must have shapes (N, n) and (n, m), found {shapes}")
        atoms = dictionary.shape[1]
        given = torch.as_tensor(strength, dtype=x.dtype, device=x.device)
        if given.ndim > 1 or (given.ndim == 1 and len(given) != atoms):
            raise ValueError(f"strength must be a number or have shape ({atoms},), found {tuple(given.shape)}")
        if not bool(((given > 0) & given.isfinite()).all()):
            raise ValueError(f"strength must hold finite numbers > 0, found {given.min().item()}")
        if not 0 <= ridge < torch.inf:
            raise ValueError(f"ridge must be a number >= 0, found {ridge!r}")
        if not bool((dictionary.detach().square().sum(0) > 0).all()):
            raise ValueError("dictionary must have no atom that is 0, found one")
        return cls(x.T, dictionary.to(x.dtype), given.expand(atoms), float(ridge))

    def detach(self) -> Lasso:
        """Return the same problem without gradients."""
        return Lasso(self.x.detach(), self.dictionary.detach(), self.strength.detach(), self.ridge)

    def take(self, samples: Tensor) -> Lasso:
        """Return some of the feature vectors."""
        return Lasso(self.x[:, samples], self.dictionary, self.strength, self.ridge)

    @property
    def hessian(self) -> Tensor:
        """D^T D + ridge I, (m, m)."""
        gram = self.dictionary.T @ self.dictionary
        return gram + self.ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    def correlations(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return c = D^T (x - D z) - ridge z, (m, N), and the squared norms |x - D z|^2 + ridge |z|^2, (N,)."""
        residual = self.x - self.dictionary @ z
        squares = residual.square().sum(0) + self.ridge * z.square().sum(0)
        return self.dictionary.T @ residual - self.ridge * z, squares

    def gap(self, z: Tensor) -> Tensor:
        """Duality gap relative to |x|^2 / 2, (N,): a bound on how far the energy lies above its minimum.

        The dual point is the residual, scaled by a <= 1 so that no correlation exceeds s. Written as
        (1 - a)^2 |r|^2 / 2 + sum_j (s_j |z_j| - a c_j z_j), a sum of terms that are >= 0, it does not cancel.
        """
        c, squares = self.correlations(z)
        scale = (self.strength[:, None] / c.abs()).amin(0).clamp(max=1.0)
        gap = (1 - scale).square() * squares / 2 + (self.strength[:, None] * z.abs() - scale * c * z).sum(0)
        whole = self.x.square().sum(0) / 2
        return torch.where(whole > 0, gap.clamp(min=0) / whole.where(whole > 0, 1.0), gap)

    def reaching(self, z: Tensor) -> Tensor:
        """Tell which atoms reach their bound or are in the support, (m, N)."""
        c, _ = self.correlations(z)
        return (c.abs() >= self.strength[:, None] * (1 - KINK[z.dtype])) | (z != 0)

    def margin(self, z: Tensor) -> Tensor:
        """Distance to a change of the active set, (N,); see `sparse_code`."""
        c, _ = self.correlations(z)
        strength, size = self.strength[:, None], self.hessian.diagonal()[:, None]
        return torch.where(z != 0, size * z.abs() / strength, 1 - c.abs() / strength).amin(0).clamp(min=0)


def _solve(given: Lasso, goal: float, max_sweeps: int, on_failure: OnFailure) -> Solution:
    lasso = given.detach()
    with torch.no_grad():
        if implementation("sparse_code", lasso.x.device) == "cpu":
            z, sweeps, tries = _minimise_by_kernel(lasso, max_sweeps)
        else:
            z, sweeps, tries = _minimise(lasso, goal, max_sweeps)
        gap = lasso.gap(z)
        systems = Systems.of(lasso.hessian, z != 0)
        unique = _are_regular(lasso, z, systems)
    certificate = Certificate(
        ForwardCertificate(gap <= goal, sweeps, gap, tries, unique, ActiveSet(lasso.margin(z), sweeps.clone()))
    )
    value = _Coded.apply(given.x.T, given.dictionary, given.strength, z, systems, given.ridge, certificate, on_failure)
    what = f"the lasso by coordinate descent, tolerance {goal:g}"
    value = apply_policy(on_failure, ~certificate.forward.converged, value, gap, what)
    return Solution(value, certificate, value.detach())


def _minimise_by_kernel(lasso: Lasso, max_sweeps: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_minimise`: each sample until the system of its support gives the minimiser, or nothing moves."""
    from varmorph.kernels.lasso import minimise

    seen = (lasso.dictionary.T @ lasso.x).T
    codes, sweeps, tries = on_arrays(minimise, seen, lasso.hessian, lasso.strength, max_sweeps)
    return codes.T, sweeps, tries


def _minimise(lasso: Lasso, goal: float, max_sweeps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes (m, N), and sweeps and tries of an active set (N,). Samples leave the iteration one by one."""
    hessian, samples = lasso.hessian, lasso.x.shape[1]
    z = lasso.x.new_zeros(len(hessian), samples)
    counts = torch.zeros(2, samples, dtype=torch.long, device=z.device)
    still, inside, part = torch.arange(samples, device=z.device), lasso, z.clone()
    done, sweeps = 0, SWEEPS
    while len(still) and done < max_sweeps:
        sweeps = min(sweeps, max_sweeps - done)
        seen = inside.dictionary.T @ inside.x
        _descend(part, seen, hessian, inside.strength.tolist(), sweeps)
        _clear_rounding(part, seen, hessian)
        done += sweeps
        polished = solve_on_supports(Systems.of(hessian, part != 0), seen - inside.strength[:, None] * part.sign())
        gaps = torch.stack((inside.gap(part), inside.gap(polished).nan_to_num(nan=torch.inf)))
        best = torch.where(gaps[1] <= gaps[0], polished, part)
        z[:, still] = best
        counts[0, still], counts[1, still] = done, counts[1, still] + 1
        open_ = gaps.amin(0) > goal
        # What goes on is the iterate of the descent: a wrong support may have led far away.
        still, part, inside = still[open_], part[:, open_], inside.take(open_)
        sweeps *= 2
    return z, counts[0], counts[1]


def _descend(z: Tensor, seen: Tensor, hessian: Tensor, strength: list[float], sweeps: int) -> None:
    """Minimise over one atom after the other, in place; seen = D^T x."""
    sizes = hessian.diagonal().tolist()
    for _ in range(sweeps):
        for j, size in enumerate(sizes):
            pull = torch.addmv(seen[j], z.T, hessian[j], alpha=-1).add_(z[j], alpha=size)
            z[j] = torch.nn.functional.softshrink(pull, strength[j]).div_(size)


def _clear_rounding(z: Tensor, seen: Tensor, hessian: Tensor) -> None:
    """Set coefficients to 0 that are nothing but rounding, in place: they would join the support."""
    unit = 16 * torch.finfo(z.dtype).eps * seen.abs().amax(0)
    z[z.abs() * hessian.diagonal()[:, None] <= unit] = 0


def _are_regular(lasso: Lasso, z: Tensor, systems: Systems) -> Tensor:
    """Tell whether the system of every selection is invertible, (N,): that of all atoms that reach their bound is."""
    reaching = lasso.reaching(z)
    more = (reaching != (z != 0)).any(0)
    regular = systems.regular[systems.which]
    if bool(more.any()):
        larger = Systems.of(lasso.hessian, reaching[:, more])
        regular[more] = larger.regular[larger.which]
    return regular


class _Coded(torch.autograd.Function):
    """Give codes their gradient in x, dictionary and strength."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dictionary: Tensor,
        strength: Tensor,
        z: Tensor,
        systems: Systems,
        ridge: float,
        certificate: Certificate,
        on_failure: OnFailure,
    ) -> Tensor:
        value = z.T.clone()
        ctx.save_for_backward(x, dictionary, strength, value)
        ctx.parts = (systems, ridge, certificate, on_failure)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Solve (D_S^T D_S + ridge I) v_S = q_S; then D v, r v^T - (D v) z^T and -sign(z) v are the gradients."""
        (x, dictionary, strength, code), (systems, ridge, certificate, on_failure) = ctx.saved_tensors, ctx.parts
        lasso, z, support = Lasso(x.T, dictionary, strength, ridge), code.T, code.T != 0

        def solve(q: Tensor) -> Tensor:
            v = solve_on_supports(systems, q * support)
            certificate.backward = _certify(lasso, q * support, v, ~certificate.forward.unique)
            failed = ~certificate.backward.converged | certificate.backward.singular
            residual = certificate.backward.residual
            return apply_policy(on_failure, failed, v.T, residual, "the adjoint of the lasso (nearly singular)").T

        def matrix(dictionary: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda v: support * (dictionary.T @ (dictionary @ v) + ridge * v) + ~support * v

        v = solved(solve, matrix, support * cotangents[0].T, dictionary)
        moved = lasso.dictionary @ v
        by_dictionary = (lasso.x - lasso.dictionary @ z) @ v.T - moved @ z.T
        return moved.T, by_dictionary, -(z.sign() * v).sum(1), *(None,) * 5


def _certify(lasso: Lasso, q: Tensor, v: Tensor, singular: Tensor) -> BackwardCertificate:
    unit = power_of_two(xp, q, (0,))  # so that squares neither overflow nor vanish
    q, v = q / unit, v / unit
    left = (lasso.dictionary.T @ (lasso.dictionary @ v) + lasso.ridge * v) * (q != 0) - q
    size = q.square().sum(0).sqrt()
    residual = left.square().sum(0).sqrt() / size.where(size > 0, 1.0)
    converged = residual <= (1e-8 if q.dtype == torch.float64 else 1e-3)
    return BackwardCertificate(converged, torch.ones_like(singular, dtype=torch.long), residual, singular)
