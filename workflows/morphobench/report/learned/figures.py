"""What the morphological layers have learned: structuring functions, weights and levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morphobench.report.formatting import count, number
from morphobench.report.results import Entry, RunResults
from morphobench.report.style import Absent, Drawing, entry_legend, line_styles, new_figure

__all__ = ["FIGURES", "Strip", "draw_levels", "draw_structuring_functions", "strips"]

CHANNELS = 8  # shown of each layer
LAYERS = 8  # rows of one figure
QUANTITY_TITLES = {"bias": "structuring function b", "weight": "weight w"}


class Strip(NamedTuple):
    """The first channels of one learned quantity of one layer: ``pictures`` is (channels, kh, kw)."""

    layer: str
    quantity: str
    pictures: np.ndarray


def strips(learned: dict[str, np.ndarray]) -> list[Strip]:
    """Return the biases and weights among the learned arrays, in the order of the layers."""
    found = []
    for key, values in learned.items():
        layer, _, quantity = key.rpartition(":")
        if quantity in QUANTITY_TITLES and values.ndim == 3:
            found.append(Strip(layer, quantity, values[:CHANNELS].astype(float)))
    return found


def draw_structuring_functions(results: RunResults) -> list[Drawing | Absent]:
    """One figure a method that has learned structuring functions, on the first data set of each kind of task."""
    first = {results.task(name): name for name in reversed(results.dataset_names)}
    datasets = [name for name in results.dataset_names if name in first.values()]
    drawings: list[Drawing | Absent] = []
    for entry in results.entries:
        if results.family(entry) not in ("variational", "morphology", "implicit"):
            continue
        if results.is_shown_beside_counterpart(entry):
            continue  # what the network has learned is drawn once
        for dataset in datasets:
            seed, learned = next(results.arrays(dataset, entry, "learned.npz"), (0, {}))
            rows = strips(learned)
            if rows:
                drawings.append(_strip_figure(results, entry, dataset, seed, rows))
    missing = "no successful trial of a morphological method describes what it has learned"
    return drawings or [Absent("structuring-functions", "Learned structuring functions", missing)]


def _strip_figure(results: RunResults, entry: Entry, dataset: str, seed: int, rows: list[Strip]) -> Drawing:
    shown = rows[:LAYERS]
    figure = new_figure(0.98 * len(shown) + 0.3)
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, strip in zip(axes, shown, strict=True):
        _draw_strip(figure, axis, strip)
    title = f"Learned structuring functions: {results.title(entry)}, {results.dataset_title(dataset)}"
    hidden = f"; {count(len(rows) - len(shown), 'more row')} not shown" if len(rows) > len(shown) else ""
    finite = np.concatenate([strip.pictures[np.isfinite(strip.pictures)] for strip in shown])
    caption = (
        f"{results.title(entry)} trained on {results.dataset_title(dataset)} with seed {seed}: the first {CHANNELS} "
        f"channels of each layer (one row a quantity{hidden}), every row on its own scale; values from "
        f"{number(finite.min())} to {number(finite.max())}. Scales with a zero in white have both signs."
    )
    alt = f"Pictures of {count(len(shown), 'learned array')} of {results.title(entry)}."
    slug = f"structuring-{dataset}-{entry.method}" + ("" if entry.variant == "default" else f"-{entry.variant}")
    return Drawing(slug, title, caption, alt, "tables/trials.csv", figure)


def _draw_strip(figure: Figure, axis: Axes, strip: Strip) -> None:
    finite = strip.pictures[np.isfinite(strip.pictures)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0 < high or strip.quantity == "bias":
        reach = max(abs(low), abs(high), 1e-6)
        low, high, colours = -reach, reach, "RdBu_r"
    else:
        low, high, colours = min(0.0, low), max(high, low + 1e-6), "viridis"
    shown, height, width = strip.pictures.shape
    gap = 1 + width // 8
    # every row is as wide as one with all channels, so that the pictures have one size
    row = np.full((height, CHANNELS * (width + gap) - gap), np.nan)
    for channel, values in enumerate(strip.pictures):
        row[:, channel * (width + gap) : channel * (width + gap) + width] = values
    picture = axis.imshow(np.ma.masked_invalid(row), vmin=low, vmax=high, cmap=colours)
    axis.set_xticks(
        [channel * (width + gap) + (width - 1) / 2 for channel in range(shown)],
        [str(channel) for channel in range(shown)],
    )
    axis.set_yticks([])
    axis.tick_params(axis="x", length=0, pad=1, labelsize=8)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    label = f"{strip.layer}\n{QUANTITY_TITLES[strip.quantity]}"
    axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    ticks = [low, (low + high) / 2, high]
    bar = figure.colorbar(picture, ax=axis, fraction=0.025, pad=0.01, aspect=9)
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    bar.ax.tick_params(labelsize=7.5)


def draw_levels(results: RunResults) -> Drawing | Absent:
    """Learned levels tau of every channel of every layer, all seeds."""
    name, title = "levels", "Learned levels"
    cells: dict[str, dict[tuple[Entry, str], np.ndarray]] = {}
    for dataset in results.dataset_names:
        for entry in results.entries:
            for _, learned in results.arrays(dataset, entry, "learned.npz"):
                for key, values in learned.items():
                    layer, _, quantity = key.rpartition(":")
                    if quantity == "level":
                        found = cells.setdefault(dataset, {})
                        earlier = found.get((entry, layer), np.zeros(0))
                        found[entry, layer] = np.concatenate([earlier, np.ravel(values).astype(float)])
    if not cells:
        return Absent(name, title, "no successful trial has learned a level")
    styles = line_styles(results)
    heights = [0.24 * len(found) + 0.75 for found in cells.values()]
    figure = new_figure(sum(heights) + 0.3)
    axes = figure.subplots(len(cells), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    spread = np.random.default_rng(0)
    for axis, (dataset, found) in zip(axes, cells.items(), strict=True):
        for place, ((entry, _), values) in enumerate(found.items()):
            style = styles[entry]
            height = place + spread.uniform(-0.25, 0.25, len(values))
            axis.scatter(values, height, s=10, marker=style.marker, color=style.colour, alpha=0.55, linewidths=0)
            axis.plot([np.median(values)] * 2, [place - 0.38, place + 0.38], color="#202020", linewidth=1.6)
        axis.set_yticks(range(len(found)), [layer for _, layer in found])
        axis.set_ylim(len(found) - 0.4, -0.6)
        axis.set_xlim(0, 1)
        axis.set_title(results.dataset_title(dataset))
        axis.axvline(0.5, color="#707070", linewidth=0.8, linestyle=":")
    axes[-1].set_xlabel("level τ (1/2: weighted mean; towards 0 and 1: the two extrema)")
    entries = [entry for entry in results.entries if any(key[0] == entry for found in cells.values() for key in found)]
    entry_legend(figure, results, entries)
    every = np.concatenate([values for found in cells.values() for values in found.values()])
    caption = (
        f"Level τ of each channel (dot) of each layer (row) over all seeds, with the median (bar): "
        f"{count(len(every), 'level')}, median {number(round(float(np.median(every)), 3))}, from "
        f"{number(round(float(every.min()), 3))} to {number(round(float(every.max()), 3))}."
    )
    return Drawing(name, title, caption, "Strip plot of learned levels by layer.", "tables/trials.csv", figure)


FIGURES = (draw_levels, draw_structuring_functions)
