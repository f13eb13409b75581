"""What the solver study measures: the operators of `varmorph` by backend, and the layers whose price is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import varmorph.torch

__all__ = ["Case", "Solver", "make_case", "solvers_for"]

LOGIT_LEVEL = 3.0  # tau = 0.95: near a dilation, where the iterations are more than at an easy level


@dataclass(frozen=True)
class Case:
    """Tensors of one image size and window: x and cotangent (N, C, H, W); bias and weight (C, k, k); level (C,)."""

    x: Tensor
    bias: Tensor
    weight: Tensor
    logit_level: Tensor
    cotangent: Tensor

    @property
    def name(self) -> str:
        """Shape of the images and the window."""
        batch, channels, height, width = self.x.shape
        return f"{batch}x{channels}x{height}x{width}-{self.bias.shape[-2]}x{self.bias.shape[-1]}"


@dataclass(frozen=True)
class Solver:
    """An operator as one implementation computes it: `leaves` picks its arguments from a case, `run` is the call."""

    name: str
    backend: str
    leaves: Callable[[Case], tuple[Tensor, ...]]
    run: Callable[..., Tensor]
    iterative: bool = False


def make_case(settings: Mapping[str, Any], size: int, kernel: int, device: str) -> Case:
    """Draw the tensors for one image size and window.

    Parameters
    ----------
    settings : mapping
        ``batch``, ``channels``, ``dtype`` and ``seed``.
    size, kernel : int
        Height and width of the images and of the window.
    device : str
        Where the tensors lie.
    """
    rng = np.random.default_rng([settings["seed"], size, kernel])
    channels = settings["channels"]
    image, window = (settings["batch"], channels, size, size), (channels, kernel, kernel)
    arrays = (
        rng.standard_normal(image),
        0.3 * rng.standard_normal(window),
        rng.uniform(0.5, 1.5, window),
        np.full(channels, LOGIT_LEVEL),
        rng.standard_normal(image),
    )
    return Case(*(torch.as_tensor(a, dtype=getattr(torch, settings["dtype"]), device=device) for a in arrays))


def solvers_for(device: str) -> list[Solver]:
    """List what is measured on ``device``, "cpu" or "cuda": varmorph in the kernels for it and in tensor code, and peers."""
    found = []
    for backend in (device, "tensor"):
        found += [
            Solver(
                "variational",
                backend,
                lambda case: (case.x, case.bias, case.weight, case.logit_level),
                _with_backend(backend, varmorph.torch.variational_dilation),
                iterative=True,
            ),
            Solver(
                "max-plus",
                backend,
                lambda case: (case.x, case.bias),
                _with_backend(backend, varmorph.torch.dilation),
            ),
        ]
    found.append(Solver("depthwise-convolution", "torch", lambda case: (case.x, case.weight), _depthwise_convolution))
    found.append(Solver("max-pooling", "torch", lambda case: (case.x, case.bias), _max_pooling))
    return found


def _with_backend(backend: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*leaves: Tensor) -> Tensor:
        with varmorph.torch.backend(backend):
            return function(*leaves)

    return run


def _depthwise_convolution(x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x, weight[:, None], padding=weight.shape[-1] // 2, groups=x.shape[1])


def _max_pooling(x: Tensor, bias: Tensor) -> Tensor:
    # The window size is all that it takes from the bias, which gets no gradient.
    return functional.max_pool2d(x, bias.shape[-1], stride=1, padding=bias.shape[-1] // 2)
