"""Lets the operators of a method learn from the pairs of a data set, and says how near each seed came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from morphobench.contract import RecoveryOperator
from morphobench.studies.cells import Cell, Row
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import load_recovery_operators
from morphobench.studies.recovery.metrics import LARGEST_ERROR, compare
from morphobench.studies.recovery.problems import load_pairs

if TYPE_CHECKING:  # PyTorch is imported where something is learned
    from morphobench.studies.recovery.training import Lesson, Recovered

__all__ = ["Pairs", "about"]


class Pairs:
    """The pairs of one data set and how they were made (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, identifier: str, settings: Mapping[str, Any], device: str) -> None:
        self.settings, self.device = settings, device
        self.target, self.splits = load_pairs(identifier)
        self.operators: dict[str, list[RecoveryOperator]] = {}
        self.found: dict[str, list[Row]] = {}

    def prepare(self, cell: Cell) -> None:
        """Import the plugin."""
        self.operators[cell.name] = load_recovery_operators(cell.settings["method"])

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Let every operator of the plugin learn."""
        from morphobench.studies.recovery.training import Lesson, first_functions, learn

        chosen = self.settings
        lesson = Lesson(chosen["steps"], chosen["batch"], chosen["check_every"])
        shape = self.target.structuring_function.shape
        seeds = range(chosen["first_seed"], chosen["first_seed"] + chosen["seeds"])
        first = first_functions(cell.settings["initialisation"], shape, seeds)
        rows, seconds = [], {}
        for operator in self.operators[cell.name]:
            for rate in chosen["learning_rates"]:
                learner = replace(operator, learning_rate=rate or operator.learning_rate)
                learned = learn(learner, self.target, first, seeds, self.splits, lesson, self.device)
                seconds[f"{operator.name} {rate}"] = learned.seconds
                rows += [{**about(cell), **row} for row in self._rows(learner, learned, seeds, lesson)]
        self.found[cell.name] = rows
        return seconds

    def _rows(
        self, operator: RecoveryOperator, learned: Recovered, seeds: Sequence[int], lesson: Lesson
    ) -> Iterator[Row]:
        functions = learned.structuring_functions.astype(np.float64)
        for place, (seed, function) in enumerate(zip(seeds, functions, strict=True)):
            agreement = compare(function, self.target.structuring_function, self.target.operation)
            yield {
                "operator": operator.name,
                "seed": seed,
                "learning_rate": operator.learning_rate,
                "steps": lesson.steps,
                "valid_error": float(learned.valid_error[place]),
                "output_error": float(learned.output_error[place]),
                **agreement._asdict(),
                "success": agreement.element_error <= LARGEST_ERROR,
                "steps_to_success": float(learned.steps_to_success[place]),
                "gradient_share": float(learned.gradient_share[place]),
                "seconds": learned.seconds,
                "structuring_function": [[round(value, 5) for value in row] for row in function.tolist()],
            }

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return one row an operator and seed."""
        return self.found[cell.name]


def about(cell: Cell) -> Row:
    """What the name of a data set says of it: ``<source>-<operation>-<element>``."""
    dataset = cell.settings["dataset"]
    source, operation, element = [*dataset.partition(".")[2].split("-", 2), "", "", ""][:3]
    return {**cell.settings, "source": source, "operation": operation, "element": element}
