"""What the figures of measurements share: the device above, the legend below, the lines of the frameworks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from morphobench.report.formatting import count
from morphobench.report.measurements import FRAMEWORK_TITLES, devices, is_loaded
from morphobench.report.style import panel_columns

__all__ = ["add_legend", "framework_handles", "framework_style", "label_rows", "mark_device"]

FRAMEWORK_LINES: dict[str, Any] = {"torch": "-", "jax": (0, (4, 1.6))}


def mark_device(figure: Figure, rows: pd.DataFrame) -> None:
    """Write the device above the panels, and in red that the machine was loaded."""
    loaded = int(is_loaded(rows).sum())
    warning = f" — loaded machine: {loaded:,} of {count(len(rows), 'row')}" if loaded else ""
    figure.suptitle(devices(rows) + warning, fontsize=8.5, color="#B00020" if loaded else "#606060")


def label_rows(axes: Sequence[Axes], label: str) -> None:
    """Label the vertical axis of the panels in the first column."""
    for axis in axes[:: panel_columns(len(axes))]:
        axis.set_ylabel(label)


def add_legend(figure: Figure, axes: Iterable[Axes], extra: Sequence[Line2D] = (), columns: int = 3) -> None:
    """Put one legend of all panels below them."""
    labelled: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    handles = [*labelled.values(), *extra]
    labels = [*labelled, *(str(handle.get_label()) for handle in extra)]
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def framework_style(framework: str, colour: str) -> dict[str, Any]:
    """Line and marks of a framework in the colour of a series; JAX shows around PyTorch where both coincide."""
    if framework == "torch":
        return {"color": colour, "linestyle": "-", "linewidth": 1.2, "markersize": 4, "zorder": 3}
    style = {"color": colour, "linestyle": FRAMEWORK_LINES.get(framework, ":"), "linewidth": 1.2, "markersize": 6}
    return style | {"markerfacecolor": "white", "zorder": 2.5}


def framework_handles(table: pd.DataFrame) -> list[Line2D]:
    """Legend of the lines and marks of the frameworks, where there are several."""
    names = [name for name in FRAMEWORK_TITLES if name in set(table["framework"])]
    if len(names) < 2:
        return []
    return [
        Line2D([], [], marker="o", label=FRAMEWORK_TITLES[name], **framework_style(name, "#404040")) for name in names
    ]
