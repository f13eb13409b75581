"""What the figures of both studies share: which rows count, how a device is named, how noise and failures are said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from morphobench.report.formatting import count, number, sentence_list
from morphobench.report.style import new_figure, panel_columns
from morphobench.statistics.inference import bootstrap_interval

__all__ = [
    "BACKEND_TITLES",
    "FAMILY_TITLES",
    "FRAMEWORK_LINES",
    "FRAMEWORK_TITLES",
    "add_legend",
    "backend_title",
    "circumstances",
    "device_title",
    "devices",
    "failure_sentence",
    "families",
    "framework_handles",
    "framework_look",
    "instance_name",
    "is_loaded",
    "label_rows",
    "mark_device",
    "measured",
    "noise_sentence",
    "panels",
    "ratio_note",
    "ratio_text",
]

FAMILY_TITLES = {
    "separable": "separable",
    "regularised": "regularised, quadratic",
    "regularised-huber": "regularised, Huber",
    "joint": "joint opening and closing",
    "geodesic": "reconstruction",
    "plugin": "operators of methods",
    "conic": "regularised, as a conic program",
    "dilation": "max-plus dilation",
}
FRAMEWORK_TITLES = {"torch": "PyTorch", "jax": "JAX"}
FRAMEWORK_LINES: dict[str, Any] = {"torch": "-", "jax": (0, (4, 1.6))}
BACKEND_TITLES = {
    "kernels": "compiled kernel",
    "cpu": "compiled kernel",
    "cuda": "Triton kernel",
    "tensor": "tensor code",
    "compile": "torch.compile",
}
PLAIN_BACKENDS = ("", "auto", "tensor", "xla", "torch", "jax")  # the framework's own operations: not said
# The study itself keeps up to `threads` cores busy, and the load average counts that: half a core more is other work.
LOAD_MARGIN = 0.5
FEWEST_FOR_INTERVAL = 5  # below, the range says more than a bootstrap of so few values
NAMED = 4  # more failures than these are counted instead


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the cells that were measured."""
    return table[table["status"].isin(["ok", ""])]


def families(table: pd.DataFrame) -> list[str]:
    """Families of the operators in the table, the separable one first."""
    found = set(table["family"]) - {""}
    return [name for name in FAMILY_TITLES if name in found] + sorted(found - set(FAMILY_TITLES))


def backend_title(backend: str) -> str:
    """What is said of a backend behind the name of an operator; "" for the framework's own operations.

    Examples
    --------
    >>> backend_title("kernels"), backend_title("xla")
    ('compiled kernel', '')
    """
    return "" if backend in PLAIN_BACKENDS else BACKEND_TITLES.get(backend, backend)


def device_title(device: str) -> str:
    """Title of a device, which says whether it is a CPU.

    Examples
    --------
    >>> device_title("cpu (AMD EPYC)"), device_title("cpu"), device_title("NVIDIA H100")
    ('CPU: AMD EPYC', 'CPU', 'GPU: NVIDIA H100')
    """
    kind, name = ("CPU", device[3:]) if re.match(r"cpu\b", device, re.IGNORECASE) else ("GPU", device)
    name = re.sub(r"^cuda\b", "", name).strip(" :")
    name = name[1:-1] if name.startswith("(") and name.endswith(")") else name
    return f"{kind}: {name}" if name else kind


def devices(table: pd.DataFrame) -> str:
    """The devices that the rows were measured on, for titles."""
    return sentence_list(map(device_title, sorted(set(table["device"]) - {""}))) or "device not recorded"


def is_loaded(table: pd.DataFrame) -> pd.Series:
    """Whether more ran on the machine than the study itself: load average above its threads + 0.5."""
    return table["load"] > table["threads"] + LOAD_MARGIN


def noise_sentence(table: pd.DataFrame) -> str:
    """How far repeated medians lie apart, and whether the machine was loaded."""
    spreads = table.drop_duplicates(["cell", "framework", "setting" if "setting" in table else "phase"])[
        "spread"
    ].dropna()
    text = "There are too few repeats to tell how far repeated medians lie apart."
    if len(spreads):
        text = (
            f"Medians of three parts of the repeats differ by {number(100 * spreads.median())} % of the median in the middle "
            f"case and by {number(100 * spreads.max())} % at most ({count(len(spreads), 'timing')})."
        )
    loads = table["load"].dropna()
    if loads.empty:
        return f"{text} The load of the machine was not recorded."
    loaded = int(is_loaded(table).sum())
    margin = f"above the threads of the study + {LOAD_MARGIN:g}"
    told = f"{loaded:,} of {count(len(table), 'row')} come from a loaded machine" if loaded else "no row comes from one"
    span = number(loads.min()) if loads.min() == loads.max() else f"{number(loads.min())} to {number(loads.max())}"
    return f"{text} Load average {span}; a machine is loaded {margin}: {told}."


def failure_sentence(table: pd.DataFrame) -> str:
    """Which cells gave no measurement; empty if all did."""
    failed = table[~table.index.isin(measured(table).index)].drop_duplicates(["cell", "framework"])
    if failed.empty:
        return ""
    parts = [
        f"{row['cell']} ({row['framework']}: {row['status'].replace('_', ' ')})" for row in failed.to_dict("records")
    ]
    rest = f"; {count(len(parts) - NAMED, 'further one')} in the table" if len(parts) > NAMED else ""
    cells = len(table.drop_duplicates(["cell", "framework"]))
    return f"No measurement from {len(parts)} of {count(cells, 'cell')}: {'; '.join(parts[:NAMED])}{rest}."


def circumstances(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """End of a caption: noise of the drawn rows, failed cells of the table they are from."""
    return f"{noise_sentence(rows)} {failure_sentence(table)}".strip()


def mark_device(figure: Figure, rows: pd.DataFrame) -> None:
    """Write the device above the panels, and in red that the machine was loaded."""
    loaded = int(is_loaded(rows).sum())
    warning = f" — loaded machine: {loaded:,} of {count(len(rows), 'row')}" if loaded else ""
    figure.suptitle(devices(rows) + warning, fontsize=8.5, color="#B00020" if loaded else "#606060")


def panels(number_of_panels: int, height: float = 2.5, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of one page width with so many panels, and room below for a legend."""
    columns = panel_columns(number_of_panels)
    rows = -(-number_of_panels // columns)
    figure = new_figure(height * rows + 0.9)
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axis in axes[number_of_panels:]:
        axis.set_visible(False)
    return figure, axes[:number_of_panels]


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


def framework_look(framework: str, colour: str) -> dict[str, Any]:
    """Line and marks of a framework in the colour of a series; JAX shows around PyTorch where both coincide."""
    if framework == "torch":
        return {"color": colour, "linestyle": "-", "linewidth": 1.2, "markersize": 4, "zorder": 3}
    look = {"color": colour, "linestyle": FRAMEWORK_LINES.get(framework, ":"), "linewidth": 1.2, "markersize": 6}
    return look | {"markerfacecolor": "white", "zorder": 2.5}


def framework_handles(table: pd.DataFrame) -> list[Line2D]:
    """Legend of the lines and marks of the frameworks, where there are several."""
    names = [name for name in FRAMEWORK_TITLES if name in set(table["framework"])]
    if len(names) < 2:
        return []
    return [
        Line2D([], [], marker="o", label=FRAMEWORK_TITLES[name], **framework_look(name, "#404040")) for name in names
    ]


def instance_name(row: Any) -> str:
    """Images and window of a row of the solver study."""
    sizes = [row["batch"], row["channels"], row["image_size"], row["image_size"]]
    images = "×".join(f"{size:.0f}" for size in sizes if size == size)
    window = row["kernel_size"]
    return images + (f", {window:.0f}×{window:.0f}" if window == window else "")


def ratio_text(ratios: Sequence[float] | np.ndarray, level: float, name: str) -> str:
    """Geometric mean of ratios with its bootstrap interval in brackets, or their range where there are few.

    Parameters
    ----------
    ratios : array
        (n,) one positive ratio an instance.
    level : float
        Nominal coverage of the interval.
    name : str
        Seeds the resampling.

    Examples
    --------
    >>> ratio_text([2.0, 8.0], 0.95, "")
    '4× (2 to 8; n = 2)'
    >>> ratio_text([0.5], 0.95, "")
    '0.5× (n = 1)'
    """
    logs = np.log(np.asarray(ratios, dtype=float))
    mean, sample = f"{number(math.exp(logs.mean()))}×", f"n = {len(logs)}"
    found = bootstrap_interval(logs, level, name) if len(logs) >= FEWEST_FOR_INTERVAL else None
    if found is not None and not found.reason:
        return f"{mean} [{number(math.exp(found.low))}, {number(math.exp(found.high))}] ({sample})"
    if len(logs) == 1:
        return f"{mean} ({sample})"
    return f"{mean} ({number(math.exp(logs.min()))} to {number(math.exp(logs.max()))}; {sample})"


def ratio_note(level: float, of: str = "instances") -> str:
    """Say what `ratio_text` gives."""
    return (
        f"geometric mean over n {of}, in brackets its {100 * level:g} % bootstrap interval, in parentheses the range "
        f"of fewer than {FEWEST_FOR_INTERVAL} or of equal values"
    )
