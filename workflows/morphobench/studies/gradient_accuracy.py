"""How exact the gradients of the separable variational operator are, and what they cost.

For every instance the gradient of a scalar of the output, with respect to image, bias, weight and level, is compared
with the float64 reference. Modes: implicit (the backward passes of `varmorph`), one-step, unrolled, finite
differences. One row a mode, setting and parameter group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.files import atomic, write_table
from morphobench.studies.finite_differences import bracket, central_differences, coordinates
from morphobench.studies.gradient_modes import IMPLICIT, Mode, differentiate, modes
from morphobench.studies.instances import PARAMETERS, Instance, gradient_instances, kink_instances
from morphobench.studies.measurement import Clock, WallClock
from morphobench.studies.reference import Reference, solve_reference
from morphobench.studies.settings import read_settings

__all__ = ["COLUMNS", "DEFAULTS", "gradient_rows", "run_gradient_accuracy", "summarise"]

DEFAULTS: dict[str, Any] = {
    "image_size": 12,
    "kernel_sizes": [3, 5],
    "logit_levels": [-4.0, 0.0, 2.0, 4.0],
    "data": ["random", "image"],
    "steps": [10.0**-k for k in range(1, 12)],
    "unrolled": [1, 2, 3, 4, 8, 32, 128],
    "repeats": 3,
    "seed": 0,
}

# The columns of the table `gradients`, then what explains a row.
#   seconds: forward and backward pass for all groups together; finite differences: this group alone.
#   peak_bytes: what autograd keeps between forward and backward pass; finite differences keep nothing.
#   iterations: solver iterations; finite differences: evaluations of the operator.
#   converged: the output agrees with the reference solution to the precision of the arithmetic.
#   kink: the row says nothing about a derivative: ties in the instance, or an active set that differs at +h and -h.
#   active: share of neighbours on the same side of the output as in the reference; finite differences: share of the
#     coordinates whose active set is the same at +h and -h; relative_error_smooth is over those coordinates alone.
#   hull, hull_violation: share of Jacobian entries between their one-sided derivatives, and the farthest outside.
COLUMNS = [
    *["instance", "operator", "parameter", "mode", "setting", "relative_error", "cosine", "seconds", "peak_bytes"],
    *["iterations", "converged", "kink"],
    *["backend", "dtype", "device", "data", "kernel_size", "image_size", "logit_level", "active"],
    *["relative_error_smooth", "coordinates", "hull", "hull_violation", "message"],
]
SUMMARY_KEYS = ["mode", "setting", "backend", "dtype", "parameter"]
SUMMARY_VALUES = ["relative_error", "relative_error_smooth", "cosine", "seconds", "peak_bytes", "iterations"]
PRECISION = {"float64": 1e-10, "float32": 1e-4}

Row = dict[str, Any]


def run_gradient_accuracy(config: Mapping[str, Any], out: Path) -> None:
    """Run the study and write ``gradients.csv``, ``gradients.parquet`` and ``gradients_summary.csv`` to ``out``.

    Parameters
    ----------
    config : mapping
        Settings that override `DEFAULTS`: ``image_size``; ``kernel_sizes``; ``logit_levels``; ``data`` (``random``,
        ``image``); ``steps`` of the finite differences; ``unrolled``, numbers of unrolled iterations; ``repeats`` of
        each timing; ``seed``.
    out : Path
        Folder for the tables.

    Raises
    ------
    ValueError
        For settings that do not fit, before any work starts.
    """
    settings = read_settings("gradients", config, DEFAULTS)
    instances = [*gradient_instances(settings), *kink_instances(settings)]
    rows = [row for instance in instances for row in gradient_rows(instance, settings, WallClock())]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"iterations": "Int64", "coordinates": "Int64"})
    write_table(out / "gradients", table)
    with atomic(out / "gradients_summary.csv") as temporary:
        summarise(table).to_csv(temporary, index=False, lineterminator="\n")


def gradient_rows(instance: Instance, settings: Mapping[str, Any], clock: Clock) -> Iterator[Row]:
    """Yield the rows of one instance; what fails becomes rows with ``converged`` false and a message."""
    reference = solve_reference(instance)
    for mode in modes(instance, settings["unrolled"]):
        yield from _mode_rows(mode, instance, reference, settings["repeats"], clock)
    if reference.ties:
        yield from _hull_rows(instance)
        return
    for parameter in PARAMETERS:
        yield from _difference_rows(instance, reference, parameter, settings["steps"], clock)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over the instances by mode, setting and parameter, kinks and failures left out and counted.

    Parameters
    ----------
    table : DataFrame
        Rows with `COLUMNS`.
    """
    table = table[table["mode"] != "hull"].copy()
    usable = ~table["kink"].astype(bool) & (table["message"] == "")
    values = table[SUMMARY_VALUES].astype("float64")
    # Errors by coordinate keep their meaning where other coordinates of the row met a kink.
    values.loc[~usable, [name for name in SUMMARY_VALUES if name != "relative_error_smooth"]] = math.nan
    grouped = table[SUMMARY_KEYS].join(values).groupby(SUMMARY_KEYS, sort=False)
    summary = grouped.median()
    for name, share in (("relative_error_q25", 0.25), ("relative_error_q75", 0.75)):
        summary[name] = grouped["relative_error"].quantile(share)
    counts = table.assign(used=usable, left_out=~usable).groupby(SUMMARY_KEYS, sort=False)
    summary["instances"] = counts["used"].sum()
    summary["left_out"] = counts["left_out"].sum()
    summary["converged"] = table.groupby(SUMMARY_KEYS, sort=False)["converged"].mean()
    return summary.reset_index()


def _base(instance: Instance, parameter: str, mode: str, setting: str, backend: str, dtype: str) -> Row:
    return {
        "instance": instance.name,
        "operator": instance.operator,
        "parameter": parameter,
        "mode": mode,
        "setting": setting,
        "relative_error": math.nan,
        "cosine": math.nan,
        "seconds": math.nan,
        "peak_bytes": math.nan,
        "iterations": None,
        "converged": False,
        "kink": False,
        "backend": backend,
        "dtype": dtype,
        "device": "cpu",
        "data": instance.data,
        "kernel_size": instance.bias.shape[-1],
        "image_size": instance.x.shape[-1],
        "logit_level": float(instance.logit_level[0]),
        "active": math.nan,
        "relative_error_smooth": math.nan,
        "coordinates": None,
        "hull": math.nan,
        "hull_violation": math.nan,
        "message": "",
    }


def _mode_rows(mode: Mode, instance: Instance, reference: Reference, repeats: int, clock: Clock) -> Iterator[Row]:
    bases = [_base(instance, name, mode.mode, mode.setting, mode.backend, mode.dtype) for name in PARAMETERS]
    try:
        found = differentiate(mode, instance, repeats, clock)
    except Exception as error:  # a cell that fails is a row of the table
        for base in bases:
            yield {**base, "kink": reference.ties, "message": f"{type(error).__name__}: {error}"}
        return
    distance = float(np.abs(found.value - reference.value).max())
    for base, gradient, expected in zip(bases, found.gradients, reference.gradients, strict=True):
        yield {
            **base,
            "relative_error": _relative_error(gradient, expected),
            "cosine": _cosine(gradient, expected),
            "seconds": found.seconds,
            "peak_bytes": float(found.peak_bytes),
            "iterations": mode.iterations,
            "converged": distance <= PRECISION[mode.dtype] * reference.spread,
            "kink": reference.ties,
            "active": float((found.active == reference.active).mean()),
            "coordinates": gradient.size,
        }


def _difference_rows(
    instance: Instance, reference: Reference, parameter: str, steps: Sequence[float], clock: Clock
) -> Iterator[Row]:
    bases = [_base(instance, parameter, "finite-differences", f"{step:.0e}", "auto", "float64") for step in steps]
    try:
        differences = central_differences(instance, parameter, steps, clock)
    except Exception as error:  # a cell that fails is a row of the table
        yield from ({**base, "message": f"{type(error).__name__}: {error}"} for base in bases)
        return
    channel, entry = coordinates(instance, parameter)
    gradient = reference.gradients[PARAMETERS.index(parameter)]
    expected = gradient.reshape(len(instance.logit_level), -1)[channel, entry]
    for base, found in zip(bases, differences, strict=True):
        smooth = found.smooth
        yield {
            **base,
            "relative_error": _relative_error(found.gradient, expected),
            "cosine": _cosine(found.gradient, expected),
            "seconds": found.seconds,
            "peak_bytes": 0.0,
            "iterations": 2 * len(entry),
            "converged": bool(np.isfinite(found.gradient).all()),
            "kink": not smooth.all(),
            "active": float(smooth.mean()),
            "relative_error_smooth": _relative_error(found.gradient[smooth], expected[smooth]),
            "coordinates": len(entry),
        }


def _hull_rows(instance: Instance) -> Iterator[Row]:
    for backend, dtype in IMPLICIT:
        if dtype != "float64":
            continue
        for parameter in ("x", "bias"):
            base = _base(instance, parameter, "hull", f"{backend}-{dtype}", backend, dtype)
            try:
                found = bracket(instance, parameter, backend)
            except Exception as error:  # a cell that fails is a row of the table
                yield {**base, "kink": True, "message": f"{type(error).__name__}: {error}"}
                continue
            yield {**base, "kink": True, "converged": True, "hull": found.share, "hull_violation": found.violation}


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Euclidean distance over the length of ``expected``; 0 where both vanish, NaN without entries."""
    if not expected.size:
        return math.nan
    distance, length = float(np.linalg.norm(found - expected)), float(np.linalg.norm(expected))
    return distance / length if length > 0 else (0.0 if distance == 0 else math.inf)


def _cosine(found: np.ndarray, expected: np.ndarray) -> float:
    lengths = float(np.linalg.norm(found) * np.linalg.norm(expected))
    return float(np.vdot(found, expected)) / lengths if lengths > 0 else math.nan
