"""Writes the report: one HTML file that opens offline, and beside it the figures and tables it shows."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from morphobench.project.files import atomic, write_text
from morphobench.project.paths import RunFolder
from morphobench.report.measurements import reproduction_command
from morphobench.report.results import RunResults, read_run_results
from morphobench.report.sections import Answer, Section, sections
from morphobench.settings.yaml_text import dump

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


def write_report(run: RunFolder, out: Path) -> Path:
    """Write ``index.html`` and ``tables/`` into the folder ``out`` and return the path of the page.

    The figures must have been drawn into ``out/figures`` before (`morphobench.report.drawing.draw_figures`).

    Parameters
    ----------
    run : RunFolder
        The run; those of its ``report.include`` are merged into the page.
    out : Path
        Usually ``reports/<run>``.

    Raises
    ------
    FileNotFoundError
        If ``out/figures/figures.json`` is missing.
    """
    results, templates = read_run_results(run), Path(__file__).parent
    figures = _figures(out / "figures")
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["reproduction_command"] = reproduction_command
    page = environment.get_template("page.html").render(
        results=results,
        question=_question(results),
        answers=_answers(results),
        sections=_shown_sections(results, figures, environment),
        machines=[(name, _flat(content)) for name, content in results.environments.items()],
        configuration=dump(dict(results.config)),
        tables=_write_tables(results, run, out / "tables"),
        style=Markup((templates / "style.css").read_text(encoding="utf-8")),
        script=Markup((templates / "sort.js").read_text(encoding="utf-8")),
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def _question(results: RunResults) -> str:
    """Return the question the run asks."""
    other = f"“{results.title(results.baseline)}”" if results.baseline else "the other methods"
    return (
        "Does a variational morphological operator, put in the place of the spatial operator of an otherwise equal "
        f"network, score higher than {other}? How exact are its gradients, and what does it cost?"
    )


def _answers(results: RunResults) -> list[Answer]:
    """Return the short answer: what each section says to it."""
    ordered = sorted(sections(), key=lambda section: section.answer_place)
    return [answer for section in ordered for answer in section.answer(results)]


def _shown_sections(
    results: RunResults, figures: Mapping[str, Sequence[Shown]], environment: Environment
) -> list[tuple[Section, Markup]]:
    """Return the sections of the page with what stands below their headings."""
    shown = []
    for section in sections():
        tables = section.tables(results)
        if section.optional and not any(table.rows for table in tables):
            continue
        body = environment.get_template(f"{section.name}/section.html").render(
            results=results, text=section.module("text"), tables=tables, figures=figures.get(section.name, ())
        )
        shown.append((section, Markup(body)))
    return shown


def _figures(folder: Path) -> dict[str, list[Shown]]:
    """Figures by the section they belong to, in the order of ``figures.json``."""
    path = folder / "figures.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; draw the figures first (python -m morphobench figures)")
    found: dict[str, list[Shown]] = {}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        found.setdefault(entry["section"], []).append(_shown(entry, folder))
    return found


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
    merged = {"trials": results.trials, "scores": results.scores, **results.tables}
    if len(results.folders) > 1:
        merged |= results.studies
    for name, table in merged.items():
        with atomic(folder / f"{name}.csv") as part:
            table.to_csv(part, index=False, lineterminator="\n")
    for source in (run.statistics, run.studies):
        for path in sorted(source.glob("*.csv")):
            if path.stem not in merged:
                with atomic(folder / path.name) as part:
                    shutil.copyfile(path, part)
    files = {name: holds for section in sections() for name, holds in section.files.items()}
    return [(path.name, files.get(path.stem, "")) for path in sorted(folder.glob("*.csv"))]


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
