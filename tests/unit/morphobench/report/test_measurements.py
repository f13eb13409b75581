"""What the sections on gradients and solvers share: whatever is missing, noise, load and failures are said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from study_tables import cells_by_column, drawn, only, with_table

from morphobench.report import style
from morphobench.report.formatting import number
from morphobench.report.gradients import figures as gradients_figures
from morphobench.report.gradients import tables as gradients
from morphobench.report.gradients.cosines import draw_cosines
from morphobench.report.gradients.curves import draw_tolerances
from morphobench.report.gradients.text import gradient_sentences
from morphobench.report.measurements import failed_cells, is_loaded, reproduction_command
from morphobench.report.solvers import figures as solvers_figures
from morphobench.report.solvers import tables as solvers
from morphobench.report.solvers.coupled_solvers import draw_iterations
from morphobench.report.solvers.layers import draw_phases
from morphobench.report.solvers.text import solver_sentences
from morphobench.studies.gradients.study import COLUMN_TYPES as GRADIENTS
from morphobench.studies.solvers.study import COLUMN_TYPES as SOLVERS

GRADIENT_FIGURES, SOLVER_FIGURES = gradients_figures.FIGURES, solvers_figures.FIGURES[:5]

DEGENERATE = {
    "one mode": lambda table: (table["mode"] == "implicit") & (table["framework"] == "jax"),
    "one instance": lambda table: table["instance"] == table["instance"].iloc[0],
    "kinks alone": lambda table: table["kink"] == 1,
    "one size": lambda table: (table["image_size"] == 64) & (table["kernel_size"] == 3),
    "one solver": lambda table: table["solver"].isin(["admm", "convolution"]) & (table["framework"] == "torch"),
    "peers alone": lambda table: table["role"] == "peer",
    "convolution alone": lambda table: table["solver"] == "depthwise-convolution",
    "all failed": lambda table: table["status"] != "ok",
    "empty": lambda table: table["cell"] == "",
}
OF_GRADIENTS, OF_SOLVERS, OF_BOTH = list(DEGENERATE)[:3], list(DEGENERATE)[3:7], list(DEGENERATE)[7:]
CASES = [("gradients", draw, case) for draw in GRADIENT_FIGURES for case in OF_GRADIENTS + OF_BOTH]
CASES += [("solvers", draw, case) for draw in SOLVER_FIGURES for case in OF_SOLVERS + OF_BOTH]


def test_the_spread_of_repeated_medians_is_said(results):
    caption = drawn(draw_phases, results).caption
    largest = (
        results.studies["solvers"]
        .loc[
            (results.studies["solvers"]["role"] == "layer")
            & (results.studies["solvers"]["image_size"] == 128)
            & (results.studies["solvers"]["kernel_size"] == 3)
        ]["spread"]
        .max()
    )
    assert f"{number(100 * largest)} % at most" in caption


def test_failed_cells_are_named_in_the_caption(results):
    assert "regularised-random-64-8-jax (jax: timeout)" in drawn(draw_cosines, results).caption
    assert "coupled-lost (torch: error)" in drawn(draw_iterations, results).caption


@pytest.mark.parametrize(("study", "draw", "case"), CASES)
def test_whatever_is_missing_a_figure_is_drawn_or_says_why_not(results, study, draw, case):
    found = drawn(draw, only(results, **{study: DEGENERATE[case]}), arranged=True)
    if isinstance(found, style.Absent):
        assert found.reason
    else:
        assert "nan" not in found.caption
        assert "CPU: Example CPU" in found.title
    if case in OF_BOTH:
        assert isinstance(found, style.Absent)


@pytest.mark.parametrize(
    ("study", "draw"),
    [("gradients", draw_tolerances), ("gradients", draw_cosines)] + [("solvers", draw) for draw in SOLVER_FIGURES],
)
def test_a_figure_of_a_loaded_machine_is_marked(results, study, draw):
    few = only(results, **{study: lambda table: table["image_size"] == 64})
    busy = with_table(few, study, few.studies[study].assign(load=2.6))
    quiet, marked = drawn(draw, few), drawn(draw, busy)
    assert "loaded machine" not in quiet.figure.get_suptitle()
    assert "loaded machine" in marked.figure.get_suptitle()
    assert "come from a loaded machine" in marked.caption


def test_the_load_of_the_study_itself_is_not_held_against_it():
    rows = pd.DataFrame({"load": [2.0, 2.5, 2.51, np.nan], "threads": 2.0})
    assert is_loaded(rows).tolist() == [False, False, True, False]


def test_types_survive_a_csv(results):
    gradients, cost = results.studies["gradients"], results.studies["solvers"]
    assert set(gradients["kink"].dropna()) == {0.0, 1.0}
    assert set(cost["reached"].dropna()) == {0.0, 1.0}
    assert not gradients["parameter"].isna().any()
    assert gradients["forward_tolerance"].dtype == float
    assert list(gradients.columns) == [*GRADIENTS, "run"]
    assert list(cost.columns) == [*SOLVERS, "run"]


def test_every_cell_of_every_table_has_a_text_and_numbers_sort_by_value(results):
    tables = [gradients.gradients, gradients.kinks, solvers.layers, solvers.coupled]
    for table in [*(make(results) for make in tables), solvers.peers(results)]:
        assert table.rows, table.name
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(cell.text and cell.text != "nan" for cell in row), table.name


def test_failed_cells_are_listed_with_their_reason(results):
    found = cells_by_column(failed_cells(results.studies["gradients"], "f", "gradients.csv"))
    assert [(row["Cell"], row["Status"]) for row in found] == [("regularised-random-64-8-jax", "timeout")]
    reasons = {row["Message"] for row in cells_by_column(failed_cells(results.studies["solvers"], "f", "solvers.csv"))}
    assert reasons == {"RuntimeError: <b>singular</b> matrix", "not installed"}


def test_rows_of_a_loaded_machine_are_shaded(results):
    busy = with_table(results, "solvers", results.studies["solvers"].assign(load=3.0))
    for make in (solvers.layers, solvers.coupled):
        median = make(results).columns.index("Median")
        assert {row[median].kind for row in make(results).rows} == {""}
        assert {row[median].kind for row in make(busy).rows} == {"partly"}


def test_without_a_study_nothing_is_said_and_no_row_is_shown(empty):
    assert gradient_sentences(empty) == []
    assert solver_sentences(empty) == []
    assert reproduction_command(empty, "gradients") == ""
    makers = [
        gradients.gradients,
        gradients.kinks,
        solvers.layers,
        solvers.coupled,
        solvers.peers,
    ]
    assert not any(make(empty).rows for make in makers)


def test_a_study_that_failed_altogether_has_failures_alone(results):
    failed = {"status": "error", "message": "boom"}
    lost = with_table(results, "gradients", results.studies["gradients"].assign(**failed, relative_error=np.nan))
    lost = with_table(lost, "solvers", results.studies["solvers"].assign(**failed, median_s=np.nan))
    assert gradient_sentences(lost)[0].startswith("No measurement from")
    assert [
        text for text in solver_sentences(lost) if not text.startswith("Training an image")
    ] == []  # of the networks
    assert not any(make(lost).rows for make in (gradients.gradients, solvers.layers, solvers.coupled))
    assert failed_cells(lost.studies["solvers"], "f", "solvers.csv").rows


def test_a_cell_is_measured_again_by_a_command_that_names_it(results):
    command = reproduction_command(results, "gradients")
    row = results.studies["gradients"].iloc[0]
    expected = (
        f"python -m morphobench cell gradients {row['cell']} --framework torch --config results/made-up/config.yaml"
    )
    assert command == expected
