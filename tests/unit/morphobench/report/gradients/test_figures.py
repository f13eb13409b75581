"""Figures of the gradient study: the numbers they say are those of the table, kinks are never averaged in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from study_tables import drawn, with_table

from morphobench.report.gradients.cosines import cosines, draw_cosines
from morphobench.report.gradients.costs import draw_gradient_memory, draw_gradient_time
from morphobench.report.gradients.curves import draw_tolerances, identified_at
from morphobench.report.gradients.rows import clean_gradients, instance_costs, mode_rows, precise
from morphobench.report.gradients.styles import mode_styles
from morphobench.report.gradients.text import cost_comparison
from morphobench.studies.gradients.study import COLUMN_TYPES
from morphobench.studies.tables import study_table


def sole(table, column, value):
    return table[table[column] == value]


def test_numbers_that_are_missing_everywhere_leave_no_empty_column(results):
    blank = results.studies["gradients"].assign(spread=np.nan, load=np.nan, threads=np.nan, adjoint_iterations=np.nan)
    found = drawn(draw_gradient_time, with_table(results, "gradients", blank))
    assert "too few repeats" in found.caption
    assert "The load of the machine was not recorded." in found.caption


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
    found = drawn(draw_tolerances, results)
    assert "regularised, quadratic from 10⁻⁴ on" in found.caption


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([0.9, 1.0, 1.0], 1e-4), ([1.0, 1.0, 1.0], 1e-2), ([1.0, 0.99, 1.0], 1e-6), ([1.0, 1.0, np.nan], np.nan)],
)
def test_the_active_set_is_identified_from_where_it_stays_so(shares, expected):
    rows = pd.DataFrame({"forward_tolerance": [1e-2, 1e-4, 1e-6] * 2, "active": [*shares, 1.0, 1.0, 1.0]})
    assert identified_at(rows) == pytest.approx(expected, nan_ok=True)


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
    table = study_table(rows, COLUMN_TYPES)
    text = cost_comparison(with_table(results, "gradients", table), "seconds", "unrolled")
    assert "PyTorch: joint opening and closing 4× (2 to 8; n = 2)." in text
    assert "Not reached by both: 1 of 3 (joint opening and closing, PyTorch)." in text


def test_five_instances_give_an_interval_that_holds_the_mean(results):
    text = cost_comparison(results, "seconds", "unrolled")
    assert "95 % bootstrap interval" in text
    found = text.split("regularised, quadratic ")[1].split(" (n = 6)")[0]
    mean, bounds = found.split("× ")
    low, high = (float(part) for part in bounds.strip("[]").split(", "))
    assert low < float(mean) < high


def test_a_mode_has_the_same_style_in_every_figure(results):
    chosen = mode_styles(results)
    figures = [drawn(draw, results).figure for draw in (draw_gradient_time, draw_gradient_memory)]
    for figure in figures:
        for axis in figure.axes:
            for line in axis.lines:
                if line.get_label() in chosen:
                    assert line.get_color() == chosen[line.get_label()].colour
    assert len({style.marker + style.colour for style in chosen.values()}) == len(chosen)


def test_the_smallest_cosine_is_shown_and_one_step_is_exact_for_separable_operators_alone(results):
    rows = precise(clean_gradients(results))
    series = list(mode_styles(results))
    separable = cosines(rows[rows["family"] == "separable"], series)
    coupled = cosines(rows[rows["family"] == "regularised"], series)
    assert (1 - separable.loc["one step, Newton"]).max() < 1e-12
    assert (1 - coupled.loc["one step, Newton"]).min() > 1e-6
    part = sole(sole(rows[rows["family"] == "regularised"], "series", "implicit"), "value", 1e-2)
    assert coupled.loc["implicit, 0.01", "x"] == sole(part, "parameter", "x")["cosine"].min()


def test_no_label_of_a_table_of_cosines_leaves_the_page(results):
    figure = drawn(draw_cosines, results, arranged=True).figure
    width = figure.bbox.width
    for axis in figure.axes:
        for label in axis.get_yticklabels():
            box = label.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width
