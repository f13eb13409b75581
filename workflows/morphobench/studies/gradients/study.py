"""How exact the gradients of the operators are, and what they cost.

For every instance the gradient of a scalar of the output, with respect to every argument, is compared with the float64
reference. Modes: implicit (the backward passes of `varmorph`), Neumann series, one-step, truncated, unrolled, finite
differences. One row a mode, setting and parameter group.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morphobench.plugins.discovery import Plugins
from morphobench.project.files import atomic
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, OpenInstance, Row
from morphobench.studies.gradients.modes import modes
from morphobench.studies.gradients.problems import specifications
from morphobench.studies.gradients.rows import COLUMN_TYPES, COLUMNS, row
from morphobench.studies.instances import Specification, build
from morphobench.studies.plugin_operators import methods_with_operators

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "COLUMN_TYPES",
    "OUTPUTS",
    "cells",
    "collect",
    "failed_rows",
    "open_instance",
    "plugin_folders",
    "summarise",
]

OUTPUTS = ["gradients_summary.csv"]
PARAMETERS = {
    "separable": ("x", "bias", "weight", "logit_level"),
    "regularised": ("x", "bias", "weight", "logit_level", "coupling", "ridge"),
    "regularised-huber": ("x", "bias", "weight", "logit_level", "coupling", "ridge", "edge_smoothing"),
    "joint": ("x", "bias", "weight", "logit_levels", "eta"),
    "geodesic": ("marker", "mask", "bias"),
}
SUMMARY_KEYS = ["mode", "setting", "framework", "backend", "dtype", "family", "parameter"]
SUMMARY_VALUES = ["relative_error", "relative_error_smooth", "cosine", "median_s", "peak_bytes", "iterations"]


def cells(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Cell]:
    """List instance by instance: a cell a mode and setting, and one a parameter group that is differenced."""
    found = []
    for given in specifications(settings, framework):
        known = asdict(given)
        for mode in modes(given.family, settings, framework):
            found.append(_cell(given.name, {**known, **mode}))
        if framework == "torch" and given.data != "ties" and settings["steps"]:
            for parameter in PARAMETERS[given.family]:
                found.append(_cell(given.name, {**known, **_differences(parameter, settings["steps"])}))
    for method in (info.name for info in methods_with_operators(plugins.methods, framework)):
        name = f"method-{method}"
        found.append(Cell(name, name, {"method": method, "family": "plugin", "mode": "own", "setting": "own"}))
    return found


def _differences(parameter: str, steps: Sequence[float]) -> dict[str, Any]:
    mode = {"mode": "finite-differences", "setting": parameter, "parameter": parameter, "steps": list(steps)}
    return {**mode, "backend": "kernels", "dtype": "float64"}


def _cell(instance: str, settings: dict[str, Any]) -> Cell:
    parts = [settings["mode"], settings["setting"]]
    parts += [settings[key] for key in ("backend", "dtype") if settings["mode"] == "implicit"]
    label = re.sub(r"[^a-z0-9.-]+", "-", ".".join(dict.fromkeys(parts)).lower())
    return Cell(f"{instance}.{label}", instance, settings)


def plugin_folders(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Path]:
    """Return the folders of the methods that bring operators."""
    return [info.folder for info in methods_with_operators(plugins.methods, framework)]


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open an instance in the process that measures; solves its reference."""
    if instance.startswith("method-"):
        from morphobench.studies.gradients.plugin_gradients import PluginInstance

        return PluginInstance(instance.removeprefix("method-"), framework, device, settings["coordinates"])
    built = build(_specification(instance, settings, framework), settings["seed"])
    if framework == "torch":
        from morphobench.studies.gradients.torch_modes import TorchInstance  # starts PyTorch

        return TorchInstance(built, device, settings["coordinates"])
    from morphobench.studies.gradients.jax_modes import JaxInstance  # starts JAX

    return JaxInstance(built, device, settings["coordinates"])


def _specification(instance: str, settings: Mapping[str, Any], framework: str) -> Specification:
    return next(given for given in specifications(settings, framework) if given.name == instance)


def failed_rows(cell: Cell) -> list[Row]:
    """Return one row with what the settings say of a cell."""
    return [row(cell.settings)]


def collect(table: pd.DataFrame, records: Sequence[CellRecord], out: Path) -> None:
    """Write ``gradients_summary.csv``."""
    with atomic(out / "gradients_summary.csv") as temporary:
        summarise(table).to_csv(temporary, index=False, lineterminator="\n")


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over the instances by mode, setting, framework, family and parameter; kinks and failures are counted only.

    Parameters
    ----------
    table : DataFrame
        Rows with `COLUMNS`.
    """
    if table.empty:
        return table.reindex(columns=[*SUMMARY_KEYS, *SUMMARY_VALUES])
    table = table.copy()
    table[SUMMARY_KEYS] = table[SUMMARY_KEYS].fillna("")
    usable = (table["kink"].astype("boolean") != True).fillna(True).astype(bool) & (table["status"] == "ok")  # noqa: E712
    values = table[SUMMARY_VALUES].astype("float64")
    # Errors by coordinate keep their meaning where other coordinates of the row met a kink.
    values.loc[~usable, [name for name in SUMMARY_VALUES if name != "relative_error_smooth"]] = math.nan
    grouped = table[SUMMARY_KEYS].join(values).groupby(SUMMARY_KEYS, sort=False)
    summary = grouped.median()
    for name, share in (("relative_error_q25", 0.25), ("relative_error_q75", 0.75)):
        summary[name] = grouped["relative_error"].quantile(share)
    counts = table[SUMMARY_KEYS].assign(used=usable, left_out=~usable).groupby(SUMMARY_KEYS, sort=False)
    summary["instances"], summary["left_out"] = counts["used"].sum(), counts["left_out"].sum()
    return summary.reset_index()
