"""Central differences with a check of the active set, and one-sided differences where there is no derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from morphobench.studies.gradient_modes import implicit_operator
from morphobench.studies.instances import PARAMETERS, Instance
from morphobench.studies.measurement import Clock
from morphobench.studies.unrolling import above, neighbours

__all__ = ["Bracket", "CentralDifferences", "bracket", "central_differences", "coordinates"]

PIXELS = 64  # as many entries of x are differenced; the parameters are differenced whole
TIE_STEP = 2.0**-13  # small beside the distance of the two grey values, large beside rounding
TIE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class CentralDifferences:
    """Central differences of one parameter group with one step.

    `gradient` (P,) holds one entry a coordinate, `smooth` (P,) whether the active set is the same at +step, at -step
    and between them: only there does the difference approximate a derivative. `seconds` is for all entries together.
    """

    gradient: np.ndarray
    smooth: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Bracket:
    """Share of the Jacobian's entries that lie between their one-sided derivatives, and the farthest one outside."""

    share: float
    violation: float


def coordinates(instance: Instance, parameter: str, limit: int = PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Choose the entries of a parameter group that are differenced.

    Returns
    -------
    channel, entry : ndarray
        (P,) each: the channel, and the index into what the group holds of that channel, flattened. All entries for
        bias, weight and level; at most ``limit`` pixels, spread evenly over the image, for x.
    """
    group = instance.arguments[PARAMETERS.index(parameter)]
    channels = len(instance.logit_level)
    flat = np.arange(group.size)
    if parameter == "x" and group.size > limit:
        flat = np.linspace(0, group.size - 1, limit).round().astype(int)
    return np.divmod(flat, group.size // channels)


def central_differences(
    instance: Instance, parameter: str, steps: Sequence[float], clock: Clock
) -> list[CentralDifferences]:
    """Difference the scalar of an instance with respect to one parameter group, once a step.

    Channels do not interact, so each entry is a problem of one channel, and all problems are solved as one batch.
    """
    channel, entry = coordinates(instance, parameter)
    centre = _one_channel_problems(instance, channel)
    active = _active(centre, _solve(centre))
    cotangent = torch.as_tensor(centre.cotangent)
    found = []
    for step in steps:
        plus, minus = (_shifted(centre, parameter, entry, sign * step) for sign in (1, -1))
        (high, low), seconds = clock.measure(partial(_solve_both, plus, minus))
        gradient = ((high - low) * cotangent).sum((0, 2, 3)) / (2 * step)
        same = [(_active(problem, y) == active).flatten(2).all(2)[0] for problem, y in ((plus, high), (minus, low))]
        found.append(CentralDifferences(gradient.numpy(), (same[0] & same[1]).numpy(), seconds))
    return found


def bracket(instance: Instance, parameter: str, backend: str, limit: int = PIXELS) -> Bracket:
    """Test the hull property at ties: every dy_i/dv_k lies between its one-sided derivatives.

    The outputs are piecewise linear in x and in the bias, so that one-sided differences with a small step are exact up
    to rounding. The property holds for each output by itself and not for a sum over outputs.

    Parameters
    ----------
    parameter : {"x", "bias"}
        Group with respect to which the outputs are differentiated.
    backend : str
        Backend of `varmorph` whose implicit gradient is tested.
    limit : int
        Number of entries of x that are tested, against every output of their channel.
    """
    channel, entry = coordinates(instance, parameter, limit)
    jacobian = _jacobian(instance, parameter, backend)[channel, :, entry]
    centre = _one_channel_problems(instance, channel)
    start = _solve(centre, backend)
    one_sided = [
        ((_solve(_shifted(centre, parameter, entry, h), backend) - start) / h)[0].flatten(1).numpy()
        for h in (TIE_STEP, -TIE_STEP)
    ]
    outside = np.maximum(np.minimum(*one_sided) - jacobian, jacobian - np.maximum(*one_sided))
    return Bracket(float((outside <= TIE_TOLERANCE).mean()), float(np.maximum(outside.max(), 0.0)))


def _jacobian(instance: Instance, parameter: str, backend: str) -> np.ndarray:
    """Derivative of every output pixel by every entry of its channel's group: (C, outputs, entries)."""
    channels, pixels = len(instance.logit_level), instance.x[0, 0].size
    problems = _one_channel_problems(instance, np.repeat(np.arange(channels), pixels))
    leaves = [torch.as_tensor(array).requires_grad_() for array in problems.arguments]
    value = implicit_operator(problems, backend)(*leaves)
    one_hot = torch.eye(pixels, dtype=value.dtype).repeat(channels, 1).reshape(value.shape)
    rows = torch.autograd.grad(value, leaves[PARAMETERS.index(parameter)], one_hot)[0]
    return rows.reshape(channels, pixels, -1).numpy()


def _one_channel_problems(instance: Instance, channel: np.ndarray) -> Instance:
    """Stack the problems of the listed channels as the channels of one instance."""
    return replace(
        instance,
        x=instance.x[:, channel],
        bias=instance.bias[channel],
        weight=instance.weight[channel],
        logit_level=instance.logit_level[channel],
        cotangent=instance.cotangent[:, channel],
    )


def _shifted(problems: Instance, parameter: str, entry: np.ndarray, step: float) -> Instance:
    """Move entry ``entry[p]`` of problem p by ``step``."""
    moved = getattr(problems, parameter).copy()
    by_problem = moved.reshape(len(entry), -1)
    by_problem[np.arange(len(entry)), entry] += step
    return replace(problems, **{parameter: by_problem.reshape(moved.shape)})


def _solve(problems: Instance, backend: str = "auto") -> torch.Tensor:
    arguments = [torch.as_tensor(array) for array in problems.arguments]
    with torch.no_grad():
        return implicit_operator(problems, backend)(*arguments)


def _solve_both(plus: Instance, minus: Instance) -> tuple[torch.Tensor, torch.Tensor]:
    return _solve(plus), _solve(minus)


def _active(problems: Instance, value: torch.Tensor) -> torch.Tensor:
    arguments = (torch.as_tensor(array) for array in problems.arguments)
    return above(neighbours(*arguments, erosion=problems.erosion), value)
