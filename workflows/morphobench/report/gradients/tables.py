"""The tables of the report about the accuracy of gradients: away from kinks, at them, and what could not be measured."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from morphobench.report.formatting import number, scientific, seconds
from morphobench.report.gradients.figures import (
    DIFFERENCES,
    MODE_TITLES,
    PARAMETER_TITLES,
    clean_gradients,
    instance_costs,
    kink_series,
    parameters,
    setting_text,
)
from morphobench.report.results import RunResults
from morphobench.report.scores.tables import Cell, Exhibit, number_cell
from morphobench.report.study_rows import FAMILY_TITLES, FRAMEWORK_TITLES, families, is_loaded, measured

__all__ = ["failed_cells", "gradients", "kinks", "spread_cell"]

KEYS = ["family", "series", "framework", "dtype", "setting"]


def spread_cell(share: float) -> Cell:
    """How far repeated medians lie apart, in percent of the median."""
    return number_cell(share, lambda value: f"{number(100 * value)} %")


def gradients(results: RunResults) -> Exhibit:
    """Median error by family, way of differentiation and setting, with what it costs; kinks left out."""
    table = clean_gradients(results)
    groups, rows = parameters(table), []
    table = table.assign(place=table["family"].map({name: place for place, name in enumerate(families(table))}))
    modes = {mode: order for order, mode in enumerate(MODE_TITLES)}
    table = table.assign(order=table["mode"].map(modes))
    table = table.sort_values(["place", "order", "series", "framework", "dtype", "value"], kind="stable")
    costs = instance_costs(table).groupby(KEYS)[["seconds", "peak_bytes"]].median().to_dict("index")
    for key, group in table.groupby(KEYS, sort=False):
        family, series, framework, dtype, setting = map(str, cast("tuple[str, ...]", key))
        errors = group.groupby("parameter")["error"].median()
        value = group["value"].iloc[0]
        cost = costs.get(key, {"seconds": np.nan, "peak_bytes": np.nan})
        time = number_cell(cost["seconds"], seconds)
        loaded = bool(is_loaded(group).any())
        rows.append(
            [
                Cell(FAMILY_TITLES.get(family, family)),
                Cell(series),
                Cell(setting_text(group.iloc[0]) or setting, value if value == value else ""),
                Cell(FRAMEWORK_TITLES.get(framework, framework)),
                Cell(dtype),
                *(number_cell(errors.get(name), scientific) for name in groups),
                number_cell(group["cosine"].min(), lambda cosine: f"{cosine:.6f}"),
                number_cell(group["active"].min(), lambda share: f"{100 * share:.4g} %"),
                Cell(time.text, time.sort, "partly" if loaded else ""),
                spread_cell(group["spread"].max()),
                number_cell(cost["peak_bytes"]),
                number_cell(group["iterations"].median()),
                number_cell(group["adjoint_iterations"].median()),
                number_cell(group["certificate"].max(), scientific),
                number_cell(group["instance"].nunique()),
            ]
        )
    columns = [
        *("Family", "Differentiation", "Setting", "Framework", "Precision"),
        *(PARAMETER_TITLES.get(name, name) for name in groups),
        *("Smallest cosine", "Active set agrees", "Time", "Spread", "Bytes kept", "Iterations", "Adjoint iterations"),
        *("Largest certificate", "Instances"),
    ]
    caption = (
        "Relative error of the gradient with respect to each parameter group, its time and memory: medians over instances, "
        "kinks left out (shaded: measured on a loaded machine)"
    )
    return Exhibit("gradients", caption, columns, rows, "gradients.csv", frozenset({2, *range(5, len(columns))}))


def kinks(results: RunResults) -> Exhibit:
    """How each mode behaves at ties, and finite differences across a change of the active set."""
    table = measured(results.gradients)
    table = table[(table["kink"] == 1) | table["hull"].notna()]
    names = [kink_series(*row) for row in table[["mode", "setting", "backend"]].itertuples(index=False)]
    place = table["data"].map(lambda data: "ties" if data == "ties" else "active set differs at ±h")
    place = place.where(~(table["mode"] == "hull"), "ties")
    table = table.assign(series=pd.Series(names, index=table.index, dtype=object), place=place)
    rows = []
    steps = table["mode"].isin(DIFFERENCES)  # of these, all steps together
    table = table.assign(given=[setting_text(row) for row in table.to_dict("records")]).sort_values("value")
    table["given"] = table["given"].mask(steps, "")
    keys = ["place", "family", "series", "given", "framework", "parameter"]
    order = {name: place for place, name in enumerate(MODE_TITLES)}
    table = table.assign(order=table["mode"].map(order).fillna(len(order))).sort_values(
        ["place", "family", "order"], kind="stable"
    )
    for key, group in table.groupby(keys, sort=False):
        where, family, series, given, framework, parameter = map(str, cast("tuple[str, ...]", key))
        outside = group["hull_violation"].max()
        rows.append(
            [
                Cell(series),
                Cell(given or "—"),
                Cell(FAMILY_TITLES.get(family, family)),
                Cell(where),
                Cell(FRAMEWORK_TITLES.get(framework, framework)),
                Cell(PARAMETER_TITLES.get(parameter, parameter)),
                number_cell(group["hull"].min(), lambda share: f"{100 * share:.4g} %"),
                number_cell(outside, scientific),
                number_cell(group["active"].min(), lambda share: f"{100 * share:.4g} %"),
                number_cell(group["relative_error"].median(), scientific),
                number_cell(group["relative_error_smooth"].median(), scientific),
                number_cell(group["instance"].nunique()),
                number_cell(len(group)),
            ]
        )
    columns = [
        *(
            "Differentiation",
            "Setting",
            "Family",
            "Kink",
            "Framework",
            "Parameter group",
            "Between one-sided derivatives",
        ),
        *("Farthest outside", "Active set agrees", "Error, all coordinates", "Error, coordinates without a kink"),
        *("Instances", "Rows"),
    ]
    caption = (
        "At kinks: share of the Jacobian's entries between their one-sided derivatives (smallest), and the median error "
        "against one of the possible derivatives, which no other number of this report contains. That the entries lie "
        "between the one-sided derivatives is a theorem for separable operators only"
    )
    return Exhibit("gradient-kinks", caption, columns, rows, "gradients.csv", frozenset(range(6, len(columns))))


def failed_cells(table: pd.DataFrame, name: str, source: str) -> Exhibit:
    """Cells of a study without a measurement, with the reason."""
    failed = table[~table.index.isin(measured(table).index)].drop_duplicates(["cell", "framework", "message"])
    rows = []
    for row in failed.to_dict("records"):
        bad = "unavailable" if row["status"] == "unavailable" else "failed"
        framework = FRAMEWORK_TITLES.get(row["framework"], row["framework"])
        rows.append(
            [Cell(row["cell"]), Cell(framework), Cell(row["status"].replace("_", " "), kind=bad), Cell(row["message"])]
        )
    return Exhibit(name, "Cells without a measurement", ["Cell", "Framework", "Status", "Message"], rows, source)
