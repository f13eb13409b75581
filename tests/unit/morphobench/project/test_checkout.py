"""A checkout runs its own code, also where the package was installed as a copy."""

import os
import shutil
import subprocess
import sys

import pytest

CONFIG = "run: try\ndatasets: [toy]\nmethods: {include: [coin]}\nseeds: [0]\nstatistics: {baseline: coin}\n"


@pytest.fixture
def with_a_copy(scratch, project, tmp_path):
    """Return a checkout and an environment in which another copy of the package, which fails when it plans, is found."""
    scratch.add_method("coin")
    scratch.add_dataset("toy")
    scratch.write_config(CONFIG)
    copy = tmp_path / "site-packages"
    shutil.copytree(project.harness, copy / "morphobench", ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("plugins/discovery.py", "runs/plan.py", "trials/worker.py"):
        (copy / "morphobench" / module).write_text("raise RuntimeError('code of the copy')\n")
    return scratch, scratch.environment | {"PYTHONPATH": str(copy)}


def call(scratch, environment, *arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=scratch.root, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_command_runs_the_code_of_the_checkout(with_a_copy):
    done = call(*with_a_copy, "morphobench", "list")
    assert done.returncode == 0, done.stderr
    assert "Toy coin" in done.stdout


@pytest.mark.slow
def test_jobs_and_their_workers_run_the_code_of_the_checkout(with_a_copy):
    scratch, environment = with_a_copy
    target = "results/try/tables/scores.csv"
    done = call(scratch, environment, "snakemake", "--cores", "2", target, "--configfile", "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ",ok," in (scratch.root / target).read_text()


def test_a_checkout_whose_code_is_not_found_says_how_to_install_it(with_a_copy):
    scratch, environment = with_a_copy
    first = os.pathsep.join([str(scratch.root / "workflows"), str(scratch.root)])
    copy = environment["PYTHONPATH"]
    start = f"import sys; sys.path.insert(0, {copy!r}); from morphobench.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, "list"],
        cwd=scratch.root,
        env=environment | {"PYTHONPATH": first},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"morphobench: {copy}/morphobench: this is not the code of {scratch.root}; run pip install" in done.stderr
