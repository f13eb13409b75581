"""The same network in two frameworks: compared with its counterpart, counted once elsewhere."""

import json
import math

import pandas as pd
import pytest

from morphobench.project.files import write_table
from morphobench.project.paths import Project
from morphobench.report.frameworks.tables import counterparts
from morphobench.report.frameworks.text import counterpart_sentences
from morphobench.report.results import read_run_results
from morphobench.statistics.comparisons import compare_methods
from morphobench.statistics.counterparts import compare_counterparts, counted_once, read_counterparts

VALUES = {"net": [0.90, 0.92, 0.91, 0.93], "net-jax": [0.91, 0.92, 0.93, None], "rival": [0.8, 0.82, 0.84, 0.81]}
PAIR = {"net-jax": "net"}


@pytest.fixture
def tables():
    """Scores and trials of three methods; the last seed of the second failed."""
    scores, trials = [], []
    for method, values in VALUES.items():
        for seed, value in enumerate(values):
            key = {"run": "r", "dataset": "d", "task": "classification", "method": method, "variant": "default"}
            key |= {"framework": "jax" if method == "net-jax" else "torch", "seed": seed}
            key |= {"status": "ok" if value else "timeout"}
            scores.append(key | {"split": "test", "metric": "accuracy", "value": value})
            fit, compiled = (5.0, 8.0 + seed) if method == "net-jax" else (10.0, None)
            trial = key | {"fit_s": fit, "predict_s": 1.0, "compile_s": compiled, "family": "cnn", "message": ""}
            trial |= dict.fromkeys(("device", "threads", "peak_rss_mb", "peak_device_mb", "parameters"), 1)
            trials.append(trial | {"epochs": 1, "learning_rate": 0.1})
    return pd.DataFrame(scores).astype({"value": float}), pd.DataFrame(trials)


def test_differences_are_paired_by_seed_and_times_are_ratios(tables):
    (row,) = compare_counterparts(*tables, PAIR).to_dict("records")
    assert row["seeds"] == 3
    assert row["difference"] == pytest.approx(0.01)
    assert row["low"] <= row["difference"] <= row["high"]
    assert (row["fit_s"], row["counterpart_fit_s"], row["fit_ratio"]) == (5.0, 10.0, 0.5)
    assert row["compile_s"] == 10.0
    assert (row["framework"], row["counterpart_framework"]) == ("jax", "torch")


def test_without_a_compiled_twin_there_is_no_time_of_compilation(tables):
    scores, trials = tables
    (row,) = compare_counterparts(scores, trials.assign(compile_s=None), PAIR).to_dict("records")
    assert math.isnan(row["compile_s"])


def test_a_network_that_was_run_twice_counts_once(tables):
    scores, _ = tables
    assert set(counted_once(scores, PAIR, "rival")["method"]) == {"net", "rival"}
    assert set(counted_once(scores, PAIR, "net-jax/default")["method"]) == set(VALUES)
    alone = scores[scores["method"] != "net"]
    assert set(counted_once(alone, PAIR, "rival")["method"]) == {"net-jax", "rival"}


def test_a_twin_changes_neither_ranks_nor_tests(tables, tmp_path):
    found = {}
    for name, methods in (("with", list(VALUES)), ("without", ["net", "rival"])):
        folder = tmp_path / name / "tables"
        folder.mkdir(parents=True)
        for table, label in zip(tables, ("scores", "trials"), strict=True):
            table[table["method"].isin(methods)].to_csv(folder / f"{label}.csv", index=False)
        config = {"statistics": {"baseline": "rival", "alpha": 0.05}}
        compare_methods(folder, tmp_path / name, config, PAIR)
        found[name] = [(tmp_path / name / f"{part}.csv").read_text() for part in ("differences", "ranking", "friedman")]
    assert found["with"] == found["without"]
    assert "net-jax" in (tmp_path / "with" / "means.csv").read_text()


def test_manifests_say_which_methods_have_a_counterpart(tmp_path):
    for name, other in (("net", ""), ("net-jax", "net")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "counterpart": other}))
    (tmp_path / "broken.json").write_text(json.dumps({"name": "broken", "status": "invalid"}))
    assert read_counterparts([tmp_path]) == PAIR


def test_the_report_says_how_far_the_frameworks_differ(tables, tmp_path):
    run = Project(tmp_path).run("try")
    for table, label in zip(tables, ("scores", "trials"), strict=True):
        write_table(run.tables / label, table)
    compare_methods(run.tables, run.statistics, {"statistics": {"baseline": "rival"}}, PAIR)
    results = read_run_results(run)
    (sentence,) = counterpart_sentences(results)
    assert sentence.startswith(
        "“net-jax” beside “net”, the same network and batches by jax and by torch: over 1 data set"
    )
    assert "test score is +0.0100, and" in sentence
    assert "Training takes 0.5 times as long, after up to 10 s of compilation in each process." in sentence
    (row,) = counterparts(results).rows
    assert [cell.text for cell in row[:5]] == ["net-jax", "net", "d", "accuracy", "+0.0100"]
