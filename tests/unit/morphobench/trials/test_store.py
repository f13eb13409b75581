"""What comes out of the store is what was put into it."""

import json

import pytest

from morphobench.trials.store import TRIAL_FILES, Store

KEY = "0123456789abcdef"


@pytest.fixture
def trial(tmp_path):
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "predictions.npz").write_bytes(b"scores")
    (folder / "record.json").write_text(json.dumps({"key": KEY}))
    return folder


@pytest.fixture
def store(tmp_path, trial):
    kept = Store(tmp_path / "store")
    kept.put(KEY, trial)
    return kept


def test_a_trial_comes_back_as_it_was_and_what_it_did_not_leave_goes(store, trial):
    (trial / "predictions.npz").unlink()
    (trial / "learned.npz").write_bytes(b"of another trial")
    assert store.restore(KEY, trial)
    assert sorted(path.name for path in trial.iterdir()) == ["predictions.npz", "record.json"]
    assert (trial / "predictions.npz").read_bytes() == b"scores"


def test_restoring_over_what_is_there_leaves_no_other_file(store, trial):
    for _ in range(3):
        assert store.restore(KEY, trial)
    assert {path.name for path in trial.iterdir()} <= set(TRIAL_FILES)


def test_what_is_not_there_is_not_restored(store, tmp_path):
    assert not store.restore("fedcba9876543210", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def overwrite(folder):
    (folder / "predictions.npz").write_bytes(b"garbage")


def remove(folder):
    (folder / "predictions.npz").unlink()


def add(folder):
    (folder / "learned.npz").write_bytes(b"more")


def forget_checksums(folder):
    (folder / "checksums.json").unlink()


def garble_checksums(folder):
    (folder / "checksums.json").write_text("[1]")


@pytest.mark.parametrize("damage", [overwrite, remove, add, forget_checksums, garble_checksums])
def test_an_entry_that_is_damaged_is_removed_with_one_line_and_may_be_put_again(store, trial, damage, capsys):
    damage(store.folder / KEY)
    assert not store.restore(KEY, trial)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{store.folder / KEY}: removed from the store: ")
    (trial / "predictions.npz").write_bytes(b"scores")
    store.put(KEY, trial)
    assert store.restore(KEY, trial)


def test_an_edit_of_results_never_comes_back(store, trial):
    assert store.restore(KEY, trial)
    overwrite(trial)
    remove(trial)
    assert not store.restore(KEY, trial) or (trial / "predictions.npz").read_bytes() == b"scores"


def test_an_entry_of_another_key_is_not_restored(store, trial):
    (store.folder / KEY).rename(store.folder / "fedcba9876543210")
    assert not store.restore("fedcba9876543210", trial)


def test_of_two_processes_that_put_one_trial_the_first_is_kept(store, trial):
    store.put(KEY, trial)
    assert [path.name for path in store.folder.iterdir()] == [KEY]
