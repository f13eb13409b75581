"""Figures: each says where it comes from, is drawn the same way twice, or says why it was not drawn."""

from __future__ import annotations

import json
import re

import pytest

from morphobench.project.paths import Project
from morphobench.report import style
from morphobench.report.drawing import draw_figures
from morphobench.report.results import Entry

EXPECTED = {
    *("scores", "score-parameters", "score-time", "training-curves", "levels", "benchmarks", "ratios"),
    *("gradient-time", "gradient-memory", "gradient-tolerance", "gradient-steps", "gradient-cosines"),
    *("solver-iterations", "solver-accuracy", "solver-phases", "solver-throughput", "solver-layers"),
    *("segmentation-vessels", "segmentation-degraded-digits", "structuring-digits-backbone-variational"),
    *("structuring-digits-backbone-maxplus", "structuring-digits-backbone-variational-two-sided"),
}


@pytest.fixture(scope="module")
def drawn(made_up_figures):
    """The figures of the made-up run that were drawn; it has no scores on corrupted images."""
    return [entry for entry in made_up_figures if entry["drawn"]]


def test_every_figure_of_a_full_run_is_drawn(made_up_figures, drawn):
    assert {entry["name"] for entry in drawn} >= EXPECTED
    assert {entry["name"] for entry in made_up_figures if not entry["drawn"]} == {
        *(
            "certified",
            "robustness",
            "robustness-noise",
            "recovery",
            "recovery-success",
            "recovery-gradients",
            "nonsmooth",
        ),
    }


def test_every_figure_points_to_its_table(made_up_run, drawn):
    for entry in drawn:
        assert (made_up_run.results / entry["source"]).is_file(), entry["name"]


def test_captions_hold_numbers(drawn):
    for entry in drawn:
        assert re.search(r"\d", entry["caption"]), entry["name"]


def test_the_manifest_is_what_was_returned(made_up_run, made_up_figures):
    assert json.loads((made_up_run.report / "figures" / "figures.json").read_text()) == made_up_figures


def test_svg_text_is_text_without_mathematics_markup(made_up_run, drawn):
    for entry in drawn:
        svg = (made_up_run.report / "figures" / entry["files"]["svg"]).read_text()
        assert "<text" in svg, entry["name"]
        assert "mathdefault" not in svg, entry["name"]


def test_a_figure_is_written_as_svg_pdf_and_png_and_the_same_way_twice(tmp_path):
    with style.drawing_style():
        for folder in ("one", "two"):
            figure = style.new_figure(2.0, 3.0)
            figure.subplots().plot([1, 2], marker="o", label="costs $5")
            assert set(style.save(figure, tmp_path / folder, "f")) == {"svg", "pdf", "png"}
    for kind in ("svg", "pdf", "png"):
        assert (tmp_path / "one" / f"f.{kind}").read_bytes() == (tmp_path / "two" / f"f.{kind}").read_bytes()


def test_nothing_measured_gives_reasons_and_no_figure(tmp_path):
    listed = draw_figures(Project(tmp_path).run("empty"), tmp_path / "figures")
    assert not any(entry["drawn"] for entry in listed)
    assert all(entry["reason"] for entry in listed)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["figures.json"]


def test_every_entry_has_a_look_of_its_own_in_the_colour_of_its_family(results):
    line_styles = style.line_styles(results)
    assert len({chosen.colour for chosen in line_styles.values()}) == len(line_styles)
    assert line_styles[Entry("backbone-variational", "default")].colour == style.FAMILY_COLOURS["variational"].lower()
