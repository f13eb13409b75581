"""Finite differences with a check of the active set, Richardson extrapolation, Taylor remainders, the hull at ties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from morphobench.studies.active_sets import pieces
from morphobench.studies.gradients.perturbations import by_channel, coordinates, moved, stacked
from morphobench.studies.instances import Instance
from morphobench.studies.measurement import Clock, WallClock
from morphobench.studies.reference import Reference

__all__ = ["Differences", "Hull", "Solve", "Sweep", "extrapolated", "taylor_slope"]

# Solves a batch from a start (None: the solver's own): the output and all unknowns, in float64.
Solve = Callable[[Instance, np.ndarray | None], tuple[np.ndarray, np.ndarray]]

TAYLOR_STEPS = [2.0**-k for k in range(4, 15)]
ROUNDING = 1e4 * np.finfo(np.float64).eps  # a remainder below this share of the terms is rounding
TIE_STEP = 2.0**-13  # small beside the distance of the two grey values, large beside rounding


@dataclass(frozen=True)
class Differences:
    """Central differences of the chosen coordinates (P,) and whether the active set is the same at +step, 0 and -step.

    `evaluations` of the operator took `seconds`, for all coordinates together.
    """

    step: float
    gradient: np.ndarray
    smooth: np.ndarray
    evaluations: int
    seconds: float


class Sweep:
    """Central differences of one parameter group over many steps, with the solution in the middle as the start.

    Parameters
    ----------
    limit : int
        Most coordinates.
    """

    def __init__(self, instance: Instance, reference: Reference, parameter: str, limit: int, solve: Solve) -> None:
        self.parameter, self.solve = parameter, solve
        channel, self.entry = coordinates(instance, parameter, limit)
        self.expected = by_channel(reference.gradients[parameter])[channel, self.entry]
        self.centre = stacked(instance, channel)
        self.start = reference.unknowns[:, channel]
        self.active = reference.active[channel]

    def _moved(self, step: float) -> Instance:
        change = np.zeros(by_channel(self.centre.arguments[self.parameter]).shape)
        change[np.arange(len(self.entry)), self.entry] = step
        return moved(self.centre, self.parameter, change)

    def at(self, step: float, clock: Clock | None = None) -> Differences:
        """Difference with one step; the seconds are those of the solves."""
        batches = [self._moved(step), self._moved(-step)]
        measured = [(clock or WallClock()).measure(partial(self.solve, batch, self.start)) for batch in batches]
        (high, above), (low, below) = (solved for solved, _ in measured)
        same = [
            (pieces(batch, unknowns) == self.active).all(1)
            for batch, unknowns in zip(batches, (above, below), strict=True)
        ]
        gradient = ((high - low) * self.centre.cotangent).sum((0, 2, 3)) / (2 * step)
        return Differences(step, gradient, same[0] & same[1], 2 * len(self.entry), sum(s for _, s in measured))


def extrapolated(fine: Differences, coarse: Differences) -> Differences:
    """Cancel the term of second order (Richardson), ``coarse`` having the larger step."""
    ratio = (coarse.step / fine.step) ** 2
    gradient = (ratio * fine.gradient - coarse.gradient) / (ratio - 1)
    evaluations, seconds = fine.evaluations + coarse.evaluations, fine.seconds + coarse.seconds
    return Differences(fine.step, gradient, fine.smooth & coarse.smooth, evaluations, seconds)


def taylor_slope(
    instance: Instance, reference: Reference, parameter: str, solve: Solve, steps: Sequence[float] = TAYLOR_STEPS
) -> tuple[float, str]:
    """Slope of log |L(p + h d) - L(p) - h <gradient, d>| over log h, for a random direction d of length 1.

    Steps count whose active set is that at p and whose remainder is no rounding; NaN, and why, where fewer than three do.
    It is 2 where the gradient is right and the loss is curved, 1 where the gradient is wrong.
    """
    gradient = by_channel(reference.gradients[parameter])
    direction = np.random.default_rng(0).standard_normal(gradient.shape)
    if instance.family == "geodesic" and parameter == "bias":
        direction[:, gradient.shape[1] // 2] = 0.0
    direction /= np.linalg.norm(direction)
    channel = np.tile(np.arange(instance.channels), len(steps))
    batch = stacked(instance, channel)
    change = np.concatenate([step * direction for step in steps])
    value, unknowns = solve(moved(batch, parameter, change), reference.unknowns[:, channel])
    same = (pieces(moved(batch, parameter, change), unknowns) == reference.active[channel]).all(1)
    same = same.reshape(len(steps), -1).all(1)
    terms = (value - reference.value[:, channel]) * batch.cotangent
    loss = terms.sum((0, 2, 3)).reshape(len(steps), -1).sum(1)
    remainder = np.abs(loss - np.asarray(steps) * (gradient * direction).sum())
    real = remainder > ROUNDING * np.abs(reference.value * instance.cotangent).sum()
    if (same & real).sum() < 3:
        what = "the remainder is rounding" if (same & ~real).any() else "the active set changes at every step"
        return math.nan, what
    slope, _ = np.polyfit(np.log(np.asarray(steps)[same & real]), np.log(remainder[same & real]), 1)
    return float(slope), ""


class Hull:
    """Test at ties that derivatives of single outputs lie between their one-sided derivatives.

    These come from one-sided differences, the term of first order cancelled. The property belongs to each output by itself
    and not to a sum over outputs.

    Parameters
    ----------
    limit : int
        Most entries of a group.
    outputs : int
        Most outputs of a channel.
    """

    def __init__(self, instance: Instance, solve: Solve, limit: int, outputs: int = 8) -> None:
        self.instance, self.solve, self.limit = instance, solve, limit
        pixels = instance.cotangent[0, 0].size
        self.outputs = np.unique(np.linspace(0, pixels - 1, min(outputs, pixels)).round().astype(int))
        picked = np.repeat(np.arange(instance.channels), len(self.outputs))
        one_hot = np.zeros((len(picked), pixels))
        one_hot[np.arange(len(picked)), np.tile(self.outputs, instance.channels)] = 1.0
        shape = (1, len(picked), *instance.cotangent.shape[2:])
        # One channel for each tested output, which its cotangent picks.
        self.rows = replace(stacked(instance, picked), cotangent=one_hot.reshape(shape))
        self.brackets = {name: self._bracket(name) for name in instance.arguments}

    def test(self, gradients: Mapping[str, np.ndarray], tolerance: float) -> dict[str, tuple[float, float]]:
        """Return, by parameter group, the share of the entries that lie between and the farthest distance outside.

        Parameters
        ----------
        gradients : mapping
            Of `rows` by a mode, each (channels of `rows`, entries of a channel).
        tolerance : float
            How far outside an entry may lie and still count.
        """
        tested = {}
        for name, (low, high) in self.brackets.items():
            channel, entry = coordinates(self.instance, name, self.limit)
            found = gradients[name].reshape(self.instance.channels, len(self.outputs), -1)
            outside = np.maximum(low - found[channel, :, entry], found[channel, :, entry] - high)
            tested[name] = float((outside <= tolerance).mean()), float(np.maximum(outside.max(), 0.0))
        return tested

    def _bracket(self, parameter: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the lesser and the greater one-sided derivative of each output, (entries, outputs)."""
        channel, entry = coordinates(self.instance, parameter, self.limit)
        centre = stacked(self.instance, channel)
        start = self.solve(centre, None)[0]

        def difference(step: float) -> np.ndarray:
            change = np.zeros(by_channel(centre.arguments[parameter]).shape)
            change[np.arange(len(entry)), entry] = step
            value = self.solve(moved(centre, parameter, change), None)[0]
            return ((value - start) / step)[0].reshape(len(entry), -1)[:, self.outputs]

        right, left = (2 * difference(step / 2) - difference(step) for step in (TIE_STEP, -TIE_STEP))
        return np.minimum(right, left), np.maximum(right, left)
