"""Launchers of the kernels of the regularised dilation; see `varmorph.torch.ops.coupled` for arguments and results."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from varmorph.torch.kernels.cpu.arrays import array_of
from varmorph.torch.kernels.cpu.coupled import certificate, newton
from varmorph.torch.kernels.cpu.coupled import gradient as coupled_gradient
from varmorph.torch.kernels.cpu.coupled.problem import Parameters, Sight
from varmorph.torch.kernels.cpu.threads import over_planes
from varmorph.torch.windows import Geometry, shifted_window

__all__ = ["regularised_adjoint", "regularised_minimum"]

# How many times the work of one pass over an image a solve is: it decides how many threads are worth starting.
PASSES = 64


def _array(tensor: Tensor | None, like: Tensor, dims: int = 1) -> np.ndarray:
    """Give the numbers of a tensor, none at all for None."""
    if tensor is None:
        return np.empty((0,) * dims, like.detach().numpy().dtype)
    return array_of(tensor)


def _arguments(
    x: Tensor, parameters: tuple[Tensor | None, ...], geometry: Geometry, outside: float | None
) -> tuple[np.ndarray, Parameters, Sight]:
    window = shifted_window(*geometry)
    kinds = dict(zip(Parameters._fields, parameters, strict=True))
    arrays = {name: _array(value, x, 5 if name == "factors" else 1) for name, value in kinds.items()}
    for name in ("bias", "weight"):
        arrays[name] = np.ascontiguousarray(arrays[name][:, window.elements])
    image = _array(x, x)
    (height, width) = geometry[1]
    centre = int(window.offsets[height // 2 * width + width // 2])
    cut = outside is None and window.leaves_image
    sight = Sight(window.rows, window.columns, window.offsets, centre, image.dtype.type(outside or 0.0), cut)
    return image, Parameters(**arrays), sight


def regularised_minimum(
    x: Tensor,
    parameters: tuple[Tensor | None, ...],
    start: Tensor,
    geometry: Geometry,
    outside: float | None,
    tolerance: float,
    max_steps: int,
    linear_steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Minimise by Newton's method: the minimiser, and what is known of it."""
    image, arrays, sight = _arguments(x, parameters, geometry, outside)
    z0 = _array(start, x)
    planes = x.shape[0] * x.shape[1]
    y, counts, unique = np.empty_like(image), np.empty((planes, 3), np.int64), np.empty(planes, np.bool_)
    spreads, residuals, margins = np.empty((3, planes))

    def run(first: int, last: int) -> None:
        newton.minimise(
            image, arrays, sight, z0, tolerance, max_steps, linear_steps, y, spreads, residuals, counts, first, last
        )
        certificate.certify(image, y, arrays, sight, spreads, margins, unique, first, last)

    over_planes(run, planes, PASSES * image.size)
    numbers = torch.from_numpy(np.stack((residuals, margins))).to(x.dtype)
    shape = x.shape[:2]
    return (
        torch.from_numpy(y),
        numbers.unflatten(1, shape),
        torch.from_numpy(counts.T.copy()).unflatten(1, shape),
        torch.from_numpy(unique).view(shape),
    )


def regularised_adjoint(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    parameters: tuple[Tensor | None, ...],
    geometry: Geometry,
    outside: float | None,
    terms: int,
    tolerance: float,
    max_steps: int,
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """Differentiate at the minimiser: gradients of x and of each parameter, residuals (N, C), counts (2, N, C)."""
    image, arrays, sight = _arguments(x, parameters, geometry, outside)
    gradient, solution = _array(grad_y, x), _array(y, x)
    samples, channels = x.shape[:2]
    planes, slots = samples * channels, sight.offsets.size
    grad_x, grad_bias, grad_weight = np.empty_like(image), np.zeros((planes, slots)), np.zeros((planes, slots))
    grad_numbers, residuals, counts = np.zeros((planes, 6)), np.empty(planes), np.empty((planes, 2), np.int64)
    grad_factors = np.zeros((samples, channels, 2, *x.shape[2:]) if arrays.factors.size else (0,) * 5, image.dtype)

    def run(first: int, last: int) -> None:
        coupled_gradient.backward(
            gradient, image, solution, arrays, sight, terms, tolerance, max_steps,
            grad_x, grad_bias, grad_weight, grad_numbers, grad_factors, residuals, counts, first, last,
        )  # fmt: skip

    over_planes(run, planes, PASSES * image.size)
    summed = [a.reshape(samples, channels, a.shape[1]).sum(0) for a in (grad_bias, grad_weight, grad_numbers)]
    by_element = np.empty((2, channels, slots))
    by_element[:, :, shifted_window(*geometry).elements] = summed[:2]
    tau, cotau, strength, mu, nu, ridge = np.ascontiguousarray(summed[2].T)
    factors = torch.from_numpy(grad_factors)
    if arrays.factors.shape[1] == 1:
        factors = factors.sum(1, keepdim=True)
    found = (*by_element, tau, cotau, strength, mu, factors, nu, ridge)
    present = [torch.as_tensor(g).to(x.dtype) for p, g in zip(parameters, found, strict=True) if p is not None]
    per_plane = [torch.from_numpy(a.T.copy()).unflatten(-1, x.shape[:2]) for a in (residuals, counts)]
    return torch.from_numpy(grad_x), present, per_plane[0].to(x.dtype), per_plane[1]
