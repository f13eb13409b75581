import json
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

import varmorph.reference
from morphobench.contract import FrameworkUnavailable
from morphobench.plugins.discovery import discover_plugins
from morphobench.project.paths import find_project
from morphobench.settings.records import CellRecord
from morphobench.settings.studies import Solver, SolverStudy
from morphobench.studies.cells import by_instance
from morphobench.studies.measurement import Repeated, interleave
from morphobench.studies.solvers import problems, torch_calls, torch_costs, torch_peers
from morphobench.studies.solvers.problems import (
    LAYERS,
    coupled_instance,
    coupled_problem,
    installed_version,
    layer_instance,
)
from morphobench.studies.solvers.rows import Found, accurate, rows_of, search
from morphobench.studies.solvers.study import COLUMNS, OUTPUTS, cells, collect, failed_rows, open_instance

DEFAULTS = SolverStudy().model_dump()
PLUGINS = discover_plugins(find_project())
SETTINGS = {
    **DEFAULTS,
    "image_sizes": [6],
    "kernel_sizes": [3],
    "batch": 2,
    "channels": 2,
    "coupled_sizes": [8],
    "couplings": [1.0],
    "joint_sizes": [],
    "tolerances": [1e-6],
    "peer_size": 8,
    "conic_size": 4,
    "copy_mib": 1,
    "repeats": 2,
}
REGULARISED = {"operator": "regularised_dilation", "image_size": 8, "coupling": 1.0, "tolerance": 1e-6}


class FakeClock:
    """Every measurement takes one second more than the one before."""

    def __init__(self):
        self.count = 0

    def measure(self, work):
        self.count += 1
        return work(), float(self.count)


def run(chosen, framework="torch", clock=None, settings=SETTINGS):
    """Prepare and measure cells as the worker does; return their rows."""
    rows = []
    for together in by_instance(chosen):
        opened = open_instance(together[0].instance, settings, framework, "cpu", 1)
        opened.clock = clock or FakeClock()
        for cell in together:
            opened.prepare(cell)
        works = {cell.name: lambda opened=opened, cell=cell: opened.measure(cell) for cell in together}
        repeated = interleave(works, settings["repeats"], settings["cell_s"])
        assert not any(found.message for found in repeated.values())
        for cell in together:
            rows += [{"cell": cell.name, **row} for row in opened.rows(cell, repeated[cell.name])]
    assert all(row.keys() <= set(COLUMNS) for row in rows)
    return pd.DataFrame(rows, columns=COLUMNS)


def chosen(role, framework="torch", settings=SETTINGS):
    return [cell for cell in cells(settings, framework, PLUGINS) if cell.settings["role"] == role]


@pytest.fixture(scope="module")
def layers():
    return run(chosen("layer"))


# The list of cells.


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_cells_have_names_of_their_own_and_stand_instance_by_instance(framework):
    listed = cells(DEFAULTS, framework, PLUGINS)
    assert len({cell.name for cell in listed}) == len(listed)
    together = [group[0].instance for group in by_instance(listed)]
    assert len(set(together)) == len(together)
    assert json.loads(json.dumps([dict(cell.settings) for cell in listed])) == [cell.settings for cell in listed]
    assert {cell.settings["role"] for cell in listed} >= {"layer", "coupled", "peer", "copy"}


def test_every_cell_that_fails_leaves_what_is_known_of_it():
    for framework in ("torch", "jax"):
        for cell in cells(DEFAULTS, framework, PLUGINS):
            (row,) = failed_rows(cell)
            assert row.keys() <= set(COLUMNS)
            assert row["role"] == cell.settings["role"]
            assert row["family"]


# Rows.


def test_rows_summarise_the_repeats_of_each_phase():
    found = Found({"solver": "copy"}, pixels=600, copied_bytes=1200, compile_s=9.0, peak={"forward": 5.0})
    found.cold_s = {"forward": 7.0}
    rows = rows_of(found, Repeated({"forward": [1.0, 3.0, 2.0], "backward": [4.0] * 6}))
    assert [row["phase"] for row in rows] == ["compile", "forward", "backward"]
    first, forward, backward = rows
    assert (first["median_s"], first["repeats"], "pixels_per_s" in first) == (9.0, 1, False)
    assert (forward["q25_s"], forward["median_s"], forward["q75_s"], forward["repeats"]) == (1.5, 2.0, 2.5, 3)
    assert (forward["pixels_per_s"], forward["bytes_per_s"]) == (300.0, 600.0)
    assert (forward["peak_bytes"], forward["cold_s"]) == (5.0, 7.0)
    assert (backward["spread"], backward["peak_bytes"], backward["cold_s"]) == (0.0, None, None)
    assert np.isnan(forward["spread"])


def test_the_search_lowers_the_solvers_tolerance_by_what_the_error_lacks():
    asked = []

    def attempt(own):
        asked.append(own)
        return 30 * own, own

    error, own, reached = search(1e-4, attempt)
    assert reached
    assert asked == pytest.approx([1e-4, 1e-4 / 60])
    assert error == pytest.approx(5e-5) == pytest.approx(30 * own)


def test_a_search_that_fails_says_so():
    assert search(1e-4, lambda own: (np.inf, own))[2] is False


def test_an_error_is_relative_to_the_range_and_infinite_where_there_is_no_number():
    exact = np.array([0.0, 4.0])
    assert accurate(np.array([1.0, 4.0]), exact) == 0.25
    assert accurate(np.array([np.nan, 4.0]), exact) == np.inf


# PyTorch.


def test_phases_are_timed_apart_and_cells_in_turns():
    settings = {**SETTINGS, "layers": ["max-pooling", "convolution"], "repeats": 2}
    table = run(chosen("layer", settings=settings), clock=FakeClock(), settings=settings).set_index(["solver", "phase"])
    # Each is prepared by a first run (2 readings) and 3 cold ones (6); then in turns, forward and backward: 17 18 | 19 20, ...
    assert table.loc[("max-pooling", "compile"), "median_s"] == 1 + 2
    assert table.loc[("max-pooling", "forward"), "cold_s"] == 5
    assert table.loc[("convolution", "compile"), "median_s"] == 9 + 10
    assert table.loc[("max-pooling", "forward"), "median_s"] == (17 + 21) / 2
    assert table.loc[("convolution", "backward"), "median_s"] == (20 + 24) / 2


def test_every_layer_runs_forwards_and_backwards_on_its_backends(layers):
    for phase in ("compile", "forward", "backward"):
        of_phase = layers[layers["phase"] == phase]
        assert set(of_phase["solver"]) == set(LAYERS)
        assert (of_phase["median_s"] > 0).all()
    for name in ("variational-dilation", "max-plus-dilation"):
        assert set(layers[layers["solver"] == name]["backend"]) == {"kernels", "tensor"}
    assert (layers["batch"] * layers["channels"] * layers["image_size"] ** 2 == 144).all()


def test_layers_that_solve_a_system_say_how_well(layers):
    solved = layers["solver"].isin(["regularised-dilation", "joint-opening"])
    assert (layers[solved]["residual"] < 1e-4).all()
    assert (layers[solved]["iterations"] >= 1).all()
    assert layers[~solved]["residual"].isna().all()


def value_of(name):
    call = torch_costs.TorchCosts(SETTINGS, "cpu", 1)._layer(
        {"solver": name, "image_size": 6, "kernel_size": 3, "backend": "auto"}
    )[0]
    return call.run(*call.leaves)


def test_layers_compute_what_they_are_named_after():
    x = torch.as_tensor(layer_instance("max-pooling", 6, 3, SETTINGS).arguments["x"], dtype=torch.float32)
    assert torch.equal(value_of("max-pooling"), value_of("flat-dilation"))
    assert torch.equal(value_of("max-pooling")[..., 0, 0], x[..., :2, :2].amax((-1, -2)))
    assert (value_of("variational-dilation") <= value_of("max-plus-dilation") + 1e-6).all()
    assert (value_of("reconstruction") <= x).all()
    assert (value_of("reconstruction") >= x - 1 - 1e-6).all()


def test_every_solver_comes_to_the_wanted_error():
    table = run(chosen("coupled"))
    assert set(table["solver"]) == set(get_args(Solver))
    assert table["reached"].all()
    assert (table["error"] <= 1e-6).all()
    assert table["residual"].notna().all()


def test_a_solver_that_is_stopped_early_has_not_reached_the_error(monkeypatch):
    monkeypatch.setattr(torch_calls, "MOST_STEPS", 2)
    about = torch_calls.solve_to(REGULARISED, 0, "cpu", torch_costs.SOLVERS["primal-dual"]).found.about
    assert (about["iterations"], about["reached"]) == (2, False)
    assert about["error"] > 1e-3


def test_a_copy_counts_what_is_read_and_what_is_written():
    (row,) = run(chosen("copy")).to_dict("records")
    assert row["bytes_per_s"] * row["median_s"] == pytest.approx(2 * 2**20)


def test_an_operator_of_a_method_is_timed_in_both_precisions():
    table = run([cell for cell in cells(SETTINGS, "torch", PLUGINS) if cell.name == "method-softmorph"])
    assert set(table["solver"]) == {"softmorph: smorph"}
    assert set(zip(table["dtype"], table["phase"], strict=True)) == {
        (dtype, phase) for dtype in ("float32", "float64") for phase in ("compile", "forward", "backward")
    }


# Other libraries.

their_warnings = pytest.mark.filterwarnings("ignore")


def gradients_agree(found, case):
    """Return the greatest distance of any gradient to that of the reference, relative to the latter."""
    function = getattr(varmorph.reference, f"{case.operator}_gradient")
    exact = function(**case.arguments, cotangent=case.cotangent)
    errors = []
    for name, gradient in zip(case.arguments, found, strict=False):
        wanted = np.asarray(getattr(exact, name)).reshape(gradient.shape)
        errors.append(np.abs(np.asarray(gradient) - wanted).max() / np.abs(wanted).max())
    return max(errors)


def test_a_library_that_is_missing_is_unavailable(monkeypatch):
    monkeypatch.setitem(problems.IMPORTS, "kornia", "kornia_that_nobody_has")
    with pytest.raises(FrameworkUnavailable, match="not installed"):
        torch_peers.peer_call({"solver": "kornia", "problem": "dilation", "image_size": 8}, SETTINGS, "cpu")
    assert installed_version("varmorph")


@their_warnings
@pytest.mark.parametrize("name", ["kornia", "scikit-image", "scipy", "opencv"])
def test_other_libraries_dilate_as_the_reference_does(name):
    call = torch_peers.peer_call({"solver": name, "problem": "dilation", "image_size": 8}, SETTINGS, "cpu")
    assert call.found.about["reached"]
    assert call.found.about["version"]


def test_the_minimiser_is_the_fixed_point_that_libraries_are_given():
    case, minimiser = coupled_problem(REGULARISED, 0)
    leaves = {name: torch.as_tensor(array) for name, array in case.arguments.items()}
    exact = torch.as_tensor(minimiser)
    assert torch.allclose(torch_peers.relaxation(leaves, exact), exact, rtol=0, atol=1e-12)
    assert not torch.allclose(torch_peers.relaxation(leaves, exact + 1), exact + 1, rtol=0, atol=1e-2)


@their_warnings
@pytest.mark.parametrize(
    ("name", "problem", "size", "bound"), [("torchdeq", "regularised", 8, 1e-4), ("cvxpylayers", "conic", 4, 1e-3)]
)
def test_libraries_of_pytorch_solve_and_differentiate_the_same_problem(name, problem, size, bound):
    pytest.importorskip(name)
    wanted = {**REGULARISED, "solver": name, "problem": problem, "image_size": size}
    call = torch_peers.peer_call(wanted, SETTINGS, "cpu")
    assert call.found.about["reached"]
    leaves = [leaf.detach().requires_grad_() for leaf in call.leaves]
    found = torch.autograd.grad(call.run(*leaves), leaves, call.cotangent)
    assert gradients_agree(found, coupled_instance("regularised_dilation", size, 1.0, 0)) < bound


@their_warnings
@pytest.mark.parametrize("name", ["jaxopt", "optimistix"])
def test_libraries_of_jax_solve_and_differentiate_the_same_problem(name):
    pytest.importorskip(name)
    import jax

    from morphobench.studies.solvers.jax_peers import peer_program

    with jax.enable_x64(True):
        wanted = {**REGULARISED, "solver": name, "problem": "regularised"}
        program = peer_program(wanted, SETTINGS)
        assert program.found.about["reached"]
        program.compile()
        found = program._backward(program._forward(*program.leaves)[1], program.cotangent)
    assert gradients_agree(found, coupled_instance("regularised_dilation", 8, 1.0, 0)) < 1e-3


# JAX.


def test_jax_compiles_apart_and_solves_to_the_same_error():
    import jax

    with jax.enable_x64(True):
        listed = cells({**SETTINGS, "jax_image_sizes": [6], "jax_coupled_sizes": [8]}, "jax", PLUGINS)
        wanted = {"layers-6-3x3-max-plus-dilation-kernels", "layers-6-3x3-max-pooling", "coupled-8-1-newton-1e-06"}
        table = run([cell for cell in listed if cell.name in wanted], "jax")
    assert set(table["cell"]) == wanted
    assert set(table["phase"]) == {"compile", "forward", "backward"}
    assert (table["median_s"] > 0).all()
    (reached,) = set(table[table["role"] == "coupled"]["reached"])
    assert reached


def test_jax_and_pytorch_are_given_the_same_fixed_point():
    import jax

    from morphobench.studies.solvers.jax_peers import relaxation

    case = coupled_instance("regularised_dilation", 8, 1.0, 0)
    z = case.arguments["x"] + 0.1
    with jax.enable_x64(True):
        leaves = {name: jax.numpy.asarray(array) for name, array in case.arguments.items()}
        found = np.asarray(relaxation(leaves, jax.numpy.asarray(z)))
    tensors = {name: torch.as_tensor(array) for name, array in case.arguments.items()}
    assert np.abs(found - torch_peers.relaxation(tensors, torch.as_tensor(z)).numpy()).max() <= 1e-13


# What the study tells besides its table.


def test_circumstances_name_devices_bandwidth_and_failures(tmp_path):
    def record(name, status, load):
        about = {"run": "r", "study": "solvers", "framework": "torch", "cell": name, "instance": name, "settings": {}}
        about |= {"status": status, "message": "", "rows": [], "command": "", "device": "cpu (x)", "threads": 2}
        return CellRecord(**about, load=load, provenance={"commit": "c"})

    rows = [
        {"role": "copy", "phase": "forward", "framework": "torch", "bytes_per_s": 1e9},
        {"role": "copy", "phase": "forward", "framework": "jax", "bytes_per_s": np.nan},
        {"role": "layer", "phase": "forward", "framework": "torch", "bytes_per_s": np.nan},
    ]
    records = [record("a", "ok", 0.5), record("b", "error", 2.5)]
    collect(pd.DataFrame(rows, columns=COLUMNS), records, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == OUTPUTS
    found = json.loads((tmp_path / "solvers.json").read_text())
    assert found["copy_bytes_per_s"] == {"torch": 1e9}
    assert found["failed"] == ["b"]
    assert (found["load_smallest"], found["load_largest"], found["device"]) == (0.5, 2.5, ["cpu (x)"])
