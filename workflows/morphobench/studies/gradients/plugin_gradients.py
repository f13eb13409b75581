"""The operators that methods bring, differentiated by their own framework and by extrapolated finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from morphobench.contract import OperatorInstance
from morphobench.studies.cells import Cell, Row
from morphobench.studies.gradients.rows import cosine, relative_error, row, timing
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import load_operators

__all__ = ["PluginInstance", "extrapolated_differences"]

STEP = 2.0**-10
DISAGREEMENT = (
    1e-5  # differences with h and h / 2 farther apart than this share of the largest show a kink between them
)
DTYPES = ("float64", "float32")

# Arguments and cotangent to the output and the gradients by argument, and the seconds that took.
Differentiate = Callable[[OperatorInstance, np.ndarray | None, str], tuple[np.ndarray, list[np.ndarray], float]]


class PluginInstance:
    """All operators of one method (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, method: str, framework: str, device: str, limit: int) -> None:
        self.method, self.limit = method, limit
        self.operators = load_operators(method)
        self.differentiate: Differentiate = partial(_call_operator(framework), device)
        self.found: dict[tuple[str, str], list[np.ndarray]] = {}
        self.expected: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        self.cotangents: dict[str, np.ndarray] = {}

    def prepare(self, cell: Cell) -> None:
        """Differentiate every operator once in both precisions, and difference it in float64."""
        for instance in self.operators:
            value, _, _ = self.differentiate(instance, None, "float64")
            cotangent = np.random.default_rng(0).standard_normal(value.shape)
            self.cotangents[instance.name] = cotangent
            for dtype in DTYPES:
                self.found[instance.name, dtype] = self.differentiate(instance, cotangent, dtype)[1]

            def loss(
                arrays: Mapping[str, np.ndarray],
                instance: OperatorInstance = instance,
                cotangent: np.ndarray = cotangent,
            ) -> float:
                moved = OperatorInstance(instance.name, instance.operator, arrays)
                return float((self.differentiate(moved, None, "float64")[0] * cotangent).sum())

            self.expected[instance.name] = [
                extrapolated_differences(loss, instance.arguments, name, self.limit) for name in instance.arguments
            ]

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Time forward and backward pass together, by operator and precision."""
        return {
            f"{instance.name} {dtype}": self.differentiate(instance, self.cotangents[instance.name], dtype)[2]
            for instance in self.operators
            for dtype in DTYPES
        }

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return a row an operator, parameter group and precision."""
        found = []
        for instance in self.operators:
            for dtype in DTYPES:
                seconds = timing(repeated.seconds.get(f"{instance.name} {dtype}", []))
                gradients, expected = self.found[instance.name, dtype], self.expected[instance.name]
                for name, gradient, (entries, difference, smooth) in zip(
                    instance.arguments, gradients, expected, strict=True
                ):
                    own = gradient.reshape(-1)[entries]
                    found.append(
                        row(
                            cell.settings,
                            operator=f"{self.method}-{instance.name}",
                            data="random",
                            backend="own",
                            dtype=dtype,
                            parameter=name,
                            relative_error=relative_error(own, difference),
                            relative_error_smooth=relative_error(own[smooth], difference[smooth]),
                            cosine=cosine(own, difference),
                            active=float(smooth.mean()),
                            kink=not smooth.all(),
                            coordinates=len(entries),
                            **seconds,
                        )
                    )
        return found


def _call_operator(framework: str) -> Callable[..., tuple[np.ndarray, list[np.ndarray], float]]:
    """Start a framework and return what calls operators in it."""
    if framework == "torch":
        from morphobench.studies.torch_operators import call_operator
    else:
        from morphobench.studies.jax_operators import call_operator
    return call_operator


def extrapolated_differences(
    loss: Callable[[Mapping[str, np.ndarray]], float], arguments: Mapping[str, np.ndarray], name: str, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference a loss with two steps and extrapolate (Richardson).

    Returns
    -------
    entries, gradient, smooth : ndarray
        (P,) each: at most ``limit`` entries of the group, flat; the derivative; whether the two steps agree, which they do
        not where a kink lies between.
    """
    size = arguments[name].size
    entries = np.unique(np.linspace(0, size - 1, min(limit, size)).round().astype(int))

    def at(entry: int, step: float) -> float:
        array = arguments[name].copy()
        array.reshape(-1)[entry] += step
        return loss({**arguments, name: array})

    def differences(step: float) -> np.ndarray:
        return np.array([(at(entry, step) - at(entry, -step)) / (2 * step) for entry in entries])

    coarse, fine = differences(STEP), differences(STEP / 2)
    scale = float(np.abs(fine).max()) or 1.0
    return entries, (4 * fine - coarse) / 3, np.abs(fine - coarse) <= DISAGREEMENT * scale
