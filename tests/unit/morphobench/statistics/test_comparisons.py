"""Statistics: honest where there is little to go by, right where an independent computation exists."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from morphobench.statistics import comparisons as statistics
from morphobench.statistics import inference, ranking

SCORES = ["run", "dataset", "task", "method", "variant", "framework", "seed", "status", "split", "metric", "value"]


def score_table(values, dataset="d", task="classification"):
    """Primary test scores from {method: [value or status for each seed]}."""
    rows = []
    for method, found in values.items():
        for seed, value in enumerate(found):
            failed = isinstance(value, str)
            row = ["r", dataset, task, method, "default", "torch", seed, value if failed else "ok"]
            rows.append([*row, "test", "accuracy" if task == "classification" else "dice", None if failed else value])
    return pd.DataFrame(rows, columns=SCORES).astype({"value": float})


def ranks(table, scope="dataset", controls=()):
    found = ranking.rank_methods(statistics.primary_scores(table), controls)
    return found[found["scope"] == scope].set_index("method")["rank"].to_dict()


def test_bca_interval_is_scipys_and_is_reproducible():
    values = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94]
    low, high, reason = inference.bootstrap_interval(values, 0.9, "cell")
    again = inference.bootstrap_interval(values, 0.9, "cell")
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
    interval = inference.bootstrap_interval(values)
    assert math.isnan(interval.low)
    assert interval.reason == reason


def test_sign_flip_p_value_is_that_of_the_enumeration():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.25])
    flipped = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=5)]
    expected = np.mean([total >= abs(differences.sum()) - 1e-12 for total in flipped])
    assert inference.sign_flip_p(differences) == expected


def test_smallest_p_value_of_n_seeds_is_two_to_the_one_minus_n():
    assert inference.sign_flip_p([1.0] * 6) == 2.0**-5


def test_random_sign_flips_agree_with_the_enumeration():
    differences = np.random.default_rng(0).normal(0.5, 1.0, 14)
    exact = inference.sign_flip_p(differences)
    doubled = inference.sign_flip_p([*differences, 0.0])  # one more, without effect: 15 are drawn at random
    assert doubled == pytest.approx(exact, abs=0.02)


def test_six_seeds_do_for_one_comparison_and_not_for_two():
    assert inference.seeds_needed(1, 0.05) == 6
    assert inference.seeds_needed(2, 0.05) == 7


def test_holm_keeps_missing_values_in_the_family():
    assert inference.holm([0.01, math.nan, 0.02])[[0, 2]].tolist() == pytest.approx([0.03, 0.04])
    assert math.isnan(inference.holm([0.01, math.nan, 0.02])[1])


def test_means_are_over_the_seeds_that_succeeded_and_count_the_others():
    row = statistics.mean_scores(score_table({"a": [0.5, 0.7, "timeout", 0.6]})).iloc[0]
    assert (row["mean"], row["seeds"], row["failed"]) == (pytest.approx(0.6), 3, 1)
    assert row["low"] < 0.6 < row["high"]


def test_differences_are_paired_by_seed():
    table = score_table({"base": [0.1, 0.5, 0.9, "error"], "a": [0.2, 0.6, 1.0, 0.3]})
    row = statistics.paired_differences(table, "base").iloc[0]
    assert row["difference"] == pytest.approx(0.1)
    assert (row["seeds"], row["interval"]) == (3, "all seeds equal")


def test_six_seeds_and_two_methods_claim_nothing_whatever_the_difference():
    base = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15]
    table = score_table({"base": base, "a": [b + 0.5 + s / 100 for s, b in enumerate(base)], "b": [0.9] * 6})
    found = statistics.paired_differences(table, "base")
    assert found["p"].isna().all()
    assert found["claim"].tolist() == ["not tested: 6 of 7 seeds"] * 2


def test_seven_seeds_may_claim_for_two_methods():
    rng = np.random.default_rng(1)
    base = rng.normal(0.5, 0.01, 7)
    table = score_table(
        {"base": base.tolist(), "a": (base - 0.2).tolist(), "b": (base + 1e-3 * (-1) ** np.arange(7)).tolist()}
    )
    found = statistics.paired_differences(table, "base").set_index("method")
    assert found.loc["a", "claim"] == "lower"
    assert found.loc["a", "p_holm"] == pytest.approx(2 * 2.0**-6)
    assert found.loc["b", "claim"] == "none"


def test_controls_are_not_part_of_the_family_of_tests():
    table = score_table({"base": [0.5] * 6, "a": [0.4, 0.3, 0.4, 0.3, 0.4, 0.3], "chance": [0.1] * 6})
    found = statistics.paired_differences(table, "base", controls=["chance"]).set_index("method")
    assert found.loc["a", "comparisons"] == 1
    assert found.loc["a", "claim"] == "lower"
    assert found.loc["chance", "claim"] == "not tested: control"


def test_a_failed_seed_ranks_behind_every_method_without_one():
    table = score_table({"a": [0.9, "timeout"], "b": [0.1, 0.1], "c": ["error", "error"], "d": ["invalid"] * 2})
    assert ranks(table) == {"b": 1.0, "a": 2.0, "c": 3.5, "d": 3.5}


def test_data_sets_that_were_not_available_are_not_ranked():
    gone = score_table({"a": ["unavailable"], "b": ["unavailable"]}, "gone")
    found = ranking.rank_methods(statistics.primary_scores(pd.concat([score_table({"a": [1.0], "b": [0.5]}), gone])))
    assert set(found.loc[found["scope"] == "dataset", "datasets"]) == {"d"}


def test_average_ranks_are_among_methods_that_took_part_everywhere():
    table = pd.concat(
        [score_table({"a": [0.9], "b": [0.8], "c": [0.7]}, "d1"), score_table({"a": [0.9], "c": [1.0]}, "d2")]
    )
    assert ranks(table, "all") == {"a": 1.5, "c": 1.5}


def test_friedman_needs_five_data_sets_and_is_then_scipys():
    rng = np.random.default_rng(3)
    tables = [score_table({m: [v] for m, v in zip("abc", rng.random(3), strict=True)}, f"d{i}") for i in range(5)]
    few = ranking.friedman(statistics.primary_scores(pd.concat(tables[:4]))).iloc[0]
    assert few["note"] == "not tested: 4 data sets, 5 needed"
    row = ranking.friedman(statistics.primary_scores(pd.concat(tables))).iloc[0]
    values = pd.concat(tables).pivot_table(index="dataset", columns="method", values="value")
    expected = stats.friedmanchisquare(*values.to_numpy().T)
    assert row["p"] == pytest.approx(expected.pvalue)


def test_compare_methods_writes_every_table_twice(made_up_run):
    for name in ("means", "differences", "ranking", "friedman"):
        csv = pd.read_csv(made_up_run.statistics / f"{name}.csv")
        assert len(csv) == len(pd.read_parquet(made_up_run.statistics / f"{name}.parquet")) > 0


def test_duplicates_of_an_included_run_give_way_to_the_first_run(tmp_path):
    for name, value in (("one", 0.5), ("two", 0.9)):
        table = score_table({"a": [value]} if name == "one" else {"a": [value], "b": [value]}).assign(run=name)
        folder = tmp_path / name / "tables"
        folder.mkdir(parents=True)
        table.to_csv(folder / "scores.csv", index=False)
    merged = statistics.read_scores(tmp_path / "one" / "tables", ["two"]).set_index("method")
    assert merged["value"].to_dict() == {"a": 0.5, "b": 0.9}


def test_a_method_called_none_survives_csv(tmp_path):
    table = score_table({"None": [0.5]})
    table.to_csv(tmp_path / "scores.csv", index=False)
    assert statistics.read_table(tmp_path / "scores.csv", SCORES)["method"].tolist() == ["None"]


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "scores.csv").write_text("run,dataset\nr,d\n")
    with pytest.raises(ValueError, match=r"scores\.csv: columns task, .* are missing; found run, dataset"):
        statistics.read_table(tmp_path / "scores.csv", SCORES)


def test_published_values_are_compared_where_there_are_any(made_up_run, tmp_path):
    statistics.check_published(made_up_run.tables, tmp_path, tmp_path / "none")
    assert pd.read_csv(tmp_path / "none" / "published.csv").columns.tolist() == statistics.PUBLISHED
    folder = tmp_path / "datasets" / "digits"
    folder.mkdir(parents=True)
    (folder / "published.csv").write_text(
        "dataset,method,metric,value,tolerance,source\n"
        "digits,resnet18,accuracy,0.90,0.01,doi:1\ndigits,linear,accuracy,0.90,0.03,doi:2\nother,linear,auc,1,1,doi:3\n"
    )
    statistics.check_published(made_up_run.tables, folder.parent, tmp_path / "some")
    found = pd.read_csv(tmp_path / "some" / "published.csv").set_index("method")
    assert found["within"].to_dict() == {"resnet18": False, "linear": True}


def test_drift_is_flagged_beyond_the_tolerance_and_for_lost_numbers(made_up_run, tmp_path):
    expected = statistics.expected_numbers(made_up_run.tables)
    expected = expected[(expected["dataset"] == "digits") & (expected["metric"] == "accuracy")]
    expected.to_csv(tmp_path / "same.csv", index=False)
    same = statistics.compare_reference(made_up_run.tables, tmp_path / "same.csv", tmp_path, {"accuracy": 0.0})
    assert len(same) == len(expected)
    assert not same["drift"].any()
    errors = same["tolerance"].to_numpy()  # nothing is tolerated but what the seeds differ by
    for far, drifted in ((0.99, False), (1.01, True)):
        expected.assign(expected=same["found"].to_numpy() + far * np.maximum(errors, 0.05)).to_csv(
            tmp_path / "moved.csv", index=False
        )
        moved = statistics.compare_reference(made_up_run.tables, tmp_path / "moved.csv", tmp_path, {"accuracy": 0.05})
        assert (moved["drift"] == drifted).all()
    expected.assign(method="gone").to_csv(tmp_path / "gone.csv", index=False)
    assert statistics.compare_reference(made_up_run.tables, tmp_path / "gone.csv", tmp_path, {"accuracy": 9.0})[
        "drift"
    ].all()
    assert statistics.compare_reference(made_up_run.tables, tmp_path / "absent.csv", tmp_path, {}).empty


def test_means_do_not_depend_on_the_order_of_rows(made_up_run):
    scores = pd.read_csv(made_up_run.tables / "scores.csv")
    scores = scores[scores["dataset"] == "vessels"]
    means = statistics.mean_scores(scores)
    assert statistics.mean_scores(scores.sample(frac=1, random_state=0)).equals(means)
