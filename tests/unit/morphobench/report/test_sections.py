"""Sections: each is a folder that no other module knows, and none that says or tabulates something starts matplotlib."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import morphobench
from morphobench.report.sections import sections

HARNESS = Path(morphobench.__file__).parent
NAMES = [section.name for section in sections()]
TOY = {
    "__init__.py": """
from morphobench.report.sections import Section

SECTION = Section(__name__, "A toy", place=35, answer_place=1, files={"toys": "one row a toy"})
""",
    "tables.py": """
import pandas as pd

from morphobench.report.table import Cell, ReportTable


def tables(results):
    return [ReportTable("toys", "Toys of the run", ["Toy"], [[Cell("bear & co")]])]


def expected(results):
    return {"toys": pd.DataFrame({"toy": ["bear"]})}
""",
    "text.py": """
from morphobench.report.sections import Answer


def answer(results):
    return [Answer("Toys are fun.", ["So is play."])]
""",
    "figures.py": """
from morphobench.report.style import Drawing, new_figure


def draw_toys(results):
    figure = new_figure(1.0)
    figure.subplots()
    return Drawing("toys", "Toys", "One of 1 toy.", "A toy.", "tables/trials.csv", figure)


FIGURES = (draw_toys,)
""",
    "section.html": """{% from "macros.html" import drawings, table %}
{% for one in tables %}
{{ table(one) }}
{% endfor %}
{{ drawings(figures) }}
""",
}
WRITE = """
from pathlib import Path

from morphobench.project.paths import Project
from morphobench.report.drawing import draw_figures
from morphobench.report.page import write_report
from morphobench.report.results import read_run_results
from morphobench.report.sections import expected_tables

run = Project(Path.cwd()).run("empty")
draw_figures(run, run.report / "figures")
print(write_report(run, run.report).read_text(encoding="utf-8"))
print("expected:", *expected_tables(read_run_results(run)))
"""


def run_python(code, folder=None):
    """Run Python with the harness below ``folder``, if one is given."""
    environment = os.environ | ({"PYTHONPATH": str(folder)} if folder else {})
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def harness(tmp_path):
    """A copy of the harness whose report has no section."""
    copy = tmp_path / "morphobench"
    shutil.copytree(HARNESS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in NAMES:
        shutil.rmtree(copy / "report" / name)
    return copy


def test_a_folder_is_a_section(harness):
    toy = harness / "report" / "toy"
    toy.mkdir()
    for name, text in TOY.items():
        (toy / name).write_text(text)
    page = run_python(WRITE, harness.parent)
    assert '<li><a href="#toy">A toy</a></li>' in page
    assert page.index("Toys are fun.") < page.index("So is play.") < page.index('<section id="toy">')
    assert page.index("Toys of the run") < page.index("bear &amp; co") < page.index('<figure id="figure-toys">')
    assert "expected: toys" in page


def test_a_report_without_sections_is_a_report(harness):
    page = run_python(WRITE, harness.parent)
    assert [name for name in NAMES if f'id="{name}"' in page] == []
    assert '<section id="reproducibility">' in page


def imported(path):
    """Modules that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_module_imports_a_section(name):
    prefix, folder = f"morphobench.report.{name}.", HARNESS / "report" / name
    others = [path for path in HARNESS.rglob("*.py") if folder not in path.parents]
    assert [str(path) for path in others if any(f"{found}.".startswith(prefix) for found in imported(path))] == []


def test_what_is_said_and_tabulated_starts_no_matplotlib():
    kinds = ("rows", "tables", "text")
    modules = [f"morphobench.report.{path.parent.name}.{path.stem}" for path in (HARNESS / "report").glob("*/*.py")]
    modules = [module for module in modules if module.rpartition(".")[2] in kinds]
    assert len(modules) > len(NAMES)
    code = f"import sys, {', '.join(modules)}, morphobench.report.page; print([m for m in sys.modules if 'matplotlib' in m])"
    assert run_python(code) == "[]\n"


def test_sections_have_a_place_each_and_a_page():
    assert len({section.place for section in sections()}) == len(NAMES)
    assert all((HARNESS / "report" / name / "section.html").is_file() for name in NAMES)
