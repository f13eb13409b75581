"""Operator recovery in the report: the numbers said are those of the table; where an operator loses is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from morphobench.project.files import write_table
from morphobench.project.paths import Project
from morphobench.report.recovery.figures import draw_gradient_shares, draw_recovered, draw_recovery_success
from morphobench.report.recovery.rows import operator_names, recovery_runs
from morphobench.report.recovery.tables import recovered_elements, recovery
from morphobench.report.recovery.text import recovery_sentences
from morphobench.report.results import read_run_results
from morphobench.report.style import Absent, Drawing, drawing_style
from morphobench.studies.recovery.study import COLUMN_TYPES
from morphobench.studies.tables import study_table

# Seeds of ten that succeed, by operator and operation.
SUCCESSES = {
    ("max-plus", "dilation"): 4,
    ("max-plus", "opening"): 6,
    ("variational-annealed", "dilation"): 9,
    ("variational-annealed", "opening"): 5,
    ("my-own", "dilation"): 0,
    ("my-own", "opening"): 10,
}


def made_up():
    rows = []
    for (operator, operation), successes in SUCCESSES.items():
        cell = f"digits-{operation}-disk-random-{operator}"
        for seed in range(10):
            rows.append(
                {
                    "cell": cell,
                    "dataset": f"operator-recovery.digits-{operation}-disk",
                    "source": "digits",
                    "operation": operation,
                    "element": "disk",
                    "operator": operator,
                    "initialisation": "random",
                    "seed": seed,
                    "learning_rate": 0.03,
                    "steps": 300,
                    "element_error": 0.0 if seed < successes else 0.3,
                    "valid_error": 0.01 * seed,
                    "output_error": 0.01 * seed,
                    "dice": 0.9,
                    "depth_error": 0.1,
                    "success": seed < successes,
                    "steps_to_success": 100 if seed < successes else np.nan,
                    "gradient_share": 0.25 if operator == "max-plus" else 1.0,
                    "framework": "torch",
                    "device": "cpu",
                    "status": "ok",
                }
            )
    rows.append(
        rows[-1] | {"cell": "digits-dilation-disk-zero-broken", "status": "error", "message": "boom", "success": None}
    )
    return study_table(rows, COLUMN_TYPES)


@pytest.fixture
def results(tmp_path):
    run = Project(tmp_path).run("made-up")
    write_table(run.studies / "recovery", made_up())
    return read_run_results(run)


def with_rows(results, rows):
    return dataclasses.replace(results, studies={"recovery": rows})


def test_the_sentences_say_the_counts_with_their_intervals(results):
    first, density, annealed, own = recovery_sentences(results)
    assert "2 cases" in first
    assert "10 seeds" in first
    assert "max-plus 50 % [30, 70] with gradient at 25 % of the window" in first
    assert "my-own 50 %" in first
    assert "Over all 6 combinations" in density
    # Ranks of the shares 1.5 and 4.5, of successes 2, 4 and 5, 3, 1, 6: 3 / sqrt(12 * 17.5).
    assert "+0.2070: 1 would mean" in density
    assert "at least as often as max-plus in 1 of 2 cases, and more often with an interval above 0 in 1" in annealed
    assert "opening by disk, digits, start random (5 against 6 of 10, difference −0.10 [−0.45, +0.29])" in annealed
    assert "dilation by disk" in own


def test_shares_are_said_by_start_if_there_are_several(results):
    again = results.studies["recovery"].assign(initialisation="zero", success=lambda runs: runs["seed"] < 2)
    both = with_rows(results, pd.concat([results.studies["recovery"], again[again["status"] == "ok"]]))
    by_start = recovery_sentences(both)[1]
    assert by_start == (
        "By start, random: max-plus 50 %, variational, level annealed 70 % and my-own 50 %; "
        "zero: max-plus 20 %, variational, level annealed 20 % and my-own 20 %."
    )


def test_an_operator_that_never_loses_has_no_exception(results):
    good = results.studies["recovery"][results.studies["recovery"]["operation"] == "dilation"]
    annealed = recovery_sentences(with_rows(results, good))[2]
    assert annealed.endswith("in 1 of 1 case, and more often with an interval above 0 in 1.")


def test_the_table_has_a_row_a_case_and_operator(results):
    table = recovery(results)
    assert len(table.rows) == len(SUCCESSES)
    shown = {(row[4].text, row[0].text): row[5].text for row in table.rows}
    assert shown["max-plus", "dilation"] == "4 of 10"
    assert shown["variational, level annealed", "opening"] == "5 of 10"


def test_the_committed_form_counts_each_case(results):
    table = recovered_elements(results)
    assert (
        dict(zip(zip(table["operator"], table["operation"], strict=True), table["recovered"], strict=True)) == SUCCESSES
    )
    assert set(table["runs"]) == {10}
    assert table["output_error"].tolist() == [0.045] * len(SUCCESSES)


def test_pictures_find_the_function_of_a_seed_whatever_the_first_one(results):
    seeds = results.studies["recovery"]["seed"]
    results = with_rows(results, results.studies["recovery"].assign(seed=seeds + 100))
    runs = recovery_runs(results)
    mine = runs[(runs["operator"] == "max-plus") & (runs["operation"] == "opening")]
    assert mine["place"].tolist() == list(range(10))
    folder = results.folders["made-up"].studies
    name = "digits-opening-disk-random-max-plus/max-plus"
    np.savez(folder / "recovery_functions.npz", **{name: np.arange(10.0)[:, None, None] * -np.eye(7) / 10})
    with drawing_style():
        drawing = draw_recovered(results)[0]
    shown = [image.get_array().min() for axis in drawing.figure.axes for image in axis.get_images()]
    # The fifth of ten runs: of 6 without error that with the fifth smallest output error.
    assert pytest.approx(-0.4) in shown


def test_operators_of_plugins_follow_the_known_ones(results):
    assert operator_names(results.studies["recovery"]) == ["max-plus", "variational-annealed", "my-own"]


def test_figures_are_drawn_and_name_what_failed(results, tmp_path):
    folder = results.folders["made-up"].studies
    functions = {f"digits-dilation-disk-random-{name}/{name}": np.zeros((10, 7, 7)) for name in ("max-plus", "my-own")}
    np.savez(folder / "recovery_functions.npz", **functions)
    with drawing_style():
        drawn = [*draw_recovered(results), draw_recovery_success(results), draw_gradient_shares(results)]
        for drawing in drawn:
            assert isinstance(drawing, Drawing)
            drawing.figure.canvas.draw()
    assert [drawing.name for drawing in drawn] == ["recovery-functions", "recovery-success", "recovery-gradients"]
    assert "10 seeds" in drawn[0].caption
    assert "digits-dilation-disk-zero-broken" in drawn[1].caption
    assert "max-plus 25 %" in drawn[2].caption


def test_without_the_study_nothing_is_said(empty):
    assert recovery_sentences(empty) == []
    assert recovery(empty).rows == []
    for drawn in [*draw_recovered(empty), draw_recovery_success(empty), draw_gradient_shares(empty)]:
        assert isinstance(drawn, Absent)
