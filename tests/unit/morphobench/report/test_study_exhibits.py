"""Tables and sentences of the studies: kinks apart, failures and missing peers named, ratios those of the table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from morphobench.project.paths import Project
from morphobench.report.formatting import scientific
from morphobench.report.gradients import tables as study_exhibits
from morphobench.report.gradients import text as study_findings
from morphobench.report.results import read_run_results
from morphobench.report.solvers import tables as cost_exhibits
from morphobench.report.solvers import text as cost_findings


@pytest.fixture(scope="module")
def results(made_up_run):
    return read_run_results(made_up_run)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return read_run_results(Project(tmp_path_factory.mktemp("project")).run("empty"))


def texts(exhibit, **wanted):
    """Cells of the rows whose columns have the wanted texts, as mappings by column."""
    rows = [dict(zip(exhibit.columns, (cell.text for cell in row), strict=True)) for row in exhibit.rows]
    keys = {key.replace("_", " "): value for key, value in wanted.items()}
    return [row for row in rows if all(row[key] == value for key, value in keys.items())]


def test_every_cell_of_every_table_has_a_text_and_numbers_sort_by_value(results):
    exhibits = [study_exhibits.gradients, study_exhibits.kinks, cost_exhibits.layers, cost_exhibits.coupled]
    for exhibit in [*(make(results) for make in exhibits), cost_exhibits.peers(results)]:
        assert exhibit.rows, exhibit.name
        for row in exhibit.rows:
            assert len(row) == len(exhibit.columns)
            assert all(cell.text and cell.text != "nan" for cell in row), exhibit.name


def test_the_median_is_over_instances_and_without_kinks(results):
    found = texts(
        study_exhibits.gradients(results),
        Family="regularised, quadratic", Differentiation="implicit", Setting="10⁻⁶", Framework="PyTorch", Precision="float64",
    )  # fmt: skip
    table = results.gradients
    same = (table["family"] == "regularised") & (table["framework"] == "torch") & (table["mode"] == "implicit")
    rows = table[same & (table["setting"] == "1e-06") & (table["dtype"] == "float64") & (table["parameter"] == "x")]
    assert len(rows) == 6
    assert [row["image x"] for row in found] == [scientific(rows["relative_error"].median())]
    assert found[0]["Instances"] == "6"


def test_ties_are_in_the_table_of_kinks_alone(results):
    one_step = texts(
        study_exhibits.kinks(results),
        Differentiation="one step, Newton", Family="separable", Framework="JAX", Parameter_group="image x",
    )  # fmt: skip
    assert [row["Kink"] for row in one_step] == ["ties"]
    assert one_step[0]["Between one-sided derivatives"] == "90 %"
    assert one_step[0]["Error, all coordinates"] == "0.4"
    assert "theorem for separable operators only" in study_exhibits.kinks(results).caption
    across = texts(study_exhibits.kinks(results), Kink="active set differs at ±h")
    assert {row["Differentiation"] for row in across} == {"finite differences", "Richardson's extrapolation"}
    assert all(row["Error, all coordinates"] != row["Error, coordinates without a kink"] for row in across)


def test_failed_cells_are_listed_with_their_reason(results):
    found = texts(study_exhibits.failed_cells(results.gradients, "f", "gradients.csv"))
    assert [(row["Cell"], row["Status"]) for row in found] == [("regularised-random-64-8-jax", "timeout")]
    reasons = {row["Message"] for row in texts(study_exhibits.failed_cells(results.solvers, "f", "solvers.csv"))}
    assert reasons == {"RuntimeError: <b>singular</b> matrix", "not installed"}


def test_missing_peers_are_said_to_be_missing_and_others_have_a_version_and_a_ratio(results):
    rows = texts(cost_exhibits.peers(results))
    missing = [row for row in rows if row["Library"] in ("jaxopt", "cvxpylayers")]
    assert {(row["Status"], row["Median"], row["Over varmorph"]) for row in missing} == {("not installed", "—", "—")}
    found = texts(cost_exhibits.peers(results), Library="torchdeq")
    assert {(row["Version"], row["Over varmorph"]) for row in found} == {("0.3.1", "1×")}
    assert {row["Over varmorph"] for row in texts(cost_exhibits.peers(results), Library="varmorph")} == {"—"}
    (sentence,) = [text for text in cost_findings.solver_sentences(results) if "other libraries" in text]
    assert "optimistix 0.3.1 1.25× (1.25 to 1.25; n = 2)" in sentence
    assert sentence.endswith("Not installed: cvxpylayers and jaxopt.")


def test_layers_are_beside_a_depthwise_convolution(results):
    found = texts(cost_exhibits.layers(results), Layer="depthwise convolution", Phase="forward")
    assert {row["Over depthwise convolution"] for row in found} == {"1×"}
    table = results.solvers.set_index("cell")
    rows = texts(cost_exhibits.layers(results), Layer="reconstruction", Phase="forward", Framework="PyTorch")
    forward = table[(table["phase"] == "forward") & (table["framework"] == "torch")]["median_s"]
    ratio = forward["layer-128-3-reconstruction"] / forward["layer-128-3-depthwise-convolution"]
    (largest,) = [row for row in rows if row["Images, window"] == "2×8×128×128, 3×3"]
    assert float(largest["Over depthwise convolution"].rstrip("×")) == pytest.approx(ratio, rel=0.01)


def test_rows_of_a_loaded_machine_are_shaded(results):
    busy = dataclasses.replace(results, solvers=results.solvers.assign(load=3.0))
    for make in (cost_exhibits.layers, cost_exhibits.coupled):
        median = make(results).columns.index("Median")
        assert {row[median].kind for row in make(results).rows} == {""}
        assert {row[median].kind for row in make(busy).rows} == {"partly"}


def test_what_was_not_reached_says_so(results):
    found = texts(cost_exhibits.coupled(results), Solver="primal-dual", Coupling="10", Error_asked="10⁻⁶")
    assert {row["Reached"] for row in found} == {"no"}


def test_sentences_hold_the_numbers_of_the_table(results):
    said = study_findings.gradient_sentences(results)
    table = results.gradients
    slopes = table.loc[table["mode"] == "taylor", "value"]
    assert any(f"{slopes.min():.3f} to {slopes.max():.3f}" in text for text in said)
    (hull,) = [text for text in said if "At ties" in text]
    assert (
        "Separable operators (1 instance): implicit 100 %; unrolled, Newton 100 %; one step, Newton 90 % (farthest"
        in hull
    )
    assert "theorem for separable operators only" in hull
    assert any(
        "time of finite differences over time of implicit" in text or "Not reached by both" in text for text in said
    )
    assert said[-1].startswith("No measurement from 1 of")
    one_step = table[(table["mode"] == "one-step") & table["setting"].str.startswith("gradient") & (table["kink"] == 0)]
    rows = one_step[(one_step["framework"] == "torch") & (one_step["family"] == "separable")]
    expected = f"one step, gradient descent (PyTorch) {scientific(rows['relative_error'].median())}, largest"
    assert expected in said[0].split(". Coupled operators: ")[0]


def test_without_a_study_nothing_is_said_and_no_row_is_shown(empty):
    assert study_findings.gradient_sentences(empty) == []
    assert cost_findings.solver_sentences(empty) == []
    assert study_findings.reproduction_command(empty.gradients, "gradients") == ""
    makers = [
        study_exhibits.gradients,
        study_exhibits.kinks,
        cost_exhibits.layers,
        cost_exhibits.coupled,
        cost_exhibits.peers,
    ]
    assert not any(make(empty).rows for make in makers)


def test_a_study_that_failed_altogether_has_failures_alone(results):
    lost = dataclasses.replace(
        results,
        gradients=results.gradients.assign(status="error", message="boom", relative_error=np.nan),
        solvers=results.solvers.assign(status="error", message="boom", median_s=np.nan),
    )
    assert study_findings.gradient_sentences(lost)[0].startswith("No measurement from")
    assert cost_findings.solver_sentences(lost) == []
    assert not any(make(lost).rows for make in (study_exhibits.gradients, cost_exhibits.layers, cost_exhibits.coupled))
    assert study_exhibits.failed_cells(lost.solvers, "f", "solvers.csv").rows


def test_a_cell_is_measured_again_by_a_command_that_names_it(results):
    command = study_findings.reproduction_command(results.gradients, "gradients")
    row = results.gradients.iloc[0]
    expected = (
        f"python -m morphobench cell gradients {row['cell']} --framework torch --config results/made-up/config.yaml"
    )
    assert command == expected
