"""The check of a GPU, with machines that are made up: what it runs, what it writes, and that it ends in time."""

import json
import time

import pytest

from morphobench.project.paths import Project
from morphobench.runs.gpu_check import LIMIT_S, STEPS, check_gpu, run_within


class Machine:
    """Runs nothing: each command takes some seconds of a clock of its own and ends with a code, or is stopped."""

    def __init__(self, *ends):
        self.ends, self.now, self.limits = list(ends), 0.0, []

    def clock(self):
        return self.now

    def run(self, command, folder, limit_s):
        seconds, code = self.ends.pop(0)
        self.limits.append(limit_s)
        self.now += min(seconds, limit_s)
        return code if seconds <= limit_s else None


def checked(tmp_path, machine):
    code = check_gpu(Project(tmp_path), ["Example GPU"], machine.run, machine.clock)
    return code, json.loads((tmp_path / "results/gpu/gpu-check.json").read_text())


def test_without_a_gpu_nothing_is_run_and_nothing_is_wrong(tmp_path, capsys):
    assert check_gpu(Project(tmp_path), [], None) == 0
    assert "no NVIDIA GPU is visible" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_each_step_gets_the_time_that_is_left(tmp_path):
    machine = Machine((100, 0), (200, 0))
    code, record = checked(tmp_path, machine)
    assert code == 0
    assert machine.limits == [LIMIT_S, LIMIT_S - 100]
    assert [(step["status"], step["seconds"]) for step in record["steps"]] == [("ok", 100), ("ok", 200)]
    assert record["devices"] == ["Example GPU"]


@pytest.mark.parametrize(
    ("ends", "statuses"),
    [
        ([(100, 1), (200, 0)], ["exit code 1", "ok"]),  # wrong programs are timed all the same
        ([(100, 0), (900, 0)], ["ok", "not ended"]),
        ([(900, 0)], ["not ended", "not ended"]),
    ],
)
def test_what_fails_or_does_not_end_is_said(tmp_path, ends, statuses):
    code, record = checked(tmp_path, Machine(*ends))
    assert code == 1
    assert [step["status"] for step in record["steps"]] == statuses


def test_what_the_steps_name_is_there(project):
    for command in STEPS.values():
        for path in (part for part in command if part.endswith((".py", ".yaml"))):
            assert (project.root / path).is_file(), path


def test_a_command_is_stopped_with_all_it_has_started(tmp_path):
    child = "import time, pathlib; time.sleep(1.5); pathlib.Path('late').touch()"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    assert run_within(["-c", parent], tmp_path, 0.7) is None
    time.sleep(2)
    assert not (tmp_path / "late").exists()
    assert run_within(["-c", "raise SystemExit(3)"], tmp_path, 60) == 3
