"""What the supervisor writes into a job file is what the worker reads there."""

import json

import pytest

from morphobench.data.preparation import prepare_dataset, write_manifest
from morphobench.project.paths import Project
from morphobench.runs.plan import load_plan
from morphobench.trials.job import describe_job, trials_of_job
from morphobench.trials.store import Store
from morphobench.trials.supervisor import make_trials

CONFIG = """\
run: try
datasets: [toy]
seeds: [3, 5]
budget: {timeout_s: 300, memory_mb: 600, steps_per_epoch: 7}
tuning: {mode: grid, grid: [0.1, 1]}
statistics: {baseline: coin}
"""
VARIANTS = "params: {width: 4, ratio: 2.0}\nvariants: {wide: {width: 8, tasks: [classification]}, plain: {}}\n"


@pytest.fixture
def trials(scratch):
    project = Project(scratch.root)
    scratch.add_dataset("toy")
    with (scratch.add_method("coin") / "method.yaml").open("a") as described:
        described.write(VARIANTS)
    plan = load_plan(scratch.write_config(CONFIG), project)
    write_manifest(prepare_dataset(project, "toy"), plan.run.results / "data" / "toy.json")
    return make_trials(plan, ("toy", "coin", "wide"), [3, 5], "cpu", "c0de")


def test_the_worker_finds_the_trials_of_the_supervisor(trials, tmp_path):
    store = Store(tmp_path / ".store")
    assert trials_of_job(json.loads(json.dumps(describe_job(trials, store, {})))) == (trials, store)


def test_keys_and_records_come_out_as_they_went_in(trials, tmp_path):
    found, _ = trials_of_job(json.loads(json.dumps(describe_job(trials, Store(tmp_path), {}))))
    for one, other in zip(trials, found, strict=True):
        assert one.key == other.key
        assert one.blank_record("ok", "", {}).model_dump_json() == other.blank_record("ok", "", {}).model_dump_json()
    assert found[0].params == {"width": 8, "ratio": 2.0}
    assert [trial.seed for trial in found] == [3, 5]
