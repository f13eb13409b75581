"""Means and differences: nothing is claimed that the number of seeds cannot show."""

import numpy as np
import pandas as pd
import pytest
from score_tables import score_table

from morphobench.statistics.comparisons import mean_scores, paired_differences


def test_means_are_over_the_seeds_that_succeeded_and_count_the_others():
    row = mean_scores(score_table({"a": [0.5, 0.7, "timeout", 0.6]})).iloc[0]
    assert (row["mean"], row["seeds"], row["failed"]) == (pytest.approx(0.6), 3, 1)
    assert row["low"] < 0.6 < row["high"]


def test_differences_are_paired_by_seed():
    table = score_table({"base": [0.1, 0.5, 0.9, "error"], "a": [0.2, 0.6, 1.0, 0.3]})
    row = paired_differences(table, "base").iloc[0]
    assert row["difference"] == pytest.approx(0.1)
    assert (row["seeds"], row["interval"]) == (3, "all seeds equal")


def test_six_seeds_and_two_methods_claim_nothing_whatever_the_difference():
    base = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15]
    table = score_table({"base": base, "a": [b + 0.5 + s / 100 for s, b in enumerate(base)], "b": [0.9] * 6})
    found = paired_differences(table, "base")
    assert found["p"].isna().all()
    assert found["claim"].tolist() == ["not tested: 6 of 7 seeds"] * 2


def test_seven_seeds_may_claim_for_two_methods():
    rng = np.random.default_rng(1)
    base = rng.normal(0.5, 0.01, 7)
    table = score_table(
        {"base": base.tolist(), "a": (base - 0.2).tolist(), "b": (base + 1e-3 * (-1) ** np.arange(7)).tolist()}
    )
    found = paired_differences(table, "base").set_index("method")
    assert found.loc["a", "claim"] == "lower"
    assert found.loc["a", "p_holm"] == pytest.approx(2 * 2.0**-6)
    assert found.loc["b", "claim"] == "none"


def test_controls_are_not_part_of_the_family_of_tests():
    table = score_table({"base": [0.5] * 6, "a": [0.4, 0.3, 0.4, 0.3, 0.4, 0.3], "chance": [0.1] * 6})
    found = paired_differences(table, "base", controls=["chance"]).set_index("method")
    assert found.loc["a", "comparisons"] == 1
    assert found.loc["a", "claim"] == "lower"
    assert found.loc["chance", "claim"] == "not tested: control"


def test_compare_methods_writes_every_table_twice(made_up_run):
    for name in ("means", "differences", "ranking", "friedman"):
        csv = pd.read_csv(made_up_run.statistics / f"{name}.csv")
        assert len(csv) == len(pd.read_parquet(made_up_run.statistics / f"{name}.parquet")) > 0


def test_means_do_not_depend_on_the_order_of_rows(made_up_run):
    scores = pd.read_csv(made_up_run.tables / "scores.csv")
    scores = scores[scores["dataset"] == "vessels"]
    means = mean_scores(scores)
    assert mean_scores(scores.sample(frac=1, random_state=0)).equals(means)
