"""Coupled problems on which solvers and adjoints are tested, with their solution and gradients from the specification."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch

import varmorph.torch
from varmorph import reference


class Problem(NamedTuple):
    """An operator's name, its tensors and options; `tensors` in float64, in the order of the function's arguments."""

    operator: str
    tensors: dict[str, torch.Tensor]
    options: dict[str, object]

    def call(self, dtype=torch.float64, **more):
        """Apply varmorph's operator; return the solution and the leaves."""
        leaves = {
            name: value.to(dtype, copy=True).requires_grad_() if value.is_floating_point() else value
            for name, value in self.tensors.items()
        }
        solution = getattr(varmorph.torch, self.operator)(**leaves, **self.options, **more)
        return solution, {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}

    def arrays(self):
        """Arguments for the specification."""
        return {name: value.numpy() for name, value in self.tensors.items()}

    def exact(self):
        """Solution by the specification."""
        return torch.from_numpy(getattr(reference, self.operator)(**self.arrays(), **self.options))

    def cotangent(self):
        """Direction in which the output is differentiated."""
        return drawn(7, *self.tensors["x"].shape)

    def exact_gradients(self):
        """Gradients of the sum of cotangent times output, by the specification."""
        cotangent = self.cotangent()
        function = getattr(reference, f"{self.operator}_gradient")
        found = function(**self.arrays(), **self.options, cotangent=cotangent.numpy())
        return {
            name: torch.from_numpy(np.asarray(getattr(found, name)))
            for name, value in self.tensors.items()
            if value.is_floating_point()
        }


def drawn(seed, *shape):
    """Draw normal numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def image_arguments(shape=(2, 2, 5, 6), window=(3, 2), seed=0):
    """Draw what every image operator takes: two samples of different range, a bias with an element left out, weights."""
    x, bias, weight, level = (
        drawn(seed + i, *s) for i, s in enumerate((shape, (shape[1], *window), (shape[1], *window), (shape[1],)))
    )
    x[1:] *= 10
    bias = 0.3 * bias
    bias[0, 0, 0] = -torch.inf
    return {"x": x, "bias": bias, "weight": weight.exp(), "logit_level": 2 * level}


def per_channel(value):
    """Give two channels different numbers."""
    return torch.tensor([value, 2 * value], dtype=torch.float64)


def _regularised(numbers, options, **shape):
    tensors = image_arguments(**shape) | {"coupling": per_channel(0.7)}
    tensors |= {name: per_channel(value) for name, value in numbers.items()}
    tensors["edge_weights"] = drawn(9, tensors["x"].shape[0], 1, 2, *tensors["x"].shape[2:]).exp()
    return Problem("regularised_dilation", tensors, options)


def _joint(name, numbers, options):
    tensors = image_arguments(window=(2, 3)) | {"eta": per_channel(0.5)}
    level = tensors.pop("logit_level").abs() + 1
    sign = -1 if "opening" in name else 1
    tensors["logit_levels"] = sign * torch.stack((level, -level))
    tensors |= {key: per_channel(value) for key, value in numbers.items()}
    return Problem(name, tensors, options)


def _graph(name, numbers, options, nodes=9, count=20):
    rng = np.random.default_rng(5)
    tensors = {
        "x": drawn(0, 2, nodes, 2),
        "edges": torch.from_numpy(rng.integers(0, nodes, (2, count))),
        "bias": 0.3 * drawn(1, count, 2),
        "weight": drawn(2, count).exp(),
    }
    level = drawn(3, 2).abs() + 1
    if "joint" in name:
        sign = -1 if "opening" in name else 1
        tensors |= {"logit_levels": sign * torch.stack((level, -level)), "eta": per_channel(0.5)}
    else:
        tensors["logit_level"] = level
    tensors |= {key: per_channel(value) for key, value in numbers.items()}
    return Problem(name, tensors, options)


HUBER_EDGES = ({"edge_smoothing": 0.1}, {"edge_penalty": "huber"})
HUBER = ({"smoothing": 0.3}, {"penalty": "huber"})
WIDE_HUBER = ({"smoothing": 4.0}, {"penalty": "huber"})  # few edges are straight, so that the minimiser is unique
ALL_HUBER = (
    {"smoothing": 0.2, "edge_smoothing": 0.2, "ridge": 0.1},
    {"penalty": "huber", "edge_penalty": "huber"},
)


@cache
def problems():
    """Every coupled operator with its penalties and paddings, by name."""
    found = {
        "quadratic": _regularised({}, {}),
        "huber edges": _regularised(*HUBER_EDGES),
        "huber edges, ridge": _regularised({"ridge": 0.2, **HUBER_EDGES[0]}, HUBER_EDGES[1]),
        "huber": _regularised(*HUBER),
        "huber, huber edges, ridge": _regularised(*ALL_HUBER),
        "replicate, rate 2": _regularised({}, {"padding": "replicate", "rate": 2}),
        "number as padding": _regularised(HUBER_EDGES[0], {**HUBER_EDGES[1], "padding": 0.3}),
    }
    for name in ("joint_opening", "joint_closing"):
        found[name] = _joint(name, {}, {})
        found[f"{name}, huber"] = _joint(name, *WIDE_HUBER)
        for padding in ("replicate", "circular", 0.2):
            found[f"{name}, {padding}"] = _joint(name, {}, {"padding": padding, "rate": (1, 2)})
    for name in ("regularised_graph_dilation", "regularised_graph_erosion"):
        found[f"{name}, no coupling"] = _graph(name, {"coupling": 0.0}, {})
        found[f"{name}, quadratic"] = _graph(name, {"coupling": 0.5}, {})
        found[f"{name}, all huber"] = _graph(name, {"coupling": 0.5, **ALL_HUBER[0]}, ALL_HUBER[1])
    for name in ("joint_graph_opening", "joint_graph_closing"):
        found[name] = _graph(name, {}, {})
    return found


@cache
def exact(name):
    """Solution of a problem by the specification, and the gradients: it is slow, so once for all tests of a process."""
    problem = problems()[name]
    return problem.exact(), problem.exact_gradients()
