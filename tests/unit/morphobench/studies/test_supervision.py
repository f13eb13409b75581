"""Studies as they run: worker processes that crash, hang or fail leave a record for every cell."""

import json

import pandas as pd
import pytest

from morphobench.project.paths import Project
from morphobench.settings.records import CellRecord

YAML = """\
name: {name}
title: {name}
summary: A method of the tests.
family: control
framework: torch
tasks: [classification]
"""

# Doubles its argument; what a test puts in between happens when the operator is called.
METHOD = """\
import os, time
import numpy as np
from torch import nn
from morphobench.contract import OperatorInstance
def operator(channels, kernel_size, params):
    return nn.Identity()
def double(x):
    {between}
    return 2 * x
def operator_instances():
    return [OperatorInstance("double", double, {{"x": np.array([[1.0, 2.0, 3.0]])}})]
"""

CONFIG = """\
run: try
datasets: [toy]
statistics: {baseline: sound}
studies:
  solvers: {frameworks: [torch], image_sizes: [], coupled_sizes: [], joint_sizes: [], peers: [], copy_mib: 1, repeats: 2, timeout_s: 6}
"""


@pytest.fixture
def studied(scratch, project):
    """A checkout with the library, one sound operator and some that are not."""
    (scratch.root / "varmorph").rmdir()
    (scratch.root / "varmorph").symlink_to(project.library)
    scratch.add_dataset("toy")
    for name, between in {
        "crashes": "os._exit(3)",
        "fails": "raise ZeroDivisionError('on purpose')",
        "hangs": "time.sleep(60)",
        "sound": "pass",
    }.items():
        folder = scratch.add_method(name, code=METHOD.format(between=between))
        (folder / "method.yaml").write_text(YAML.format(name=name))
    scratch.write_config(CONFIG)
    return scratch


def test_every_cell_leaves_a_record_whatever_happens_to_its_process(studied):
    done = studied.morphobench("study", "solvers", "--framework", "torch", "--config", "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    run = Project(studied.root).run("try")
    folder = run.studies / "cells" / "solvers" / "torch"
    listed = json.loads(folder.with_suffix(".json").read_text())["cells"]
    records = {name: CellRecord.read(folder / f"{name}.json") for name in listed}
    found = {name: record.status for name, record in records.items()}
    assert found == {
        "copy": "ok",
        "method-crashes": "error",
        "method-fails": "error",
        "method-hangs": "timeout",
        "method-sound": "ok",
    }
    assert records["method-crashes"].message == "the worker ended with exit code 3 and left no record"
    assert records["method-fails"].message == "ZeroDivisionError: on purpose"
    assert "time limit of 6 s" in records["method-hangs"].message

    done = studied.morphobench("collect-study", "solvers", "--config", "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(run.studies / "solvers.csv")
    assert set(table["cell"]) == set(listed)
    assert table.loc[table["cell"] == "method-hangs", "median_s"].isna().all()
    assert (table.loc[table["cell"] == "method-sound", "median_s"] > 0).all()

    before = (folder / "method-sound.json").read_text()
    again = studied.morphobench(*records["method-sound"].command.split()[3:])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "method-sound" in again.stdout
    assert (folder / "method-sound.json").read_text() == before
    assert studied.morphobench(*records["method-fails"].command.split()[3:]).returncode == 1


def test_a_cell_that_does_not_exist_is_a_mistake(studied):
    done = studied.morphobench("cell", "solvers", "nothing", "--framework", "torch", "--config", "config.yaml")
    assert done.returncode == 2
    assert "found no cell 'nothing'" in done.stderr


def test_a_setting_that_does_not_fit_stops_before_any_work(studied):
    studied.write_config(CONFIG.replace("copy_mib: 1", "copy_mib: many"))
    done = studied.morphobench("study", "solvers", "--framework", "torch", "--config", "config.yaml")
    assert done.returncode == 2
    assert "config.yaml: key 'studies.solvers.copy_mib': found 'many', expected integer (Size in MiB" in done.stderr
