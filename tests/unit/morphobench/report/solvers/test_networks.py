"""The cost of networks: time of one image, and ratios to the same trials of the depthwise one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morphobench.report.solvers.networks import network_costs, network_sentence, networks


def test_times_are_of_one_image_and_ratios_of_the_same_seeds(results):
    table = network_costs(results)
    digits = table[table["dataset"] == "digits"].set_index(["method", "variant"])
    assert (digits.loc["backbone-depthwise"][["fit_ratio", "predict_ratio"]] == 1).all(axis=None)
    trials = results.trials
    trials = trials[(trials["dataset"] == "digits") & (trials["status"] == "ok") & (trials["variant"] == "default")]
    fit = trials.set_index(["method", "seed"])["fit_s"]
    pairs = (fit["backbone-variational"] / fit["backbone-depthwise"]).dropna()
    row = digits.loc[("backbone-variational", "default")]
    assert row["fit_ratio"] == pytest.approx(pairs.median())
    size = results.datasets["digits"]["splits"]["train"] * trials["epochs"].iloc[0]
    assert row["fit_image_s"] * size == pytest.approx(fit["backbone-variational"].median())
    assert not set(table["method"]) & {"chance", "majority"}


def test_the_sentence_gives_both_times_and_nothing_where_the_peer_is_missing(results):
    assert "ratio to the same network with depthwise convolutions" in network_sentence(results)
    alone = replace(results, trials=results.trials[results.trials["method"] != "backbone-depthwise"])
    assert network_sentence(alone) == ""
    assert networks(alone).rows[0][4].text == "—"


def test_a_data_set_whose_size_is_unknown_has_no_rows(results):
    assert network_costs(replace(results, datasets={})).empty
