"""Tables and sentences of the solver study: ratios those of the table, missing peers named."""

from __future__ import annotations

import pytest
from study_tables import cells_by_column

from morphobench.report.solvers import tables as solvers
from morphobench.report.solvers.text import solver_sentences


def test_missing_peers_are_said_to_be_missing_and_others_have_a_version_and_a_ratio(results):
    rows = cells_by_column(solvers.peers(results))
    missing = [row for row in rows if row["Library"] in ("jaxopt", "cvxpylayers")]
    assert {(row["Status"], row["Median"], row["Over varmorph"]) for row in missing} == {("not installed", "—", "—")}
    found = cells_by_column(solvers.peers(results), Library="torchdeq")
    assert {(row["Version"], row["Over varmorph"]) for row in found} == {("0.3.1", "1×")}
    assert {row["Over varmorph"] for row in cells_by_column(solvers.peers(results), Library="varmorph")} == {"—"}
    (sentence,) = [text for text in solver_sentences(results) if "other libraries" in text]
    assert "optimistix 0.3.1 1.25× (1.25 to 1.25; n = 2)" in sentence
    assert sentence.endswith("Not installed: cvxpylayers and jaxopt.")


def test_layers_are_beside_a_depthwise_convolution(results):
    found = cells_by_column(solvers.layers(results), Layer="depthwise convolution", Phase="forward")
    assert {row["Over depthwise convolution"] for row in found} == {"1×"}
    table = results.studies["solvers"].set_index("cell")
    rows = cells_by_column(solvers.layers(results), Layer="reconstruction", Phase="forward", Framework="PyTorch")
    forward = table[(table["phase"] == "forward") & (table["framework"] == "torch")]["median_s"]
    ratio = forward["layer-128-3-reconstruction"] / forward["layer-128-3-depthwise-convolution"]
    (largest,) = [row for row in rows if row["Images, window"] == "2×8×128×128, 3×3"]
    assert float(largest["Over depthwise convolution"].rstrip("×")) == pytest.approx(ratio, rel=0.01)


def test_what_was_not_reached_says_so(results):
    found = cells_by_column(solvers.coupled(results), Solver="primal-dual", Coupling="10", Error_asked="10⁻⁶")
    assert {row["Reached"] for row in found} == {"no"}
