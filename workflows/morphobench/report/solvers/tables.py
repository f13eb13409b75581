"""Tables of the cost of operators and solvers: whole layers, solvers of coupled operators, other libraries."""

from __future__ import annotations

from typing import Any

import pandas as pd

from morphobench.report.formatting import number, power_label, scientific, seconds
from morphobench.report.measurements import (
    device_title,
    failed_cells,
    family_title,
    framework_title,
    instance_name,
    is_loaded,
    measured,
    spread_cell,
    time_cell,
)
from morphobench.report.results import RunResults
from morphobench.report.solvers.networks import networks
from morphobench.report.solvers.rows import OURS, layer_ratios, layer_rows, solver_table, solver_title
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["coupled", "layers", "peers", "tables"]

SOURCE = "solvers.csv"


def tables(results: RunResults) -> list[ReportTable]:
    """Return networks, layers, solvers of coupled operators, other libraries, and the cells without a measurement."""
    failed = failed_cells(solver_table(results), "solver-failures", SOURCE)
    return [networks(results), layers(results), coupled(results), peers(results), failed]


def _time_cells(row: Any) -> list[Cell]:
    """Median, quartiles and spread of repeated medians."""
    low, high = row["q25_s"], row["q75_s"]
    spread = Cell("—") if low != low else Cell(f"{seconds(low)} to {seconds(high)}", low)
    return [time_cell(row["median_s"], loaded=row["loaded"]), spread, spread_cell(row["spread"])]


TIME_COLUMNS = ("Median", "Quartiles", "Spread")


def _mebibytes(row: Any) -> Cell:
    return number_cell(row["peak_bytes"] / 2**20)


def layers(results: RunResults) -> ReportTable:
    """Time and memory of every layer, with the ratio to a depthwise convolution."""
    table = layer_rows(results)
    table = table.assign(ratio=layer_ratios(results)["ratio"])
    rows = []
    for row in table.assign(loaded=is_loaded(table)).to_dict("records"):
        rows.append(
            [
                Cell(row["series"]),
                Cell(instance_name(row), row["image_size"] if row["image_size"] == row["image_size"] else ""),
                Cell(row["phase"]),
                Cell(framework_title(row["framework"])),
                *_time_cells(row),
                number_cell(row["ratio"], lambda ratio: f"{number(ratio)}×"),
                number_cell(row["cold_s"], seconds),
                _mebibytes(row),
                number_cell(row["pixels_per_s"], scientific),
                Cell(row["dtype"]),
                Cell(device_title(row["device"])),
            ]
        )
    columns = ["Layer", "Images, window", "Phase", "Framework", *TIME_COLUMNS, "Over depthwise convolution"]
    columns += ["Median, cache overwritten", "Memory (MiB)", "Pixels per second", "Precision", "Device"]
    caption = (
        "Whole layers (images N×C×H×W): time of one call, its ratio to a depthwise convolution on the same images, growth of "
        "memory (shaded: measured on a loaded machine)"
    )
    return ReportTable("solver-layers", caption, columns, rows, SOURCE, frozenset(range(4, 11)))


def coupled(results: RunResults) -> ReportTable:
    """Time to an error of the solvers of coupled operators."""
    table = measured(solver_table(results))
    table = table[table["role"] == "coupled"].sort_values(
        ["family", "image_size", "coupling", "tolerance"], kind="stable"
    )
    rows = []
    for row in table.assign(loaded=is_loaded(table)).to_dict("records"):
        rows.append(
            [
                Cell(solver_title(row["solver"])),
                *_where(row),
                Cell(row["phase"]),
                Cell(framework_title(row["framework"])),
                *_time_cells(row),
                number_cell(row["iterations"]),
                number_cell(row["residual"], scientific),
                *_reached(row),
                _mebibytes(row),
            ]
        )
    columns = ["Solver", "Family", "Side", "Coupling", "Error asked", "Phase", "Framework", *TIME_COLUMNS, "Iterations"]
    columns += ["Residual", "Error", "Reached", "Memory (MiB)"]
    caption = "Solvers of coupled operators: time to an error against the float64 reference (shaded: loaded machine)"
    return ReportTable("solver-coupled", caption, columns, rows, SOURCE, frozenset({2, 3, 4, 7, 8, 9, 10, 11, 12, 14}))


def _where(row: Any) -> list[Cell]:
    """Family, side of the image, coupling and the error that was asked for."""
    return [
        Cell(family_title(row["family"])),
        number_cell(row["image_size"]),
        number_cell(row["coupling"]),
        number_cell(row["tolerance"], power_label),
    ]


def _reached(row: Any) -> list[Cell]:
    """Error and whether it is at most what was asked for."""
    verdict = {1.0: Cell("yes", kind="ok"), 0.0: Cell("no", kind="failed")}.get(row["reached"], Cell("—"))
    return [number_cell(row["error"], scientific), verdict]


def peers(results: RunResults) -> ReportTable:
    """Other libraries on the same instances: a row each with its version, or that it is not installed."""
    table = solver_table(results)
    table = table[table["role"] == "peer"]
    ours = _ours(table)
    rows = []
    for row in table.assign(loaded=is_loaded(table)).to_dict("records"):
        ok = row["status"] in ("ok", "")
        mine = ours.get((row["instance"], row["framework"], row["phase"], _key(row["tolerance"])))
        ratio = row["median_s"] / mine if ok and mine and row["solver"] != OURS else None
        rows.append(
            [
                Cell(solver_title(row["solver"])),
                Cell(row["version"] or "—"),
                Cell(row["status"] if ok else row["message"] or row["status"], kind=_kind(row["status"])),
                *_where(row),
                Cell(row["phase"] or "—"),
                Cell(framework_title(row["framework"])),
                *_time_cells(row),
                number_cell(ratio, lambda value: f"{number(value)}×"),
                number_cell(row["iterations"]),
                *_reached(row),
            ]
        )
    columns = ["Library", "Version", "Status", "Family", "Side", "Coupling", "Error asked", "Phase", "Process of"]
    columns += [*TIME_COLUMNS, "Over varmorph", "Iterations", "Error", "Reached"]
    caption = "Other libraries and varmorph on the same instances to the same error"
    return ReportTable("solver-peers", caption, columns, rows, SOURCE, frozenset({4, 5, 6, 9, 10, 11, 12, 13, 14}))


def _ours(table: pd.DataFrame) -> dict[tuple[str, str, str, float], float]:
    """Time of varmorph by instance, framework, phase and tolerance."""
    rows = measured(table)
    rows = rows[(rows["solver"] == OURS) & (rows["median_s"] > 0)]
    return {
        (row["instance"], row["framework"], row["phase"], _key(row["tolerance"])): row["median_s"]
        for row in rows.to_dict("records")
    }


def _key(tolerance: float) -> float:
    """NaN is not equal to itself, so it cannot be looked up."""
    return tolerance if tolerance == tolerance else -1.0


def _kind(status: str) -> str:
    return {"ok": "ok", "": "ok", "unavailable": "unavailable"}.get(status, "failed")
