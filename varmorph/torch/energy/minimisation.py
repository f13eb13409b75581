"""Minimise an energy: a solver finds the minimiser, an adjoint differentiates it, a certificate says how well both went."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint
from varmorph.convergence import check_start
from varmorph.formulas.per_problem import spread_over
from varmorph.torch.backend.choice import implementation, refuse_to_be_written_down, refuse_transforms
from varmorph.torch.backend.compilation import never_compiled
from varmorph.torch.energy.adjoints import attach, checked_adjoint
from varmorph.torch.energy.certificates import ActiveSet, Certificate, ForwardCertificate, apply_policy
from varmorph.torch.energy.energy import Energy
from varmorph.torch.energy.solvers import Newton, Solver
from varmorph.torch.energy.solvers.iteration import Run
from varmorph.torch.shapes import AnyShape, Unknowns

__all__ = [
    "Solution",
    "apply_failure_policy",
    "certify",
    "checked_methods",
    "forward_certificate",
    "minimise",
    "minimise_parts",
    "without_numbers",
]


class Solution(NamedTuple):
    """A minimiser and its certificate.

    Parameters
    ----------
    value : Tensor
        The minimiser, differentiable in everything that the energy is made of.
    certificate : Certificate
        `certificate.forward`, and after the backward pass `certificate.backward`.
    unknowns : Tensor
        All unknowns, without gradient: what `start=` takes to start the next solve near this one.
    """

    value: AnyShape
    certificate: Certificate
    unknowns: AnyShape


def minimise(
    energy: Energy, z0: Unknowns | None = None, *, solver: Solver | None = None, adjoint: Adjoint | None = None
) -> Solution:
    """Minimise an energy.

    Parameters
    ----------
    energy : Energy
        Families of edges between unknowns z (N, C, ...) and known values.
    z0 : (N, C, ...), optional
        Where to start; default: the reweighted mean of the known values around each unknown.
    solver : Solver
        Default `Newton()`.
    adjoint : Adjoint
        Default `Implicit()`.

    Returns
    -------
    Solution
        The certificate's tensors are (N,). An unknown that no path of edges joins to a known value has no minimiser:
        it is NaN. So is a problem with a known value that is not finite; its sample is not converged.

    Raises
    ------
    TypeError, ValueError
        If solver or adjoint is not one, or the solver cannot treat a penalty.
    ConvergenceError
        If a sample has not converged and the policy is "raise".

    Examples
    --------
    Two unknowns, pulled to 0 and 1 by squares, and to each other by Huber's penalty.

    >>> import torch
    >>> from varmorph.torch import Edges, Energy, Penalty, DataEdges, GridEdges, minimise
    >>> known = torch.tensor([[[[0.0, 1.0]]]])
    >>> pulls = Edges(DataEdges(), known[None], torch.ones(()), Penalty("square"))
    >>> between = Edges(GridEdges(-1), torch.zeros(()), torch.tensor(0.2), Penalty("huber", smoothing=torch.tensor(0.1)))
    >>> minimise(Energy([pulls, between], torch.zeros(1, 1, 1, 2))).value
    tensor([[[[0.2000, 0.8000]]]])
    """
    refuse_to_be_written_down("minimise")
    refuse_transforms("minimise")
    return minimise_parts(energy, z0, solver, adjoint, (energy.zeros.shape[0],))


def checked_methods(solver: Solver | None, adjoint: Adjoint | None) -> tuple[Solver, Adjoint]:
    """Require a solver and an adjoint, or None for the default of either."""
    solver = Newton() if solver is None else solver
    if not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be one of varmorph.torch's solvers, such as Newton(), found {type(solver).__name__}"
        )
    adjoint = checked_adjoint(adjoint)
    return solver, adjoint


@never_compiled
def minimise_parts(
    energy: Energy, z0: Tensor | None, solver: Solver | None, adjoint: Adjoint | None, shape: tuple[int, ...]
) -> Solution:
    """Minimise, with certificates of a given shape: (N,), or () for one graph.

    How many iterations run depends on the data, so `torch.compile` leaves this to the interpreter.
    """
    solver, adjoint = checked_methods(solver, adjoint)
    check_start(z0, energy.zeros.shape)
    if energy.zeros.device.type == "meta":
        return without_numbers(energy.zeros, shape)
    unrolled = adjoint.unrolls and torch.is_grad_enabled()
    energy = _with_kernels(energy, unrolled)
    with torch.autocast(energy.zeros.device.type, enabled=False), torch.set_grad_enabled(unrolled):
        start = energy.weighted_mean().detach() if z0 is None else z0.detach().to(energy.zeros)
        run = solver.run(energy, start)
    certificate = Certificate(_forward_certificate(energy, run, shape))
    value = attach(adjoint, energy, run.at, certificate, shape)
    finite = spread_over(energy.extent().spread.isfinite(), value)
    defined = energy.connections.reaches_known & finite
    value = value if bool(defined.all()) else value.masked_fill(~defined, torch.nan)
    value = apply_failure_policy(solver, run.converged, run.residual, value)
    return Solution(value, certificate, value.detach())


def without_numbers(zeros: Tensor, shape: tuple[int, ...]) -> Solution:
    """Give what a solve returns on the device "meta": shapes and dtypes."""
    numbers, count = zeros.new_empty(shape), zeros.new_empty(shape, dtype=torch.long)
    decided = zeros.new_empty(shape, dtype=torch.bool)
    active = ActiveSet(numbers, count)
    forward = ForwardCertificate(decided, count, numbers, count, decided, active)
    return Solution(torch.empty_like(zeros), Certificate(forward), torch.empty_like(zeros))


def _with_kernels(energy: Energy, unrolled: bool = False) -> Energy:
    """Let kernels sum over the edges of an energy where they apply."""
    unless = None
    if unrolled:
        unless = "automatic differentiation records every operation of the solver"
    elif not energy.has_uniform_penalties:
        unless = "its penalties change from edge to edge"
    elif energy.zeros.dtype not in (torch.float32, torch.float64):
        unless = f"it is computed in {energy.zeros.dtype}"
    kernels = implementation("this minimisation", energy.zeros.device, unless=unless)
    return replace(energy, compiled=True) if kernels == "cpu" else energy


def apply_failure_policy(solver: Solver, converged: Tensor, residual: Tensor, value: Tensor) -> Tensor:
    """Do what the solver's policy asks for where a problem (N, C) has not converged; return the value."""
    what = f"{solver} in {value.dtype}".replace("torch.", "")
    return apply_policy(solver.on_failure, ~converged.all(1), value, residual.amax(1), what)


def certify(energy: Energy, z: Tensor, shape: tuple[int, ...]) -> Certificate:
    """Certify a minimiser that was found without iterations; it counts as converged where it is a number."""
    energy = _with_kernels(energy)
    with torch.no_grad():
        at, extent = energy.evaluate(z), energy.extent()
        none = torch.zeros(z.shape[:2], dtype=torch.long, device=z.device)
        residual = torch.zeros_like(extent.spread) if energy.has_corner else energy.relative_residual(at, extent)
        run = Run(at, extent.spread.isfinite(), none, residual, none, none)
    return Certificate(_forward_certificate(energy, run, shape))


def _forward_certificate(energy: Energy, run: Run, shape: tuple[int, ...]) -> ForwardCertificate:
    with torch.no_grad():
        residuals = tuple(r.detach() for r in run.at.residuals)
        regular = energy.hessian(residuals).reaches_known() | ~energy.connections.joined
        unique, margin = regular.flatten(2).all(-1), energy.margin(residuals, energy.extent())
    counts = (run.iterations, run.linear_steps, run.identified)
    return forward_certificate(run.converged, run.residual, margin, counts, unique, shape)


def forward_certificate(
    converged: Tensor,
    residual: Tensor,
    margin: Tensor,
    counts: tuple[Tensor, Tensor, Tensor],
    unique: Tensor,
    shape: tuple[int, ...],
) -> ForwardCertificate:
    """Join what is known of each problem (N, C); counts are steps, linear steps, and when the pieces were identified."""
    iterations, linear_steps, identified = (count.amax(1).view(shape) for count in counts)
    return ForwardCertificate(
        converged=converged.all(1).view(shape),
        iterations=iterations,
        residual=residual.amax(1).view(shape),
        linear_steps=linear_steps,
        unique=unique.all(1).view(shape),
        active=ActiveSet(margin.amin(1).view(shape), identified),
    )
