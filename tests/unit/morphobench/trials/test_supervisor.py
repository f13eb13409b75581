import json
import textwrap

import numpy as np
import psutil
import pytest

from morphobench.contract import DataUnavailable
from morphobench.data.preparation import labels_of_test, load_test_inputs, load_training_data, read_manifest
from morphobench.plugins.code_hash import code_hash
from morphobench.plugins.discovery import discover_methods
from morphobench.project.paths import Project
from morphobench.settings.records import Record

CONFIG = """\
run: try
datasets: [toy]
seeds: [0, 1]
budget: {timeout_s: 2, memory_mb: 600}
statistics: {baseline: coin}
"""


def numpy_method(fit="model.seed = run.seed", predict="return np.zeros(model.task.score_shape(images))", top=""):
    return textwrap.dedent(
        f"""\
        import os, signal, subprocess, time, types
        import numpy as np
        {top}
        def build(task, params):
            return types.SimpleNamespace(task=task)
        def fit(model, train, valid, run):
            {fit}
        def predict(model, images):
            {predict}
        def describe(model):
            return {{}}
        """
    )


@pytest.fixture
def toy(scratch):
    scratch.add_dataset("toy")
    scratch.add_method("coin")
    return scratch


def prepare(scratch):
    done = scratch.morphobench("prepare", "--dataset", "toy", "--output", "results/try/data/toy.json")
    assert done.returncode == 0, done.stderr


def train(scratch, method, seeds=(0, 1), variant="default", timeout_s=20, code=()):
    """Run trials of a method on the data that are prepared, return their records."""
    scratch.write_config(CONFIG.replace("timeout_s: 2", f"timeout_s: {timeout_s}"))
    arguments = ["--dataset", "toy", "--method", method, "--variant", variant, *code]
    done = scratch.morphobench("run-trials", "--config", "config.yaml", *arguments, "--seeds", *map(str, seeds))
    assert done.returncode == 0, done.stdout + done.stderr
    run = Project(scratch.root).run("try")
    return [Record.read(run.trial("toy", method, variant, seed) / "record.json") for seed in seeds], done.stdout


def run_trials(scratch, method, seeds=(0, 1), timeout_s=2):
    """Prepare the data, run the trials of one method, return their records."""
    prepare(scratch)
    return train(scratch, method, seeds, timeout_s=timeout_s)


def scores_of(scratch, method, seed):
    with np.load(Project(scratch.root).run("try").trial("toy", method, "default", seed) / "predictions.npz") as found:
        return found["scores"]


def test_a_trial_leaves_predictions_and_a_record_that_says_where_they_come_from(toy):
    records, _ = run_trials(toy, "coin")
    assert [record.status for record in records] == ["ok", "ok"]
    assert records[0].key != records[1].key
    assert records[0].timings.fit_s is not None
    assert records[0].provenance["versions"]["numpy"] == np.__version__
    folder = Project(toy.root).run("try").trial("toy", "coin", "default", 0)
    with np.load(folder / "predictions.npz") as predictions:
        assert predictions["scores"].shape == (20, 2)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        (numpy_method(fit="time.sleep(60)"), "timeout", "2 s"),
        (numpy_method(fit="raise RuntimeError('no luck')"), "error", "RuntimeError: no luck"),
        (numpy_method(fit="os.kill(os.getpid(), signal.SIGSEGV)"), "error", "signal 11 (SIGSEGV)"),
        (numpy_method(fit="os._exit(3)"), "error", "exit code 3"),
        (numpy_method(fit="keep = np.ones((1500, 1024, 128)); time.sleep(60)"), "out_of_memory", "limit of 600 MiB"),
        (numpy_method(predict="return np.full((20, 2), np.nan)"), "diverged", "40 scores that are not finite, of 40"),
        (numpy_method(predict="return np.full((20, 2), 1e39)"), "diverged", "40 scores that are not finite, of 40"),
        (numpy_method(predict="return np.zeros((20, 3))"), "invalid", "returned shape (20, 3), expected (20, 2)"),
        (numpy_method(predict="return [1, 2]"), "invalid", "returned list, expected a NumPy array"),
        (numpy_method(predict="return np.zeros((20, 2), int)"), "invalid", "expected floating-point scores"),
        (numpy_method(top="import nowhere"), "invalid", "No module named 'nowhere'"),
        ("def build(task, params)\n", "invalid", "syntax error"),
    ],
)
def test_whatever_happens_every_seed_has_a_record_that_says_what(toy, code, status, message):
    toy.add_method("odd", code=code)
    # On a busy machine two seconds may pass before a plugin comes to what it does wrong.
    records, _ = run_trials(toy, "odd", timeout_s=2 if status == "timeout" else 30)
    assert [record.status for record in records] == [status, status]
    assert all(message in record.message for record in records)


def test_one_bad_seed_does_not_spoil_the_next(toy):
    toy.add_method("odd", code=numpy_method(fit="assert run.seed == 1, 'seed 0 fails'"))
    records, _ = run_trials(toy, "odd")
    assert [record.status for record in records] == ["error", "ok"]
    assert any("seed 0 fails" in line for line in records[0].log_tail)


def test_a_worker_that_dies_hands_the_remaining_seeds_to_another(toy):
    toy.add_method("odd", code=numpy_method(fit="run.seed == 0 and os._exit(3)"))
    records, _ = run_trials(toy, "odd")
    assert [record.status for record in records] == ["error", "ok"]


def test_the_time_limit_also_ends_what_the_plugin_has_started(toy):
    child = toy.root / "child.pid"
    start = f"open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '90']).pid)); time.sleep(60)"
    toy.add_method("odd", code=numpy_method(fit=start))
    run_trials(toy, "odd", seeds=[0])
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_finished_seeds_come_back_from_the_store_with_identical_predictions(toy):
    _, first = run_trials(toy, "coin")
    run = Project(toy.root).run("try")
    path = run.trial("toy", "coin", "default", 0) / "predictions.npz"
    before = path.read_bytes()
    for seed in (0, 1):
        for file in run.trial("toy", "coin", "default", seed).iterdir():
            file.unlink()
    _, second = run_trials(toy, "coin")
    assert "restored" not in first
    assert second.count("restored from the store") == 2
    assert path.read_bytes() == before


def test_an_edited_plugin_is_trained_again_and_not_restored(toy):
    run_trials(toy, "coin")
    toy.add_method("coin", scores="np.zeros(model.task.score_shape(images))")
    _, output = run_trials(toy, "coin")
    assert "restored" not in output


def test_variants_of_equal_parameters_do_not_share_trials(toy):
    described = toy.root / "methods/coin/method.yaml"
    described.write_text(described.read_text() + "params: {width: 8}\nvariants: {default: {}, width-8: {width: 8}}\n")
    prepare(toy)
    train(toy, "coin")
    records, output = train(toy, "coin", variant="width-8")
    assert "restored" not in output
    assert {record.variant for record in records} == {"width-8"}


def test_edited_classes_run_again_though_the_arrays_are_equal(toy):
    run_trials(toy, "coin")
    described = toy.root / "datasets/toy/dataset.yaml"
    described.write_text(described.read_text().replace("[low, high]", "[low, high, highest]"))
    _, output = run_trials(toy, "coin")
    assert "restored" not in output
    assert scores_of(toy, "coin", 0).shape == (20, 3)


@pytest.mark.parametrize("after", ["pass", "os._exit(3)"])
def test_a_trial_whose_code_changes_while_it_runs_is_not_kept(toy, after):
    """Nor is a later one of its worker, which has the old code in memory, or of another worker, which reads the new code."""
    edit = f"if run.seed == 1: open(__file__, 'a').write('# edited'); {after}"
    toy.add_method("edited", code=numpy_method(fit=edit))
    records, _ = run_trials(toy, "edited", seeds=(0, 1, 2), timeout_s=20)
    assert [record.status for record in records] == ["ok", "error", "error"]
    assert "methods/edited/method.py changed while the trial ran" in records[2].message
    assert [path.name for path in (toy.root / "results/try/.store").iterdir()] == [records[0].key]
    assert not (Project(toy.root).run("try").trial("toy", "edited", "default", 2) / "predictions.npz").exists()


def test_files_beside_the_code_are_part_of_it(toy):
    code = numpy_method(top="from pathlib import Path", predict="return table * np.ones((20, 2))")
    code = code.replace("import types", "import types").replace(
        "def predict", "table = float(Path(__file__).with_name('table.txt').read_text())\ndef predict"
    )
    folder = toy.add_method("table", code=code)
    (folder / "table.txt").write_text("1.0")
    run_trials(toy, "table", timeout_s=20)
    (folder / "table.txt").write_text("2.0")
    _, output = run_trials(toy, "table", timeout_s=20)
    assert "restored" not in output
    assert scores_of(toy, "table", 0).max() == 2.0


def test_other_code_than_the_planned_one_is_not_run(toy):
    prepare(toy)
    place = Project(toy.root)
    planned = code_hash(place, discover_methods(place.methods)["coin"])
    train(toy, "coin", seeds=(0,), code=("--code-hash", planned))
    toy.add_method("coin", scores="np.zeros(model.task.score_shape(images))")
    records, output = train(toy, "coin", code=("--code-hash", planned))
    assert [record.status for record in records] == ["ok", "error"]
    assert "seed 0] restored" in output
    assert "methods/coin, or code that it runs, changed after the run was planned" in records[1].message


def test_what_a_plugin_writes_into_its_data_reaches_no_other_seed(toy):
    fit = "train.images[...] = train.images ** 2; model.mean = train.images.mean()"
    predict = "return np.full((20, 2), model.mean)"
    toy.add_method("squares", code=numpy_method(fit=fit, predict=predict))
    run_trials(toy, "squares", timeout_s=20)
    together = scores_of(toy, "squares", 1)
    assert np.array_equal(together, scores_of(toy, "squares", 0))


def test_what_a_plugin_writes_into_its_parameters_reaches_no_other_seed(toy):
    code = numpy_method(
        fit="run.params['sizes'].append(1); model.count = len(run.params['sizes'])",
        predict="return np.full((20, 2), float(model.count))",
    ).replace("    return types", "    params['sizes'].append(0)\n    return types")
    described = toy.add_method("sizes", code=code) / "method.yaml"
    described.write_text(described.read_text() + "params: {sizes: [1, 2]}\n")
    run_trials(toy, "sizes", timeout_s=20)
    assert scores_of(toy, "sizes", 0).max() == scores_of(toy, "sizes", 1).max() == 3.0


@pytest.mark.parametrize("how", ["zeroed", "cut", "gone"])
def test_prepared_data_that_are_damaged_are_prepared_again(toy, how):
    code = numpy_method(fit="model.mean = train.labels.mean()", predict="return np.full((20, 2), model.mean)")
    toy.add_method("mean", code=code)
    prepare(toy)
    (path,) = (toy.root / ".cache/morphobench/prepared").glob("toy-*/train_labels.npy")
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-80] + bytes(80) if how == "zeroed" else whole[:-20])
    records, _ = train(toy, "mean")
    assert [record.status for record in records] == ["ok", "ok"]
    assert scores_of(toy, "mean", 0).max() == 0.5
    assert path.read_bytes() == whole


def test_data_that_cannot_be_prepared_again_are_an_error_that_says_so(toy):
    prepare(toy)
    (path,) = (toy.root / ".cache/morphobench/prepared").glob("toy-*/test_labels.npy")
    path.write_bytes(b"")
    code = (toy.root / "datasets/toy/dataset.py").read_text()
    toy.add_dataset("toy", code=code.replace("* 100).astype", "* 101).astype"))
    place = Project(toy.root)
    with pytest.raises(
        DataUnavailable, match=r"test_labels\.npy.*damaged.*gave other data.*remove the manifest of toy"
    ):
        labels_of_test(place, read_manifest(place.run("try").results / "data/toy.json"))


def test_a_failure_leaves_nothing_of_an_earlier_success(toy):
    run_trials(toy, "coin", seeds=(0,))
    folder = Project(toy.root).run("try").trial("toy", "coin", "default", 0)
    assert (folder / "predictions.npz").is_file()
    toy.add_method("coin", code=numpy_method(fit="raise ValueError('no')"))
    records, _ = run_trials(toy, "coin", seeds=(0,))
    assert records[0].status == "error"
    assert not (folder / "predictions.npz").exists()


def test_a_worker_that_dies_after_it_predicted_leaves_no_predictions(toy):
    toy.add_method("odd", code=numpy_method().replace("    return {}", "    os._exit(3)"))
    records, _ = run_trials(toy, "odd", seeds=(0,), timeout_s=20)
    assert records[0].status == "error"
    folder = Project(toy.root).run("try").trial("toy", "odd", "default", 0)
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_a_data_set_that_is_not_to_be_had_is_a_row_and_not_the_methods_fault(toy):
    code = (toy.root / "datasets/toy/dataset.py").read_text()
    code = code.replace("    pass", "    raise DataUnavailable('no network')").replace(
        "import Split", "import DataUnavailable, Split"
    )
    toy.add_dataset("toy", code=code)
    records, _ = run_trials(toy, "coin")
    assert {record.status for record in records} == {"unavailable"}
    assert records[0].message == "not available: no network"


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("(20, 1, 4, 4)", "(20, 4, 4)", "images: found uint8 (20, 4, 4)"),
        ("np.arange(20) % 2", "np.arange(20) % 3", "labels: found 0 to 2, expected 0 to 1"),
        ("labels.astype(np.int64)", "labels[:5]", "labels: found shape (5,), expected (20,)"),
        ("return Split(images, labels.astype(np.int64))", "return images", "found ndarray, expected"),
    ],
)
def test_a_data_set_that_breaks_its_contract_is_a_row(toy, line, replacement, message):
    code = (toy.root / "datasets/toy/dataset.py").read_text().replace("labels[:, None", "(np.arange(20) % 2)[:, None")
    if "4, 4" in line:
        code = code.replace("[:, None, None, None]", "[:, None, None]")
    toy.add_dataset("toy", code=code.replace(line, replacement))
    toy.morphobench("prepare", "--dataset", "toy", "--output", "results/try/data/toy.json")
    manifest = json.loads((toy.root / "results/try/data/toy.json").read_text())
    assert manifest["status"] == "invalid"
    assert message in manifest["message"]


def test_training_is_given_no_test_labels(toy):
    run_trials(toy, "coin", seeds=[0])
    manifest = read_manifest(toy.root / "results/try/data/toy.json")
    train, valid = load_training_data(Project(toy.root), manifest)
    test = load_test_inputs(Project(toy.root), manifest)
    assert test.labels.size == 0
    assert test.images.shape == (20, 1, 4, 4)
    assert len(train) == len(valid) == 20
