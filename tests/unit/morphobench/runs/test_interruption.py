import json
import os
import socket
import time

import pytest

from morphobench.runs.interruption import OWNER, claim_folder, undo_future_dates


@pytest.fixture
def locked(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.output.lock").write_text("a\n")
    return tmp_path


def write_owner(folder, **changes):
    owner = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 1.0} | changes
    (folder / OWNER).write_text(json.dumps(owner))


def test_the_lock_of_a_run_that_was_killed_is_removed(locked):
    write_owner(locked)
    assert claim_folder(locked)
    assert not list((locked / "locks").iterdir())
    assert json.loads((locked / OWNER).read_text())["pid"] == os.getpid()


def test_the_lock_of_a_run_that_lives_is_left(locked):
    claim_folder(locked)
    (locked / "locks" / "0.output.lock").write_text("a\n")
    assert not claim_folder(locked)
    assert list((locked / "locks").iterdir())


def test_another_process_with_the_same_number_is_not_taken_for_the_run(locked):
    write_owner(locked, pid=os.getpid(), started=1.0)
    assert claim_folder(locked)


def test_the_lock_of_another_machine_is_left(locked):
    write_owner(locked, host="elsewhere")
    assert not claim_folder(locked)
    assert list((locked / "locks").iterdir())


def test_a_lock_that_no_run_of_this_workflow_left_is_not_touched(locked):
    assert not claim_folder(locked)
    assert list((locked / "locks").iterdir())


def test_files_dated_ahead_of_the_clock_are_dated_now_and_others_left(tmp_path):
    (tmp_path / "inside").mkdir()
    ahead, past = tmp_path / "inside" / "ahead", tmp_path / "past"
    for path, when in ((ahead, time.time() + 86400), (past, 86400)):
        path.write_text("")
        os.utime(path, (when, when))
    assert undo_future_dates(tmp_path, tmp_path / "nowhere") == 1
    assert ahead.stat().st_mtime <= time.time()
    assert past.stat().st_mtime == 86400
