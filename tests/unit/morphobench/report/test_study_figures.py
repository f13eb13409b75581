"""Figures of the studies: the numbers they say are those of the tables, kinks and failures are never averaged in."""

from __future__ import annotations

import dataclasses
import io
import warnings

import numpy as np
import pandas as pd
import pytest
from study_tables import gradient_table, solver_table

from morphobench.project.paths import Project
from morphobench.report import study_rows as studies
from morphobench.report import style as canvas
from morphobench.report.formatting import number
from morphobench.report.gradients import costs as gradient_costs
from morphobench.report.gradients import curves as gradient_curves
from morphobench.report.gradients.cosines import cosines, draw_cosines
from morphobench.report.gradients.figures import clean_gradients, instance_costs, line_styles, mode_rows, precise
from morphobench.report.results import GRADIENTS, SOLVERS, read_run_results, typed
from morphobench.report.solvers import coupled_solvers, throughput
from morphobench.report.solvers import figures as solvers
from morphobench.report.solvers.layers import layer_ratios
from morphobench.studies.cells import study_module

GRADIENT_FIGURES = (
    gradient_costs.draw_gradient_time,
    gradient_costs.draw_gradient_memory,
    gradient_curves.draw_tolerances,
    gradient_curves.draw_steps,
    draw_cosines,
)
SOLVER_FIGURES = (
    coupled_solvers.draw_iterations,
    coupled_solvers.draw_accuracy,
    solvers.draw_phases,
    throughput.draw_throughput,
    solvers.draw_layer_ratios,
)


def read_back(table):
    """The table as it comes from its CSV."""
    text = io.StringIO(table.to_csv(index=False))
    return typed(pd.read_csv(text, keep_default_na=False, na_values=["", "nan", "NaN"])).assign(run="made-up")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    empty = read_run_results(Project(tmp_path_factory.mktemp("project")).run("made-up"))
    return dataclasses.replace(empty, gradients=read_back(gradient_table()), solvers=read_back(solver_table()))


def only(results, gradients=None, solvers=None):
    """The evidence with the rows for which a condition holds."""
    tables = {"gradients": gradients, "solvers": solvers}
    kept = {
        key: table[condition(table)]
        for key, condition in tables.items()
        if condition
        for table in [getattr(results, key)]
    }
    return dataclasses.replace(results, **kept)


def drawn(draw, results, *, arranged=False):
    """The figure, if wanted arranged as it is when it is saved; no warning is raised by either."""
    with canvas.drawing_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = draw(results)
        if arranged and isinstance(found, canvas.Drawing):
            found.figure.draw_without_rendering()
    return found


def sole(table, column, value):
    return table[table[column] == value]


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


@pytest.mark.parametrize(("study", "draw", "case"), CASES)
def test_whatever_is_missing_a_figure_is_drawn_or_says_why_not(results, study, draw, case):
    found = drawn(draw, only(results, **{study: DEGENERATE[case]}), arranged=True)
    if isinstance(found, canvas.Absent):
        assert found.reason
    else:
        assert "nan" not in found.caption
        assert "CPU: Example CPU" in found.title
    if case in OF_BOTH:
        assert isinstance(found, canvas.Absent)


def test_numbers_that_are_missing_everywhere_leave_no_empty_column(results):
    blank = results.gradients.assign(spread=np.nan, load=np.nan, threads=np.nan, adjoint_iterations=np.nan)
    found = drawn(gradient_costs.draw_gradient_time, dataclasses.replace(results, gradients=blank))
    assert "too few repeats" in found.caption
    assert "The load of the machine was not recorded." in found.caption


@pytest.mark.parametrize(
    ("study", "draw"),
    [("gradients", gradient_curves.draw_tolerances), ("gradients", draw_cosines)]
    + [("solvers", draw) for draw in SOLVER_FIGURES],
)
def test_a_figure_of_a_loaded_machine_is_marked(results, study, draw):
    few = only(results, **{study: lambda table: table["image_size"] == 64})
    busy = dataclasses.replace(few, **{study: getattr(few, study).assign(load=2.6)})
    quiet, marked = drawn(draw, few), drawn(draw, busy)
    assert "loaded machine" not in quiet.figure.get_suptitle()
    assert "loaded machine" in marked.figure.get_suptitle()
    assert "come from a loaded machine" in marked.caption


def test_the_load_of_the_study_itself_is_not_held_against_it():
    rows = pd.DataFrame({"load": [2.0, 2.5, 2.51, np.nan], "threads": 2.0})
    assert studies.is_loaded(rows).tolist() == [False, False, True, False]


def test_the_spread_of_repeated_medians_is_said(results):
    caption = drawn(solvers.draw_phases, results).caption
    largest = results.solvers.loc[
        (results.solvers["role"] == "layer")
        & (results.solvers["image_size"] == 128)
        & (results.solvers["kernel_size"] == 3)
    ]["spread"].max()
    assert f"{number(100 * largest)} % at most" in caption


def test_failed_cells_are_named_in_the_caption(results):
    assert "regularised-random-64-8-jax (jax: timeout)" in drawn(draw_cosines, results).caption
    assert "coupled-lost (torch: error)" in drawn(coupled_solvers.draw_iterations, results).caption


def test_kinks_are_left_out_of_the_errors_and_smooth_coordinates_stay(results):
    table = clean_gradients(results)
    assert not ((table["kink"] == 1) & ~table["mode"].isin(["finite-differences", "richardson"])).any()
    assert "ties" not in set(table["data"])
    kinked = table[(table["mode"] == "finite-differences") & (table["kink"] == 1)]
    assert len(kinked)
    assert (kinked["error"] == kinked["relative_error_smooth"]).all()
    assert kinked["cosine"].isna().all()


def test_a_setting_with_a_kink_in_one_group_has_no_cost(results):
    table = mode_rows(results)
    lost = table["error"].where(~((table["series"] == "unrolled, Newton") & (table["parameter"] == "bias")))
    costs = instance_costs(table.assign(error=lost))
    families = set(costs.loc[costs["series"] == "unrolled, Newton", "family"])
    assert families == {"geodesic"}


def test_finite_differences_cost_the_sum_over_the_groups(results):
    costs = instance_costs(precise(mode_rows(results)))
    rows = costs[(costs["mode"] == "finite-differences") & (costs["family"] == "separable")]
    assert rows["seconds"].tolist() == pytest.approx([4 * 4e-3] * len(rows))


def test_rows_that_vary_the_forward_tolerance_are_in_their_own_figure_alone(results):
    assert not precise(mode_rows(results))["setting"].str.startswith("forward").any()
    found = drawn(gradient_curves.draw_tolerances, results)
    assert "regularised, quadratic from 10⁻⁴ on" in found.caption


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.9, 1.0, 1.0], 1e-4), ([1.0, 1.0, 1.0], 1e-2), ([1.0, 0.99, 1.0], 1e-6), ([1.0, 1.0, np.nan], np.nan)],
)
def test_the_active_set_is_identified_from_where_it_stays_so(shares, expected):
    rows = pd.DataFrame({"forward_tolerance": [1e-2, 1e-4, 1e-6] * 2, "active": [*shares, 1.0, 1.0, 1.0]})
    assert gradient_curves.identified_at(rows) == pytest.approx(expected, nan_ok=True)


def test_a_comparison_is_the_ratio_of_the_least_costs_that_reach_the_accuracy(results):
    def settings(mode, pairs):
        about = {
            "family": "joint",
            "framework": "torch",
            "mode": mode,
            "dtype": "float64",
            "parameter": "x",
            "status": "ok",
        }
        return [
            about | {"setting": f"{value:g}", "value": value, "relative_error": error, "median_s": seconds}
            for value, error, seconds in pairs
        ]

    rows = []
    for instance, factor in (("a", 2.0), ("b", 8.0)):
        rows += [
            row | {"instance": instance}
            for row in settings("implicit", [(1e-4, 1e-4, 0.5), (1e-8, 1e-8, 1.0), (1e-12, 1e-12, 3.0)])
            + settings("unrolled", [(2.0, 1e-2, 0.1), (8.0, 1e-7, factor), (16.0, 1e-9, 90.0)])
        ]
    rows += [
        row | {"instance": "c"}
        for row in settings("implicit", [(1e-8, 1e-8, 1.0)]) + settings("unrolled", [(2.0, 0.1, 1.0)])
    ]
    table = typed(pd.DataFrame(rows).reindex(columns=GRADIENTS))
    text = gradient_costs.cost_comparison(dataclasses.replace(results, gradients=table), "seconds", "unrolled")
    assert "PyTorch: joint opening and closing 4× (2 to 8; n = 2)." in text
    assert "Not reached by both: 1 of 3 (joint opening and closing, PyTorch)." in text


def test_five_instances_give_an_interval_that_holds_the_mean(results):
    text = gradient_costs.cost_comparison(results, "seconds", "unrolled")
    assert "95 % bootstrap interval" in text
    found = text.split("regularised, quadratic ")[1].split(" (n = 6)")[0]
    mean, bounds = found.split("× ")
    low, high = (float(part) for part in bounds.strip("[]").split(", "))
    assert low < float(mean) < high


def test_a_mode_has_the_same_pen_in_every_figure(results):
    chosen = line_styles(results)
    figures = [drawn(draw, results).figure for draw in GRADIENT_FIGURES[:2]]
    for figure in figures:
        for axis in figure.axes:
            for line in axis.lines:
                if line.get_label() in chosen:
                    assert line.get_color() == chosen[line.get_label()].colour
    assert len({pen.marker + pen.colour for pen in chosen.values()}) == len(chosen)


def test_the_smallest_cosine_is_shown_and_one_step_is_exact_for_separable_operators_alone(results):
    rows = precise(clean_gradients(results))
    series = list(line_styles(results))
    separable = cosines(rows[rows["family"] == "separable"], series)
    coupled = cosines(rows[rows["family"] == "regularised"], series)
    assert (1 - separable.loc["one step, Newton"]).max() < 1e-12
    assert (1 - coupled.loc["one step, Newton"]).min() > 1e-6
    part = sole(sole(rows[rows["family"] == "regularised"], "series", "implicit"), "value", 1e-2)
    assert coupled.loc["implicit, 0.01", "x"] == sole(part, "parameter", "x")["cosine"].min()


def test_ratios_are_to_the_depthwise_convolution_on_the_same_case(results):
    rows = layer_ratios(results)
    assert (sole(rows, "solver", "depthwise-convolution")["ratio"] == 1).all()
    case = {"framework": "torch", "image_size": 64, "kernel_size": 5, "phase": "backward"}
    same = rows[(rows[list(case)] == pd.Series(case)).all(axis=1)].set_index("series")
    expected = same.loc["joint opening", "median_s"] / same.loc["depthwise convolution", "median_s"]
    assert same.loc["joint opening", "ratio"] == pytest.approx(expected)


def test_the_bandwidth_line_reads_and_writes_each_pixel_once(results):
    figure = drawn(throughput.draw_throughput, results).figure
    lines = {line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label() == "memory bandwidth, float32"}
    assert lines == {9e9 / 8}
    assert throughput.bandwidths(only(results, solvers=lambda table: table["role"] == "layer")) == {}


def test_the_fastest_solver_is_counted_and_what_was_not_reached_is_said(results):
    text = coupled_solvers.fastest_sentence(results)
    assert "the least time was that of Newton in 18." in text
    assert "primal-dual in" in text.split("Not reached: ")[1]
    lost = results.solvers.assign(reached=0.0)
    assert "no solver reached it" in coupled_solvers.fastest_sentence(dataclasses.replace(results, solvers=lost))


def test_phases_are_shown_at_the_size_with_the_most_layers(results):
    small = only(results, solvers=lambda table: (table["solver"] != "joint-opening") | (table["image_size"] < 64))
    assert "2×8×16×16, 3×3, the size with the most layers" in drawn(solvers.draw_phases, small).caption


def test_types_survive_a_csv(results):
    gradients, cost = results.gradients, results.solvers
    assert set(gradients["kink"].dropna()) == {0.0, 1.0}
    assert set(cost["reached"].dropna()) == {0.0, 1.0}
    assert not gradients["parameter"].isna().any()
    assert gradients["forward_tolerance"].dtype == float
    assert list(gradients.columns) == [*GRADIENTS, "run"]
    assert list(cost.columns) == [*SOLVERS, "run"]


def test_no_label_of_a_table_of_cosines_leaves_the_page(results):
    figure = drawn(draw_cosines, results, arranged=True).figure
    width = figure.bbox.width
    for axis in figure.axes:
        for label in axis.get_yticklabels():
            box = label.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width


@pytest.mark.parametrize(("study", "columns"), [("gradients", GRADIENTS), ("solvers", SOLVERS)])
def test_the_columns_that_are_read_are_those_that_the_study_writes(study, columns):
    assert set(columns) == set(study_module(study).COLUMNS)
