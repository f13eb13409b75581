"""What runs the cells of a study, with a study of the tests' own."""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from morphobench.contract import FrameworkUnavailable
from morphobench.project.errors import UserError
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, by_instance, study_module
from morphobench.studies.worker import Circumstances, run_cells


@dataclass
class Opened:
    """Fails where the cell's name says so."""

    calls: list

    def prepare(self, cell):
        self.calls.append(("prepare", cell.name))
        if "unavailable" in cell.name:
            raise FrameworkUnavailable("not installed")
        if "memory" in cell.name:
            raise MemoryError("too large")

    def measure(self, cell):
        self.calls.append(("measure", cell.name))
        if "wrong" in cell.name:
            raise ZeroDivisionError("no time")
        return {"forward": 1.0}

    def rows(self, cell, repeated):
        return [{"value": np.float64(math.inf), "repeats": len(repeated.seconds["forward"])}]


@dataclass
class Toy:
    calls: list = field(default_factory=list)

    def open_instance(self, instance, settings, framework, device, threads):
        self.calls.append(("open", instance))
        if instance == "closed":
            raise ValueError("no such instance\nat all")
        return Opened(self.calls)

    def failed_rows(self, cell):
        return [{"value": None}]


@pytest.fixture
def about(tmp_path):
    settings = {"repeats": 2, "cell_s": 1.0}
    return Circumstances(
        "toy", "gradients", "torch", settings, "results/toy/config.yaml", tmp_path, "cpu", 1, {"commit": "x"}
    )


def run(about, *cells):
    """Run cells (name, instance); return the study's calls, what was announced and the records by cell."""
    study, announced = Toy(), []
    cells = [Cell(name, instance, {}) for name, instance in cells]
    run_cells(study, cells, about, announced.append)
    records = {cell.name: CellRecord.read(about.folder / f"{cell.name}.json") for cell in cells}
    return study.calls, announced, records


def test_cells_of_an_instance_are_prepared_first_and_measured_in_turns(about):
    calls, announced, records = run(about, ("a", "one"), ("b", "one"), ("c", "two"))
    assert calls[:3] == [("open", "one"), ("prepare", "a"), ("prepare", "b")]
    assert [name for what, name in calls if what == "measure"] == ["a", "b", "a", "b", "c", "c"]
    assert announced[-1] == "c"
    assert [record.status for record in records.values()] == ["ok"] * 3
    row = records["a"].rows[0]
    assert (row["cell"], row["framework"], row["threads"], row["repeats"], row["status"]) == ("a", "torch", 1, 2, "ok")
    assert row["device"].startswith("cpu (")


def test_what_is_not_finite_is_null(about):
    run(about, ("a", "one"))
    assert json.loads((about.folder / "a.json").read_text())["rows"][0]["value"] is None


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("unavailable", "unavailable", "not installed"),
        ("memory", "out_of_memory", "MemoryError: too large"),
        ("wrong", "error", "ZeroDivisionError: no time"),
    ],
)
def test_a_cell_that_fails_is_a_record_and_the_others_go_on(about, name, status, message):
    _, _, records = run(about, (name, "one"), ("other", "one"))
    assert (records[name].status, records[name].message) == (status, message)
    assert records[name].rows[0]["message"] == message
    assert records["other"].status == "ok"


def test_an_instance_that_does_not_open_fails_all_its_cells(about):
    _, _, records = run(about, ("a", "closed"), ("b", "closed"), ("c", "one"))
    assert [record.status for record in records.values()] == ["error", "error", "ok"]
    assert records["a"].message == "ValueError: no such instance"


def test_the_record_names_the_command_that_runs_the_cell_alone(about):
    _, _, records = run(about, ("a", "one"))
    assert records["a"].command == (
        "python -m morphobench cell gradients a --framework torch --config results/toy/config.yaml"
    )


def test_cells_are_grouped_where_they_follow_each_other():
    cells = [Cell(name, instance, {}) for name, instance in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "x"))]
    assert [[cell.name for cell in group] for group in by_instance(cells)] == [["a", "b"], ["c"], ["d"]]


def test_an_unknown_study_is_named():
    with pytest.raises(UserError, match="found 'colours', expected gradients or nonsmooth or recovery or solvers"):
        study_module("colours")
