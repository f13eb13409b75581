"""The gradient study as cells and rows."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from morphobench.contract import OperatorInstance
from morphobench.plugins.discovery import Plugins
from morphobench.settings.studies import GradientStudy
from morphobench.studies.cells import Cell, by_instance
from morphobench.studies.gradients import plugin_gradients
from morphobench.studies.gradients import study as gradient_accuracy
from morphobench.studies.gradients.plugin_gradients import extrapolated_differences
from morphobench.studies.gradients.study import COLUMNS, OUTPUTS, cells, failed_rows, open_instance, summarise
from morphobench.studies.measurement import interleave

DEFAULTS = GradientStudy().model_dump()
NONE = Plugins({}, {})


def run(settings, framework="torch"):
    """Run all cells as the worker does, and return the rows."""
    rows = []
    for together in by_instance(cells(settings, framework, NONE)):
        opened = open_instance(together[0].instance, settings, framework, "cpu", 1)
        for cell in together:
            opened.prepare(cell)
        works = {cell.name: (lambda cell=cell, opened=opened: opened.measure(cell)) for cell in together}
        measured = interleave(works, 1)
        for cell in together:
            assert measured[cell.name].message == ""
            rows += [
                {**r, "cell": cell.name, "instance": cell.instance, "status": "ok"}
                for r in opened.rows(cell, measured[cell.name])
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_cells_have_names_of_their_own_that_are_files_and_settings_that_are_json(framework):
    found = cells(DEFAULTS, framework, NONE)
    assert len({cell.name for cell in found}) == len(found)
    assert all(re.fullmatch(r"[a-z0-9._-]+", cell.name) for cell in found)
    assert all(json.loads(json.dumps(cell.settings)) == cell.settings for cell in found)
    assert len(list(by_instance(found))) == len({cell.instance for cell in found})


def test_every_family_and_mode_is_listed():
    listed = {(cell.settings["family"], cell.settings["mode"]) for cell in cells(DEFAULTS, "torch", NONE)}
    for family in ("regularised", "regularised-huber", "joint"):
        for mode in ("implicit", "neumann", "one-step", "truncated", "unrolled", "finite-differences"):
            assert (family, mode) in listed
    assert ("separable", "unrolled") in listed
    assert ("geodesic", "implicit") in listed


@pytest.fixture(scope="module")
def table(gradient_settings):
    own = {
        "families": ["separable", "regularised-huber", "geodesic"],
        "data": ["random", "ties"],
        "steps": [1e-3, 1e-5],
    }
    own |= {"coordinates": 3, "repeats": DEFAULTS["repeats"]}
    return run({**gradient_settings, **own})


def test_a_row_has_its_error_and_its_time(table):
    rows = table[(table["mode"] == "implicit") & (table["data"] == "random")]
    assert (rows["median_s"].astype(float) > 0).all()
    double = rows[(rows["dtype"] == "float64") & rows["forward_tolerance"].isna()]
    assert (double["relative_error"].astype(float) < 1e-5).all()
    huber = double[double["family"] == "regularised-huber"]
    assert set(huber["parameter"]) == {"x", "bias", "weight", "logit_level", "coupling", "ridge", "edge_smoothing"}
    assert (huber["certificate"].astype(float) <= 1e-6).all()
    assert not table.duplicated(["cell", "mode", "setting", "parameter"]).any()


def test_a_rough_forward_solve_shows_in_the_gradient(table):
    rows = table[table["forward_tolerance"].notna() & (table["data"] == "random")]
    assert (rows["forward_error"].astype(float) > 1e-6).all()
    assert (rows["relative_error"].astype(float) > 1e-6).any()


def test_ties_are_marked_and_tested_by_the_hull_instead_of_differences(table):
    tied = table[table["data"] == "ties"]
    assert tied["kink"].all()
    assert "finite-differences" not in set(tied["mode"])
    separable = tied[(tied["family"] == "separable") & (tied["mode"] == "implicit")]
    assert (separable["hull"] == 1.0).all()
    assert tied["hull"].notna().all()


def test_differences_have_rows_by_step_extrapolations_and_a_slope(table):
    rows = table[(table["cell"].str.endswith("finite-differences.weight")) & (table["family"] == "separable")]
    counts = rows[rows["operator"] == "variational_dilation"]["mode"].value_counts()
    assert dict(counts) == {"finite-differences": 2, "richardson": 1, "taylor": 1}


def test_the_summary_leaves_out_kinks_and_counts_them(table):
    summary = summarise(table).set_index(["mode", "setting", "dtype", "family", "parameter"])
    row = summary.loc[("implicit", "tensor", "float64", "separable", "x")]
    assert (row["instances"], row["left_out"]) == (2, 2)
    assert row["relative_error"] < 1e-12


def test_the_summary_is_written(table, tmp_path):
    gradient_accuracy.collect(table, [], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
    assert len(pd.read_csv(tmp_path / "gradients_summary.csv")) == len(summarise(table))


def test_a_failed_cell_is_a_row_with_what_is_known_of_it():
    cell = cells(DEFAULTS, "torch", NONE)[0]
    (row,) = failed_rows(cell)
    assert list(row) == COLUMNS
    assert (row["mode"], row["family"], row["relative_error"]) == ("implicit", "separable", None)
    failed = pd.DataFrame([{**row, "status": "error", "framework": "torch"}], columns=COLUMNS)
    assert summarise(failed)["left_out"].sum() == 1


def test_the_operator_of_a_method_takes_part(monkeypatch):
    import torch

    arguments = {"x": np.linspace(-1.0, 1.0, 5), "scale": np.array([2.0])}
    own = OperatorInstance("bent", lambda x, scale: torch.relu(x) * scale**2, arguments)
    monkeypatch.setattr(plugin_gradients, "load_operators", lambda method: [own])
    opened = open_instance("method-own", DEFAULTS, "torch", "cpu", 1)
    cell = Cell("method-own", "method-own", {"method": "own", "family": "plugin", "mode": "own", "setting": "own"})
    opened.prepare(cell)
    rows = opened.rows(cell, interleave({"own": lambda: opened.measure(cell)}, 1)["own"])
    assert [(r["parameter"], r["dtype"]) for r in rows] == [
        (name, dtype) for dtype in ("float64", "float32") for name in ("x", "scale")
    ]
    by_key = {(r["parameter"], r["dtype"]): r for r in rows}
    assert by_key["scale", "float64"]["relative_error"] < 1e-9
    assert 0 < by_key["scale", "float32"]["relative_error"] < 1e-5


def test_a_kink_between_the_steps_of_a_difference_is_seen():
    entries, gradient, smooth = extrapolated_differences(
        lambda arrays: float(np.abs(arrays["x"] - np.array([0.0, 2.0**-12])).sum()), {"x": np.array([1.0, 0.0])}, "x", 4
    )
    assert entries.tolist() == [0, 1]
    assert gradient[0] == pytest.approx(1.0)
    assert smooth.tolist() == [True, False]
