"""Equilibria z = f(z) of any map: a solver finds one, an adjoint differentiates it, a certificate says how well both went.

With J the Jacobian of f at the equilibrium, (I - J^T) v = dL/dz, then dL/dtheta = v^T df/dtheta: the implicit function theorem
for z - f(z, theta) = 0. Nothing of the forward iterations is kept. S. Bai, J. Z. Kolter, V. Koltun (2019), Deep equilibrium
models, NeurIPS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint, LinearAdjoint
from varmorph.torch.backend.choice import refuse_to_be_written_down, refuse_transforms
from varmorph.torch.backend.compilation import never_compiled
from varmorph.torch.energy.adjoints import Truncated, certify, checked_adjoint, resolved_tolerance
from varmorph.torch.energy.adjoints import apply_failure_policy as apply_backward_policy
from varmorph.torch.energy.certificates import ActiveSet, Certificate, ForwardCertificate
from varmorph.torch.energy.gmres import GeneralSolution, geometric_series, minimal_residuals
from varmorph.torch.energy.hidden_parameters import Graph
from varmorph.torch.energy.minimisation import Solution, apply_failure_policy, without_numbers
from varmorph.torch.energy.solvers import Anderson
from varmorph.torch.energy.solvers.iteration import MapSolver, hold
from varmorph.torch.shapes import AnyShape

__all__ = ["equilibrium"]

Function = Callable[[AnyShape], AnyShape]


@never_compiled
def equilibrium(
    function: Function,
    start: AnyShape,
    *,
    solver: MapSolver | None = None,
    adjoint: Adjoint | None = None,
    batched: bool = True,
) -> Solution:
    """Find z with z = function(z), differentiable in every tensor that the function closes over.

    Parameters
    ----------
    function : callable
        Maps z (N, ...) to the same shape and dtype, each sample for itself. It is called many times, and must do the same
        each time: no dropout, no running statistics. Weights and an input that it closes over may require gradients, and
        must be seen in its graph: `torch.utils.checkpoint.checkpoint` needs `use_reentrant=False`.
    start : (N, ...)
        Where to start; carries no gradient. Zeros are usual.
    solver : FixedPoint or Anderson
        Default `Anderson()`. Its tolerance is for the residual max |f(z) - z| / max(1, max |f(z)|) of each sample; a
        sample that has reached it stays where it is while others go on, so that its result does not depend on its batch.
    adjoint : Adjoint
        Default `Implicit()`: GMRES on vector-Jacobian products, with a tolerance and a certificate of its own. `Neumann(terms=k)`
        is the first k terms of sum_j (J^T)^j dL/dz, `OneStep(step="relaxation")` the first alone, the Jacobian-free gradient
        (Fung et al., AAAI 2022); `OneStep()`, one Newton step, solves the system of `Implicit`. `Unrolled()` and
        `Truncated()` store iterations.
    batched : bool
        Whether the first dimension counts samples; else all of z is one problem, such as a graph, and certificates have shape ().

    Returns
    -------
    Solution
        `value` is f(z), one application of the function beyond the iterate that `certificate.forward.residual` was measured at.
        The certificate cannot know whether the equilibrium is the only one (`unique` is False), nor how far kinks are
        (`active.margin` is 0). `certificate.backward.singular` says that I - J is.

    Raises
    ------
    TypeError
        If solver or adjoint cannot treat a map.
    ValueError
        If the function returns another shape or dtype.
    RuntimeError
        If the function hides what it closes over from its graph, by a re-entrant checkpoint or a `torch.autograd.Function`
        whose backward pass calls `backward()`: its gradients would be lost.
    ConvergenceError
        If a sample has not converged and the policy is "raise".

    Examples
    --------
    z = cos(a z) at a = 1, and dz/da = -z sin z / (1 + sin z).

    >>> import torch
    >>> from varmorph.torch import equilibrium
    >>> a = torch.ones((), dtype=torch.float64, requires_grad=True)
    >>> solution = equilibrium(lambda z: torch.cos(a * z), torch.zeros(1, 1, dtype=torch.float64))
    >>> round(solution.value.item(), 6)
    0.739085
    >>> solution.value.sum().backward()
    >>> round(a.grad.item(), 6), solution.certificate.backward.converged.tolist()
    (-0.297474, [True])
    """
    refuse_to_be_written_down("equilibrium")
    refuse_transforms("equilibrium")
    solver, adjoint = _checked_methods(solver, adjoint)
    problem = _problem(function, start, batched)
    if start.device.type == "meta":
        return without_numbers(start, start.shape[:1] if batched else ())
    samples, shape = len(problem.start), start.shape[:1] if batched else ()
    unrolled = adjoint.unrolls and torch.is_grad_enabled()
    with torch.autocast(start.device.type, enabled=False):
        with torch.set_grad_enabled(unrolled):
            found = _iterate(solver, problem, problem.start)
        certificate = Certificate(_forward_certificate(found, tuple(shape)))
        value = _attach(adjoint, problem, found, certificate, tuple(shape))
    value = apply_failure_policy(solver, found.converged, found.residual, value.view(samples, *problem.shape)).view(
        start.shape
    )
    return Solution(value, certificate, value.detach())


def _checked_methods(solver: MapSolver | None, adjoint: Adjoint | None) -> tuple[MapSolver, Adjoint]:
    solver = Anderson() if solver is None else solver
    if not isinstance(solver, MapSolver):
        raise TypeError(
            f"solver must be FixedPoint() or Anderson(), found {type(solver).__name__}: the others minimise an energy"
        )
    adjoint = checked_adjoint(adjoint)
    if isinstance(adjoint, Truncated) and not isinstance(adjoint.through, MapSolver):
        raise TypeError(f"Truncated goes through FixedPoint() or Anderson() here, found {adjoint.through}")
    return solver, adjoint


class _Problem(NamedTuple):
    """A map on z (N, 1, unknowns), the form in which solvers see each sample as one problem."""

    function: Function
    start: Tensor  # (N, 1, unknowns)
    shape: tuple[int, ...]  # of one sample
    batched: bool

    def __call__(self, z: Tensor) -> Tensor:
        outside = z.view(len(z), *self.shape) if self.batched else z.view(self.shape)
        image = self.function(outside)
        if image.shape != outside.shape or image.dtype != outside.dtype:
            raise ValueError(
                f"the function must return shape {tuple(outside.shape)} and {outside.dtype} as it is given,"
                f" found {tuple(image.shape)} and {image.dtype}"
            )
        return image.reshape(z.shape)


def _problem(function: Function, start: Tensor, batched: bool) -> _Problem:
    if not isinstance(start, Tensor) or not start.is_floating_point():
        found = start.dtype if isinstance(start, Tensor) else type(start).__name__
        raise TypeError(f"start must be a tensor of floating-point numbers, found {found}")
    if batched and not start.ndim:
        raise ValueError("start must have shape (N, ...), found (): give batched=False for one problem")
    samples, shape = (start.shape[0], start.shape[1:]) if batched else (1, start.shape)
    unknowns = math.prod(shape)
    if not unknowns:
        raise ValueError(f"start must hold unknowns for each sample, found shape {tuple(start.shape)}")
    return _Problem(function, start.detach().reshape(samples, 1, unknowns), tuple(shape), batched)


class _Iterate(NamedTuple):
    """Where a solver ended: z and f(z) (N, 1, unknowns), and numbers of problems (N, 1)."""

    z: Tensor
    image: Tensor
    converged: Tensor
    iterations: Tensor
    residual: Tensor


def _residual(z: Tensor, image: Tensor) -> Tensor:
    return (image - z).detach().abs().amax(-1) / image.detach().abs().amax(-1).clamp(min=1.0)


def _iterate(solver: MapSolver, problem: _Problem, z: Tensor, fixed_steps: int | None = None) -> _Iterate:
    """Iterate from z until every sample is done; with `fixed_steps`, that many steps for all of them."""
    tolerance = solver.resolved_tolerance(z.dtype == torch.float64)
    history, image = solver.first(z), problem(z)
    residual = _residual(z, image)
    iterations = torch.zeros(z.shape[:2], dtype=torch.long, device=z.device)
    for _ in range(solver.max_steps if fixed_steps is None else fixed_steps):
        active = residual > tolerance if fixed_steps is None else torch.ones_like(residual, dtype=torch.bool)
        if not bool(active.any()):
            break
        moved, history = solver.advance(history, z, image)
        z = hold(active, moved, z)
        image, iterations = problem(z), iterations + active
        residual = _residual(z, image)
    return _Iterate(z, image, residual <= tolerance, iterations, residual)


def _forward_certificate(found: _Iterate, shape: tuple[int, ...]) -> ForwardCertificate:
    converged, iterations, residual = (
        entry.view(shape) for entry in (found.converged, found.iterations, found.residual)
    )
    none = torch.zeros_like(iterations)
    unknown = ActiveSet(torch.zeros_like(residual), none)
    return ForwardCertificate(converged, iterations, residual, none, torch.zeros_like(converged), unknown)


def _attach(
    adjoint: Adjoint, problem: _Problem, found: _Iterate, certificate: Certificate, shape: tuple[int, ...]
) -> Tensor:
    """Return f(z) with a gradient in what the function closes over."""
    if not torch.is_grad_enabled() or adjoint.unrolls:
        return found.image
    if isinstance(adjoint, Truncated):
        assert isinstance(adjoint.through, MapSolver)
        return _iterate(adjoint.through, problem, found.z, adjoint.steps - 1).image
    assert isinstance(adjoint, LinearAdjoint)
    z = found.z.detach().requires_grad_()
    # One evaluation serves both: its graph leads to the parameters, and gives the products with J^T.
    image = problem(z)
    graph = Graph(image)
    graph.refuse_hidden_parameters(image, z)
    if all(leaf is z for leaf in graph.leaves):
        return image.detach()
    return _Attached.apply(image, z, adjoint, certificate, shape)


class _Attached(torch.autograd.Function):
    """Pass an image on, and on the way back v with (I - J^T) v = dL/dz in place of dL/dz; autograd does the rest."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, z: Tensor, adjoint: LinearAdjoint, certificate: Certificate, shape: tuple[int, ...]
    ) -> Tensor:
        ctx.parts = (adjoint, certificate, shape)
        ctx.save_for_backward(image, z)
        return image.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (q,), (adjoint, certificate, shape), (image, z) = cotangents, ctx.parts, ctx.saved_tensors
        if torch.is_grad_enabled():  # v depends on the parameters too
            raise RuntimeError("an equilibrium has first derivatives only, found create_graph=True")

        def matrix(v: Tensor) -> Tensor:
            (pulled,) = torch.autograd.grad(image, z, v.view_as(z), retain_graph=True, allow_unused=True)
            return v if pulled is None else v - pulled.view_as(v)

        found = _pull_back(adjoint, matrix, q.flatten(1))
        steps, residual = found.steps[:, None], found.residual[:, None]
        certificate.backward = certify(adjoint, steps, residual, found.stuck, shape)
        return apply_backward_policy(adjoint, certificate.backward, found.value.view_as(q)), None, None, None, None


def _pull_back(adjoint: LinearAdjoint, matrix: Callable[[Tensor], Tensor], q: Tensor) -> GeneralSolution:
    terms, max_steps = adjoint.method
    if terms:
        return geometric_series(matrix, q, terms)
    return minimal_residuals(matrix, q, resolved_tolerance(adjoint, q.dtype), max_steps)
