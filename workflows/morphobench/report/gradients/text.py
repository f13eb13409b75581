"""The sentences of the report about the accuracy of gradients. Every one is made from numbers and gives them."""

from __future__ import annotations

import pandas as pd

from morphobench.report.formatting import count, scientific
from morphobench.report.gradients.costs import cost_comparison
from morphobench.report.gradients.figures import clean_gradients, kink_series, precise
from morphobench.report.results import RunResults
from morphobench.report.study_rows import FRAMEWORK_TITLES, failure_sentence, measured

__all__ = ["gradient_sentences", "reproduction_command"]


def gradient_sentences(results: RunResults) -> list[str]:
    """Errors of the gradients by the way they were computed; empty without a study."""
    sentences = [
        _implicit_sentence(results),
        cost_comparison(results, "seconds", "unrolled"),
        cost_comparison(results, "seconds", "finite-differences"),
        _slope_sentence(results),
        _hull_sentence(results),
        failure_sentence(results.gradients),
    ]
    return [sentence for sentence in sentences if sentence]


KINDS = {
    "separable": "separable operators",
    **dict.fromkeys(("regularised", "regularised-huber", "joint"), "coupled operators"),
    "geodesic": "reconstruction, whose values are copies of single pixels",
}


def _implicit_sentence(results: RunResults) -> str:
    """Error of implicit gradients at the tightest tolerance and of one step."""
    table = precise(clean_gradients(results))
    tightest = table.groupby(["series", "framework", "instance"])["value"].transform("min")
    table = table[table["mode"].isin(["implicit", "one-step"]) & (table["value"].isna() | (table["value"] == tightest))]
    if table.empty:
        return ""
    said = []
    kinds = table["family"].map(KINDS).fillna("operators of methods")
    for kind, part in table.groupby(kinds, sort=False):
        errors = part.groupby(["series", "framework"], sort=False)["error"].agg(["median", "max"]).reset_index()
        told = [
            f"{row['series']} ({FRAMEWORK_TITLES.get(row['framework'], row['framework'])}) "
            f"{scientific(row['median'])}, largest {scientific(row['max'])}"
            for row in errors.to_dict("records")
        ]
        said += [f"{kind}: {'; '.join(told)}"]
    return (
        f"Median relative error of the gradients against the float64 reference at the tightest setting over "
        f"{count(table['instance'].nunique(), 'instance')} and {count(table['parameter'].nunique(), 'parameter group')}, "
        f"kinks left out. {'. '.join(text[0].upper() + text[1:] for text in said)}."
    )


def _slope_sentence(results: RunResults) -> str:
    """Slopes of the Taylor remainder of the implicit gradient."""
    table = measured(results.gradients)
    table = table[(table["mode"] == "taylor") & table["value"].notna()]
    smooth, kinks = table[table["kink"] != 1], table[table["kink"] == 1]
    if smooth.empty:
        return ""
    slopes = smooth["value"]
    left = f"; {count(len(kinks), 'slope')} across a kink left out" if len(kinks) else ""
    return (
        f"The remainder of the first-order Taylor expansion falls with a power of the step of {slopes.median():.3f} in the "
        f"middle case, {slopes.min():.3f} to {slopes.max():.3f} in all ({count(len(slopes), 'slope')}; 2 is expected of a "
        f"correct gradient{left})."
    )


def _hull_sentence(results: RunResults) -> str:
    """Share of Jacobian entries between their one-sided derivatives at ties, by mode; separable and other operators apart."""
    table = measured(results.gradients)
    table = table[table["hull"].notna()]
    names = [kink_series(*row) for row in table[["mode", "setting", "backend"]].itertuples(index=False)]
    table = table.assign(series=pd.Series(names, index=table.index, dtype=object))
    values = table.assign(value=table["value"].where(table["mode"] != "implicit", -table["value"]))
    tightest = values.groupby(["series", "framework", "family"])["value"].transform("max")
    table = table[table["value"].isna() | (values["value"] == tightest)]
    separable, said = table["family"] == "separable", []
    for name, rows in (
        ("Separable operators", table[separable]),
        ("Other operators, to which the theorem does not extend", table[~separable]),
    ):
        shares = rows.groupby("series", sort=False)[["hull", "hull_violation"]].agg(
            {"hull": "min", "hull_violation": "max"}
        )
        told = [
            f"{series} {100 * share:.4g} %" + (f" (farthest outside by {scientific(outside)})" if share < 1 else "")
            for series, share, outside in shares.itertuples()
        ]
        said += [f"{name} ({count(rows['instance'].nunique(), 'instance')}): {'; '.join(told)}."] if told else []
    if not said:
        return ""
    return (
        "At ties, made on purpose, the entries of the Jacobian should lie between their one-sided derivatives, which is a "
        f"theorem for separable operators only; smallest share that does, at the tightest setting: {' '.join(said)}"
    )


def reproduction_command(table: pd.DataFrame, study: str) -> str:
    """Return the command that measures one cell of a study again; "" without a study."""
    if table.empty:
        return ""
    row = table.iloc[0]
    return f"python -m morphobench cell {study} {row['cell']} --framework {row['framework']} --config results/{row['run']}/config.yaml"
