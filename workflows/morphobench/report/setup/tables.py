"""Tables of what was compared: the methods and the data sets."""

from __future__ import annotations

from morphobench.report.formatting import number, sentence_list
from morphobench.report.results import RunResults, rows_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["dataset_table", "method_table", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the methods and the data sets."""
    return [method_table(results), dataset_table(results)]


def method_table(results: RunResults) -> ReportTable:
    """Every method: what it is, where it comes from, how large it is, at what rate it was trained."""
    columns = ["Method", "Family", "Framework", "Learnable parameters", "Learning rate", "What it is", "Stands for"]
    rows = []
    for entry in results.entries:
        trials = rows_of(results.trials, entry)
        plugin = results.methods.get(entry.method, {})
        sizes, rates = trials["parameters"].dropna(), sorted(trials["learning_rate"].dropna().unique())
        span = "—"
        if len(sizes):
            span = number(sizes.min()) + (f" to {number(sizes.max())}" if sizes.max() > sizes.min() else "")
        link = next((url for url in map(_url, plugin.get("references", [])) if url), "")
        rows.append(
            [
                Cell(results.title(entry)),
                Cell(results.family(entry)),
                Cell(str(trials["framework"].iloc[0])),
                Cell(span, float(sizes.max()) if len(sizes) else ""),
                Cell(sentence_list(f"{rate:g}" for rate in rates) or "—", float(rates[0]) if rates else ""),
                Cell(str(plugin.get("summary") or plugin.get("message", ""))),
                Cell(str(plugin.get("citation", "")), link=link),
            ]
        )
    return ReportTable("methods", "Methods", columns, rows, "trials.csv", frozenset({3, 4}))


def _url(reference: str) -> str:
    if reference.startswith(("https://", "http://")):
        return reference
    return f"https://doi.org/{reference}" if reference.startswith("10.") else ""


def dataset_table(results: RunResults) -> ReportTable:
    """Every data set: task, size, licence, citation."""
    columns = [
        "Data set",
        "Task",
        "Train",
        "Valid",
        "Test",
        "Image (C×H×W) or features",
        "Classes",
        "Licence",
        "Cite",
        "Hash",
    ]
    rows = []
    for name in results.dataset_names:
        manifest = results.datasets.get(name, {})
        splits = manifest.get("splits", {})
        shape = "×".join(map(str, manifest.get("input_shape", []))) or "—"
        rows.append(
            [
                Cell(results.dataset_title(name)),
                Cell(results.task(name)),
                *(number_cell(splits.get(split)) for split in ("train", "valid", "test")),
                Cell(shape),
                number_cell(manifest.get("outputs") or None),
                Cell(str(manifest.get("licence", ""))),
                Cell(str(manifest.get("citation", ""))),
                Cell(str(manifest.get("data_hash", "")) or str(manifest.get("message", "")), kind="code"),
            ]
        )
    return ReportTable("datasets", "Data sets", columns, rows, "", frozenset({2, 3, 4, 6}))
