"""What the sections on measurements share: which rows count, how a device is named, how noise and failures are said."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.formatting import count, in_order, number, seconds, sentence_list
from morphobench.report.results import RunResults
from morphobench.report.table import Cell, ReportTable, number_cell
from morphobench.statistics.inference import bootstrap_interval

__all__ = [
    "FAMILY_TITLES",
    "FRAMEWORK_TITLES",
    "backend_title",
    "circumstances",
    "device_title",
    "devices",
    "failed_cells",
    "failure_sentence",
    "families",
    "family_title",
    "framework_title",
    "frameworks",
    "instance_name",
    "is_loaded",
    "measured",
    "noise_sentence",
    "ratio_note",
    "ratio_text",
    "reproduction_command",
    "spread_cell",
    "time_cell",
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
    return in_order(set(table["family"]) - {""}, FAMILY_TITLES)


def family_title(family: str) -> str:
    """Title of a family of operators."""
    return FAMILY_TITLES.get(family, family)


def frameworks(table: pd.DataFrame) -> list[str]:
    """Frameworks in the table, PyTorch first."""
    return in_order(set(table["framework"]), FRAMEWORK_TITLES)


def framework_title(framework: str) -> str:
    """Title of a framework."""
    return FRAMEWORK_TITLES.get(framework, framework)


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


def spread_cell(share: float) -> Cell:
    """How far repeated medians lie apart, in percent of the median."""
    return number_cell(share, lambda value: f"{number(100 * value)} %")


def time_cell(time: float, *, loaded: bool) -> Cell:
    """A duration, shaded where it was measured on a loaded machine."""
    said = number_cell(time, seconds)
    return Cell(said.text, said.sort, "partly" if loaded else "")


def failed_cells(table: pd.DataFrame, name: str, source: str) -> ReportTable:
    """Cells of a study without a measurement, with the reason."""
    failed = table[~table.index.isin(measured(table).index)].drop_duplicates(["cell", "framework", "message"])
    rows = []
    for row in failed.to_dict("records"):
        kind = "unavailable" if row["status"] == "unavailable" else "failed"
        status = Cell(row["status"].replace("_", " "), kind=kind)
        rows.append([Cell(row["cell"]), Cell(framework_title(row["framework"])), status, Cell(row["message"])])
    return ReportTable(name, "Cells without a measurement", ["Cell", "Framework", "Status", "Message"], rows, source)


def reproduction_command(results: RunResults, study: str) -> str:
    """Return the command that measures one cell of a study again; "" without a study."""
    if study not in results.studies:
        return ""
    row = results.studies[study].iloc[0]
    return f"python -m morphobench cell {study} {row['cell']} --framework {row['framework']} --config results/{row['run']}/config.yaml"
