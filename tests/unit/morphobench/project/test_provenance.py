"""What a record says of the code that ran."""

import subprocess

import pytest

from morphobench.project.provenance import commit


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "methods/coin").mkdir(parents=True)
    (tmp_path / "methods/coin/method.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


def test_a_checkout_as_committed_is_not_dirty(checkout):
    found = commit(checkout)
    assert len(found["commit"]) == 40
    assert found["dirty"] is False


@pytest.mark.parametrize("path", ["methods/coin/method.py", "methods/new/method.py", "workflows/config/mine.yaml"])
def test_code_that_no_commit_holds_makes_it_dirty(checkout, path):
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text("x = 2\n")
    assert commit(checkout)["dirty"] is True


@pytest.mark.parametrize("path", ["mine.yaml", "methods/coin/__pycache__/method.pyc", "results/try/config.yaml"])
def test_untracked_files_that_do_not_run_do_not(checkout, path):
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text("x = 2\n")
    assert commit(checkout)["dirty"] is False


def test_outside_git_nothing_is_known(tmp_path):
    assert commit(tmp_path) == {"commit": "", "dirty": False}
