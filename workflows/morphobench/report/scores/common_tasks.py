"""Graph and image methods on one task: superpixels of images beside the images, compared by the Dice coefficient of the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from morphobench.report.formatting import mean_and_interval, metric_title, percent, score
from morphobench.report.results import RunResults, entry_of
from morphobench.report.style import Drawing, line_styles, new_figure

__all__ = ["draw_common_tasks"]

METRIC, LIMIT = "dice", "dice_limit"


def draw_common_tasks(results: RunResults) -> Iterator[Drawing]:
    """One figure for each data set of graphs that are made of the images of another data set, if both have scores."""
    for graphs in results.dataset_names:
        images = str(results.datasets.get(graphs, {}).get("images", ""))
        parts = {name: _means(results, name, METRIC) for name in (images, graphs)}
        if images and all(len(part) for part in parts.values()):
            limit = float(_means(results, graphs, LIMIT, controls=True)["mean"].iloc[0])
            yield _draw(results, parts, limit)


def _means(results: RunResults, dataset: str, metric: str, controls: bool = False) -> pd.DataFrame:
    """Rows of the test means of a data set and metric, the highest first."""
    means = results.means
    rows = means[(means["dataset"] == dataset) & (means["split"] == "test") & (means["metric"] == metric)]
    shown = [controls or not results.is_control(entry_of(row)) for _, row in rows.iterrows()]
    return rows[np.asarray(shown, dtype=bool)].sort_values("mean", ascending=False, kind="stable")


def _draw(results: RunResults, parts: dict[str, pd.DataFrame], limit: float) -> Drawing:
    (images, on_images), (graphs, on_graphs) = parts.items()
    styles = line_styles(results)
    heights = [0.27 * len(part) + 0.35 for part in parts.values()]
    figure = new_figure(sum(heights) + 0.5)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    for axis, (dataset, part) in zip(axes, parts.items(), strict=True):
        for place, (_, row) in enumerate(part.iterrows()):
            style = styles[entry_of(row)]
            if not math.isnan(row["low"]):
                axis.plot([row["low"], row["high"]], [place] * 2, color=style.colour, linewidth=2.4)
            axis.plot(row["mean"], place, marker=style.marker, color=style.colour, markersize=6.5)
        axis.set_yticks(range(len(part)), [results.title(entry_of(row)) for _, row in part.iterrows()])
        axis.set_ylim(len(part) - 0.5, -0.5)
        axis.tick_params(axis="y", length=0)
        axis.set_title(results.dataset_title(dataset))
    axes[1].axvline(limit, color="#404040", linestyle=":", linewidth=1.2)
    axes[1].set_xlabel(f"{metric_title(METRIC)} of the pixels")
    best = {name: part.iloc[0] for name, part in parts.items()}
    caption = (
        f"Mean test {metric_title(METRIC)} of the pixels with its {percent(results.level)} interval over seeds; both rows of methods "
        f"learn from the same pictures and are tested on the same. A pixel has the class of its superpixel: with the true classes "
        f"that is {score(limit, METRIC)} (dotted), the most that a method on superpixels can reach. Methods on images are trained "
        f"with cross-entropy and the Dice loss, methods on graphs with cross-entropy alone. Highest: {mean_and_interval(best[images])} by "
        f"{results.title(entry_of(best[images]))} on images, {mean_and_interval(best[graphs])} by "
        f"{results.title(entry_of(best[graphs]))} on superpixels."
    )
    alt = f"Dot plot: {len(on_images)} methods on images above {len(on_graphs)} methods on superpixels."
    title = f"Methods on images and on graphs: {results.dataset_title(graphs)}"
    return Drawing(f"common-{graphs.replace('.', '-')}", title, caption, alt, "statistics/means.csv", figure)
