"""Writes the report: one HTML file that opens offline, and beside it the figures and tables it shows."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from morphobench.project.files import atomic, write_text
from morphobench.project.paths import Project, RunFolder
from morphobench.report.gradients import tables as study_exhibits
from morphobench.report.gradients import text as study_findings
from morphobench.report.nonsmooth import tables as nonsmooth_exhibits
from morphobench.report.recovery import tables as recovery_exhibits
from morphobench.report.results import RunResults, read_run_results
from morphobench.report.robustness import tables as robustness_exhibits
from morphobench.report.scores import counterparts as counterpart_exhibits
from morphobench.report.scores import known_numbers as known_exhibits
from morphobench.report.scores import tables as exhibits
from morphobench.report.scores import text as findings
from morphobench.report.solvers import tables as cost_exhibits
from morphobench.report.solvers import text as cost_findings

__all__ = ["inline_svg", "write_report"]

LARGEST_SVG = 600_000  # bytes; a larger figure is shown as PNG


@dataclass(frozen=True)
class Shown:
    """A figure in the page: its picture (SVG or img element), or the reason why it was not drawn."""

    name: str
    title: str
    caption: str
    source: str
    files: Mapping[str, str]
    picture: Markup
    reason: str = ""


def write_report(run: RunFolder, project: Project, out: Path) -> Path:
    """Write ``index.html`` and ``tables/`` into the folder ``out`` and return the path of the page.

    The figures must have been drawn into ``out/figures`` before (`morphobench.report.drawing.draw_figures`).

    Parameters
    ----------
    run : RunFolder
        The run; those of its ``report.include`` are merged into the page.
    project : Project
        Where the templates are.
    out : Path
        Usually ``reports/<run>``.

    Raises
    ------
    FileNotFoundError
        If ``out/figures/figures.json`` is missing.
    """
    results = read_run_results(run)
    figures = _figures(out / "figures")
    tables = _write_tables(results, run, out / "tables")
    templates = project.workflows / "report"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("index.html").render(
        results=results,
        findings=findings,
        study_findings=study_findings,
        cost_findings=cost_findings,
        robustness_sentences=robustness_exhibits.robustness_sentences(results),
        recovery_sentences=recovery_exhibits.recovery_sentences(results),
        nonsmooth_sentences=nonsmooth_exhibits.nonsmooth_sentences(results),
        counterpart_sentences=counterpart_exhibits.counterpart_sentences(results),
        exhibits=_exhibits(results),
        figures=figures,
        machines=[(name, _flat(content)) for name, content in results.environments.items()],
        configuration=yaml.safe_dump(dict(results.config), sort_keys=False, allow_unicode=True),
        tables=tables,
        style=Markup((templates / "style.css").read_text(encoding="utf-8")),
        script=Markup((templates / "sort.js").read_text(encoding="utf-8")),
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def _exhibits(results: RunResults) -> dict[str, Any]:
    scored = set(results.means.loc[results.means["split"] == "test", "dataset"])
    return {
        "methods": exhibits.method_table(results),
        "datasets": exhibits.dataset_table(results),
        "coverage": exhibits.coverage(results),
        "failures": exhibits.failures(results),
        "scores": [exhibits.scores(results, name) for name in results.dataset_names if name in scored],
        "differences": exhibits.differences(results),
        "ranking": exhibits.rankings(results),
        "counterparts": counterpart_exhibits.counterparts(results),
        "gradients": [
            study_exhibits.gradients(results),
            study_exhibits.kinks(results),
            study_exhibits.failed_cells(results.gradients, "gradient-failures", "gradients.csv"),
        ],
        "solvers": [
            cost_exhibits.layers(results),
            cost_exhibits.coupled(results),
            cost_exhibits.peers(results),
            study_exhibits.failed_cells(results.solvers, "solver-failures", "solvers.csv"),
        ],
        "recovery": [
            recovery_exhibits.recovery(results),
            study_exhibits.failed_cells(results.recovery, "recovery-failures", "recovery.csv"),
        ],
        "nonsmooth": [
            nonsmooth_exhibits.away_from_kinks(results),
            nonsmooth_exhibits.at_kinks(results),
            study_exhibits.failed_cells(results.nonsmooth, "nonsmooth-failures", "nonsmooth.csv"),
        ],
        "robustness": robustness_exhibits.robustness(results),
        "published": known_exhibits.published(results),
        "reference": known_exhibits.reference(results),
    }


def _figures(folder: Path) -> dict[str, list[Shown]]:
    """Figures by the section they belong to, in the order of ``figures.json``."""
    path = folder / "figures.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; draw the figures first (python -m morphobench figures)")
    names = ("scores", "learned", "robustness", "recovery", "nonsmooth", "gradients", "solvers")
    sections: dict[str, list[Shown]] = {name: [] for name in names}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        sections[_section(entry["name"])].append(_shown(entry, folder))
    return sections


def _section(name: str) -> str:
    prefixes = {"gradient": "gradients", "solver": "solvers", "benchmark": "solvers", "ratio": "solvers"}
    prefixes |= {"structuring": "learned", "level": "learned", "robustness": "robustness", "recovery": "recovery"}
    prefixes |= {"nonsmooth": "nonsmooth"}
    return next((section for prefix, section in prefixes.items() if name.startswith(prefix)), "scores")


def _shown(entry: Mapping[str, Any], folder: Path) -> Shown:
    if not entry["drawn"]:
        return Shown(entry["name"], entry["title"], "", "", {}, Markup(), entry["reason"])
    svg = (folder / entry["files"]["svg"]).read_text(encoding="utf-8")
    if len(svg) <= LARGEST_SVG:
        picture = inline_svg(svg, entry["name"], entry["alt"])
    else:
        data = base64.b64encode((folder / entry["files"]["png"]).read_bytes()).decode()
        picture = Markup('<img alt="{}" src="data:image/png;base64,{}">').format(entry["alt"], data)
    source = Path(entry["source"]).name
    return Shown(entry["name"], entry["title"], entry["caption"], source, entry["files"], picture)


def inline_svg(svg: str, name: str, alt: str) -> Markup:
    """Prepare an SVG that matplotlib wrote to stand in a page beside others.

    Its identifiers get the prefix ``name``, since those of two figures are often equal; its size gives way to the
    page's; ``alt`` becomes what a screen reader says. The metadata goes, with its addresses.

    Examples
    --------
    >>> print(inline_svg('<?xml version="1.0"?><svg width="9pt"><use href="#a"/><g id="a"/></svg>', "f", "x < y"))
    <svg role="img" aria-label="x &lt; y"><use href="#f-a"/><g id="f-a"/></svg>
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(width|height|version)="[^"]*"', "", opening)
    label = Markup(' role="img" aria-label="{}"').format(alt)
    return Markup(opening.replace("<svg", f"<svg{label}", 1) + ">" + rest.strip())


def _write_tables(results: RunResults, run: RunFolder, folder: Path) -> list[tuple[str, str]]:
    """Put every table beside the page, those of merged runs as one, and return their names with what they hold."""
    merged: dict[str, pd.DataFrame] = {"trials": results.trials, "scores": results.scores}
    if len(results.robustness):
        merged["robustness"] = results.robustness
    if len(results.folders) > 1:
        studies = {"gradients": results.gradients, "solvers": results.solvers}
        studies |= {"recovery": results.recovery, "nonsmooth": results.nonsmooth}
        studies |= {"benchmarks": results.benchmarks, "ratios": results.ratios}
        merged |= {name: table for name, table in studies.items() if len(table)}
    for name, table in merged.items():
        with atomic(folder / f"{name}.csv") as part:
            table.to_csv(part, index=False, lineterminator="\n")
    for source in (run.statistics, run.studies):
        for path in sorted(source.glob("*.csv")):
            if path.stem not in merged:
                with atomic(folder / path.name) as part:
                    shutil.copyfile(path, part)
    return [(path.name, HOLDS.get(path.stem, "")) for path in sorted(folder.glob("*.csv"))]


HOLDS = {
    "trials": "one row a trial: status, message, times, memory, parameters, commit, hashes of code and data",
    "scores": "one row a trial, split and metric",
    "means": "means over seeds with intervals",
    "differences": "paired differences to the baseline",
    "ranking": "ranks by data set and average ranks",
    "friedman": "Friedman's test, or why it was not made",
    "counterparts": "the same network in two frameworks: paired differences, ratios of time, compilation",
    "robustness": "scores of saved models on corrupted test images, one row a seed, corruption and severity",
    "published": "comparison with published values",
    "reference": "comparison with the committed numbers",
    "gradients": "gradient study, one row a cell and parameter group",
    "gradients_summary": "gradient study, medians over instances",
    "solvers": "solver study, one row a cell and phase: layers, solvers of coupled operators, other libraries, a copy",
    "recovery": "operator recovery, one row a data set, initialisation, operator and seed",
    "nonsmooth": "nonsmooth differentiation, one row a layer, place, way, setting and argument",
    "benchmarks": "operator benchmarks with ratios to peers",
    "ratios": "operators timed in turn with what they replace, one row an operator, window, phase and peer, with the bar",
}


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mapping as a list of dotted keys and texts."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value)) or "none"))
        else:
            rows.append((f"{prefix}{key}", "not installed" if value == "" else str(value)))
    return rows
