"""Operators as choices of edges: the table of mathematics.md, section 2, for images and graphs alike.

A family is a set of edges that share a factor, a level and a smoothing, and says by name which arguments these are. An
instance is the families of one plane together with the arguments, spread over all planes. An argument that several places
share receives the sum of their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from varmorph.reference.adjoint import EdgeDerivatives, differentiate
from varmorph.reference.edges import OUTSIDE, Array
from varmorph.reference.energy import KNOWN, EdgeList, concatenate
from varmorph.reference.gradients import Gradients
from varmorph.reference.minimiser import minimise

Spread = Callable[[Array], Array]


class Family(NamedTuple):
    """Edges with the residual z_source + direction * bias[element] - z_target and the weight factor * weight[element].

    `bias`, `weight`, `factor` and the first part of `level` name arguments; without a name they are 0, 1, 1 and a factor
    a(r) of 1 on both sides. The second part of `level` is the place in the argument, the third the sign of the edge level.
    `smoothing` names an argument, or is the number inf (quadratic) or 0 (absolute value).
    """

    source: Array  # pixel or unknown; OUTSIDE for the number beyond the image
    target: Array
    element: Array
    from_image: bool = True  # `source` is a pixel of x, not an unknown
    outside: float = np.nan
    direction: int = 1
    bias: str | None = None
    weight: str | None = None
    factor: str | None = None
    level: tuple[str, int, int] | None = None
    smoothing: str | float = np.inf


def _kept(family: Family, plane: dict[str, Array]) -> Family:
    """Leave out the edges whose bias is -inf."""
    if family.bias is None:
        return family
    kept = plane[family.bias][family.element] > -np.inf
    return family._replace(source=family.source[kept], target=family.target[kept], element=family.element[kept])


def _tau(family: Family, plane: dict[str, Array]) -> tuple[float, float]:
    """Level and one minus level of the edges."""
    if family.level is None:
        return 1.0, 1.0
    name, place, sign = family.level
    return expit(sign * plane[name][place]), expit(-sign * plane[name][place])


def _numbers(name: str | None, family: Family, plane: dict[str, Array], otherwise: float) -> Array:
    return np.full(family.element.size, otherwise) if name is None else plane[name][family.element]


def _factor(family: Family, plane: dict[str, Array]) -> float:
    return 1.0 if family.factor is None else plane[family.factor].item()


def _edge_list(family: Family, plane: dict[str, Array]) -> EdgeList:
    """List the terms of a family."""
    known = (family.source == OUTSIDE) | family.from_image
    pixel = np.where(known, family.source, OUTSIDE)
    every, smoothing = np.ones(known.size), family.smoothing
    above, below = _tau(family, plane)
    return EdgeList(
        source=np.where(known, KNOWN, family.source),
        value=np.where(known, np.where(pixel == OUTSIDE, family.outside, plane["x"][pixel]), 0.0),
        target=family.target,
        offset=family.direction * _numbers(family.bias, family, plane, 0.0),
        weight=_factor(family, plane) * _numbers(family.weight, family, plane, 1.0),
        above=above * every,
        below=below * every,
        smoothing=(plane[smoothing].item() if isinstance(smoothing, str) else smoothing) * every,
    )


def _chain(family: Family, plane: dict[str, Array], by: EdgeDerivatives, into: dict[str, Array]) -> None:
    """Add the derivatives of a family's edges to those of the arguments that they were made of."""
    pixels = (family.source != OUTSIDE) & family.from_image
    np.add.at(into["x"], family.source[pixels], by.offset[pixels])
    if family.bias is not None:
        np.add.at(into[family.bias], family.element, family.direction * by.offset)
    if family.weight is not None:
        np.add.at(into[family.weight], family.element, _factor(family, plane) * by.weight)
    if family.factor is not None:
        into[family.factor] += (_numbers(family.weight, family, plane, 1.0) * by.weight).sum()
    if family.level is not None:
        name, place, sign = family.level
        tau, cotau = _tau(family, plane)
        into[name][place] += sign * tau * cotau * (by.above - by.below).sum()
    if isinstance(family.smoothing, str):
        into[family.smoothing] += by.smoothing.sum()


class Instance(NamedTuple):
    """An operator on given arguments. `spreads` says how each argument becomes (N, C, numbers of a plane)."""

    families: list[Family]
    stages: int  # unknowns of a pixel; the last is the output
    arguments: dict[str, Array]
    spreads: dict[str, Spread]


def instance(
    families: list[Family], stages: int, arguments: dict[str, ArrayLike | None], spreads: dict[str, Spread]
) -> Instance:
    """Collect the arguments that are given, in float64."""
    given = {name: np.asarray(value, dtype=np.float64) for name, value in arguments.items() if value is not None}
    return Instance(families, stages, given, spreads)


def _planes(instance: Instance) -> dict[str, Array]:
    """Spread every argument over the planes of x: (N, C, numbers)."""
    spread = {name: instance.spreads[name](value) for name, value in instance.arguments.items()}
    leading = spread["x"].shape[:2]
    return {name: np.broadcast_to(value, (*leading, value.shape[-1])) for name, value in spread.items()}


def _gathered(gradient: Array, argument: Array, spread: Spread) -> Array:
    """Sum over all places to which each number of the argument was spread."""
    place = np.broadcast_to(spread(np.arange(argument.size).reshape(argument.shape)), gradient.shape)
    return np.bincount(place.ravel(), gradient.ravel(), argument.size).reshape(argument.shape)


def solve(instance: Instance) -> Array:
    """Minimise the energy of every plane: the output (N, C, pixels)."""
    return solve_unknowns(instance)[:, :, -1]


def solve_unknowns(instance: Instance) -> Array:
    """Minimise the energy of every plane: all unknowns (N, C, stages, pixels), the last of which are the output."""
    planes = _planes(instance)
    n_planes, channels, pixels = planes["x"].shape
    result = np.empty((n_planes, channels, instance.stages, pixels))
    for n, c in np.ndindex(result.shape[:2]):
        plane = {name: value[n, c] for name, value in planes.items()}
        edges = concatenate([_edge_list(_kept(family, plane), plane) for family in instance.families])
        result[n, c] = minimise(edges, instance.stages * pixels).reshape(instance.stages, pixels)
    return result


def solve_gradient(instance: Instance, cotangent: ArrayLike) -> Gradients:
    """Differentiate sum(cotangent * output), where the cotangent has the shape of x, with respect to every argument."""
    planes = _planes(instance)
    pull = instance.spreads["x"](np.asarray(cotangent, dtype=np.float64))
    total = {name: np.zeros(value.shape) for name, value in planes.items()}
    for n, c in np.ndindex(pull.shape[:2]):
        plane = {name: value[n, c] for name, value in planes.items()}
        families = [_kept(family, plane) for family in instance.families]
        lists = [_edge_list(family, plane) for family in families]
        edges, unknowns = concatenate(lists), instance.stages * pull.shape[-1]
        before = np.zeros(unknowns - pull.shape[-1])  # the loss does not read the stages before the output
        by = differentiate(edges, minimise(edges, unknowns), np.concatenate([before, pull[n, c]]))
        endpoints = np.cumsum([edge_list.target.size for edge_list in lists])
        into = {name: value[n, c] for name, value in total.items()}
        for family, edge_list, end in zip(families, lists, endpoints, strict=True):
            own = slice(end - edge_list.target.size, end)
            _chain(family, plane, EdgeDerivatives(*(column[own] for column in by)), into)
    gathered = {
        name: _gathered(total[name], argument, instance.spreads[name]) for name, argument in instance.arguments.items()
    }
    return Gradients(**gathered)
