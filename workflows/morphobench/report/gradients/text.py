"""The sentences about the accuracy of gradients. Every one is made from numbers and gives them."""

from __future__ import annotations

import pandas as pd

from morphobench.report.formatting import count, power_label, scientific
from morphobench.report.gradients.rows import (
    clean_gradients,
    gradient_table,
    instance_costs,
    kink_series,
    mode_rows,
    precise,
)
from morphobench.report.measurements import (
    failure_sentence,
    families,
    family_title,
    framework_title,
    frameworks,
    measured,
    ratio_note,
    ratio_text,
)
from morphobench.report.results import RunResults
from morphobench.report.sections import Answer

__all__ = ["answer", "cost_comparison", "gradient_sentences"]

TARGET = 1e-6  # the accuracy at which modes are compared
KINDS = {
    "separable": "separable operators",
    **dict.fromkeys(("regularised", "regularised-huber", "joint"), "coupled operators"),
    "geodesic": "reconstruction, whose values are copies of single pixels",
}


def answer(results: RunResults) -> list[Answer]:
    """Return the errors of implicit gradients."""
    return [Answer(sentence) for sentence in gradient_sentences(results)[:1]]


def gradient_sentences(results: RunResults) -> list[str]:
    """Errors of the gradients by the way they were computed; empty without a study."""
    sentences = [
        _implicit_sentence(results),
        cost_comparison(results, "seconds", "unrolled"),
        cost_comparison(results, "seconds", "finite-differences"),
        _slope_sentence(results),
        _hull_sentence(results),
        failure_sentence(gradient_table(results)),
    ]
    return [sentence for sentence in sentences if sentence]


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
            f"{row['series']} ({framework_title(row['framework'])}) "
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
    table = measured(gradient_table(results))
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
    table = measured(gradient_table(results))
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


def cost_comparison(results: RunResults, column: str, other: str, target: float = TARGET) -> str:
    """Cost of a mode over that of implicit differentiation to the same accuracy, by family and framework; "" if none.

    Of each mode the setting counts that reaches the accuracy in every parameter group at the lowest cost.
    """
    costs = instance_costs(precise(mode_rows(results)))
    costs = costs[costs[column] > 0]
    said, missed = [], []
    for framework in frameworks(costs):
        parts = []
        for family in families(costs):
            rows = costs[(costs["family"] == family) & (costs["framework"] == framework)]
            both, least = _least(rows, column, other, target)
            if len(least):
                ratios = (least[other] / least["implicit"]).to_numpy()
                told = ratio_text(ratios, results.level, f"{column}-{other}-{family}-{framework}")
                parts.append(f"{family_title(family)} {told}")
            if both > len(least):
                place = f"{family_title(family)}, {framework_title(framework)}"
                missed.append(f"{both - len(least)} of {both} ({place})")
        said += [f"{framework_title(framework)}: {', '.join(parts)}"] if parts else []
    what = {"seconds": "time", "peak_bytes": "bytes kept"}[column]
    modes = {"unrolled": "unrolling", "finite-differences": "finite differences"}.get(other, other)
    text = (
        f"To a relative error of {power_label(target)} in every parameter group, {what} of {modes} over {what} of implicit "
        f"differentiation ({ratio_note(results.level)}): {'; '.join(said)}."
    )
    if said and other == "finite-differences":
        text += " Finite differences are those of a sample of coordinates alone: all of them take longer in proportion."
    lost = f"Not reached by both: {'; '.join(missed)}."
    return " ".join([text] * bool(said) + [lost] * bool(missed))


def _least(rows: pd.DataFrame, column: str, other: str, target: float) -> tuple[int, pd.DataFrame]:
    """How many instances have both modes, and the least cost of each that reaches the accuracy."""
    names = [set(rows.loc[rows["mode"] == mode, "instance"]) for mode in (other, "implicit")]
    both = names[0] & names[1]
    reached = rows[(rows["error"] <= target) & rows["instance"].isin(both)]
    least = reached.groupby(["instance", "mode"])[column].min().unstack().reindex(columns=[other, "implicit"])
    return len(both), least.dropna()
