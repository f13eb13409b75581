"""Whether operators find the structuring element again that made pairs of images, from which start, after how many steps.

The literature lays the difficulty of training morphological networks on gradients that reach one neighbour of a window; here
operators with such gradients learn the same thing from the same pairs and the same start as operators whose gradients reach
every neighbour. A cell is one data set, one method and one initialisation; its rows are the seeds of each of the method's
operators (`contract.RecoveryOperator`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morphobench.contract import SPLITS, DataUnavailable, InvalidPlugin, MorphologicalTarget, RecoveryOperator, Split
from morphobench.plugins.discovery import DatasetInfo, discover_datasets, split_dataset_id
from morphobench.plugins.loading import load_dataset
from morphobench.project.files import atomic, write_json
from morphobench.project.paths import dataset_cache, find_project
from morphobench.project.validation import UserError
from morphobench.studies.cells import Cell, CellRecord, OpenInstance, Row
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import RECOVERY, load_recovery_operators, methods_with_operators
from morphobench.studies.recovery.metrics import LARGEST_ERROR, compare

if TYPE_CHECKING:  # PyTorch is imported where something is learned
    from morphobench.studies.recovery.training import Lesson, Recovered

__all__ = [
    "COLUMNS",
    "DEFAULTS",
    "INITIALISATIONS",
    "cells",
    "check",
    "collect",
    "failed_rows",
    "identifiers",
    "open_instance",
]

INITIALISATIONS = ("random", "zero", "near-identity")

DEFAULTS: dict[str, Any] = {
    "frameworks": ["torch"],
    "datasets": ["operator-recovery"],  # name, for every variant, or name.variant
    "initialisations": list(INITIALISATIONS),
    "seeds": 10,
    "first_seed": 0,
    "learning_rates": [0.0],  # 0: that of the operator
    "steps": 300,
    "batch": 8,  # pairs a seed and step
    "check_every": 10,  # steps
    "repeats": 1,  # a cell trains once
    "cell_s": 0.0,
    "timeout_s": 600.0,
}

# The columns of the table `recovery`; the last six are filled in by what runs the cells.
#   operation, element: what made the pairs. element_error: share of the window on the wrong side of Otsu's threshold; dice: of the
#   thresholded elements; depth_error: root mean square difference of the structuring functions below their highest value;
#   success: element_error <= 0.05 at the end; steps_to_success: first step it held at. output_error: root mean square on the test
#   pairs. gradient_share: share of the window whose gradient is at least 0.001 of the largest, mean over the steps. seconds:
#   training of all seeds together. valid_error: as output_error, on the validation pairs.
COLUMNS = [
    *["cell", "instance", "dataset", "source", "operation", "element", "method", "operator", "initialisation", "seed"],
    *[
        "learning_rate",
        "steps",
        "valid_error",
        "output_error",
        "element_error",
        "dice",
        "depth_error",
        "success",
        "steps_to_success",
    ],
    *["gradient_share", "seconds", "framework", "device", "threads", "load", "status", "message"],
]


def check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError, which names key, found and expected, for settings that do not fit."""
    if settings["frameworks"] not in (["torch"], []):
        raise ValueError(f"studies.recovery.frameworks: found {settings['frameworks']}, expected [torch]")
    for name in settings["initialisations"]:
        if name not in INITIALISATIONS:
            raise ValueError(
                f"studies.recovery.initialisations: found {name!r}, expected entries of {', '.join(INITIALISATIONS)}"
            )
    for key in ("seeds", "steps", "batch", "check_every", "repeats"):
        if settings[key] < 1:
            raise ValueError(f"studies.recovery.{key}: found {settings[key]}, expected at least 1")
    try:
        identifiers(settings["datasets"])
    except UserError as error:
        raise ValueError(f"studies.recovery.datasets: {error}") from None


def identifiers(wanted: Sequence[str]) -> list[str]:
    """Return every data set that the setting names, a name alone standing for all its variants.

    Raises
    ------
    UserError
        For a name that is not known.
    """
    known = discover_datasets(find_project().datasets)
    found: list[str] = []
    for entry in wanted:
        name, variant = split_dataset_id(entry)
        info = known.get(name)
        if not isinstance(info, DatasetInfo):
            raise UserError(f"found {entry!r}, expected a data set ({', '.join(known)})" if info is None else info.why)
        variants = [variant] if "." in entry else list(info.variants)
        for one in variants:
            if one not in info.variants:
                raise UserError(f"found {entry!r}, expected a variant of {name} ({', '.join(info.variants)})")
            found.append(f"{name}.{one}")
    return list(dict.fromkeys(found))


def cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
    """List the cells: for each data set, every initialisation with every method that brings operators."""
    methods = methods_with_operators(framework, RECOVERY)
    return [
        Cell(
            f"{identifier.partition('.')[2]}-{start}-{method}",
            identifier,
            {"dataset": identifier, "method": method, "initialisation": start},
        )
        for identifier in identifiers(settings["datasets"])
        for start in settings["initialisations"]
        for method in methods
    ]


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open a data set for the cells that `cells` lists for it."""
    import torch

    torch.set_num_threads(threads)
    return Pairs(instance, settings, device)


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


def load_pairs(identifier: str) -> tuple[MorphologicalTarget, dict[str, Split]]:
    """Prepare a data set, if it is not, and return how its pairs were made, and its splits.

    Raises
    ------
    DataUnavailable
        If its files are not to be had.
    InvalidPlugin
        If it does not say how its pairs were made.
    """
    project = find_project()
    name, variant = split_dataset_id(identifier)
    info = discover_datasets(project.datasets)[name]
    if not isinstance(info, DatasetInfo):
        raise InvalidPlugin(info.why)
    module = load_dataset(info)
    if not hasattr(module, "target"):
        raise InvalidPlugin(f"datasets/{name}/dataset.py: function target not found; operator recovery needs it")
    cache = dataset_cache(project, name, variant)
    module.prepare(variant, cache)
    return module.target(variant), {split: module.load(variant, cache, split).as_float() for split in SPLITS}


def about(cell: Cell) -> Row:
    """What the name of a data set says of it: ``<source>-<operation>-<element>``."""
    dataset = cell.settings["dataset"]
    source, operation, element = [*dataset.partition(".")[2].split("-", 2), "", "", ""][:3]
    return {**cell.settings, "source": source, "operation": operation, "element": element}


def failed_rows(cell: Cell) -> list[Row]:
    """Say what is known of a cell that gave nothing."""
    return [about(cell)]


def collect(table: Any, records: Sequence[CellRecord], out: Path) -> None:
    """Write ``recovery_functions.npz``, what was learned: one array (seeds, kh, kw) a cell and operator, and the true ones."""
    learned: dict[str, list[Any]] = {}
    for record in records:
        for row in record.rows:
            if "structuring_function" in row:
                learned.setdefault(f"{record.cell}/{row['operator']}", []).append(row["structuring_function"])
    arrays = {name: np.array(functions) for name, functions in learned.items()}
    for identifier in sorted({record.instance for record in records}):
        try:
            arrays[f"{identifier}/true"] = load_pairs(identifier)[0].structuring_function
        except (DataUnavailable, InvalidPlugin):
            continue  # its cells say why
    with atomic(out / "recovery_functions.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    write_json(out / "recovery.json", {"cells": len(records), "failed": [r.cell for r in records if r.status != "ok"]})
