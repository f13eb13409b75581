"""Tables and sentences of the gradient study: kinks apart, numbers those of the table."""

from __future__ import annotations

from study_tables import cells_by_column

from morphobench.report.formatting import scientific
from morphobench.report.gradients import tables as gradients
from morphobench.report.gradients.text import gradient_sentences


def test_the_median_is_over_instances_and_without_kinks(results):
    found = cells_by_column(
        gradients.gradients(results),
        Family="regularised, quadratic", Differentiation="implicit", Setting="10⁻⁶", Framework="PyTorch", Precision="float64",
    )  # fmt: skip
    table = results.studies["gradients"]
    same = (table["family"] == "regularised") & (table["framework"] == "torch") & (table["mode"] == "implicit")
    rows = table[same & (table["setting"] == "1e-06") & (table["dtype"] == "float64") & (table["parameter"] == "x")]
    assert len(rows) == 6
    assert [row["image x"] for row in found] == [scientific(rows["relative_error"].median())]
    assert found[0]["Instances"] == "6"


def test_ties_are_in_the_table_of_kinks_alone(results):
    one_step = cells_by_column(
        gradients.kinks(results),
        Differentiation="one step, Newton", Family="separable", Framework="JAX", Parameter_group="image x",
    )  # fmt: skip
    assert [row["Kink"] for row in one_step] == ["ties"]
    assert one_step[0]["Between one-sided derivatives"] == "90 %"
    assert one_step[0]["Error, all coordinates"] == "0.4"
    assert "theorem for separable operators only" in gradients.kinks(results).caption
    across = cells_by_column(gradients.kinks(results), Kink="active set differs at ±h")
    assert {row["Differentiation"] for row in across} == {"finite differences", "Richardson's extrapolation"}
    assert all(row["Error, all coordinates"] != row["Error, coordinates without a kink"] for row in across)


def test_sentences_hold_the_numbers_of_the_table(results):
    said = gradient_sentences(results)
    table = results.studies["gradients"]
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
