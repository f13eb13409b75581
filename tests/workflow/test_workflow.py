"""The workflow on toy plugins: resume, re-run, failures, mistakes. The smoke tier itself runs in `make check`."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

CONFIG = """\
run: try
datasets: [toy]
seeds: [0, 1, 2, 3]
seeds_per_job: 2
budget: {timeout_s: 20}
statistics: {baseline: coin}
"""
TABLE = "results/try/tables/scores.csv"


def furnished(scratch):
    scratch.add_dataset("toy")
    scratch.add_method("coin")
    scratch.add_method("dice")
    scratch.write_config(CONFIG)
    return scratch


@pytest.fixture
def toy(scratch):
    return furnished(scratch)


@pytest.fixture(scope="module")
def finished_once(new_scratch, tmp_path_factory):
    """The same checkout after a run."""
    scratch = furnished(new_scratch(tmp_path_factory.mktemp("finished")))
    done = scratch.snakemake(TABLE)
    assert done.returncode == 0, done.stderr
    return scratch


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of it."""
    scratch = copy.copy(finished_once)
    scratch.root = shutil.copytree(finished_once.root, tmp_path / "copy")
    return scratch


def predictions(scratch):
    """Return the scores of every trial by its folder."""
    found = {}
    for path in sorted((scratch.root / "results/try/trials").rglob("predictions.npz")):
        with np.load(path) as arrays:
            found[path.relative_to(scratch.root).parent.as_posix()] = arrays["scores"]
    return found


def jobs(done):
    """Return the names and counts of the jobs that Snakemake planned."""
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    rows = [line.split() for line in lines]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def test_a_killed_run_goes_on_and_gives_the_same_predictions_and_scores(toy):
    for name in ("coin", "dice"):
        toy.add_method(name, sleep=0.5)
    environment = toy.environment
    process = subprocess.Popen(
        toy.snakemake_command(TABLE),
        cwd=toy.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not predictions(toy) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = predictions(toy)
    assert 0 < len(finished) < 8

    done = toy.snakemake(TABLE)
    assert done.returncode == 0, done.stderr
    resumed, scores = predictions(toy), pd.read_csv(toy.root / TABLE)
    assert len(resumed) == 8
    assert scores["value"].notna().all()

    (toy.root / "results/try").rename(toy.root / "results/resumed")
    done = toy.snakemake(TABLE)
    assert done.returncode == 0, done.stderr
    afresh = predictions(toy)
    assert resumed.keys() == afresh.keys()
    assert all(np.array_equal(resumed[trial], afresh[trial]) for trial in afresh)
    pd.testing.assert_frame_equal(scores, pd.read_csv(toy.root / TABLE))


def test_editing_one_plugin_runs_its_trials_again_and_no_others(finished):
    before = predictions(finished)
    finished.add_method("dice", scores="rng.random(model.task.score_shape(images))")
    planned = finished.snakemake("-n", TABLE)
    assert jobs(planned)["run_trials_0"] == jobs(planned)["run_trials_1"] == 1
    assert finished.snakemake(TABLE).returncode == 0
    after = predictions(finished)
    changed = {trial for trial in after if not np.array_equal(before[trial], after[trial])}
    assert changed == {trial for trial in after if "/dice/" in trial}


def date(folder, when):
    """Set the dates of a folder and of all files in it."""
    for path in folder.rglob("*"):
        os.utime(path, (when, when))


def test_what_lies_in_code_decides_and_not_its_dates(finished):
    """Results are dated ahead of every edit, and each edit is dated before the run."""
    results, day = finished.root / "results/try", 86400
    date(results, time.time() + day)
    assert "Nothing to be done" in "".join(finished.snakemake("-n", TABLE).stdout)
    one, all_of_them = {"run_trials_0": 1, "run_trials_1": 1}, {"run_trials_0": 2, "run_trials_1": 2}
    method = finished.root / "methods/dice"
    edits = {
        method / "method.py": one,
        method / "table.csv": one,
        finished.root / "datasets/toy/dataset.py": {**all_of_them, "prepare_dataset": 1},
        finished.root / "datasets/toy/table.csv": {**all_of_them, "prepare_dataset": 1},
        finished.root / "workflows/morphobench/data/splits.py": {**all_of_them, "prepare_dataset": 1},
        finished.root / "workflows/morphobench/evaluation/metrics.py": {"score_trials": 1},
    }
    for path, expected in edits.items():
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + "# edited\n")
        os.utime(path, (day, day))
        planned = jobs(finished.snakemake("-n", TABLE))
        touched = {"run_trials_0", "run_trials_1", "prepare_dataset", "score_trials"} & set(planned)
        assert {name: planned[name] for name in touched} == {"score_trials": 1, **expected}, path
        path.unlink()
        if before is not None:
            path.write_text(before)


def test_scores_that_are_dated_ahead_follow_their_trials_after_an_interruption(finished):
    date(finished.root / "results/try", time.time() + 86400)
    before = pd.read_csv(finished.root / TABLE)
    finished.add_method("dice", scores="rng.random(model.task.score_shape(images))")
    trials = [f"results/try/trials/toy/dice/default/seed-{seed}/record.json" for seed in range(4)]
    done = finished.snakemake(*trials)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished.snakemake(TABLE).returncode == 0
    assert not before.equals(pd.read_csv(finished.root / TABLE))


def test_a_method_that_is_edited_before_its_turn_fails_and_runs_when_it_is_as_before(toy):
    code, data = (toy.root / "methods/dice/method.py"), (toy.root / "datasets/toy/dataset.py")
    planned = code.read_text()
    data.write_text(data.read_text().replace("    pass", f"    open({str(code)!r}, 'a').write('# edited\\n')"))
    assert toy.snakemake(TABLE).returncode == 0
    trials = pd.read_csv(toy.root / "results/try/tables/trials.csv")
    assert dict(zip(trials["method"], trials["status"], strict=True)) == {"coin": "ok", "dice": "error"}
    assert trials["message"].str.contains("changed after the run was planned").sum() == 4
    code.write_text(planned)
    assert toy.snakemake("retry_failed").returncode == 0
    assert toy.snakemake(TABLE).returncode == 0
    assert set(pd.read_csv(toy.root / "results/try/tables/trials.csv")["status"]) == {"ok"}


def test_an_edited_key_of_the_config_runs_again_what_it_touches_and_nothing_else(toy):
    toy.add_dataset("other")
    text = CONFIG.replace("[toy]", "[toy, {name: other, budget: {epochs: 3}}]")
    toy.write_config(text)
    assert toy.snakemake(TABLE).returncode == 0
    cells, chunks = 4, 2
    toy.write_config(text.replace("epochs: 3", "epochs: 4"))
    planned = jobs(toy.snakemake("-n", TABLE))
    assert (planned["run_trials_0"], planned["run_trials_1"], planned["score_trials"]) == (2, 2, 1)
    toy.write_config(text + "tuning: {mode: grid}\n")
    planned = jobs(toy.snakemake("-n", TABLE))
    assert planned["run_trials_0"] + planned["run_trials_1"] == cells * chunks
    toy.write_config(text.replace("{baseline: coin}", "{baseline: dice}"))
    planned = jobs(toy.snakemake("-n", TABLE))
    assert planned["collect"] == 1
    assert not {"run_trials_0", "run_trials_1", "score_trials"} & set(planned)


def test_nothing_is_left_to_do_after_a_run(finished):
    again = finished.snakemake("-n", TABLE)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_snakemakes_own_report_needs_no_number_of_cores(finished):
    command = [sys.executable, "-m", "snakemake", TABLE, "--configfile", "config.yaml", "--report", "own.html"]
    subprocess.run(command, cwd=finished.root, env=finished.environment, capture_output=True, timeout=120, check=True)
    assert "run_trials_0" in (finished.root / "own.html").read_text(encoding="utf-8")


def test_failures_are_rows_and_do_not_stop_the_run(toy):
    toy.add_method("broken", code="def build(task, params)\n")
    toy.add_method("hopeless", scores="np.full(model.task.score_shape(images), np.nan)")
    toy.add_method("shape", scores="np.zeros((2, 2))")
    done = toy.snakemake(TABLE)
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(toy.root / "results/try/tables/trials.csv")
    statuses = trials.groupby("method")["status"].unique().map(list).to_dict()
    assert statuses == {
        "broken": ["invalid"],
        "coin": ["ok"],
        "dice": ["ok"],
        "hopeless": ["diverged"],
        "shape": ["invalid"],
    }
    scores = pd.read_csv(toy.root / TABLE)
    assert set(scores.loc[scores["value"].isna(), "method"]) == {"broken", "hopeless", "shape"}
    assert trials.loc[trials["method"] == "broken", "message"].str.contains("syntax error").all()

    toy.add_method("hopeless")
    retried = toy.snakemake("retry_failed")
    assert retried.returncode == 0, retried.stderr
    assert toy.snakemake(TABLE).returncode == 0
    trials = pd.read_csv(toy.root / "results/try/tables/trials.csv")
    assert set(trials.loc[trials["method"] == "hopeless", "status"]) == {"ok"}


def test_results_that_were_damaged_are_good_again_after_their_folder_is_removed(finished):
    before = predictions(finished)
    folder = finished.root / "results/try/trials/toy/coin/default/seed-0"
    for path in (finished.root / "results/try/.store").glob("*/predictions.npz"):
        path.write_bytes(b"garbage")  # as whoever edits results does, that share their files with the store
    shutil.rmtree(folder)
    for name in ("trials/toy/scores.parquet", "tables/scores.csv"):
        (finished.root / "results/try" / name).unlink()
    done = finished.snakemake(TABLE)
    assert done.returncode == 0, done.stderr
    after = predictions(finished)
    assert all(np.array_equal(before[trial], after[trial]) for trial in before)
    assert "the trial runs again" in done.stdout + done.stderr + _logs(finished)


def _logs(scratch):
    return "".join(path.read_text() for path in (scratch.root / "results/try/logs/run_trials").glob("*.log"))


def test_a_step_that_fails_is_a_failed_job_and_names_the_file(finished):
    folder = finished.root / "results/try/trials/toy/coin/default"
    (folder / "seed-0/predictions.npz").write_bytes(b"not a zip file")
    (finished.root / "results/try/trials/toy/scores.parquet").unlink()
    (finished.root / TABLE).unlink()
    done = finished.snakemake(TABLE)
    assert done.returncode != 0
    assert "seed-0/predictions.npz" in done.stdout + done.stderr


def test_a_run_is_verified_against_the_numbers_it_is_expected_to_give(finished):
    done = finished.morphobench("expect", "--config", "results/try/config.yaml")
    assert done.returncode == 0, done.stderr
    path = finished.root / "results/reference/try.csv"
    assert sorted(path.parent.iterdir()) == [path]  # no file for studies that the run does not have
    done = finished.snakemake("verify")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(path)
    accuracy = table["metric"] == "accuracy"
    assert f"0 of {accuracy.sum() + (table['metric'] == 'auc').sum()} scores" in done.stdout
    table.loc[accuracy & (table["method"] == "coin"), "expected"] += 1.0
    table.to_csv(path, index=False)
    done = finished.snakemake("verify")
    assert done.returncode != 0
    assert "1 of " in done.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("methods: {include: [cion]}", "unknown method 'cion'; known: coin, dice; did you mean 'coin'?"),
        ("sedes: [0]", "unknown key 'sedes'"),
        ("threads: two", "key 'threads': found 'two', expected integer"),
        ("threads: 1.5", "key 'threads': found 1.5, expected integer"),
        ("run: other", "line 7, column 1: not valid YAML: found key 'run' twice, first in line 1"),
    ],
)
def test_a_mistake_in_the_config_is_one_message_before_any_work(toy, line, message):
    toy.write_config(CONFIG + line + "\n")
    done = toy.snakemake(TABLE)
    assert done.returncode == 2
    complaints = [text for text in done.stderr.splitlines() if text.startswith("morphobench:")]
    assert len(complaints) == 1
    assert message in complaints[0]
    assert "config.yaml" in complaints[0]
    assert not (toy.root / "results/try").exists()


def test_numbers_may_be_written_in_every_way_that_people_write_them(toy):
    toy.write_config(CONFIG.replace("timeout_s: 20", "timeout_s: 2e1, epochs: 2.0").replace("[0, 1, 2, 3]", "[0.0]"))
    assert toy.snakemake(TABLE).returncode == 0
    records = [json.loads(path.read_text()) for path in (toy.root / "results/try").rglob("record.json")]
    assert {(record["seed"], record["budget"]["timeout_s"], record["budget"]["epochs"]) for record in records} == {
        (0, 20.0, 2)
    }


def test_a_locale_without_the_letters_of_the_plugins_changes_nothing(toy, monkeypatch):
    toy.write_config(CONFIG.replace("[0, 1, 2, 3]", "[0]"))
    for path in (toy.add_method("coin") / "method.yaml", toy.add_dataset("toy") / "dataset.yaml"):
        path.write_text(path.read_text(encoding="utf-8").replace("Toy", "Médiane – 中値"), encoding="utf-8")
    code = (
        "def build(task, params):\n    print('é')\n    raise ValueError('中')\ndef fit(*a): ...\ndef predict(*a): ...\n"
    )
    (toy.add_method("dice") / "method.py").write_text(code, encoding="utf-8")
    for name, value in {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    done = toy.snakemake("results/try/statistics/means.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = pd.read_csv(toy.root / "results/try/tables/trials.csv").set_index("method")
    assert trials["status"].to_dict() == {"coin": "ok", "dice": "error"}
    assert trials["message"]["dice"] == "ValueError: 中"


@pytest.fixture
def odd(new_scratch, tmp_path):
    """A checkout in a folder whose name a shell would take apart; default.yaml is its config."""
    root = tmp_path / """a $HOME "b" 'c' %d"""
    root.mkdir()
    scratch = furnished(new_scratch(root))
    scratch.write_config(CONFIG.replace("[0, 1, 2, 3]", "[0]")).rename(root / "workflows/config/default.yaml")
    return scratch


def call(scratch, folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(
        command, cwd=folder, env=scratch.environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_checkout_may_have_any_name_and_be_called_from_anywhere(odd, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = call(odd, elsewhere, "-s", str(odd.root / "Snakefile"), TABLE)
    assert done.returncode == 0, done.stderr
    assert (odd.root / TABLE).is_file()
    assert not (elsewhere / "results").exists()
    done = call(odd, elsewhere, "-s", str(odd.root / "Snakefile"), "-n", "--directory", ".")
    assert f"morphobench: --directory: found {elsewhere}, expected {odd.root}" in done.stderr
    odd.root = odd.root.rename(tmp_path / "a{b")
    done = call(odd, odd.root, "-n")
    assert "rename the folder" in done.stderr


def test_config_on_the_command_line_changes_the_default_tier(odd):
    done = call(odd, odd.root, "-n", TABLE.replace("try", "mine"), "--config", "run=mine")
    assert done.returncode == 0, done.stderr
    assert "results/mine/trials/toy/coin" in done.stdout


@pytest.mark.parametrize(
    "tier", ["smoke", "default", "full", "tuning", "implicit", "superpixels", "recovery", "certified", "gpu"]
)
def test_every_tier_of_the_project_is_planned(project, tier, tmp_path):
    # One seed, since Snakemake takes a minute to plan the thousands of trials of the full tier.
    one_seed = tmp_path / "one-seed.yaml"
    one_seed.write_text("seeds: [0]\n")
    chosen = ["--configfile", f"workflows/config/{tier}.yaml", str(one_seed)]
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "--cores", "2", "--nolock", *chosen]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
