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
from typing import Any, Literal

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import forward_ad

from varmorph.torch.backend.compilation import constant_when_compiled

__all__ = [
    "DEVICES",
    "backend",
    "compute_dtype",
    "follows_derivatives",
    "holds_numbers",
    "implementation",
    "is_transformed",
    "numbers_are_known",
    "of_one_type",
    "plain_shape",
    "refuse_to_be_written_down",
    "refuse_transforms",
]

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


@constant_when_compiled
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
    chosen: Any = _choice()
    if chosen == "tensor" or (chosen == "auto" and _needs_tensor_code(device)):
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


def _needs_tensor_code(device: torch.device) -> bool:
    """Tell whether operations are followed one by one: for forward mode, or to be written down elsewhere."""
    if torch.compiler.is_exporting():
        return True
    if torch.compiler.is_compiling():
        return False
    forward_mode = forward_ad._current_level >= 0 or TransformType.Jvp in _transforms()
    return forward_mode or device.type == "meta" or torch.jit.is_tracing()


def numbers_are_known(tensor: Tensor) -> bool:
    """Tell whether Python may look at the numbers of a tensor, to check them or to decide when a loop ends.

    It may not where `torch.func.vmap` has a batch of them, on the device "meta", and where operations are written down for other
    numbers: by `torch.export`, `torch.onnx.export` and `torch.jit.trace`.
    """
    if torch.compiler.is_exporting():
        return False
    if torch.compiler.is_compiling():  # there such a loop breaks the graph
        return True
    return not (tensor.device.type == "meta" or torch.jit.is_tracing() or TransformType.Vmap in _transforms())


def is_transformed() -> bool:
    """Tell whether a transform of `torch.func` is under way, in which `requires_grad` does not say all."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def follows_derivatives() -> bool:
    """Tell whether a transform of `torch.func` or forward mode is under way, and has tensors without numbers of their own."""
    return is_transformed() or (not torch.compiler.is_compiling() and forward_ad._current_level >= 0)


def holds_numbers(tensor: Tensor) -> bool:
    """Tell whether a tensor has memory with its numbers in it: those that a transform or a trace follows do not."""
    return numbers_are_known(tensor) and not follows_derivatives()


def _transforms() -> list[TransformType]:
    """List the transforms of `torch.func` that are under way."""
    if not torch._C._are_functorch_transforms_active():
        return []
    return [interpreter.key() for interpreter in retrieve_all_functorch_interpreters()]


def refuse_to_be_written_down(operator: str) -> None:
    """Raise RuntimeError where operations are written down for other numbers, for an operator that iterates until it is done."""
    if torch.compiler.is_exporting() or (not torch.compiler.is_compiling() and torch.jit.is_tracing()):
        raise RuntimeError(
            f"{operator} cannot be exported or traced: how often it iterates depends on the numbers. Max-plus operators can, and"
            " separable variational ones with penalty 'expectile' or 'quantile'; torch.compile takes every operator"
        )


def refuse_transforms(operator: str) -> None:
    """Raise RuntimeError within a transform of `torch.func` or forward mode, for a function of tensors that it cannot see."""
    if follows_derivatives():
        raise RuntimeError(
            f"{operator} cannot be transformed by torch.func: what it is given holds tensors out of sight of the transform."
            " Use torch.autograd.grad, and a batch (N, ...) in place of vmap"
        )


def of_one_type(*tensors: Tensor, dtype: torch.dtype) -> bool:
    """Tell whether tensors on the CPU have this type already."""
    return all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors)


def plain_shape(tensor: Tensor) -> tuple[int, ...]:
    """Give the shape in numbers that stay so: `torch.jit.trace` would follow what is computed from them."""
    if torch.compiler.is_compiling() or not torch.jit.is_tracing():
        return tuple(tensor.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return tuple(int(length) for length in tensor.shape)


@constant_when_compiled
def _interpreted() -> bool:
    """Tell whether programs for CUDA run in Triton's interpreter, which takes tensors on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@constant_when_compiled
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
