"""Tables of nonsmooth differentiation: errors away from kinks, and what is returned at kinks and beyond theory."""

from __future__ import annotations

import pandas as pd

from morphobench.report.formatting import number, scientific, seconds
from morphobench.report.measurements import failed_cells
from morphobench.report.nonsmooth.rows import layer_title, nonsmooth_rows, nonsmooth_table, setting_title, way_title
from morphobench.report.results import RunResults
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["at_kinks", "away_from_kinks", "tables"]

SOURCE = "nonsmooth.csv"


def tables(results: RunResults) -> list[ReportTable]:
    """Return the errors away from kinks, the derivatives at them, and the cells without a measurement."""
    failed = failed_cells(nonsmooth_table(results), "nonsmooth-failures", SOURCE)
    return [away_from_kinks(results), at_kinks(results), failed]


def away_from_kinks(results: RunResults) -> ReportTable:
    """Greatest error by layer, way, setting and distance over seeds and arguments."""
    rows = nonsmooth_rows(results, "generic")
    distances = sorted(rows["distance"].unique(), reverse=True)
    found = []
    for (layer, way, value), group in rows.groupby(["layer", "way", "value"], sort=False, dropna=False):
        errors = group.groupby("distance")["relative_error"].max()
        found.append(
            [
                Cell(layer_title(str(layer))),
                Cell(way_title(str(way))),
                Cell(
                    setting_title(str(way), float(str(value)), str(layer)), float(str(value)) if value == value else ""
                ),
                *(number_cell(errors.get(distance), scientific) for distance in distances),
                number_cell(group["cosine"].min(), lambda cosine: f"{cosine:.4f}"),
                number_cell(group["seconds"].median(), seconds),
            ]
        )
    columns = ["Layer", "Way", "Setting", *(f"Distance {number(d)}" for d in distances), "Least cosine", "Time"]
    caption = "Greatest relative error over seeds and arguments, by the distance of x from the nearest kink on a line"
    return ReportTable("nonsmooth", caption, columns, found, SOURCE, frozenset(range(3, len(columns))))


def at_kinks(results: RunResults) -> ReportTable:
    """At kinks and in the pathological cases, row by row: what is returned, and the one-sided derivatives."""
    rows = pd.concat([nonsmooth_rows(results, "kink"), nonsmooth_rows(results, "pathological")])
    found = []
    for row in rows.to_dict("records"):
        violation = row["hull_violation"]
        found.append(
            [
                Cell(layer_title(row["layer"])),
                number_cell(row["seed"]),
                Cell(way_title(row["way"])),
                Cell(setting_title(row["way"], row["value"], row["layer"])),
                number_cell(row["derivative"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(row["left"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(row["right"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(violation, scientific),
                Cell("singular" if row["singular"] == 1 else "", kind="failed" if row["singular"] == 1 else ""),
            ]
        )
    columns = ["Layer", "Seed", "Way", "Setting", "Derivative", "From the left", "From the right", "Outside by"]
    columns.append("Certificate")
    caption = "Directional derivatives at kinks and where the assumption fails; a dash: infinite, or none exists. Nothing is averaged"
    return ReportTable("nonsmooth-kinks", caption, columns, found, SOURCE, frozenset({1, 4, 5, 6, 7}))
