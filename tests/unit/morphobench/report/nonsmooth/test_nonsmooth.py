"""Nonsmooth differentiation in the report: the numbers said are those of the table, and kinks are not averaged."""

from __future__ import annotations

import pytest

from morphobench.project.files import write_table
from morphobench.project.paths import Project
from morphobench.report.nonsmooth.figures import draw_nonsmooth
from morphobench.report.nonsmooth.tables import at_kinks, away_from_kinks
from morphobench.report.nonsmooth.text import nonsmooth_sentences
from morphobench.report.results import read_run_results
from morphobench.report.style import Absent, Drawing, drawing_style
from morphobench.studies.nonsmooth.study import COLUMN_TYPES
from morphobench.studies.tables import study_table


def row(layer, position, way, **more):
    known = {"cell": f"{layer}-{way}", "layer": layer, "position": position, "way": way, "parameter": "x"}
    ended = {"framework": "torch", "device": "cpu", "status": "ok", "seconds": 0.001, "seed": 0, "singular": False}
    return known | ended | more


def made_up():
    rows = [
        row("lasso", "generic", way, distance=distance, value=value, relative_error=error, cosine=1.0)
        for way, value, error in (("implicit", None, 1e-15), ("smoothed", 0.1, 0.5), ("smoothed", 0.01, 0.03))
        for distance in (1e-1, 1e-2)
    ]
    rows.append(row("lasso", "kink", "implicit", derivative=0.5, left=0.0, right=1.0, hull_violation=0.0, distance=0.0))
    pathological = {"left": 1.0, "right": 1.0, "singular": True}
    rows.append(
        row(
            "split-identity-0",
            "pathological",
            "implicit",
            value=1.0,
            derivative=0.5,
            hull_violation=0.5,
            **pathological,
        )
    )
    rows.append(
        row(
            "split-identity-0",
            "pathological",
            "implicit",
            value=0.5,
            derivative=1.0,
            hull_violation=0.0,
            **pathological,
        )
    )
    rows.append(row("collinear", "pathological", "implicit", derivative=1.0, singular=True))
    rows.append(row("lasso", "generic", "unrolled") | {"status": "error", "message": "boom"})
    return study_table(rows, COLUMN_TYPES)


@pytest.fixture
def results(tmp_path):
    run = Project(tmp_path).run("made-up")
    write_table(run.studies / "nonsmooth", made_up())
    return read_run_results(run)


def test_the_sentences_say_errors_and_what_was_certified(results):
    errors, kinks, wrong = nonsmooth_sentences(results)
    assert "implicit, conservative 1 × 10⁻¹⁵" in errors.replace("1.0 ×", "1 ×")
    assert "smoothed 0.03 to 0.5" in errors
    assert "in 1 of 1 case" in kinks
    assert "in 2 cases; the certificate said singular in 2 of them" in wrong


def test_kinks_have_a_row_each_and_stay_out_of_the_errors(results):
    assert len(at_kinks(results).rows) == 4
    assert len(away_from_kinks(results).rows) == 3


def test_the_figure_is_drawn_and_names_what_failed(results):
    with drawing_style():
        drawing = draw_nonsmooth(results)
        assert isinstance(drawing, Drawing)
        drawing.figure.canvas.draw()
    assert "lasso-unrolled" in drawing.caption


def test_without_the_study_nothing_is_said(empty):
    assert nonsmooth_sentences(empty) == []
    assert at_kinks(empty).rows == []
    assert isinstance(draw_nonsmooth(empty), Absent)
