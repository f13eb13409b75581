"""Operators timed in turn with what they replace: ratios are said and shown beside their bars."""

from __future__ import annotations

import pytest
from study_tables import with_table

from morphobench.report.solvers.ratios import draw_ratios
from morphobench.report.solvers.rows import growth_ratios, peer_ratios
from morphobench.report.solvers.text import device_sentences, ratio_sentences
from morphobench.report.style import drawing_style


def test_ratios_are_shown_beside_their_bars_and_the_caption_counts_those_within(results):
    drawn = draw_ratios(results)
    assert "with 1 thread on Example CPU" in drawn.caption
    assert "Within the bar that the project sets itself: 3 of 4 ratios to a peer." in drawn.caption
    assert "number of window elements: 1 of 2 ratios of a larger window" in drawn.caption
    dots = drawn.figure.axes[0]
    labels = [label.get_text() for label in dots.get_yticklabels()]
    assert "3×3 over a depthwise Conv2d, contiguous" in labels
    assert {text.get_text() for text in dots.texts} >= {"1.9 (2.2)", "0.06 (0.03)"}
    ticks = [line.get_xdata()[0] for line in dots.lines if line.get_marker() == "|"]
    assert ticks == [2.2, 2.2, 0.8, 0.03]


def test_growth_with_the_window_has_a_panel_of_its_own(results):
    growth = growth_ratios(results)
    assert list(growth["elements"]) == [25, 225]
    assert not set(growth.index) & set(peer_ratios(results).index)
    curve, bar = draw_ratios(results).figure.axes[1].lines
    assert list(curve.get_ydata()) == [2.5, 30.0]
    assert list(bar.get_ydata()) == pytest.approx([25 / 9, 225 / 9])


@pytest.mark.parametrize("left", [peer_ratios, growth_ratios], ids=["peers", "growth"])
def test_without_the_other_ratios_one_panel_is_left(results, left):
    alone = with_table(results, "ratios", results.studies["ratios"].loc[left(results).index])
    assert len(draw_ratios(alone).figure.axes) == 1


def test_labels_of_ratios_do_not_overlap(results):
    with drawing_style():
        figure = draw_ratios(results).figure
        figure.draw_without_rendering()
        axis = figure.axes[0]
        boxes = [text.get_window_extent() for text in (*axis.get_yticklabels(), *axis.texts)]
    assert not [(one, two) for i, one in enumerate(boxes) for two in boxes[:i] if one.overlaps(two)]


def test_a_run_without_ratios_says_so(results):
    drawn = draw_ratios(with_table(results, "ratios", results.studies["ratios"].iloc[:0]))
    assert drawn.reason == "no operator was timed in turn with what it replaces"


def test_cpu_timings_are_called_that(results):
    said = "No GPU was used: all times of operators are CPU times, and no kernel has been timed on a GPU."
    assert device_sentences(results) == [said]
    gpu = with_table(results, "solvers", results.studies["solvers"].assign(device="NVIDIA H100", backend="tensor"))
    assert device_sentences(gpu)[0].startswith("No kernel has been timed on a GPU")
    kernels = with_table(gpu, "solvers", gpu.studies["solvers"].assign(backend="kernels"))
    assert device_sentences(kernels) == []


def test_ratios_are_said_with_their_bars_and_the_farthest_over_its_bar_is_named(results):
    own, peers, growth = ratio_sentences(results)
    assert own == (
        "Timed in turn with what it replaces, variational dilation 3×3 takes, forward and backward, "
        "1.9 times a depthwise Conv2d, contiguous (bar 2.2) and "
        "1.25 times a depthwise Conv2d, channels last (bar 2.2)."
    )
    assert "3 of 4 ratios to a peer; farthest over it: dilation, non-flat 3×3 over kornia, unfold" in peers
    assert peers.endswith("0.06 (bar 0.03).")
    assert "1 of 2 ratios of a larger window to 3×3" in growth
