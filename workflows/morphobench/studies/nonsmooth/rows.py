"""Differentiates one layer at one place in every way, and says how far each gradient is from what it ought to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Repeated
from morphobench.studies.nonsmooth.layers import (
    Differentiated,
    Lasso,
    Problem,
    TotalVariation,
    at_distance,
    collinear,
    finite_differences,
)
from morphobench.studies.nonsmooth.pathologies import split_identity
from morphobench.studies.nonsmooth.problems import CASES, about, values_of

__all__ = ["Place"]

ONE_SIDED = 1e-5  # step of the one-sided derivatives at a kink
MAKERS: dict[str, Callable[[int], Problem]] = {"lasso": Lasso.random, "total-variation": TotalVariation.random}


class Place:
    """A layer at a distance from its kink, with its reference (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.problem: Problem | None = None
        self.known: Row = {}
        self.reference: Mapping[str, np.ndarray] = {}
        self.direction = np.zeros(0)
        self.found: dict[str, list[Row]] = {}

    def prepare(self, cell: Cell) -> None:
        """Find the place and its reference, once for all ways."""
        given = cell.settings
        if self.problem is not None or given.get("case", "").startswith("split-identity"):
            return
        if given.get("case") == "collinear":
            self.problem, self.direction = collinear(), np.array([0.6, 0.8])
            self.known = {"margin": self.problem.solve().margin}
            return
        self.problem, self.direction = at_distance(MAKERS[given["layer"]], given["seed"], given["distance"])
        solved = self.problem.solve()
        self.known = {"margin": solved.margin}
        if given["distance"] == 0:
            after, before = (self.problem.moved("x", sign * ONE_SIDED * self.direction).solve() for sign in (1, -1))
            self.known |= {
                "right": (after.scalar - solved.scalar) / ONE_SIDED,
                "left": (solved.scalar - before.scalar) / ONE_SIDED,
            }
        else:
            self.reference = self.problem.reference()

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Differentiate with every setting of the way."""
        case = cell.settings.get("case", "")
        layer = "split-identity" if case.startswith("split-identity") else cell.settings["layer"]
        rows: list[Row] = []
        for value in values_of(layer, cell.settings["way"], self.settings):
            start = time.perf_counter()
            if layer == "split-identity":
                derivative, singular = split_identity(CASES[case] or 0.0, cell.settings["way"], value)
                endpoints = {"left": 1.0, "right": 1.0, "margin": abs(CASES[case] or 0.0)}
                parts = [{"parameter": "x", **_between(derivative, endpoints)}]
            else:
                assert self.problem is not None
                found = differentiate(self.problem, cell.settings["way"], value)
                singular, parts = found.singular, self._compare(found)
            seconds = time.perf_counter() - start
            said = {**about(cell), "value": value, "singular": singular, "seconds": seconds}
            rows += [{**said, **part} for part in parts]
        self.found[cell.name] = rows
        return {"differentiate": sum(row["seconds"] for row in rows)}

    def _compare(self, found: Differentiated) -> list[Row]:
        """One row an argument with a reference; at a kink, and where nothing is known, one row for the line."""
        if not self.reference:
            return [{"parameter": "x", **_between(float((found.gradients["x"] * self.direction).sum()), self.known)}]
        return [
            {"parameter": name, **self.known, **_errors(gradient, self.reference[name])}
            for name, gradient in found.gradients.items()
        ]

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return the rows of the last repeat."""
        return self.found[cell.name]


def differentiate(problem: Problem, way: str, value: float) -> Differentiated:
    """Differentiate in one of the ways of the study."""
    return finite_differences(problem, value) if way == "finite-differences" else problem.differentiate(way, value)


def _between(derivative: float, known: Row) -> Row:
    row = {"derivative": derivative, **known}
    if "left" in known:
        low, high = sorted((known["left"], known["right"]))
        row["hull_violation"] = max(low - derivative, derivative - high, 0.0)
    return row


def _errors(found: np.ndarray, exact: np.ndarray) -> Row:
    size, own = float(np.linalg.norm(exact)), float(np.linalg.norm(found))
    if size == 0:
        return {"relative_error": own, "cosine": float("nan")}
    cosine = float((found * exact).sum()) / (size * own) if own else float("nan")
    return {"relative_error": float(np.linalg.norm(found - exact)) / size, "cosine": cosine}
