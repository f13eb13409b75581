"""Figures: each says where it comes from, is drawn the same way twice, or says why it was not drawn."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from morphobench.project.paths import Project, RunFolder
from morphobench.report import style as canvas
from morphobench.report.drawing import draw_figures
from morphobench.report.results import Entry, read_run_results
from morphobench.report.scores.figures import pareto_front
from morphobench.report.scores.segmentations import agreement_picture, draw_segmentations
from morphobench.report.solvers.ratios import draw_ratios, growth_ratios, peer_ratios

EXPECTED = {
    *("scores", "score-parameters", "score-time", "training-curves", "levels", "benchmarks", "ratios"),
    *("gradient-time", "gradient-memory", "gradient-tolerance", "gradient-steps", "gradient-cosines"),
    *("solver-iterations", "solver-accuracy", "solver-phases", "solver-throughput", "solver-layers"),
    *("segmentation-vessels", "segmentation-degraded-digits", "structuring-digits-backbone-variational"),
    *("structuring-digits-backbone-maxplus", "structuring-digits-backbone-variational-two-sided"),
}


@pytest.fixture(scope="module")
def run_results(made_up_run):
    return read_run_results(made_up_run)


@pytest.fixture(scope="module")
def drawn(made_up_figures):
    """The figures of the made-up run that were drawn; it has no scores on corrupted images."""
    return [entry for entry in made_up_figures if entry["drawn"]]


def test_every_figure_of_a_full_run_is_drawn(made_up_figures, drawn):
    assert {entry["name"] for entry in drawn} >= EXPECTED
    assert {entry["name"] for entry in made_up_figures if not entry["drawn"]} == {
        *("robustness", "robustness-noise", "recovery", "recovery-success", "recovery-gradients", "nonsmooth"),
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
    with canvas.drawing_style():
        for folder in ("one", "two"):
            figure = canvas.new_figure(2.0, 3.0)
            figure.subplots().plot([1, 2], marker="o", label="costs $5")
            assert set(canvas.save(figure, tmp_path / folder, "f")) == {"svg", "pdf", "png"}
    for kind in ("svg", "pdf", "png"):
        assert (tmp_path / "one" / f"f.{kind}").read_bytes() == (tmp_path / "two" / f"f.{kind}").read_bytes()


def test_nothing_measured_gives_reasons_and_no_figure(tmp_path):
    listed = draw_figures(Project(tmp_path).run("empty"), tmp_path / "figures")
    assert not any(entry["drawn"] for entry in listed)
    assert all(entry["reason"] for entry in listed)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["figures.json"]


def test_unreadable_test_images_are_a_reason_and_not_a_failure(run_results):
    def lost(dataset):
        raise OSError("disk on fire")

    absent = [drawn for drawn in draw_segmentations(run_results, lost) if isinstance(drawn, canvas.Absent)]
    assert [drawn.name for drawn in absent] == ["segmentation-degraded-digits", "segmentation-vessels"]
    assert absent[0].reason == "the test images could not be read: disk on fire"


def test_results_copied_under_another_name_are_still_found(made_up_run, tmp_path):
    results = tmp_path / "results" / "renamed"
    shutil.copytree(made_up_run.results, results, ignore=shutil.ignore_patterns("studies", "statistics"))
    run_results = read_run_results(RunFolder(results, tmp_path / "report"))
    assert next(run_results.trial_folders("digits", Entry("linear", "default")))[1].is_dir()


def test_every_entry_has_a_look_of_its_own_in_the_colour_of_its_family(run_results):
    line_styles = canvas.line_styles(run_results)
    assert len({look.colour for look in line_styles.values()}) == len(line_styles)
    assert line_styles[Entry("backbone-variational", "default")].colour == canvas.FAMILY_COLOURS["variational"].lower()


def test_the_baseline_and_titles_come_from_the_run(run_results):
    assert run_results.baseline == Entry("backbone-depthwise", "default")
    assert run_results.title(Entry("backbone-variational", "two-sided")) == "Backbone, variational operator (two-sided)"
    assert run_results.dataset_names[0] == "digits"


def test_an_included_run_without_results_is_named(made_up_run, tmp_path):
    results = tmp_path / "results" / "main"
    (results / "tables").mkdir(parents=True)
    (results / "config.yaml").write_text("run: main\nreport: {include: [elsewhere]}\n")
    with pytest.raises(FileNotFoundError, match=r"report\.include names 'elsewhere'"):
        read_run_results(RunFolder(results, tmp_path / "reports" / "main"))


def test_the_pareto_front_is_what_nothing_beats():
    rng = np.random.default_rng(0)
    costs, scores = rng.random(40), rng.random(40)
    front = pareto_front(costs.tolist(), scores.tolist())
    beaten = [
        ((costs <= costs[i]) & (scores >= scores[i]) & ((costs < costs[i]) | (scores > scores[i]))).any()
        for i in range(40)
    ]
    assert sorted(front) == [i for i in range(40) if not beaten[i]]


def test_agreement_pictures_tell_missed_from_spurious():
    picture = agreement_picture(np.array([[1, 0, 1, 0]]), np.array([[1, 1, 0, 0]]))
    assert len({tuple(pixel) for pixel in picture[0]}) == 4
    assert picture[0, 0].tolist() == [1, 1, 1]
    assert picture[0, 3].tolist() == [0, 0, 0]


def test_ratios_are_shown_beside_their_bars_and_the_caption_counts_those_within(run_results):
    drawn = draw_ratios(run_results)
    assert "with 1 thread on Example CPU" in drawn.caption
    assert "Within the bar that the project sets itself: 3 of 4 ratios to a peer." in drawn.caption
    assert "number of window elements: 1 of 2 ratios of a larger window" in drawn.caption
    dots = drawn.figure.axes[0]
    labels = [label.get_text() for label in dots.get_yticklabels()]
    assert "3×3 over a depthwise Conv2d, contiguous" in labels
    assert {text.get_text() for text in dots.texts} >= {"1.9 (2.2)", "0.06 (0.03)"}
    ticks = [line.get_xdata()[0] for line in dots.lines if line.get_marker() == "|"]
    assert ticks == [2.2, 2.2, 0.8, 0.03]


def test_growth_with_the_window_has_a_panel_of_its_own(run_results):
    growth = growth_ratios(run_results)
    assert list(growth["elements"]) == [25, 225]
    assert not set(growth.index) & set(peer_ratios(run_results).index)
    curve, bar = draw_ratios(run_results).figure.axes[1].lines
    assert list(curve.get_ydata()) == [2.5, 30.0]
    assert list(bar.get_ydata()) == pytest.approx([25 / 9, 225 / 9])


@pytest.mark.parametrize("left", [peer_ratios, growth_ratios], ids=["peers", "growth"])
def test_without_the_other_ratios_one_panel_is_left(run_results, left):
    alone = dataclasses.replace(run_results, ratios=run_results.ratios.loc[left(run_results).index])
    assert len(draw_ratios(alone).figure.axes) == 1


def test_labels_of_ratios_do_not_overlap(run_results):
    with canvas.drawing_style():
        figure = draw_ratios(run_results).figure
        figure.draw_without_rendering()
        axis = figure.axes[0]
        boxes = [text.get_window_extent() for text in (*axis.get_yticklabels(), *axis.texts)]
    assert not [(one, two) for i, one in enumerate(boxes) for two in boxes[:i] if one.overlaps(two)]


def test_a_run_without_ratios_says_so(run_results):
    drawn = draw_ratios(dataclasses.replace(run_results, ratios=run_results.ratios.iloc[:0]))
    assert drawn.reason == "no operator was timed in turn with what it replaces"
