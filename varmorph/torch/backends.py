"""Where the choice between tensor code and kernels is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from varmorph.torch import maxplus, separable
from varmorph.torch.windows import Padding, is_uniform, shifted_window, window

__all__ = ["backend", "compute_dtype", "dilate", "minimise_separable"]

BACKENDS = ("auto", "tensor", "cpu")
_chosen: ContextVar[str] = ContextVar("varmorph_backend", default="auto")

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], Padding, bool]


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose how operators are computed inside a `with` block.

    Parameters
    ----------
    name : {"auto", "tensor", "cpu"}
        "tensor": plain tensor code on any device. "cpu": compiled kernels; refused where they do not apply.
        "auto", the default: kernels for tensors on the CPU where they apply, tensor code elsewhere.

    Examples
    --------
    >>> import torch
    >>> from varmorph.torch import backend, dilation
    >>> with backend("tensor"):
    ...     dilation(torch.eye(3)[None, None], torch.zeros(1, 3)).squeeze()
    tensor([[1., 1., 0.],
            [1., 1., 1.],
            [0., 1., 1.]])
    """
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}, found {name!r}")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _use_kernels(x: Tensor, padding: Padding, reverse: bool, penalty: str = "expectile") -> bool:
    """Decide for one call. The kernels need memory of the CPU, the same shifts at every pixel and the expectile penalty."""
    chosen = _chosen.get()
    if chosen == "tensor":
        return False
    if penalty != "expectile":
        if chosen == "cpu":
            raise ValueError(f"backend 'cpu' has no kernel for penalty {penalty!r}; use backend 'auto'")
        return False
    possible = x.device.type == "cpu" and is_uniform(padding, reverse) and not torch.compiler.is_compiling()
    if chosen == "cpu" and not possible:
        raise ValueError(
            f"backend 'cpu' has no kernel for an image on {x.device} with padding {padding!r}"
            f"{' and reversed edges' if reverse else ''}; use backend 'auto'"
        )
    return possible and x.numel() > 0  # nothing to compute: the tensor code gets the empty shape right


def compute_dtype(*images: Tensor) -> torch.dtype:
    """Return float64 if an image has it, else float32: shorter numbers are computed as float32."""
    return torch.float64 if any(image.dtype == torch.float64 for image in images) else torch.float32


def dilate(x: Tensor, bias: Tensor, geometry: Geometry, sign: int) -> Tensor:
    """Compute sign * max(sign * x + bias) over the windows: the dilation for sign 1, the erosion for -1."""
    padding, reverse = geometry[-2:]
    dtype = compute_dtype(x)
    image, function = x.to(dtype), bias.to(dtype).flatten(1)
    outside = sign * padding if isinstance(padding, float) else -torch.inf
    if _use_kernels(x, padding, reverse):
        from varmorph.torch.kernels import autograd  # numba is loaded by the first kernel that runs

        y = autograd.supremum(image, function, shifted_window(*geometry), outside, sign)
    elif sign > 0:
        y = maxplus.supremum(image, function, window(*geometry), outside)
    else:
        y = 0.0 - maxplus.supremum(-image, function, window(*geometry), outside)
    return y.to(x.dtype)


def minimise_separable(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    level: Tensor,
    geometry: Geometry,
    penalty: str,
    smoothing: Tensor | None,
) -> Tensor:
    """Minimise the separable energy with offsets `bias` (-inf: absent) and edge level `level`."""
    padding, reverse = geometry[-2:]
    dtype = compute_dtype(x)
    image, function, weights = x.to(dtype), bias.to(dtype).flatten(1), weight.to(dtype).flatten(1)
    outside = padding if isinstance(padding, float) else None
    if _use_kernels(x, padding, reverse, penalty):
        from varmorph.torch.kernels import autograd

        y = autograd.expectile(image, function, weights, level.to(dtype), shifted_window(*geometry), outside)
    else:
        mu = None if smoothing is None else smoothing.to(dtype)
        y = separable.solve(image, function, weights, level.to(dtype), window(*geometry), outside, penalty, mu)
    return y.to(x.dtype)
