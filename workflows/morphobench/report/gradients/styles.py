"""How the modes and parameter groups of the gradient study are drawn, the same in all figures."""

from __future__ import annotations

from morphobench.report.gradients.rows import MODE_TITLES, PARAMETER_TITLES, mode_rows
from morphobench.report.results import RunResults
from morphobench.report.style import SERIES, LineStyle, styles_by_group

__all__ = ["FLOOR", "PARAMETER_COLOURS", "SOURCE", "mode_styles"]

SOURCE = "studies/gradients.csv"
FLOOR = 1e-17  # a logarithmic axis has no place for an error of 0
PARAMETER_COLOURS = dict(zip(PARAMETER_TITLES, (*SERIES, *SERIES), strict=False))  # no operator has more than eight
MODE_COLOURS = dict(zip(MODE_TITLES, (SERIES[place] for place in (0, 4, 1, 5, 3, 2, 7, 6)), strict=True))


def mode_styles(results: RunResults) -> dict[str, LineStyle]:
    """Return the style of every series of the study, in the colour of its mode; in the order of the modes."""
    order = {mode: place for place, mode in enumerate(MODE_TITLES)}
    rows = mode_rows(results)[["mode", "series"]].drop_duplicates().to_dict("records")
    named = [(row["series"], row["mode"]) for row in sorted(rows, key=lambda row: (order[row["mode"]], row["series"]))]
    return styles_by_group(named, MODE_COLOURS, (0.0, -0.4, 0.35))
