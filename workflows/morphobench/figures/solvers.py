"""What the operators cost: time and memory over the size of the image, and ratios to peers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from morphobench.figures.canvas import (
    FAMILY_COLOURS,
    LINES,
    MARKERS,
    SHADES,
    Absent,
    Drawing,
    log_axis,
    new_figure,
    shade,
)
from morphobench.figures.evidence import Evidence
from morphobench.figures.wording import count, seconds, sentence_list

__all__ = ["Size", "device_title", "devices", "draw_memory", "draw_time", "instance_size"]

SOURCE = "studies/solvers.csv"
PHASES = ("forward", "backward")
BACKEND_TITLES = {
    "cpu": "compiled kernel",
    "cuda": "Triton kernel",
    "tensor": "tensor code",
    "torch": "PyTorch",
    "jax": "JAX",
}


class Size(NamedTuple):
    """Size of an instance: values in the whole batch, the image size as text, and the name without the size."""

    values: int
    label: str
    family: str


def instance_size(instance: str) -> Size:
    """Read the size from the name of an instance: the first numbers joined by "x".

    Examples
    --------
    >>> instance_size("dilation-8x16x64x64-3x3")
    Size(values=524288, label='64×64', family='dilation-3x3')
    >>> instance_size("4x8x16x16-3x3").family
    'window 3×3'
    """
    found = re.search(r"\d+(?:x\d+)+", str(instance))
    if not found:
        return Size(0, "", str(instance))
    numbers = [int(part) for part in found.group().split("x")]
    values = 1
    for part in numbers:
        values *= part
    family = (str(instance)[: found.start()] + str(instance)[found.end() :]).strip("-_ /")
    family = re.sub(r"[-_ ]{2,}", "-", family)
    window = re.fullmatch(r"(\d+)x(\d+)", family)
    return Size(values, "×".join(map(str, numbers[-2:])), "window {}×{}".format(*window.groups()) if window else family)


def devices(evidence: Evidence) -> str:
    """The devices of the solver study, for titles."""
    names = sorted(str(name) for name in evidence.solvers["device"].dropna().unique())
    return sentence_list(map(device_title, names))


def device_title(device: str) -> str:
    """Title of a device.

    Examples
    --------
    >>> device_title("cpu (AMD EPYC)")
    'CPU (AMD EPYC)'
    """
    return re.sub(r"^cpu\b", "CPU", device)


def _sized(evidence: Evidence) -> pd.DataFrame:
    table = evidence.solvers
    table = table[table["phase"].isin(PHASES)]
    sizes = [instance_size(name) for name in table["instance"]]
    several = table["device"].nunique() > 1
    return table.assign(
        values=[size.values for size in sizes],
        size=[size.label for size in sizes],
        family=[size.family for size in sizes],
        series=[_series_name(row, several) for row in table.to_dict("records")],
    )


def _series_name(row: Mapping[Any, Any], with_device: bool) -> str:
    backend = str(row["backend"])
    device = f" on {device_title(str(row['device']))}" if with_device else ""
    return f"{row['solver']}{device}, {BACKEND_TITLES.get(backend, backend)}".replace("-", " ")


def draw_time(evidence: Evidence) -> Drawing | Absent:
    """Median time over the size of the image, forward and backward apart."""
    name, title = "solver-time", "Time of the operators"
    table = _sized(evidence)
    table = table[pd.to_numeric(table["median_s"]).gt(0)]
    if table.empty:
        return Absent(name, title, "the solver study has no times")
    largest = table[table["values"] == table["values"].max()]
    said = [
        f"{row['series']} {row['phase']} {seconds(row['median_s'])}"
        for row in largest.sort_values(["family", "series", "phase"], ascending=[True, True, False]).to_dict("records")
    ]
    caption = (
        f"Median time of one call (mark) and its quartiles (band) over the size of the image on {devices(evidence)}; "
        f"both axes are logarithmic. At {largest['size'].iloc[0]}: {'; '.join(said[:8])}"
        + (f"; {count(len(said) - 8, 'further value')} in the table." if len(said) > 8 else ".")
    )
    drawing = _grid(table, "median_s", "time (s)", band=True)
    alt = "Line plots of time against image size."
    return Drawing(name, f"{title} ({devices(evidence)})", caption, alt, SOURCE, drawing)


def draw_memory(evidence: Evidence) -> Drawing | Absent:
    """Peak memory over the size of the image, forward and backward apart."""
    name, title = "solver-memory", "Peak memory of the operators"
    table = _sized(evidence)
    table = table.assign(mib=pd.to_numeric(table["peak_bytes"]) / 2**20)
    table = table[table["mib"].gt(0)]
    if table.empty:
        return Absent(name, title, "the solver study has no memory readings")
    largest = table[table["values"] == table["values"].max()].sort_values("mib")
    caption = (
        f"Growth of the memory peak during one call over the size of the image on {devices(evidence)}; both axes are "
        f"logarithmic. At {largest['size'].iloc[0]}: from {largest['mib'].iloc[0]:.3g} MiB "
        f"({largest['series'].iloc[0]}, {largest['phase'].iloc[0]}) to {largest['mib'].iloc[-1]:.3g} MiB "
        f"({largest['series'].iloc[-1]}, {largest['phase'].iloc[-1]})."
    )
    drawing = _grid(table, "mib", "peak memory (MiB)", band=False)
    alt = "Line plots of memory against image size."
    return Drawing(name, f"{title} ({devices(evidence)})", caption, alt, SOURCE, drawing)


def _grid(table: pd.DataFrame, column: str, label: str, *, band: bool) -> Figure:
    families = sorted(table["family"].unique())
    phases = [phase for phase in PHASES if phase in set(table["phase"])]
    series = sorted(table["series"].unique())
    figure = new_figure(2.5 * len(families) + 0.22 * -(-len(series) // 3) + 0.2)
    axes = figure.subplots(len(families), len(phases), squeeze=False, sharex=True, sharey="row")
    for row, family in enumerate(families):
        for axis, phase in zip(axes[row], phases, strict=True):
            part = table[(table["family"] == family) & (table["phase"] == phase)]
            for place, key in enumerate(series):
                _line(axis, part[part["series"] == key], column, place, key, band=band)
            axis.set_title(f"{family}, {phase}".strip(", "))
            axis.set_ylabel(label)
    ticks = table.drop_duplicates("values").sort_values("values")
    for axis in axes.flat:
        axis.set_xscale("log")
        log_axis(axis, "y")
        axis.set_xticks(ticks["values"].tolist(), ticks["size"].tolist())
        axis.xaxis.set_minor_locator(NullLocator())
    for axis in axes[-1]:
        axis.set_xlabel("image size (pixels)")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, handlelength=3)
    return figure


def _colour(series: str) -> str:
    """Colour of the family an operator belongs to, in a shade for its implementation."""
    families = (("variational", "variational"), ("max plus", "morphology"), ("convolution", "cnn"))
    family = next((family for part, family in families if part in series), "control")
    backend = series.rpartition(", ")[2]
    backends = [*BACKEND_TITLES.values()]
    return shade(FAMILY_COLOURS[family], SHADES[backends.index(backend)] if backend in backends[:2] else 0.0)


def _line(axis: Axes, rows: pd.DataFrame, column: str, place: int, label: str, *, band: bool) -> None:
    if rows.empty:
        return
    numeric = rows.assign(**{key: pd.to_numeric(rows[key]) for key in (column, "q25_s", "q75_s")})
    rows = numeric.groupby("values")[[column, "q25_s", "q75_s"]].median()
    colour, line = _colour(label), LINES[place % len(LINES)]
    if band:
        axis.fill_between(rows.index, rows["q25_s"], rows["q75_s"], color=colour, alpha=0.18, linewidth=0)
    axis.plot(rows.index, rows[column], color=colour, linestyle=line, marker=MARKERS[place % len(MARKERS)], label=label)
