import numpy as np
import pandas as pd
import pytest
import torch

from morphobench.studies.finite_differences import bracket, central_differences, coordinates
from morphobench.studies.gradient_accuracy import COLUMNS, DEFAULTS, run_gradient_accuracy, summarise
from morphobench.studies.gradient_modes import differentiate, modes
from morphobench.studies.instances import PARAMETERS
from morphobench.studies.measurement import WallClock
from morphobench.studies.reference import solve_reference

UNROLL = [1, 3, 9, 300]
STEPS = [10.0**-k for k in range(1, 12)]


def errors(found, expected):
    pairs = zip(found.gradients, expected.gradients, strict=True)
    return [float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in pairs]


def by_mode(instance, mode, setting):
    (found,) = [m for m in modes(instance, UNROLL) if (m.mode, m.setting) == (mode, setting)]
    return differentiate(found, instance, 1, WallClock())


def difference_errors(instance, parameter):
    reference = solve_reference(instance)
    channel, entry = coordinates(instance, parameter)
    gradient = reference.gradients[PARAMETERS.index(parameter)]
    expected = gradient.reshape(len(instance.logit_level), -1)[channel, entry]
    found = central_differences(instance, parameter, STEPS, WallClock())
    return (
        np.array([np.linalg.norm(f.gradient - expected) / np.linalg.norm(expected) for f in found]),
        np.array([f.smooth.all() for f in found]),
    )


def test_one_newton_step_differentiated_is_the_implicit_gradient(instance):
    assert max(errors(by_mode(instance, "one-step", "newton"), solve_reference(instance))) <= 1e-12


@pytest.mark.parametrize("backend", ["tensor", "cpu"])
def test_the_implicit_gradient_of_each_backend_is_that_of_the_reference(instance, backend):
    reference = solve_reference(instance)
    assert max(errors(by_mode(instance, "implicit", f"{backend}-float64"), reference)) <= 1e-10
    assert max(errors(by_mode(instance, "implicit", f"{backend}-float32"), reference)) <= 1e-4


def test_unrolling_to_convergence_is_the_implicit_gradient(instance):
    reference = solve_reference(instance)
    assert max(errors(by_mode(instance, "unrolled", "newton-9"), reference)) <= 1e-8
    assert max(errors(by_mode(instance, "unrolled", "gradient-descent-300"), reference)) <= 1e-8


def test_unrolling_lags_until_the_active_set_is_found(instance):
    reference = solve_reference(instance)
    early = by_mode(instance, "unrolled", "newton-1")
    assert min(errors(early, reference)) > 1e-3
    assert (early.active != reference.active).any()


def test_one_step_of_gradient_descent_is_far_off(instance):
    assert all(
        0.5 < error < 1.1
        for error in errors(by_mode(instance, "one-step", "gradient-descent"), solve_reference(instance))
    )


def test_only_unrolled_gradient_descent_keeps_memory_for_every_iteration(instance):
    kept = {
        setting: by_mode(instance, "unrolled", setting).peak_bytes
        for setting in ("newton-1", "newton-9", "gradient-descent-1", "gradient-descent-9")
    }
    # Newton's iterate reaches the next one through signs alone, so that autograd drops the steps before the last.
    assert kept["newton-9"] == kept["newton-1"]
    assert kept["gradient-descent-9"] > 3 * kept["gradient-descent-1"]


@pytest.mark.parametrize("parameter", ["weight", "logit_level"])
def test_differences_in_weight_and_level_err_in_the_shape_of_a_v(spaced, parameter):
    error, smooth = difference_errors(spaced, parameter)
    best = int(error.argmin())
    assert smooth[1:].all()
    assert 1 < best < len(STEPS) - 3
    assert error[1] > 1e3 * error[best]
    assert error[1] == pytest.approx(100 * error[2], rel=0.05)  # truncation, second order in the step
    assert error[-1] > 1e2 * error[best]


@pytest.mark.parametrize("parameter", ["x", "bias"])
def test_differences_in_image_and_bias_err_by_rounding_alone(spaced, parameter):
    error, smooth = difference_errors(spaced, parameter)
    assert smooth[1:].all()
    assert all(e <= 1e-14 / step for e, step in zip(error[1:], STEPS[1:], strict=True))
    assert error[1] <= 1e-12 < 1e-6 < error[-1]


def test_a_difference_across_a_sign_change_is_seen(spaced):
    far, near = central_differences(spaced, "x", [5.0, 1e-3], WallClock())
    assert not far.smooth.all()
    assert near.smooth.all()


@pytest.mark.parametrize("backend", ["tensor", "cpu"])
@pytest.mark.parametrize("parameter", ["x", "bias"])
def test_at_ties_the_implicit_gradient_lies_between_one_sided_derivatives(tied, parameter, backend):
    assert solve_reference(tied).ties
    found = bracket(tied, parameter, backend)
    assert found.share == 1.0


def test_the_bracket_sees_a_wrong_gradient(tied, monkeypatch):
    from morphobench.studies import finite_differences

    right = finite_differences._jacobian
    monkeypatch.setattr(finite_differences, "_jacobian", lambda *arguments: 1.5 * right(*arguments))
    assert bracket(tied, "x", "tensor").share < 1.0


def test_single_precision_solves_the_same_instance(instance):
    for array in instance.arguments:
        assert np.array_equal(array, array.astype(np.float32).astype(np.float64))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    out = tmp_path_factory.mktemp("gradients")
    config = {"image_size": 5, "kernel_sizes": [3], "logit_levels": [2.0], "data": ["random", "image"]}
    run_gradient_accuracy({**config, "unrolled": [1, 9], "steps": [1e-3, 1e-6], "repeats": 1}, out)
    return pd.read_parquet(out / "gradients.parquet"), pd.read_csv(out / "gradients_summary.csv"), out


def test_the_study_writes_one_row_a_mode_setting_and_parameter(tables):
    table, _, out = tables
    assert list(table.columns) == COLUMNS == list(pd.read_csv(out / "gradients.csv").columns)
    smooth = table[(table["mode"] != "hull") & (table["data"] != "plateaus")]
    assert not smooth.duplicated(["instance", "mode", "setting", "parameter"]).any()
    assert len(smooth) == 4 * 4 * (4 + 2 + 4 + 2)
    assert (table["message"] == "").all()


def test_ties_are_marked_and_have_hull_rows_instead_of_differences(tables):
    tied = tables[0][tables[0]["data"] == "plateaus"]
    assert tied["kink"].all()
    assert "finite-differences" not in set(tied["mode"])
    assert (tied[tied["mode"] == "hull"]["hull"] == 1.0).all()


def test_the_summary_leaves_out_kinks_and_counts_them(tables):
    summary = tables[1].set_index(["mode", "setting", "parameter"])
    row = summary.loc[("implicit", "tensor-float64", "x")]
    assert (row["instances"], row["left_out"]) == (4, 2)
    assert row["relative_error"] < 1e-12


def test_a_cell_that_fails_is_a_row_with_its_message(instance, monkeypatch):
    from morphobench.studies import gradient_accuracy

    def fail(*arguments):
        raise RuntimeError("out of order")

    monkeypatch.setattr(gradient_accuracy, "differentiate", fail)
    settings = {**DEFAULTS, "unrolled": [1], "steps": []}
    table = pd.DataFrame(gradient_accuracy.gradient_rows(instance, settings, WallClock()), columns=COLUMNS)
    assert set(table["message"]) == {"RuntimeError: out of order"}
    assert not table["converged"].any()
    assert (summarise(table)["instances"] == 0).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"data": ["noise"]}, r"studies\.gradients\.data: found 'noise', expected entries of random, image"),
        ({"image_sizes": [8]}, r"studies\.gradients\.image_sizes: unknown key"),
        ({"image_size": 1000, "data": ["image"]}, r"studies\.gradients\.image_size: found 1000"),
    ],
)
def test_settings_that_do_not_fit_are_named_before_work_starts(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        run_gradient_accuracy(config, tmp_path)


def test_the_study_leaves_the_random_state_of_torch_alone(instance):
    before = torch.get_rng_state()
    by_mode(instance, "implicit", "tensor-float64")
    assert torch.equal(before, torch.get_rng_state())
