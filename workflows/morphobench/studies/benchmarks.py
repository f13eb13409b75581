"""From the JSON that pytest-benchmark writes for `tests/benchmarks` to a tidy table with ratios to known peers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.files import write_table

__all__ = ["COLUMNS", "PEERS", "benchmark_table", "tabulate"]

# Column of the ratio -> what the name of the peer's implementation contains.
PEERS = {"ratio_depthwise_conv": "depthwise", "ratio_max_pool2d": "max_pool"}
INFO = ["operator", "implementation", "window", "shape", "phase", "threads"]
CASE = ["window", "shape", "phase", "threads"]  # peers are compared on the same case
COLUMNS = [*INFO, "median_s", "q25_s", "q75_s", "minimum_s", "rounds", *PEERS, "processor", "version"]


def tabulate(json_path: Path, out: Path) -> None:
    """Write ``benchmarks.csv`` and ``benchmarks.parquet`` to ``out`` from the JSON at ``json_path``.

    Raises
    ------
    ValueError
        If the file is not pytest-benchmark's JSON, or a benchmark lacks one of `INFO` in its ``extra_info``.
    """
    try:
        report = json.loads(Path(json_path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{json_path}: not JSON ({error}); expected what pytest --benchmark-json writes") from error
    try:
        table = benchmark_table(report)
    except ValueError as error:
        raise ValueError(f"{json_path}: {error}") from error
    write_table(Path(out) / "benchmarks", table)


def benchmark_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a benchmark, with its median over that of each peer on the same case (NaN without that peer).

    Parameters
    ----------
    report : mapping
        pytest-benchmark's JSON, parsed.
    """
    if not isinstance(report, Mapping) or "benchmarks" not in report:
        raise ValueError("key 'benchmarks' not found; expected what pytest --benchmark-json writes")
    processor = _processor(report.get("machine_info", {}))
    rows = [{**_row(benchmark), "processor": processor} for benchmark in report["benchmarks"]]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column, part in PEERS.items():
        table[column] = _ratio(table, part)
    return table


def _row(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    info, stats = benchmark.get("extra_info", {}), benchmark["stats"]
    missing = [key for key in INFO if key not in info]
    if missing:
        raise ValueError(f"{benchmark.get('name')}: extra_info lacks {', '.join(missing)}; expected {', '.join(INFO)}")
    return {
        **{key: _text(info[key]) if key in ("window", "shape") else info[key] for key in INFO},
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


def _processor(machine: Mapping[str, Any]) -> str:
    cpu = machine.get("cpu", {})
    return str(cpu.get("brand_raw") or machine.get("processor") or machine.get("machine") or "")
