"""One call of every public operator, with every array argument that it has, in NumPy: for what holds for all of them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np


class Call(NamedTuple):
    """An operator's name, its arrays and its options, all of them by name."""

    operator: str
    arrays: dict[str, np.ndarray]
    options: dict[str, object]

    def with_ties(self):
        """Give the same call with whole numbers: a plane that is constant, weights and couplings that are 0, little smoothing."""
        arrays = {name: np.round(array) if array.dtype.kind == "f" else array for name, array in self.arrays.items()}
        for name in ("x", "marker", "mask", "reference"):
            if name in arrays:
                plane = (0, 0) if arrays[name].ndim == 4 else (slice(None), 0)
                arrays[name][plane] = 1
        if "weight" in arrays:
            arrays["weight"] = np.maximum(arrays["weight"] - 1, 0)
            arrays["weight"][..., arrays["weight"].shape[-1] // 2] = 1
        for name in ("logit_level", "logit_levels"):
            if name in arrays:
                arrays[name][..., 0] = 0
        if "coupling" in arrays:
            arrays["coupling"] = np.array([0.0, 1.4])
        for name in ("smoothing", "edge_smoothing", "ridge", "h", "eta"):
            arrays |= {name: np.resize([0.25, 0.125], arrays[name].shape)} if name in arrays else {}
        return self._replace(arrays=arrays)

    def arguments(self, convert, dtype):
        """Give the arrays as a framework has them."""
        return {
            name: convert(array.astype(dtype) if array.dtype.kind == "f" else array)
            for name, array in self.arrays.items()
        }


def _drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


IMAGE = {"x": _drawn(0, 2, 2, 5, 6)}
FUNCTION = {"bias": np.where(np.arange(9).reshape(3, 3) == 0, -np.inf, 0.3 * np.minimum(_drawn(1, 2, 3, 3), 0))}
POSITIVE = {"weight": np.exp(_drawn(2, 2, 3, 3))}
LEVEL = {"logit_level": np.array([1.0, 2.0])}
LEVELS = {"logit_levels": np.array([[2.0, 1.5], [1.0, 1.2]])}  # (2, C)
SMOOTHING = {"smoothing": np.array([0.4, 0.8])}
EDGES = {"edges": np.array([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 3]])}
FEATURES = {"x": _drawn(3, 5, 2)}
EDGE_NUMBERS = {"bias": 0.3 * _drawn(4, 6), "weight": np.exp(_drawn(5, 6))}
PENALTIES = ("expectile", "quantile", "huber")


def _with_penalty(penalty):
    return ({"penalty": penalty}, SMOOTHING if penalty == "huber" else {})


def _windows():
    for operator in ("dilation", "erosion", "opening", "closing", "gradient", "internal_gradient",
                     "external_gradient", "white_top_hat", "black_top_hat"):  # fmt: skip
        yield operator, Call(operator, IMAGE | FUNCTION, {})
    yield "dilation, dual", Call("dilation", IMAGE | FUNCTION, {"dual": 1})
    for operator in ("variational_dilation", "variational_erosion", "variational_opening", "variational_closing"):
        level = LEVEL if operator in ("variational_dilation", "variational_erosion") else LEVELS
        for penalty in PENALTIES:
            options, more = _with_penalty(penalty)
            yield f"{operator}, {penalty}", Call(operator, IMAGE | FUNCTION | POSITIVE | level | more, options)


def _mixing():
    groups = {"groups": 2, "stride": (1, 2)}
    signed = {"bias": np.where(np.arange(36).reshape(4, 1, 3, 3) == 5, -np.inf, 0.3 * _drawn(9, 4, 2, 3, 3)[:, :1])}
    signed = {"bias": np.concatenate((signed["bias"], -0.3 * np.abs(_drawn(10, 4, 1, 3, 3))), 1)}
    weight, level = {"weight": np.exp(_drawn(11, 4, 2, 3, 3))}, {"logit_level": np.array([1.0, -2.0, 0.5, 2.0])}
    matrix = {"x": _drawn(12, 3, 2, 4), "bias": 0.3 * _drawn(13, 4, 8)}
    for operator in ("maxplus", "minplus"):
        yield f"{operator}_conv2d", Call(f"{operator}_conv2d", IMAGE | signed, groups | {"signed": True})
        yield f"{operator}_linear", Call(f"{operator}_linear", matrix, {"signed": True})
    for penalty in PENALTIES:
        options = {"penalty": penalty, "signed": True}
        more = {"smoothing": np.array([0.4, 0.8, 0.3, 0.5])} if penalty == "huber" else {}
        image = IMAGE | signed | weight | level | more
        yield f"variational_conv2d, {penalty}", Call("variational_conv2d", image, options | groups)
        features = matrix | {"weight": np.exp(_drawn(14, 4, 8))} | level | more
        yield f"variational_linear, {penalty}", Call("variational_linear", features, options)


def _geodesic():
    both = {"marker": IMAGE["x"] - 0.7, "mask": IMAGE["x"] + 0.2 * _drawn(6, *IMAGE["x"].shape)}
    offsets = {"bias": np.where(np.arange(9).reshape(3, 3) == 4, 0.0, -0.2)}
    for by in ("dilation", "erosion"):
        yield f"reconstruction by {by}", Call("reconstruction", both | offsets, {"by": by})
    yield "leveling", Call("leveling", {"marker": both["marker"], "reference": both["mask"]}, {})
    for operator in ("h_maxima", "h_minima", "h_convex"):
        yield operator, Call(operator, IMAGE | {"h": np.array([0.3, 0.6])}, {})
    for operator in ("opening_by_reconstruction", "closing_by_reconstruction"):
        yield operator, Call(operator, IMAGE | FUNCTION, {})
    yield "fill_holes", Call("fill_holes", IMAGE, {})


def _graphs():
    graph = FEATURES | EDGES
    for operator in ("graph_dilation", "graph_erosion", "graph_opening", "graph_closing"):
        yield operator, Call(operator, graph | {"bias": EDGE_NUMBERS["bias"]}, {})
    for operator in ("variational_graph_dilation", "variational_graph_erosion"):
        for penalty in PENALTIES:
            options, more = _with_penalty(penalty)
            yield f"{operator}, {penalty}", Call(operator, graph | EDGE_NUMBERS | LEVEL | more, options)


def _coupled():
    factors = {"edge_weights": np.exp(_drawn(8, 2, 1, 2, 5, 6))}
    strengths = {"coupling": np.array([0.7, 1.4]), "ridge": np.array([0.1, 0.2])}
    edge_smoothing = {"edge_smoothing": np.array([0.5, 0.3])}
    huber = {"penalty": "huber", "edge_penalty": "huber"}
    image = IMAGE | FUNCTION | POSITIVE | LEVEL | strengths | factors
    yield "regularised_dilation", Call("regularised_dilation", image, {})
    yield "regularised_dilation, huber", Call("regularised_dilation", image | SMOOTHING | edge_smoothing, huber)
    graph = FEATURES | EDGES | EDGE_NUMBERS
    lateral = {"lateral_edges": np.array([[0, 1, 2, 4], [2, 3, 4, 1]])}
    for operator in ("regularised_graph_dilation", "regularised_graph_erosion"):
        yield operator, Call(operator, graph | LEVEL | strengths, {})
        yield (
            f"{operator}, huber",
            Call(operator, graph | LEVEL | strengths | SMOOTHING | edge_smoothing | lateral, huber),
        )
    eta = {"eta": np.array([0.2, 0.4])}
    for operator in ("joint_opening", "joint_closing"):
        yield operator, Call(operator, IMAGE | FUNCTION | POSITIVE | LEVELS | eta, {})
    for operator in ("joint_graph_opening", "joint_graph_closing"):
        yield operator, Call(operator, graph | LEVELS | eta, {})


@cache
def calls():
    """List the calls by name."""
    return dict((*_windows(), *_mixing(), *_geodesic(), *_graphs(), *_coupled()))


@cache
def coupled_calls():
    """List those whose gradient is the solution of a linear system."""
    return dict(_coupled())
