"""Records: what is written is what is read, and nothing else is written."""

import json
import math

import numpy as np
import pytest

from morphobench.project.errors import UserError
from morphobench.settings.records import CellRecord, Record

TRIAL = {
    **{"run": "try", "dataset": "toy", "task": "classification", "method": "coin", "variant": "default"},
    **{"family": "control", "framework": "numpy", "seed": 3, "status": "ok", "message": "", "budget": {"epochs": 2}},
    **{"threads": 1, "code_hash": "a", "data_hash": "b", "key": "c", "provenance": {}},
}
CELL = {
    **{
        "run": "try",
        "study": "gradients",
        "framework": "torch",
        "cell": "a",
        "instance": "b",
        "settings": {"value": 1},
    },
    **{"status": "ok", "message": "", "rows": [], "command": "", "device": "cpu", "threads": 1, "load": None},
    "provenance": {},
}


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = Record(**TRIAL)
    record.timings.fit_s, record.peak_rss_mb = 2, 100.5
    record.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == record
    written = json.loads((tmp_path / "record.json").read_text())
    assert written["schema"] == 1
    assert written["finished"].endswith("+00:00")
    assert written["timings"] == {"import_s": None, "compile_s": None, "fit_s": 2, "predict_s": None}
    assert Record(**TRIAL).timings.fit_s is None  # no record has the timings of another


@pytest.mark.parametrize(("key", "value"), [("status", "fine"), ("epochs", 2.5), ("log_tail", "a line")])
def test_a_record_that_does_not_fit_is_not_written(tmp_path, key, value):
    record = Record(**TRIAL)
    setattr(record, key, value)
    with pytest.raises(UserError, match=rf"record\.json: key '{key}'"):
        record.write(tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_numbers_of_numpy_are_written_as_those_of_python(tmp_path):
    record = Record(**TRIAL)
    record.epochs, record.best_epoch, record.learning_rate = np.int64(3), np.array(2), np.float32(0.5)
    record.write(tmp_path / "record.json")
    found = Record.read(tmp_path / "record.json")
    assert (found.epochs, found.best_epoch, found.learning_rate) == (3, 2, 0.5)


def test_what_is_not_finite_in_a_row_becomes_null_and_numpy_becomes_python(tmp_path):
    row = {"error": np.float64(math.inf), "time": math.nan, "count": np.int64(3), "name": "a"}
    CellRecord(**{**CELL, "rows": [row]}).write(tmp_path / "a.json")
    assert CellRecord.read(tmp_path / "a.json").rows == [{"error": None, "time": None, "count": 3, "name": "a"}]


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({**TRIAL, "colour": "red"}))
    with pytest.raises(UserError, match=r"record\.json: unknown key 'colour'; expected one of: best_epoch"):
        Record.read(tmp_path / "record.json")
