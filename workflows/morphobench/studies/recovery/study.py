"""Whether operators find the structuring element again that made pairs of images, from which start, after how many steps.

The literature lays the difficulty of training morphological networks on gradients that reach one neighbour of a window; here
operators with such gradients learn the same thing from the same pairs and the same start as operators whose gradients reach
every neighbour. A cell is one data set, one method and one initialisation; its rows are the seeds of each of the method's
operators (`contract.RecoveryOperator`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import DataUnavailable, InvalidPlugin
from morphobench.plugins.discovery import Plugins, split_dataset_id, variants_named
from morphobench.project.files import atomic, write_json
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, OpenInstance, Row
from morphobench.studies.plugin_operators import RECOVERY, methods_with_operators
from morphobench.studies.recovery.problems import load_pairs
from morphobench.studies.recovery.rows import Pairs, about

__all__ = [
    "COLUMNS",
    "COLUMN_TYPES",
    "OUTPUTS",
    "cells",
    "collect",
    "failed_rows",
    "open_instance",
    "plugin_folders",
]


# The columns of the table `recovery`; the last six are filled in by what runs the cells.
#   operation, element: what made the pairs. element_error: share of the window on the wrong side of Otsu's threshold; dice: of the
#   thresholded elements; depth_error: root mean square difference of the structuring functions below their highest value;
#   success: element_error <= 0.05 at the end; steps_to_success: first step it held at. output_error: root mean square on the test
#   pairs. gradient_share: share of the window whose gradient is at least 0.001 of the largest, mean over the steps. seconds:
#   training of all seeds together. valid_error: as output_error, on the validation pairs.
COLUMN_TYPES: dict[str, type] = {
    **dict.fromkeys(["cell", "instance", "dataset", "source", "operation", "element", "method", "operator"], str),
    "initialisation": str,
    **dict.fromkeys(["seed", "learning_rate", "steps", "valid_error", "output_error", "element_error"], float),
    **dict.fromkeys(["dice", "depth_error"], float),
    "success": bool,
    **dict.fromkeys(["steps_to_success", "gradient_share", "seconds"], float),
    **dict.fromkeys(["framework", "device"], str),
    **dict.fromkeys(["threads", "load"], float),
    **dict.fromkeys(["status", "message"], str),
}
COLUMNS = list(COLUMN_TYPES)
OUTPUTS = ["recovery.json", "recovery_functions.npz"]


def cells(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Cell]:
    """List the cells: for each data set, every initialisation with every method that brings operators."""
    methods = [info.name for info in methods_with_operators(plugins.methods, framework, RECOVERY)]
    return [
        Cell(
            f"{identifier.partition('.')[2]}-{start}-{method}",
            identifier,
            {"dataset": identifier, "method": method, "initialisation": start},
        )
        for identifier in variants_named(settings["datasets"], plugins.datasets)
        for start in settings["initialisations"]
        for method in methods
    ]


def plugin_folders(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Path]:
    """Return the folders of the methods that learn, and of the data sets of pairs."""
    methods = methods_with_operators(plugins.methods, framework, RECOVERY)
    names = (split_dataset_id(one)[0] for one in variants_named(settings["datasets"], plugins.datasets))
    return [info.folder for info in [*methods, *(plugins.datasets[name] for name in dict.fromkeys(names))]]


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open a data set for the cells that `cells` lists for it."""
    import torch

    torch.set_num_threads(threads)
    return Pairs(instance, settings, device)


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
