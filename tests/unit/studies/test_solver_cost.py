import json
import math

import pandas as pd
import pytest
import torch

from morphobench.studies.solver_cost import COLUMNS, DEFAULTS, PHASES, run_solver_cost, solver_rows
from morphobench.studies.solvers import Solver, solvers_for

SETTINGS = {**DEFAULTS, "image_sizes": [6], "kernel_sizes": [3], "batch": 2, "channels": 2, "repeats": 3}


class FakeClock:
    """Every measurement takes one second more than the one before."""

    def __init__(self):
        self.count = 0

    def measure(self, work):
        self.count += 1
        return work(), float(self.count)


def rows(solvers, settings=SETTINGS, clock=None):
    found = solver_rows(settings, "cpu", 1, 0.5, clock or FakeClock(), solvers)
    return pd.DataFrame(found, columns=COLUMNS).set_index(["solver", "phase"])


def identity(name, run=lambda x: x * 1.0):
    return Solver(name, "torch", lambda case: (case.x,), run)


def test_phases_are_timed_apart_and_repeats_are_interleaved():
    table = rows([identity("first"), identity("second")])
    # Compilation: 1 + 2 and 3 + 4. Then in turns, forward and backward: 5 6 | 7 8, 9 10 | 11 12, 13 14 | 15 16.
    assert table.loc[("first", "compile"), "median_s"] == 3.0
    assert table.loc[("second", "compile"), "median_s"] == 7.0
    assert table.loc[("first", "forward"), ["q25_s", "median_s", "q75_s"]].tolist() == [7.0, 9.0, 11.0]
    assert table.loc[("second", "backward"), "median_s"] == 12.0
    assert table.loc[("first", "forward"), "pixels_per_s"] == 2 * 2 * 6 * 6 / 9.0


def test_a_solver_that_fails_leaves_rows_with_its_message():
    def fail(x):
        raise RuntimeError("no kernel for this window")

    table = rows([identity("bad", fail), identity("good")])
    assert set(table.loc["bad", "message"]) == {"RuntimeError: no kernel for this window"}
    assert not table.loc["bad", "converged"].any()
    assert table.loc["bad", "median_s"].isna().all()
    assert table.loc["good", "converged"].all()


def test_every_solver_runs_and_the_iterative_ones_have_a_residual():
    table = rows(solvers_for("cpu")).reset_index()
    assert (table["message"] == "").all()
    assert table["converged"].all()
    pairs = set(zip(table["solver"], table["backend"], strict=True))
    assert {("variational", "cpu"), ("variational", "tensor"), ("max-plus", "cpu"), ("max-plus", "tensor")} < pairs
    iterative = table["solver"] == "variational"
    assert (table[iterative]["residual"] < 1e-5).all()
    assert table[~iterative]["residual"].isna().all()
    assert table["device"].str.startswith("cpu (").all()


def test_a_gpu_gets_the_kernels_for_it_and_tensor_code():
    assert {solver.backend for solver in solvers_for("cuda")} == {"cuda", "tensor", "torch"}


def test_peers_compute_what_they_are_named_after():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    peers = {solver.name: solver.run for solver in solvers_for("cpu")}
    assert torch.equal(peers["max-pooling"](x, torch.zeros(1, 3, 3))[0, 0, 0], torch.tensor([5.0, 6.0, 7.0, 7.0]))
    centre = torch.zeros(1, 3, 3)
    centre[0, 1, 1] = 1.0
    assert torch.equal(peers["depthwise-convolution"](x, centre), x)


def test_peak_memory_is_measured_for_each_phase_and_not_for_compilation():
    table = rows([identity("copy")])
    assert math.isnan(table.loc[("copy", "compile"), "peak_bytes"])
    assert table.loc[("copy", "forward"), "peak_bytes"] >= 0 or math.isnan(table.loc[("copy", "forward"), "peak_bytes"])


def test_the_study_writes_its_tables_and_circumstances_and_restores_threads(tmp_path):
    before = torch.get_num_threads()
    config = {key: SETTINGS[key] for key in ("image_sizes", "kernel_sizes", "batch", "channels")}
    run_solver_cost({**config, "repeats": 1}, tmp_path, threads=1)
    assert torch.get_num_threads() == before
    table = pd.read_parquet(tmp_path / "solvers.parquet")
    assert list(table.columns) == COLUMNS == list(pd.read_csv(tmp_path / "solvers.csv").columns)
    assert set(table["phase"]) == set(PHASES)
    circumstances = json.loads((tmp_path / "solvers.json").read_text())
    assert circumstances["threads"] == 1
    assert circumstances["copy_bytes_per_s"] > 0
    assert circumstances["hardware"]["processor"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dtype": "float16"}, r"studies\.solvers\.dtype: found 'float16', expected one of float64, float32"),
        ({"kernel_sizes": [4]}, r"studies\.solvers\.kernel_sizes: found 4, expected odd"),
        ({"image_size": 8}, r"studies\.solvers\.image_size: unknown key"),
    ],
)
def test_settings_that_do_not_fit_are_named_before_work_starts(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        run_solver_cost(config, tmp_path, threads=1)
