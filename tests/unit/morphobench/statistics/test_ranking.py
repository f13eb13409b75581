import numpy as np
import pandas as pd
import pytest
from scipy import stats
from score_tables import score_table

from morphobench.statistics.ranking import friedman, rank_methods
from morphobench.statistics.tables import primary_scores


def ranks(table, scope="dataset", controls=()):
    found = rank_methods(primary_scores(table), controls)
    return found[found["scope"] == scope].set_index("method")["rank"].to_dict()


def test_a_failed_seed_ranks_behind_every_method_without_one():
    table = score_table({"a": [0.9, "timeout"], "b": [0.1, 0.1], "c": ["error", "error"], "d": ["invalid"] * 2})
    assert ranks(table) == {"b": 1.0, "a": 2.0, "c": 3.5, "d": 3.5}


def test_data_sets_that_were_not_available_are_not_ranked():
    gone = score_table({"a": ["unavailable"], "b": ["unavailable"]}, "gone")
    found = rank_methods(primary_scores(pd.concat([score_table({"a": [1.0], "b": [0.5]}), gone])))
    assert set(found.loc[found["scope"] == "dataset", "datasets"]) == {"d"}


def test_average_ranks_are_among_methods_that_took_part_everywhere():
    table = pd.concat(
        [score_table({"a": [0.9], "b": [0.8], "c": [0.7]}, "d1"), score_table({"a": [0.9], "c": [1.0]}, "d2")]
    )
    assert ranks(table, "all") == {"a": 1.5, "c": 1.5}


def test_friedman_needs_five_data_sets_and_is_then_scipys():
    rng = np.random.default_rng(3)
    tables = [score_table({m: [v] for m, v in zip("abc", rng.random(3), strict=True)}, f"d{i}") for i in range(5)]
    few = friedman(primary_scores(pd.concat(tables[:4]))).iloc[0]
    assert few["note"] == "not tested: 4 data sets, 5 needed"
    row = friedman(primary_scores(pd.concat(tables))).iloc[0]
    values = pd.concat(tables).pivot_table(index="dataset", columns="method", values="value")
    expected = stats.friedmanchisquare(*values.to_numpy().T)
    assert row["p"] == pytest.approx(expected.pvalue)
