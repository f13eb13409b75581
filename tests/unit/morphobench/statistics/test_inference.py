"""Intervals and tests: honest where there is little to go by, right where an independent computation exists."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from morphobench.statistics.inference import bootstrap_interval, holm, seeds_needed, sign_flip_p


def test_bca_interval_is_scipys_and_is_reproducible():
    values = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94]
    low, high, reason = bootstrap_interval(values, 0.9, "cell")
    again = bootstrap_interval(values, 0.9, "cell")
    percentile = stats.bootstrap((values,), np.mean, confidence_level=0.9, method="percentile", rng=1)
    assert (low, high, reason) == again
    assert reason == ""
    assert [low, high] == pytest.approx(list(percentile.confidence_interval), abs=0.004)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no seed"),
        ([0.5], "one seed"),
        ([0.5, 0.6], "two seeds"),
        ([0.1 + 0.2, 0.3, 0.3], "all seeds equal"),
        ([0.1, math.inf, 0.3], "values are not finite"),
    ],
)
def test_too_little_data_gives_no_interval_but_a_reason(values, reason):
    interval = bootstrap_interval(values)
    assert math.isnan(interval.low)
    assert interval.reason == reason


@pytest.mark.parametrize(
    "differences", [[0.3, -0.1, 0.4, 0.2, 0.25], [0.1, 0.2, -0.3, 0.4, -0.4], [0.2, 0.1, 0.3, -0.1, -0.2], [0.0] * 5]
)
def test_sign_flip_p_value_is_that_of_the_enumeration_also_where_sums_are_equal_but_for_rounding(differences):
    differences = np.array(differences)
    flipped = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=5)]
    expected = np.mean([total >= abs(differences.sum()) - 1e-12 for total in flipped])
    assert sign_flip_p(differences) == expected


def test_one_difference_shows_nothing():
    assert sign_flip_p([0.3]) == 1.0


def test_smallest_p_value_of_n_seeds_is_two_to_the_one_minus_n():
    assert sign_flip_p([1.0] * 6) == 2.0**-5


def test_random_sign_flips_agree_with_the_enumeration():
    differences = np.random.default_rng(0).normal(0.5, 1.0, 14)
    exact = sign_flip_p(differences)
    doubled = sign_flip_p([*differences, 0.0])  # one more, without effect: 15 are drawn at random
    assert doubled == pytest.approx(exact, abs=0.02)


def test_six_seeds_do_for_one_comparison_and_not_for_two():
    assert seeds_needed(1, 0.05) == 6
    assert seeds_needed(2, 0.05) == 7


def test_holm_keeps_missing_values_in_the_family():
    assert holm([0.01, math.nan, 0.02])[[0, 2]].tolist() == pytest.approx([0.03, 0.04])
    assert math.isnan(holm([0.01, math.nan, 0.02])[1])
