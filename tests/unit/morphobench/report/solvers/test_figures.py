"""Figures of the solver study: the numbers they say are those of the table."""

from __future__ import annotations

import pandas as pd
import pytest
from study_tables import drawn, only, with_table

from morphobench.report.solvers.layers import draw_phases
from morphobench.report.solvers.rows import bandwidths, layer_ratios
from morphobench.report.solvers.text import fastest_sentence
from morphobench.report.solvers.throughput import draw_throughput


def sole(table, column, value):
    return table[table[column] == value]


def test_ratios_are_to_the_depthwise_convolution_on_the_same_case(results):
    rows = layer_ratios(results)
    assert (sole(rows, "solver", "depthwise-convolution")["ratio"] == 1).all()
    case = {"framework": "torch", "image_size": 64, "kernel_size": 5, "phase": "backward"}
    same = rows[(rows[list(case)] == pd.Series(case)).all(axis=1)].set_index("series")
    expected = same.loc["joint opening", "median_s"] / same.loc["depthwise convolution", "median_s"]
    assert same.loc["joint opening", "ratio"] == pytest.approx(expected)


def test_the_bandwidth_line_reads_and_writes_each_pixel_once(results):
    figure = drawn(draw_throughput, results).figure
    lines = {line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label() == "memory bandwidth, float32"}
    assert lines == {9e9 / 8}
    assert bandwidths(only(results, solvers=lambda table: table["role"] == "layer")) == {}


def test_the_fastest_solver_is_counted_and_what_was_not_reached_is_said(results):
    text = fastest_sentence(results)
    assert "the least time was that of Newton in 18." in text
    assert "primal-dual in" in text.split("Not reached: ")[1]
    lost = results.studies["solvers"].assign(reached=0.0)
    assert "no solver reached it" in fastest_sentence(with_table(results, "solvers", lost))


def test_phases_are_shown_at_the_size_with_the_most_layers(results):
    small = only(results, solvers=lambda table: (table["solver"] != "joint-opening") | (table["image_size"] < 64))
    assert "2×8×16×16, 3×3, the size with the most layers" in drawn(draw_phases, small).caption
