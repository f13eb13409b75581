"""The ways of differentiating the operator that go through automatic differentiation: implicit, one-step, unrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

import varmorph.torch
from morphobench.studies.instances import Instance
from morphobench.studies.measurement import Clock, Quartiles, interleave
from morphobench.studies.torch_measurement import saved_bytes
from morphobench.studies.unrolling import (
    Neighbours,
    above,
    gradient_step,
    neighbours,
    newton_step,
    newton_updates,
    unrolled,
)

__all__ = ["IMPLICIT", "Differentiated", "Mode", "differentiate", "implicit_operator", "modes"]

IMPLICIT = (("tensor", "float64"), ("cpu", "float64"), ("tensor", "float32"), ("cpu", "float32"))

Operator = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Mode:
    """One way to differentiate an instance; `operator` is differentiable in its four arguments.

    `iterations` counts the solver iterations before or inside the differentiated computation.
    """

    mode: str
    setting: str
    backend: str
    dtype: str
    iterations: int
    operator: Operator


@dataclass(frozen=True)
class Differentiated:
    """What a mode gave: the output, its gradients in the order of `PARAMETERS`, and the price.

    `seconds` is the median time of forward and backward pass together; `peak_bytes` is what autograd keeps between
    the two (`morphobench.studies.measurement.saved_bytes`); `active` is the set of neighbours at or above the output.
    """

    value: np.ndarray
    gradients: tuple[np.ndarray, ...]
    active: np.ndarray
    seconds: float
    peak_bytes: int


def implicit_operator(instance: Instance, backend: str) -> Operator:
    """Return the operator of `varmorph` for an instance, computed by ``backend``."""
    function = getattr(varmorph.torch, instance.operator)

    def operator(x: Tensor, bias: Tensor, weight: Tensor, logit_level: Tensor) -> Tensor:
        with varmorph.torch.backend(backend):
            return function(x, bias, weight, logit_level)

    return operator


def modes(instance: Instance, unroll: Sequence[int]) -> Iterator[Mode]:
    """Yield every mode for an instance; ``unroll`` lists numbers of unrolled iterations.

    Newton's iterations are listed up to the number of neighbours, after which they have ended on any instance.
    """
    window = _window(instance, *_leaves(instance, torch.float64))
    updates, most = newton_updates(window)[1], window.value.shape[2]
    for backend, dtype in IMPLICIT:
        yield Mode("implicit", f"{backend}-{dtype}", backend, dtype, updates, implicit_operator(instance, backend))
    for setting, step in (("newton", newton_step), ("gradient-descent", gradient_step)):
        yield Mode("one-step", setting, "tensor", "float64", updates + 1, partial(_one_step, instance, step))
    for setting, step in (("newton", newton_step), ("gradient-descent", gradient_step)):
        for count in sorted(set(unroll)):
            if setting == "newton" and count > most:
                break
            operator = partial(_unrolled, instance, step, count)
            yield Mode("unrolled", f"{setting}-{count}", "tensor", "float64", count, operator)


def _window(instance: Instance, *arguments: Tensor) -> Neighbours:
    return neighbours(*arguments, erosion=instance.erosion)


def _one_step(instance: Instance, step: Callable, *arguments: Tensor) -> Tensor:
    with torch.no_grad():
        solution = implicit_operator(instance, "tensor")(*arguments)
    return step(_window(instance, *arguments), solution)


def _unrolled(instance: Instance, step: Callable, count: int, *arguments: Tensor) -> Tensor:
    return unrolled(_window(instance, *arguments), count, step)


def _leaves(instance: Instance, dtype: torch.dtype) -> list[Tensor]:
    return [torch.as_tensor(array, dtype=dtype).requires_grad_() for array in instance.arguments]


def differentiate(mode: Mode, instance: Instance, repeats: int, clock: Clock) -> Differentiated:
    """Differentiate an instance and say what it cost.

    Raises
    ------
    RuntimeError
        With the message of what failed.
    """
    dtype = getattr(torch, mode.dtype)
    cotangent = torch.as_tensor(instance.cotangent, dtype=dtype)
    leaves = _leaves(instance, dtype)
    value, peak_bytes = saved_bytes(lambda: mode.operator(*leaves))
    gradients = torch.autograd.grad(value, leaves, cotangent)

    def once() -> dict[str, float]:
        fresh = _leaves(instance, dtype)
        return {"all": clock.measure(lambda: torch.autograd.grad(mode.operator(*fresh), fresh, cotangent))[1]}

    repeated = interleave({"mode": once}, repeats)["mode"]
    if repeated.message:
        raise RuntimeError(repeated.message)
    return Differentiated(
        value.detach().double().numpy(),
        tuple(gradient.double().numpy() for gradient in gradients),
        above(_window(instance, *leaves), value).numpy(),
        Quartiles.of(repeated.seconds.get("all", [])).median,
        peak_bytes,
    )
