"""Launchers of the programs that mix channels: tensors in, tensors out, without autograd.

x is (N, C, H, W); bias and weight are (O, M, K), M = C / groups from x, and as many from -x if M is twice that; tau, cotau and
smoothing (O,). Windows are not reversed, so that slots are numbered as elements are. See `varmorph.torch.backend.ops.mixing` for
what each function computes, and `varmorph.torch.backend.cuda.window` for what launchers have in common.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from varmorph.ties import SAFE_STEPS, tie_tolerance
from varmorph.torch.backend.cuda.index_maps import IndexMaps, index_maps
from varmorph.torch.backend.cuda.mixing import expectile as expectile_program
from varmorph.torch.backend.cuda.mixing import expectile_gradient as expectile_gradient_program
from varmorph.torch.backend.cuda.mixing import huber as huber_program
from varmorph.torch.backend.cuda.mixing import huber_gradient as huber_gradient_program
from varmorph.torch.backend.cuda.mixing import maxplus as maxplus_program
from varmorph.torch.backend.cuda.mixing import quantile as quantile_program
from varmorph.torch.backend.cuda.mixing.strips import LANES as SUMMED_LANES
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
ENOUGH = 4096  # programs that add up, beyond which each takes more outputs rather than there being more of them


def _result(x: Tensor, bias: Tensor, maps: IndexMaps) -> Tensor:
    return x.new_empty((x.shape[0], bias.shape[0], *maps.shape))


def _layout(x: Tensor, bias: Tensor, groups: int) -> dict[str, int]:
    """Tell a program which channels an output sees."""
    return {"inputs": x.shape[1], "groups": groups, "members": bias.shape[1]}


def _edges(x: Tensor, maps: IndexMaps, outside: float | None) -> dict[str, int | bool]:
    """Tell a program how edges start: in planes of so many pixels, perhaps outside, and then perhaps not at all."""
    absent = outside is None and maps.leaves_image
    return {"pixels": x.shape[2] * x.shape[3], "LEAVES_IMAGE": maps.leaves_image, "CUT": absent}


def _turned(bias: Tensor, groups: int, maps: IndexMaps) -> tuple[tuple[Any, ...], dict[str, int]]:
    """Tell a program who reads each pixel: the slots of a member and the maps, and the layout."""
    layout = {"groups": groups, "members": bias.shape[1], "readers": bias.shape[0], "outputs": maps.outputs}
    return (maps.size, *maps.row_readers, *maps.column_readers), layout


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


class _Strips:
    """The strips of outputs over which programs add up, see `varmorph.torch.backend.cuda.mixing.strips`.

    They are long enough that sums take not much more room than the parameters do.
    """

    def __init__(self, y: Tensor, bias: Tensor) -> None:
        samples, owners, height, width = y.shape
        self.shape = samples, owners * bias.shape[1], height, width
        tiles = triton.cdiv(samples * height * width, SUMMED_LANES.value)
        self.lanes = SUMMED_LANES.value * triton.next_power_of_2(max(tiles * self.shape[1] // ENOUGH, 1))
        self.device = y.device

    def room(self, *slots: int) -> Sums:
        """Make room for sums of each program."""
        return Sums(self.shape, self.lanes, self.device, *slots)

    def launch(self, program: Any, *arguments: Any, **more: Any) -> None:
        """Run a program on each strip, for each pair of an output channel and a member."""
        launch(program, self.shape, self.lanes, *arguments, **more)


def _of_edges(sums: Sums, like: Tensor) -> Tensor:
    return sums.partial.sum(1).view(like.shape).to(like.dtype)


def _of_outputs(sums: Sums, like: Tensor) -> Tensor:
    return sums.partial.sum(1).view(like.shape[0], -1).sum(1).to(like.dtype)


def supremum(
    x: Tensor, bias: Tensor, groups: int, geometry: Geometry, outside: float | None, sign: int, with_slots: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute the greatest x + bias, the least for sign -1, and the first slot that attains it, M K where none does.

    Without `with_slots` the second result is empty.
    """
    maps = index_maps(geometry, x.device)
    y = _result(x, bias, maps)
    chosen = y.new_empty(y.shape if with_slots else 0, dtype=torch.int32)
    launch(
        maxplus_program.supremum, y.shape, LANES,
        x.contiguous(), bias.contiguous(), kept(outside or 0.0, x.dtype, x.device), y, chosen,
        maps.rows, maps.columns, *maps.counts, **_layout(x, bias, groups), **_edges(x, maps, outside),
        SIGN=sign, WITH_SLOTS=with_slots,
    )  # fmt: skip
    return y, chosen


def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, groups: int, signed: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Give each gradient to the pixel and the element that were chosen."""
    maps = index_maps(geometry, grad_y.device)
    grad_y, chosen = grad_y.contiguous(), chosen.contiguous()
    channels = bias.shape[1] * groups // (2 if signed else 1)
    grad_x = grad_y.new_empty((grad_y.shape[0], channels, *geometry.image))
    readers, layout = _turned(bias, groups, maps)
    launch(maxplus_program.collect, grad_x.shape, LANES, grad_y, chosen, grad_x, *readers, **layout)
    strips = _Strips(grad_y, bias)
    by_bias = strips.room(maps.size)
    strips.launch(maxplus_program.sum_by_slot, grad_y, chosen, by_bias.partial, slots=maps.size, members=bias.shape[1])
    return grad_x, _of_edges(by_bias, bias)


def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, groups: int, geometry: Geometry, outside: float | None
) -> Tensor:  # fmt: skip
    """Compute the weighted expectiles; edges from beyond the image are absent if `outside` is None."""
    maps = index_maps(geometry, x.device)
    y = _result(x, bias, maps)
    launch(
        expectile_program.climb, y.shape, LANES,
        *_contiguous(x, bias, weight, tau, cotau), kept(outside or 0.0, x.dtype, x.device), y,
        maps.rows, maps.columns, *maps.counts, **_layout(x, bias, groups), **_edges(x, maps, outside),
        UNIT=torch.finfo(x.dtype).eps,
    )  # fmt: skip
    return y


def expectile_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, groups: int,
    geometry: Geometry, outside: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    maps = index_maps(geometry, x.device)
    x, y, *parameters = _contiguous(x, y, bias, weight, tau, cotau)
    beyond = kept(outside or 0.0, x.dtype, x.device)
    window = maps.rows, maps.columns, *maps.counts
    options = _layout(x, bias, groups) | _edges(x, maps, outside)
    q, grad_x = torch.empty_like(y), torch.empty_like(x)
    by_tau = Sums(y.shape, LANES, x.device)
    launch(
        expectile_gradient_program.weigh, y.shape, LANES,
        grad_y.contiguous(), x, y, *parameters, beyond, q, by_tau.partial, *window, **options,
    )  # fmt: skip
    strips = _Strips(y, bias)
    by_bias, by_weight = strips.room(maps.size), strips.room(maps.size)
    strips.launch(
        expectile_gradient_program.sum_by_edge,
        q, x, y, *parameters, beyond, by_bias.partial, by_weight.partial, *window, **options,
    )  # fmt: skip
    readers, layout = _turned(bias, groups, maps)
    launch(expectile_gradient_program.pull_back, x.shape, LANES, q, x, y, *parameters, grad_x, *readers, **layout)
    return grad_x, _of_edges(by_bias, bias), _of_edges(by_weight, weight), by_tau.of_channels(tau)


def quantile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, groups: int, geometry: Geometry, outside: float | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the weighted quantiles, and the slots (2, ...) of the values they lie between, -1 where they are NaN."""
    maps = index_maps(geometry, x.device)
    y = _result(x, bias, maps)
    endpoints = y.new_empty((2, *y.shape), dtype=torch.int32)
    launch(
        quantile_program.select, y.shape, LANES,
        *_contiguous(x, bias, weight, tau, cotau), kept(outside or 0.0, x.dtype, x.device), y, endpoints,
        maps.rows, maps.columns, *maps.counts, **_layout(x, bias, groups), **_edges(x, maps, outside),
        PART=tie_tolerance(x.dtype == torch.float64),
    )  # fmt: skip
    return y, endpoints


def quantile_backward(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, groups: int, signed: bool, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Give each gradient by halves to the two values; weight and level have none."""
    half = grad_y.contiguous() / 2
    first, second = (supremum_backward(half, ends, bias, groups, signed, geometry) for ends in endpoints.contiguous())
    return first[0] + second[0], first[1] + second[1]


def huber(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor, groups: int,
    geometry: Geometry, outside: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the minimisers for Huber's penalty, and the slots (2, ...) at the ends of their flat pieces, -1 elsewhere."""
    maps = index_maps(geometry, x.device)
    y = _result(x, bias, maps)
    endpoints = y.new_empty((2, *y.shape), dtype=torch.int32)
    launch(
        huber_program.minimise, y.shape, LANES,
        *_contiguous(x, bias, weight, tau, cotau, smoothing), kept(outside or 0.0, x.dtype, x.device), y, endpoints,
        maps.rows, maps.columns, *maps.counts, **_layout(x, bias, groups), **_edges(x, maps, outside),
        PART=tie_tolerance(x.dtype == torch.float64), UNIT=torch.finfo(x.dtype).eps, STEPS=SAFE_STEPS,
    )  # fmt: skip
    return y, endpoints


def huber_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, groups: int, geometry: Geometry, outside: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Give the gradients of x, bias, weight, tau and smoothing; on a flat piece, those of its ends."""
    maps = index_maps(geometry, x.device)
    signed = bias.shape[1] * groups != x.shape[1]
    flat_x, flat_bias = quantile_backward(grad_y, endpoints, bias, groups, signed, geometry)
    x, y, *parameters = _contiguous(x, y, bias, weight, tau, cotau, smoothing)
    beyond = kept(outside or 0.0, x.dtype, x.device)
    window = maps.rows, maps.columns, *maps.counts
    options = _layout(x, bias, groups) | _edges(x, maps, outside)
    pieces, grad_x = tuple(torch.empty_like(y) for _ in range(3)), torch.empty_like(x)
    launch(
        huber_gradient_program.weigh, y.shape, LANES,
        *_contiguous(grad_y, x, y, endpoints), *parameters, beyond, *pieces, *window, **options,
        UNIT=torch.finfo(x.dtype).eps,
    )  # fmt: skip
    strips = _Strips(y, bias)
    by_bias, by_weight, by_tau, by_smoothing = (strips.room(*slots) for slots in ((maps.size,), (maps.size,), (), ()))
    strips.launch(
        huber_gradient_program.sum_by_edge,
        *pieces, x, y, *parameters, beyond, by_bias.partial, by_weight.partial, by_tau.partial, by_smoothing.partial,
        *window, **options,
    )  # fmt: skip
    readers, layout = _turned(bias, groups, maps)
    launch(huber_gradient_program.pull_back, x.shape, LANES, *pieces, x, *parameters, grad_x, *readers, **layout)
    return (
        grad_x + flat_x,
        _of_edges(by_bias, bias) + flat_bias,
        _of_edges(by_weight, weight),
        _of_outputs(by_tau, tau),
        _of_outputs(by_smoothing, smoothing),
    )
