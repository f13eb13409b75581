"""What the report says of nonsmooth differentiation: errors away from kinks, and what is returned at kinks and beyond theory."""

from __future__ import annotations

import pandas as pd

from morphobench.report.formatting import count, number, scientific, seconds
from morphobench.report.nonsmooth.figures import LAYER_TITLES, WAY_TITLES, nonsmooth_rows, setting_title
from morphobench.report.results import RunResults
from morphobench.report.scores.tables import Cell, Exhibit, number_cell

__all__ = ["at_kinks", "away_from_kinks", "nonsmooth_sentences"]

SOURCE = "nonsmooth.csv"


def away_from_kinks(results: RunResults) -> Exhibit:
    """Greatest error by layer, way, setting and distance over seeds and arguments."""
    rows = nonsmooth_rows(results, "generic")
    distances = sorted(rows["distance"].unique(), reverse=True)
    found = []
    for (layer, way, value), group in rows.groupby(["layer", "way", "value"], sort=False, dropna=False):
        errors = group.groupby("distance")["relative_error"].max()
        found.append(
            [
                Cell(LAYER_TITLES.get(str(layer), str(layer))),
                Cell(WAY_TITLES.get(str(way), str(way))),
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
    return Exhibit("nonsmooth", caption, columns, found, SOURCE, frozenset(range(3, len(columns))))


def at_kinks(results: RunResults) -> Exhibit:
    """At kinks and in the pathological cases, row by row: what is returned, and the one-sided derivatives."""
    rows = pd.concat([nonsmooth_rows(results, "kink"), nonsmooth_rows(results, "pathological")])
    found = []
    for row in rows.to_dict("records"):
        violation = row["hull_violation"]
        found.append(
            [
                Cell(LAYER_TITLES.get(row["layer"], row["layer"])),
                number_cell(row["seed"]),
                Cell(WAY_TITLES.get(row["way"], row["way"])),
                Cell(setting_title(row["way"], row["value"], row["layer"])),
                number_cell(row["derivative"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(row["left"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(row["right"], lambda value: f"{value:.4f}".replace("-", "−")),
                number_cell(violation, scientific),
                Cell("singular" if row["singular"] == 1 else "", kind="failed" if row["singular"] == 1 else ""),
            ]
        )
    columns = [
        "Layer",
        "Seed",
        "Way",
        "Setting",
        "Derivative",
        "From the left",
        "From the right",
        "Outside by",
        "Certificate",
    ]
    caption = "Directional derivatives at kinks and where the assumption fails; a dash: infinite, or none exists. Nothing is averaged"
    return Exhibit("nonsmooth-kinks", caption, columns, found, SOURCE, frozenset({1, 4, 5, 6, 7}))


def nonsmooth_sentences(results: RunResults) -> list[str]:
    """Say the worst error of each way away from kinks, whether kinks stay in the hull, and what the certificate found."""
    generic, kinks = nonsmooth_rows(results, "generic"), nonsmooth_rows(results, "kink")
    told = []
    for layer, rows in generic.groupby("layer", sort=False):
        parts = []
        for way, mine in rows.groupby("way", sort=False):
            errors = mine.groupby("value", dropna=False)["relative_error"].max()
            parts.append(f"{WAY_TITLES.get(str(way), str(way))} {_between(errors.min(), errors.max())}")
        told.append(
            f"{LAYER_TITLES.get(str(layer), str(layer)).capitalize()}, at distances from {number(rows['distance'].min())} to "
            f"{number(rows['distance'].max())} from a kink: greatest relative error by setting: {'; '.join(parts)}."
        )
    implicit = kinks[kinks["way"] == "implicit"]
    if len(implicit):
        inside = int((implicit["hull_violation"] <= 1e-6).sum())
        told.append(
            f"At kinks the conservative derivative lay between the one-sided ones (within 10⁻⁶) in {inside} of "
            f"{count(len(implicit), 'case')}."
        )
    beyond = nonsmooth_rows(results, "pathological")
    wrong = beyond[(beyond["way"] == "implicit") & ~(beyond["hull_violation"] == 0)]
    if len(wrong):
        certified = int((wrong["singular"] == 1).sum())
        told.append(
            f"Where the assumption fails, the implicit formula returned a number outside of the one-sided derivatives, or one "
            f"where there is none, in {count(len(wrong), 'case')}; the certificate said singular in {certified} of them."
        )
    return told


def _between(least: float, greatest: float) -> str:
    """One error, or the range of several."""
    return scientific(least) if least == greatest else f"{scientific(least)} to {scientific(greatest)}"
