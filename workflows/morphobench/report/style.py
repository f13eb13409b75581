"""How a figure looks and how it is saved: one page width, one font, one colour a family everywhere."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from morphobench.project.files import atomic
from morphobench.report.formatting import power_label
from morphobench.report.results import Entry, RunResults

__all__ = [
    "FAMILY_COLOURS",
    "PAGE_WIDTH",
    "SERIES",
    "Absent",
    "Drawing",
    "LineStyle",
    "drawing_style",
    "entry_legend",
    "line_styles",
    "log_axis",
    "new_figure",
    "panel_columns",
    "panels",
    "save",
    "shade",
    "styles_by_group",
]

Named = TypeVar("Named", bound=Hashable)

PAGE_WIDTH = 8.0  # inches; the report shows it at about 960 CSS pixels, so 9 point text stays readable
FORMATS = ("svg", "pdf", "png")

# Okabe and Ito's palette (jfly.uni-koeln.de/color), told apart by readers with the common colour deficiencies.
FAMILY_COLOURS = {
    "variational": "#D55E00",
    "morphology": "#0072B2",
    "implicit": "#AA4499",
    "cnn": "#009E73",
    "classical": "#B8860B",
    "control": "#707070",
}
SERIES = ("#D55E00", "#0072B2", "#009E73", "#AA4499", "#B8860B", "#56B4E9", "#404040", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 1.2)), (0, (3, 3)))
SHADES = (0.0, -0.45, 0.4, -0.22, 0.2)  # towards black (< 0) or white (> 0)

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than the fonts that stand in for it
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "image.cmap": "gray",
    "image.interpolation": "none",
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "svg.fonttype": "none",  # text stays text: searchable, small, readable by screen readers
    "svg.hashsalt": "morphobench",  # the same numbers give the same file
    "pdf.fonttype": 42,
    "text.parse_math": False,  # titles come from plugins and may hold a dollar sign
}


class LineStyle(NamedTuple):
    """How one line of a figure is drawn, the same in all figures."""

    colour: str
    marker: str
    line: Any = "-"


@dataclass(frozen=True)
class Drawing:
    """A figure and what is said about it; ``source`` is the table it was drawn from, below the results folder."""

    name: str
    title: str
    caption: str
    alt: str
    source: str
    figure: Figure


@dataclass(frozen=True)
class Absent:
    """A figure that was not drawn, and why."""

    name: str
    title: str
    reason: str


def shade(colour: str, amount: float) -> str:
    """Mix a colour with black (amount < 0) or white."""
    target, share = (0.0, -amount) if amount < 0 else (1.0, amount)
    red, green, blue = ((1 - share) * part + share * target for part in to_rgb(colour))
    return mpl.colors.to_hex((red, green, blue))


def styles_by_group(
    named: Iterable[tuple[Named, str]], colours: Mapping[str, str], shades: Sequence[float]
) -> dict[Named, LineStyle]:
    """Return a style for each of what is drawn: the colour of its group in a shade, with a marker and line of its own."""
    found: dict[Named, LineStyle] = {}
    used: dict[str, int] = {}
    for name, group in named:
        place = used.get(group, 0)
        used[group] = place + 1
        colour = shade(colours.get(group, "#404040"), shades[place % len(shades)])
        found[name] = LineStyle(colour, MARKERS[len(found) % len(MARKERS)], LINES[place % len(LINES)])
    return found


def line_styles(results: RunResults) -> dict[Entry, LineStyle]:
    """Return the style of every entry, in the colour of its family."""
    return styles_by_group(((entry, results.family(entry)) for entry in results.entries), FAMILY_COLOURS, SHADES)


def entry_legend(figure: Figure, results: RunResults, entries: Sequence[Entry], *, line: bool = False) -> None:
    """Put one legend of entries below all panels."""
    styles = line_styles(results)
    handles = [
        Line2D(
            *([], []),
            color=styles[entry].colour,
            marker=None if line else styles[entry].marker,
            linestyle=styles[entry].line if line else "none",
            label=results.title(entry),
        )
        for entry in entries
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3.2 if line else 1.5)


@contextmanager
def drawing_style() -> Iterator[None]:
    """Context in which figures are made and saved."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(height: float, width: float = PAGE_WIDTH) -> Figure:
    """Return an empty figure (inches) that arranges its parts so that labels do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def log_axis(axis: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, its ticks labelled in plain text (no mathematics markup in the SVG)."""
    axis.set(**{f"{which}scale": "log"})
    line = axis.xaxis if which == "x" else axis.yaxis
    low, high = sorted(axis.get_xlim() if which == "x" else axis.get_ylim())
    decades = math.log10(high / low)
    if decades < 0.7:
        line.set_major_locator(MaxNLocator(4))
    elif decades < 2.5:
        line.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0), numticks=20))
    else:
        line.set_major_locator(LogLocator(numticks=6))
    line.set_major_formatter(FuncFormatter(lambda value, _: power_label(value)))
    line.set_minor_locator(NullLocator())


def panel_columns(panels: int) -> int:
    """Number of columns in which so many panels are arranged: two for 2 or 4 panels, else up to three."""
    return 2 if panels in (2, 4) else min(3, panels)


def panels(
    number: int, height: float = 2.5, below: float = 0.9, single_width: float = PAGE_WIDTH, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels of a height, and room below (inches) for a legend; one alone has a width of its own."""
    columns = panel_columns(number)
    rows = -(-number // columns)
    figure = new_figure(height * rows + below, PAGE_WIDTH if columns > 1 else single_width)
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axis in axes[number:]:
        axis.set_visible(False)
    return figure, axes[:number]


def save(figure: Figure, folder: Path, name: str) -> dict[str, str]:
    """Write ``name``.svg, .pdf and .png without dates, and return the file names by format."""
    undated: dict[str, Mapping[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    # the parts are arranged once, not once a format
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)
    for kind in FORMATS:
        with atomic(folder / f"{name}.{kind}") as part:
            figure.savefig(part, format=kind, metadata=dict(undated[kind]), facecolor="white")
    return {kind: f"{name}.{kind}" for kind in FORMATS}
