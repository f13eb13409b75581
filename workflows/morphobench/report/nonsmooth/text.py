"""The sentences about nonsmooth differentiation."""

from __future__ import annotations

from morphobench.report.formatting import count, number, scientific
from morphobench.report.nonsmooth.rows import layer_title, nonsmooth_rows, way_title
from morphobench.report.results import RunResults

__all__ = ["nonsmooth_sentences"]


def nonsmooth_sentences(results: RunResults) -> list[str]:
    """Say the worst error of each way away from kinks, whether kinks stay in the hull, and what the certificate found."""
    generic, kinks = nonsmooth_rows(results, "generic"), nonsmooth_rows(results, "kink")
    told = []
    for layer, rows in generic.groupby("layer", sort=False):
        parts = []
        for way, mine in rows.groupby("way", sort=False):
            errors = mine.groupby("value", dropna=False)["relative_error"].max()
            parts.append(f"{way_title(str(way))} {_between(errors.min(), errors.max())}")
        told.append(
            f"{layer_title(str(layer)).capitalize()}, at distances from {number(rows['distance'].min())} to "
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
