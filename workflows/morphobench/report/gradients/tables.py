"""Tables of the accuracy of gradients: away from kinks, at them, and what could not be measured."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from morphobench.report.formatting import scientific
from morphobench.report.gradients.rows import (
    DIFFERENCES,
    MODE_TITLES,
    clean_gradients,
    gradient_table,
    instance_costs,
    kink_series,
    parameter_title,
    parameters,
    setting_text,
)
from morphobench.report.measurements import (
    failed_cells,
    families,
    family_title,
    framework_title,
    is_loaded,
    measured,
    spread_cell,
    time_cell,
)
from morphobench.report.results import RunResults
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["gradients", "kinks", "tables"]

SOURCE = "gradients.csv"
KEYS = ["family", "series", "framework", "dtype", "setting"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the errors away from kinks, what happens at kinks, and the cells without a measurement."""
    failed = failed_cells(gradient_table(results), "gradient-failures", SOURCE)
    return [gradients(results), kinks(results), failed]


def gradients(results: RunResults) -> ReportTable:
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
        rows.append(
            [
                Cell(family_title(family)),
                Cell(series),
                Cell(setting_text(group.iloc[0]) or setting, value if value == value else ""),
                Cell(framework_title(framework)),
                Cell(dtype),
                *(number_cell(errors.get(name), scientific) for name in groups),
                number_cell(group["cosine"].min(), lambda cosine: f"{cosine:.6f}"),
                number_cell(group["active"].min(), lambda share: f"{100 * share:.4g} %"),
                time_cell(cost["seconds"], loaded=bool(is_loaded(group).any())),
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
        *(parameter_title(name) for name in groups),
        *("Smallest cosine", "Active set agrees", "Time", "Spread", "Bytes kept", "Iterations", "Adjoint iterations"),
        *("Largest certificate", "Instances"),
    ]
    caption = (
        "Relative error of the gradient with respect to each parameter group, its time and memory: medians over instances, "
        "kinks left out (shaded: measured on a loaded machine)"
    )
    return ReportTable("gradients", caption, columns, rows, SOURCE, frozenset({2, *range(5, len(columns))}))


def kinks(results: RunResults) -> ReportTable:
    """How each mode behaves at ties, and finite differences across a change of the active set."""
    table = measured(gradient_table(results))
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
                Cell(family_title(family)),
                Cell(where),
                Cell(framework_title(framework)),
                Cell(parameter_title(parameter)),
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
        *("Differentiation", "Setting", "Family", "Kink", "Framework", "Parameter group"),
        *("Between one-sided derivatives", "Farthest outside", "Active set agrees", "Error, all coordinates"),
        *("Error, coordinates without a kink", "Instances", "Rows"),
    ]
    caption = (
        "At kinks: share of the Jacobian's entries between their one-sided derivatives (smallest), and the median error "
        "against one of the possible derivatives, which no other number of this report contains. That the entries lie "
        "between the one-sided derivatives is a theorem for separable operators only"
    )
    return ReportTable("gradient-kinks", caption, columns, rows, SOURCE, frozenset(range(6, len(columns))))
