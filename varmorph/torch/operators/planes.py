"""The regularised dilation by compiled code: minimiser, certificate and gradient as the energy in tensor code has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint, LinearAdjoint
from varmorph.torch.backend.compilation import never_compiled
from varmorph.torch.backend.ops.coupled import regularised_adjoint, regularised_minimum
from varmorph.torch.energy.adjoints import apply_failure_policy as apply_backward_policy
from varmorph.torch.energy.adjoints import certify, implicit_gradients, linear_solve, resolved_tolerance
from varmorph.torch.energy.certificates import Certificate
from varmorph.torch.energy.energy import Energy
from varmorph.torch.energy.minimisation import Solution, apply_failure_policy, forward_certificate
from varmorph.torch.energy.solvers import Newton, Solver
from varmorph.windows import Geometry, outside_value

__all__ = ["Planes", "by_planes", "minimise_planes"]


class Planes(NamedTuple):
    """Image and parameters of a regularised dilation: tensors of one dtype.

    Shapes are those of `varmorph.torch.backend.ops.coupled`; `cotau` is 1 - tau.
    """

    x: Tensor
    bias: Tensor
    weight: Tensor
    tau: Tensor
    cotau: Tensor
    coupling: Tensor
    smoothing: Tensor | None
    edge_weights: Tensor | None
    edge_smoothing: Tensor | None
    ridge: Tensor | None


def by_planes(penalty: str, solver: Solver, adjoint: Adjoint) -> bool:
    """Tell whether these methods solve plane by plane; the others share what kernels there are for every energy."""
    return penalty != "quantile" and type(solver) is Newton and isinstance(adjoint, LinearAdjoint)


def _plain_numbers(geometry: Geometry) -> tuple[list[int], list[int], str, float | None]:
    """Give size, rate and padding of the window, and what lies beyond the image, in types that an op takes."""
    name = geometry.padding if isinstance(geometry.padding, str) else "geodesic"
    return list(geometry.size), list(geometry.rate), name, outside_value(geometry)


@never_compiled
def minimise_planes(
    planes: Planes,
    geometry: Geometry,
    energy_of: Callable[[Planes], Energy],
    start: Tensor,
    solver: Newton,
    adjoint: LinearAdjoint,
) -> Solution:
    """Minimise, with certificates (N,).

    energy_of : the same energy in tensor code, by which the gradient is differentiated.
    """
    x, window = planes.x, _plain_numbers(geometry)
    tolerance = solver.resolved_tolerance(x.dtype == torch.float64)
    with torch.no_grad():
        z, (residual, margin), counts, unique = regularised_minimum(
            *planes, *window, start.to(x), tolerance, solver.max_steps, solver.linear_steps
        )
    converged = residual <= tolerance
    certificate = Certificate(forward_certificate(converged, residual, margin, tuple(counts), unique, (x.shape[0],)))
    value = apply_failure_policy(
        solver, converged, residual, _Attached.apply(z, adjoint, certificate, window, energy_of, *planes)
    )
    return Solution(value, certificate, value.detach())


class _Attached(torch.autograd.Function):
    """Give a minimiser the gradient in everything that its energy is made of."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        adjoint: LinearAdjoint,
        certificate: Certificate,
        window: tuple[Any, ...],
        energy_of: Callable[[Planes], Energy],
        *tensors: Tensor | None,
    ) -> Tensor:
        ctx.parts = (adjoint, certificate, window, energy_of)
        value = z.clone()
        ctx.save_for_backward(value, *tensors)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return (*(None,) * 5, *_by_energy(ctx, cotangents[0]))
        adjoint, certificate, window, _ = ctx.parts
        z, *tensors = ctx.saved_tensors
        terms, max_steps = adjoint.method
        grad_x, found, residual, (steps, singular) = regularised_adjoint(
            cotangents[0], z, *tensors, *window, terms, resolved_tolerance(adjoint, z.dtype), max_steps
        )
        certificate.backward = certify(adjoint, steps, residual, (singular > 0).any(1), (z.shape[0],))
        grad_x = apply_backward_policy(adjoint, certificate.backward, grad_x)
        if adjoint.on_failure == "nan":
            found = _without_failures(found, ~certificate.backward.converged | certificate.backward.singular)
        gradients = iter(found)
        return (*(None,) * 5, grad_x, *(None if value is None else next(gradients) for value in tensors[1:]))


def _by_energy(ctx: Any, q: Tensor) -> list[Tensor | None]:
    """Give the gradients in tensor code, differentiable themselves."""
    adjoint, certificate, _, energy_of = ctx.parts
    z, *tensors = ctx.saved_tensors
    with torch.no_grad():
        energy = energy_of(Planes(*tensors))
        residuals = [edges.residual(z) for edges in energy.edges]
    solve = linear_solve(adjoint, energy, residuals, certificate, (z.shape[0],))
    wanted = ctx.needs_input_grad[5:]

    def of_parts(parts: Sequence[Any]) -> Energy:
        return energy_of(Planes(*parts))

    return implicit_gradients(solve, q, of_parts, tensors, wanted, z, residuals)


def _without_failures(gradients: Sequence[Tensor], failed: Tensor) -> Iterator[Tensor]:
    """Give NaN to every gradient that a failed sample (N,) takes part in: of the parameters, only edges have a sample."""
    for gradient in gradients:
        own = failed.view(-1, 1, 1, 1, 1) if gradient.ndim == 5 else failed.any()
        yield gradient.masked_fill(own, torch.nan)
