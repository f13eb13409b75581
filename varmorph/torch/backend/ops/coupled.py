"""The regularised dilation by compiled CPU code, plane by plane; see `varmorph.torch.regularised_dilation`.

Images are (N, C, H, W), `bias` and `weight` (C, K), `edge_weights` (N, 1 or C, 2, H, W), the other parameters (C,); all are
of one dtype. Without `smoothing` or `edge_smoothing` a penalty is the square. The window is `size`, `rate` and `padding`
(a name; a number stands in `outside`).

These ops have no rule for autograd: `varmorph.torch.operators.planes` joins them, since the solve backward has a tolerance
and a certificate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.library import custom_op

from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.windows import Geometry

__all__ = ["regularised_adjoint", "regularised_minimum"]

Ints = Sequence[int]


def _geometry(x: Tensor, size: Ints, rate: Ints, padding: str) -> Geometry:
    image, window, rates = ((pair[0], pair[1]) for pair in (x.shape[2:], size, rate))
    return Geometry(image, window, rate=rates, padding=padding)  # type: ignore[arg-type]


@custom_op("varmorph::regularised_minimum", mutates_args=(), device_types="cpu")
def regularised_minimum(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, coupling: Tensor,
    smoothing: Tensor | None, edge_weights: Tensor | None, edge_smoothing: Tensor | None, ridge: Tensor | None,
    size: Ints, rate: Ints, padding: str, outside: float | None,
    start: Tensor, tolerance: float, max_steps: int, linear_steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Minimise by Newton's method from `start` on, with the stop of each plane alone.

    Returns
    -------
    minimiser (N, C, H, W), NaN where there is none; numbers (2, N, C): residual, and distance to a kink relative to the
    range of the data; counts (3, N, C): steps, linear steps, and the step after which no residual changed its piece;
    whether the minimiser is unique (N, C).
    """
    from varmorph.kernels.planes import regularised as launcher  # numba is loaded by the first kernel that runs

    parameters = (bias, weight, tau, cotau, coupling, smoothing, edge_weights, edge_smoothing, ridge)
    geometry = _geometry(x, size, rate, padding)
    solve = launcher.regularised_minimum
    return on_arrays(solve, x, parameters, start, geometry, outside, tolerance, max_steps, linear_steps)


@regularised_minimum.register_fake
def _(x: Tensor, *rest: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    planes = x.shape[:2]
    counts, unique = x.new_empty(3, *planes, dtype=torch.long), x.new_empty(planes, dtype=torch.bool)
    return x.new_empty(x.shape), x.new_empty(2, *planes), counts, unique


@custom_op("varmorph::regularised_adjoint", mutates_args=(), device_types="cpu")
def regularised_adjoint(
    grad_y: Tensor, y: Tensor,
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, coupling: Tensor,
    smoothing: Tensor | None, edge_weights: Tensor | None, edge_smoothing: Tensor | None, ridge: Tensor | None,
    size: Ints, rate: Ints, padding: str, outside: float | None,
    terms: int, tolerance: float, max_steps: int,
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:  # fmt: skip
    """Solve H v = grad_y at the minimiser y, and give -v^T d(grad_z E)/dtheta.

    The system is solved by conjugate gradients, or approximated by a Neumann series of `terms` > 0.

    Returns
    -------
    gradient of x; gradients of the parameters that there are, in order; relative residual of v (N, C); counts (2, N, C):
    steps, and whether H is singular.
    """
    from varmorph.kernels.planes import regularised as launcher

    parameters = (bias, weight, tau, cotau, coupling, smoothing, edge_weights, edge_smoothing, ridge)
    geometry = _geometry(x, size, rate, padding)
    differentiate = launcher.regularised_adjoint
    return on_arrays(differentiate, grad_y, x, y, parameters, geometry, outside, terms, tolerance, max_steps)


@regularised_adjoint.register_fake
def _(
    grad_y: Tensor, y: Tensor,
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, coupling: Tensor,
    smoothing: Tensor | None, edge_weights: Tensor | None, edge_smoothing: Tensor | None, ridge: Tensor | None, *rest: object,
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:  # fmt: skip
    parameters = (bias, weight, tau, cotau, coupling, smoothing, edge_weights, edge_smoothing, ridge)
    gradients = [torch.empty_like(value) for value in parameters if value is not None]
    counts = x.new_empty(2, *x.shape[:2], dtype=torch.long)
    return torch.empty_like(x), gradients, x.new_empty(x.shape[:2]), counts
