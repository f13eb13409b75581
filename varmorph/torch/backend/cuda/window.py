"""Launchers of the programs for CUDA: tensors in, tensors out, without autograd.

Images are (N, C, H, W), structuring functions (C, K), levels (C,), all of one floating type on one device. Windows may
be any of `varmorph.windows`. Each program writes numbers of its own and sums over programs are taken afterwards,
so that results are the same in every run. With TRITON_INTERPRET=1, set before Triton is imported, the programs run in
Triton's interpreter and take tensors on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.ties import SAFE_STEPS, tie_tolerance
from varmorph.torch.backend.cuda import expectile as expectile_program
from varmorph.torch.backend.cuda import expectile_gradient as expectile_gradient_program
from varmorph.torch.backend.cuda import huber as huber_program
from varmorph.torch.backend.cuda import huber_gradient as huber_gradient_program
from varmorph.torch.backend.cuda import maxplus as maxplus_program
from varmorph.torch.backend.cuda import quantile as quantile_program
from varmorph.torch.backend.cuda.index_maps import IndexMaps, index_maps
from varmorph.torch.backend.cuda.programs import Sums, kept, launch
from varmorph.windows import Geometry

__all__ = [
    "expectile",
    "expectile_backward",
    "huber",
    "huber_backward",
    "quantile",
    "quantile_backward",
    "supremum",
    "supremum_backward",
]

LANES = 512  # pixels of one program, four a thread
SUMMED_LANES = 1024  # where a program adds its lanes up slot by slot: more, to share the cost of doing so
REGISTER_LANES = {9: 256, 25: 128}  # where it holds a window of at most so many numbers of 32 bits in registers


def _result(x: Tensor, maps: IndexMaps) -> Tensor:
    return x.new_empty((*x.shape[:2], *maps.shape))


def _edges(x: Tensor, maps: IndexMaps, outside: float | None) -> dict[str, int | bool]:
    """Tell a program how edges start: in planes of so many pixels, perhaps outside, and then perhaps not at all."""
    absent = outside is None and maps.leaves_image
    return {"pixels": x.shape[2] * x.shape[3], "LEAVES_IMAGE": maps.leaves_image, "CUT": absent}


def _parameters(maps: IndexMaps, bias: Tensor, weight: Tensor, *of_channels: Tensor) -> tuple[Tensor, ...]:
    return maps.by_slot(bias), maps.by_slot(weight), *(number.contiguous() for number in of_channels)


def supremum(
    x: Tensor, bias: Tensor, geometry: Geometry, outside: float | None, raised: int, with_slots: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute max(x + bias) over each window, min(x - bias) for channels from `raised` on, and the first slot that attains it.

    A window of -inf alone gets the number of slots, and so takes no gradient. Without `with_slots` the second result is
    empty.
    """
    maps = index_maps(geometry, x.device)
    y = _result(x, maps)
    chosen = y.new_empty(y.shape if with_slots else 0, dtype=torch.uint8 if maps.size < 256 else torch.int32)
    launch(
        maxplus_program.supremum, y.shape, LANES,
        x.contiguous(), maps.by_slot(bias), kept(outside or 0.0, x.dtype, x.device), y, chosen,
        maps.rows, maps.columns, *maps.counts, **_edges(x, maps, outside), raised=raised, WITH_SLOTS=with_slots,
    )  # fmt: skip
    return y, chosen


def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, geometry: Geometry, raised: int
) -> tuple[Tensor, Tensor]:
    """Give the gradient of each output to the pixel and the element that attain it: gradients of x and bias."""
    grad_x, grad_bias = _give_to_chosen(grad_y.contiguous(), chosen.contiguous(), bias, geometry)
    grad_bias[raised:].neg_()
    return grad_x, grad_bias


def _give_to_chosen(grad_y: Tensor, chosen: Tensor, bias: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    maps = index_maps(geometry, grad_y.device)
    grad_x = grad_y.new_empty((*grad_y.shape[:2], *geometry.image))
    launch(
        maxplus_program.collect, grad_x.shape, LANES,
        grad_y, chosen, grad_x, *maps.row_readers, *maps.column_readers, outputs=maps.outputs,
    )  # fmt: skip
    sums = Sums(grad_y.shape, SUMMED_LANES, grad_y.device, maps.size)
    launch(maxplus_program.sum_by_slot, grad_y.shape, SUMMED_LANES, grad_y, chosen, sums.partial, slots=maps.size)
    return grad_x, sums.of_elements(maps, bias)


def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, geometry: Geometry, outside: float | None
) -> Tensor:
    """Minimise the separable expectile energy of each window; with `outside` None edges from there are absent."""
    maps = index_maps(geometry, x.device)
    y = _result(x, maps)
    tensors = (
        x.contiguous(), *_parameters(maps, bias, weight, tau, cotau), kept(outside or 0.0, x.dtype, x.device), y,
        maps.rows, maps.columns,
    )  # fmt: skip
    options = {**_edges(x, maps, outside), "UNIT": torch.finfo(x.dtype).eps}
    for numbers, lanes in REGISTER_LANES.items():
        if maps.size * x.element_size() <= 4 * numbers:
            counts = dict(zip(("ROW_SLOTS", "COLUMN_SLOTS"), maps.counts, strict=True))
            launch(expectile_program.climb_in_registers, y.shape, lanes, *tensors, **counts, **options)
            return y
    launch(expectile_program.climb, y.shape, LANES, *tensors, *maps.counts, **options)
    return y


def expectile_backward(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    geometry: Geometry,
    outside: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the implicit gradients of x, bias, weight and tau; cotau is 1 - tau."""
    maps = index_maps(geometry, x.device)
    x, y, parameters = x.contiguous(), y.contiguous(), _parameters(maps, bias, weight, tau, cotau)
    q, grad_x = torch.empty_like(y), torch.empty_like(x)
    by_bias, by_weight = (Sums(y.shape, SUMMED_LANES, x.device, maps.size) for _ in range(2))
    by_tau = Sums(y.shape, SUMMED_LANES, x.device)
    launch(
        expectile_gradient_program.weigh, y.shape, SUMMED_LANES,
        grad_y.contiguous(), x, y, *parameters, kept(outside or 0.0, x.dtype, x.device),
        q, by_bias.partial, by_weight.partial, by_tau.partial, maps.rows, maps.columns, *maps.counts,
        **_edges(x, maps, outside),
    )  # fmt: skip
    launch(
        expectile_gradient_program.pull_back, x.shape, LANES,
        q, x, y, *parameters, grad_x, maps.size, *maps.row_readers, *maps.column_readers, outputs=maps.outputs,
    )  # fmt: skip
    return grad_x, by_bias.of_elements(maps, bias), by_weight.of_elements(maps, weight), by_tau.of_channels(tau)


def quantile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, geometry: Geometry, outside: float | None
) -> tuple[Tensor, Tensor]:
    """Compute the quantile of each window, and the slots of the two neighbours whose middle it is, (2, N, C, H, W).

    Where it is undefined the slots are -1.
    """
    maps = index_maps(geometry, x.device)
    y = _result(x, maps)
    endpoints = y.new_empty((2, *y.shape), dtype=torch.int32)
    launch(
        quantile_program.select, y.shape, LANES,
        x.contiguous(), *_parameters(maps, bias, weight, tau, cotau), kept(outside or 0.0, x.dtype, x.device),
        y, endpoints, maps.rows, maps.columns, *maps.counts, PART=tie_tolerance(x.dtype == torch.float64), **_edges(x, maps, outside),
    )  # fmt: skip
    return y, endpoints


def quantile_backward(grad_y: Tensor, endpoints: Tensor, bias: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Give the gradient of each output by halves to the two neighbours and their elements."""
    half = grad_y.contiguous() / 2
    first, second = (_give_to_chosen(half, end, bias, geometry) for end in endpoints.contiguous())
    return first[0] + second[0], first[1] + second[1]


def huber(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    smoothing: Tensor,
    geometry: Geometry,
    outside: float | None,
) -> tuple[Tensor, Tensor]:
    """Minimise Huber's penalty in each window; on a flat piece, give the slots at its ends, (2, N, C, H, W), else -1."""
    maps = index_maps(geometry, x.device)
    y = _result(x, maps)
    endpoints = y.new_empty((2, *y.shape), dtype=torch.int32)
    launch(
        huber_program.minimise, y.shape, LANES,
        x.contiguous(), *_parameters(maps, bias, weight, tau, cotau, smoothing),
        kept(outside or 0.0, x.dtype, x.device), y, endpoints, maps.rows, maps.columns, *maps.counts,
        PART=tie_tolerance(x.dtype == torch.float64), UNIT=torch.finfo(x.dtype).eps, STEPS=SAFE_STEPS, **_edges(x, maps, outside),
    )  # fmt: skip
    return y, endpoints


def huber_backward(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    endpoints: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    smoothing: Tensor,
    geometry: Geometry,
    outside: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the implicit gradients of x, bias, weight, tau and smoothing; on a flat piece, those of its ends."""
    maps = index_maps(geometry, x.device)
    x, y, parameters = x.contiguous(), y.contiguous(), _parameters(maps, bias, weight, tau, cotau, smoothing)
    q, points, ties, grad_x = torch.empty_like(y), torch.empty_like(y), torch.empty_like(y), torch.empty_like(x)
    by_bias, by_weight = (Sums(y.shape, LANES, x.device, maps.size) for _ in range(2))
    by_tau, by_smoothing = (Sums(y.shape, LANES, x.device) for _ in range(2))
    launch(
        huber_gradient_program.weigh, y.shape, LANES,
        grad_y.contiguous(), x, y, endpoints.contiguous(), *parameters, kept(outside or 0.0, x.dtype, x.device),
        q, points, ties, by_bias.partial, by_weight.partial, by_tau.partial, by_smoothing.partial,
        maps.rows, maps.columns, *maps.counts, UNIT=torch.finfo(x.dtype).eps, **_edges(x, maps, outside),
    )  # fmt: skip
    launch(
        huber_gradient_program.pull_back, x.shape, LANES,
        q, x, points, ties, *parameters, grad_x, maps.size, *maps.row_readers, *maps.column_readers,
        outputs=maps.outputs,
    )  # fmt: skip
    flat_x, flat_bias = quantile_backward(grad_y, endpoints, bias, geometry)
    return (
        grad_x + flat_x,
        by_bias.of_elements(maps, bias) + flat_bias,
        by_weight.of_elements(maps, weight),
        by_tau.of_channels(tau),
        by_smoothing.of_channels(smoothing),
    )
