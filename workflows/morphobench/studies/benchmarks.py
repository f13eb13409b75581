"""From the JSON that pytest-benchmark writes for `tests/benchmarks` to tidy tables.

Benchmarks of one implementation give its time and the ratios to known peers. Those that time an operator in turn with
what it replaces say the ratios themselves (``ratios`` in their ``extra_info``) and have a table of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.project.files import write_table

__all__ = ["COLUMNS", "COLUMN_TYPES", "PEERS", "RATIOS", "RATIO_TYPES", "benchmark_table", "ratio_table", "tabulate"]

# Column of the ratio -> what the name of the peer's implementation contains.
PEERS = {"ratio_depthwise_conv": "depthwise", "ratio_max_pool2d": "max_pool"}
INFO = ["operator", "implementation", "window", "shape", "phase", "threads"]
CASE = ["window", "shape", "phase", "threads"]  # peers are compared on the same case
COLUMN_TYPES: dict[str, type] = {
    **dict.fromkeys(["operator", "implementation", "window", "shape", "phase"], str),
    **dict.fromkeys(["threads", "median_s", "q25_s", "q75_s", "minimum_s", "rounds", *PEERS], float),
    **dict.fromkeys(["processor", "version"], str),
}
COLUMNS = list(COLUMN_TYPES)
# The columns of the table `ratios`.
#   peer: what was timed in turn with the operator; ratio: median time of the operator over that of the peer.
#   bar: the ratio that the project sets itself as the most; rounds: how many times each of them was timed.
RATIO_TYPES: dict[str, type] = {
    **dict.fromkeys(["operator", "window", "shape", "phase"], str),
    "threads": float,
    "peer": str,
    **dict.fromkeys(["ratio", "bar", "rounds"], float),
    "processor": str,
}
RATIOS = list(RATIO_TYPES)


def tabulate(json_path: Path, out: Path) -> None:
    """Write ``benchmarks`` and ``ratios``, each as .csv and .parquet, to ``out`` from the JSON at ``json_path``.

    Raises
    ------
    ValueError
        If the file is not pytest-benchmark's JSON, or a benchmark lacks what its table needs in its ``extra_info``.
    """
    try:
        report = json.loads(Path(json_path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{json_path}: not JSON ({error}); expected what pytest --benchmark-json writes") from error
    try:
        tables = {"benchmarks": benchmark_table(report), "ratios": ratio_table(report)}
    except ValueError as error:
        raise ValueError(f"{json_path}: {error}") from error
    for name, table in tables.items():
        write_table(Path(out) / name, table)


def benchmark_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a benchmark, with its median over that of each peer on the same case (NaN without that peer).

    Benchmarks that say ratios themselves are left to `ratio_table`.

    Parameters
    ----------
    report : mapping
        pytest-benchmark's JSON, parsed.
    """
    processor = _processor(report)
    rows = [{**_row(benchmark), "processor": processor} for benchmark in _benchmarks(report, in_turn=False)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column, part in PEERS.items():
        table[column] = _ratio(table, part)
    return table


def ratio_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row an operator and peer that were timed in turn; no rows where none were.

    Parameters
    ----------
    report : mapping
        pytest-benchmark's JSON, parsed.
    """
    processor = _processor(report)
    rows = []
    for benchmark in _benchmarks(report, in_turn=True):
        info = _info(benchmark, [*INFO, "bar"])
        case = {key: info[key] for key in ("operator", "window", "shape", "phase", "threads", "bar")}
        case |= {"rounds": benchmark["stats"]["rounds"], "processor": processor}
        rows += [{**case, "peer": peer, "ratio": ratio} for peer, ratio in info["ratios"].items()]
    return pd.DataFrame(rows, columns=RATIOS)


def _benchmarks(report: Mapping[str, Any], *, in_turn: bool) -> list[Mapping[str, Any]]:
    """Benchmarks that say ratios to what was timed in turn with them, or the others."""
    if not isinstance(report, Mapping) or "benchmarks" not in report:
        raise ValueError("key 'benchmarks' not found; expected what pytest --benchmark-json writes")
    return [benchmark for benchmark in report["benchmarks"] if ("ratios" in benchmark.get("extra_info", {})) == in_turn]


def _info(benchmark: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    info = benchmark.get("extra_info", {})
    missing = [key for key in keys if key not in info]
    if missing:
        raise ValueError(f"{benchmark.get('name')}: extra_info lacks {', '.join(missing)}; expected {', '.join(keys)}")
    return {**info, "window": _text(info["window"]), "shape": _text(info["shape"])}


def _row(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    info, stats = _info(benchmark, INFO), benchmark["stats"]
    return {
        **{key: info[key] for key in INFO},
        "median_s": stats["median"],
        "q25_s": stats["q1"],
        "q75_s": stats["q3"],
        "minimum_s": stats["min"],
        "rounds": stats["rounds"],
        "version": info.get("version", ""),
    }


def _text(value: Any) -> str:
    return "x".join(str(entry) for entry in value) if isinstance(value, list | tuple) else str(value)


def _ratio(table: pd.DataFrame, part: str) -> pd.Series:
    names = table["implementation"].astype(str).str.lower().str.replace(r"[\s-]", "_", regex=True)
    medians = table[names.str.contains(part)].groupby(CASE)["median_s"].min()
    cases = table[CASE].itertuples(index=False, name=None)
    peers = [medians.get(case, math.nan) for case in cases]
    return table["median_s"] / pd.Series(peers, index=table.index, dtype="float64")


def _processor(report: Mapping[str, Any]) -> str:
    machine = report.get("machine_info", {}) if isinstance(report, Mapping) else {}
    cpu = machine.get("cpu", {})
    return str(cpu.get("brand_raw") or machine.get("processor") or machine.get("machine") or "")
