"""Where the choice between tensor code and kernels is made."""

from __future__ import annotations

import importlib
import os
import shutil
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from varmorph.torch.backend.ops import window as ops
from varmorph.torch.backend.ops.calls import call
from varmorph.torch.separable import expectile as separable
from varmorph.torch.separable import maxplus
from varmorph.windows import Geometry, Window, window

__all__ = ["backend", "compute_dtype", "dilate", "implementation", "minimise_separable"]

BACKENDS = ("auto", "tensor", "cpu", "cuda")
DEVICES = ("cpu", "cuda")  # the separable operators have kernels for both
COMPILERS = {"cpu": "numba", "cuda": "triton"}
C_COMPILERS = (os.environ.get("CC", "cc"), "gcc", "clang")
_chosen: ContextVar[str] = ContextVar("varmorph_backend", default="auto")


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose how operators are computed inside a `with` block.

    Parameters
    ----------
    name : {"auto", "tensor", "cpu", "cuda"}
        "tensor": plain tensor code on any device. "cpu", "cuda": compiled kernels; refused where they do not apply.
        "auto", the default: the kernels of the device that holds the tensors where they apply, tensor code elsewhere.

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


@torch.compiler.assume_constant_result
def _choice() -> str:
    """Read the override; code of torch.compile keeps the one it was traced under."""
    return _chosen.get()


def implementation(
    operator: str, device: torch.device, kernels: Collection[str] = ("cpu",), unless: str | None = None
) -> Literal["tensor", "cpu", "cuda"]:
    """Decide what computes one call of an operator.

    Parameters
    ----------
    operator
        Its name, for the error message.
    device
        Where its tensors are.
    kernels
        The devices for which it has kernels.
    unless
        Why they do not apply to the arguments of this call; None if they do.
    """
    chosen = _choice()
    if chosen == "tensor":
        return "tensor"
    if chosen == "auto":
        for name in ("cpu", "cuda"):
            if device.type == name and name in kernels and unless is None and _can_compile(name):
                return name
        return "tensor"
    fits = chosen == device.type or (chosen == "cuda" and device.type == "cpu" and _interpreted())
    if chosen not in kernels:
        unless = "it has none for this device"
    elif not fits:
        unless = f"its tensors are on {device}"
    elif unless is None and not _can_compile(chosen):
        unless = "they cannot be compiled here"
    if unless is not None:
        raise ValueError(f"backend {chosen!r} has no kernel for {operator}: {unless}; use backend 'auto'")
    return chosen


@torch.compiler.assume_constant_result
def _interpreted() -> bool:
    """Tell whether programs for CUDA run in Triton's interpreter, which takes tensors on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@torch.compiler.assume_constant_result
def _can_compile(name: str) -> bool:
    return _has_compiler(name)


@cache
def _has_compiler(name: str) -> bool:
    """Tell whether kernels of a kind can be compiled; say once if they cannot."""
    missing = None
    try:
        importlib.import_module(COMPILERS[name])
    except (ImportError, OSError) as error:  # OSError: a shared library of the compiler is missing
        missing = f"{COMPILERS[name]} cannot be imported ({error})"
    else:
        if name == "cuda" and not _interpreted() and not any(map(shutil.which, C_COMPILERS)):
            missing = f"triton needs a C compiler, and there is none of {', '.join(C_COMPILERS)}"
    if missing:
        warnings.warn(
            f"no kernels for {name}: {missing}; operators run in plain tensor code, which is many times slower",
            RuntimeWarning,
            stacklevel=2,
        )
    return missing is None


def compute_dtype(*images: Tensor) -> torch.dtype:
    """Return float64 if an image has it, else float32: shorter numbers are computed as float32."""
    return torch.float64 if any(image.dtype == torch.float64 for image in images) else torch.float32


def dilate(x: Tensor, bias: Tensor, geometry: Geometry, sign: int) -> Tensor:
    """Compute sign * max(sign * x + bias) over the windows: the dilation for sign 1, the erosion for -1."""
    padding = geometry[4]
    dtype = compute_dtype(x)
    image, function = x.to(dtype), bias.to(dtype).flatten(1)
    outside = sign * padding if isinstance(padding, float) else -torch.inf
    kernels = implementation("this dilation or erosion", x.device, DEVICES)
    if kernels != "tensor":
        learning = torch.is_grad_enabled() and (image.requires_grad or function.requires_grad)
        y, _ = call(ops.supremum, image, function, outside, sign, learning, kernels, *ops.as_plain_numbers(geometry))
    elif sign > 0:
        y = maxplus.supremum(image, function, _edges(geometry), outside)
    else:
        y = 0.0 - maxplus.supremum(-image, function, _edges(geometry), outside)
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
    padding = geometry[4]
    dtype = compute_dtype(x)
    image, function, weights = x.to(dtype), bias.to(dtype).flatten(1), weight.to(dtype).flatten(1)
    logit, mu = level.to(dtype), None if smoothing is None else smoothing.to(dtype)
    outside = padding if isinstance(padding, float) else None
    name = f"this variational operator with penalty {penalty!r}"
    kernels = implementation(name, x.device, DEVICES)
    if kernels == "tensor":
        y = separable.solve(image, function, weights, logit, _edges(geometry), outside, penalty, mu)
    else:
        y = ops.minimise(
            image, function, weights, logit, mu, penalty, outside, kernels, *ops.as_plain_numbers(geometry)
        )
    return y.to(x.dtype)


@torch.compiler.assume_constant_result
def _edges(geometry: Geometry) -> Window:
    return window(*geometry)
