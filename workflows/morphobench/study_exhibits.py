"""The tables of the report that show the studies and the comparisons with known numbers."""

from __future__ import annotations

from typing import cast

import pandas as pd

from morphobench.exhibits import Cell, Exhibit, entry_of, number_cell
from morphobench.figures.canvas import power_label
from morphobench.figures.evidence import Evidence
from morphobench.figures.gradients import PARAMETER_TITLES, clean_gradients, instance_costs
from morphobench.figures.solvers import BACKEND_TITLES
from morphobench.figures.wording import interval, metric_title, scientific, score, seconds, signed

__all__ = ["gradients", "published", "reference", "solvers"]


def gradients(evidence: Evidence) -> Exhibit:
    """Median error by way of differentiation, setting and parameter group."""
    table = clean_gradients(evidence)
    parameters = [name for name in PARAMETER_TITLES if len(table) and name in set(table["parameter"])]
    rows = []
    if len(table):
        medians = instance_costs(table).groupby(["series", "setting"])[["seconds", "peak_bytes"]].median()
        costs = {(row["series"], row["setting"]): row for row in medians.reset_index().to_dict("records")}
        smooth = ~table["kink"].astype(str).str.lower().isin(["true", "1", "1.0"])
        table = table.assign(cosine=pd.to_numeric(table["cosine"]).where(smooth), value=table["value"].fillna(0.0))
        for key, group in table.groupby(["series", "value", "setting"], sort=True):
            series, value, setting = str(key[0]), float(cast("float", key[1])), str(key[2])
            errors = group.groupby("parameter")["error"].median()
            cost = costs[(series, setting)]
            rows.append(
                [
                    Cell(series),
                    Cell(power_label(value) if value else setting, value),
                    *(number_cell(errors.get(name), scientific) for name in parameters),
                    number_cell(group["cosine"].min(), lambda cosine: f"{cosine:.6f}"),
                    number_cell(cost["seconds"], seconds),
                    number_cell(cost["peak_bytes"]),
                    number_cell(group["instance"].nunique()),
                ]
            )
    titles = [PARAMETER_TITLES[name] for name in parameters]
    columns = ["Differentiation", "Setting", *titles, "Smallest cosine", "Time", "Bytes kept", "Instances"]
    caption = "Median relative error of the gradient with respect to each parameter group, kinks left out"
    return Exhibit("gradients", caption, columns, rows, "gradients.csv", frozenset(range(1, len(columns))))


def solvers(evidence: Evidence) -> Exhibit:
    """Time and memory of every operator, size and phase."""
    rows = []
    for row in evidence.solvers.to_dict("records"):
        backend = str(row["backend"])
        rows.append(
            [
                Cell(str(row["instance"]).replace("x", "×")),
                Cell(str(row["solver"]).replace("-", " ")),
                Cell(BACKEND_TITLES.get(backend, backend)),
                Cell(str(row["phase"])),
                number_cell(row["median_s"], seconds),
                Cell(
                    f"{seconds(row['q25_s'])} to {seconds(row['q75_s'])}",
                    row["q25_s"] if row["q25_s"] == row["q25_s"] else "",
                ),
                number_cell(None if row["peak_bytes"] != row["peak_bytes"] else row["peak_bytes"] / 2**20),
                number_cell(row["residual"], scientific),
                number_cell(row["iterations"]),
                Cell(str(row["device"])),
            ]
        )
    columns = [
        "Instance",
        "Operator",
        "Implementation",
        "Phase",
        "Median",
        "Quartiles",
        "Memory (MiB)",
        "Residual",
        "Iterations",
        "Device",
    ]
    caption = "Time and memory growth of one call (images N×C×H×W, window)"
    return Exhibit("solvers", caption, columns, rows, "solvers.csv", frozenset({4, 5, 6, 7, 8}))


def published(evidence: Evidence) -> Exhibit:
    """Test means beside published values."""
    rows = []
    for row in evidence.published.to_dict("records"):
        metric, within = row["metric"], bool(row["within"])
        rows.append(
            [
                Cell(evidence.dataset_title(row["dataset"])),
                Cell(evidence.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(score(row["published"], metric), row["published"]),
                Cell(
                    f"{score(row['found'], metric)} {interval(row['low'], row['high'], metric)}".strip(), row["found"]
                ),
                Cell(signed(row["difference"], metric), row["difference"]),
                Cell(f"{row['tolerance']:g}", row["tolerance"]),
                Cell("within" if within else "outside", kind="ok" if within else "failed"),
                Cell(str(row["source"])),
            ]
        )
    columns = [
        "Data set",
        "Method",
        "Metric",
        "Published",
        "Found",
        "Difference",
        "Tolerance",
        "Verdict",
        "Published in",
    ]
    caption = "Test means of this run minus published values"
    return Exhibit("published", caption, columns, rows, "published.csv", frozenset({3, 4, 5, 6}))


def reference(evidence: Evidence) -> Exhibit:
    """Test means beside the committed numbers of an earlier run."""
    rows = []
    for row in evidence.reference.to_dict("records"):
        metric, drift = row["metric"], str(row["drift"]).lower() in ("true", "1")
        rows.append(
            [
                Cell(evidence.dataset_title(row["dataset"])),
                Cell(evidence.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(score(row["expected"], metric), row["expected"]),
                number_cell(row["found"], lambda value, metric=metric: score(value, metric)),  # type: ignore[misc]
                Cell(f"{row['tolerance']:g}", row["tolerance"]),
                Cell("drift" if drift else "within", kind="failed" if drift else "ok"),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Expected", "Found", "Tolerance", "Verdict"]
    caption = "Test means of this run beside the committed numbers (results/reference)"
    return Exhibit("reference", caption, columns, rows, "reference.csv", frozenset({3, 4, 5}))
