import numpy as np
import pandas as pd
import pytest

from morphobench.project.errors import UserError
from morphobench.statistics.references import PUBLISHED, check_published, compare_reference, expected_numbers

HEADER = "dataset,method,metric,value,deviation,tolerance,reference,source\n"


def compared(run, tmp_path, text):
    folder = tmp_path / "datasets" / "digits"
    folder.mkdir(parents=True)
    (folder / "published.csv").write_text(HEADER + text)
    check_published(run.tables, folder.parent, tmp_path / "out")
    return pd.read_csv(tmp_path / "out" / "published.csv").set_index("method")


def mean_of(run, method):
    means = expected_numbers(run.tables).set_index(["dataset", "method", "metric"])["expected"]
    return float(means.loc["digits", method, "accuracy"])


def test_published_values_are_compared_where_there_are_any(made_up_run, tmp_path):
    check_published(made_up_run.tables, tmp_path, tmp_path / "none")
    assert pd.read_csv(tmp_path / "none" / "published.csv").columns.tolist() == PUBLISHED
    rows = "digits,resnet18,accuracy,0.90,,0.01,A,doi:1\ndigits,linear,accuracy,0.90,,0.03,A,doi:2\nother,linear,auc,1,,1,A,doi:3\n"
    found = compared(made_up_run, tmp_path, rows)
    assert found["within"].to_dict() == {"resnet18": False, "linear": True}
    assert found.loc["resnet18", "beyond"] == pytest.approx(mean_of(made_up_run, "resnet18") - 0.9)


@pytest.mark.parametrize(
    ("references", "beyond", "within"),
    [
        ([(-0.02, 0), (0.01, 0)], 0, True),  # between two that differ by more than the tolerance
        ([(-0.05, 0.01), (-0.04, 0.02)], 0.02, False),
        ([(-0.05, 0.01), (-0.04, 0.035)], 0.005, True),
        ([(0.04, 0.01), (0.03, 0.005)], -0.025, False),
        ([(0.03, 0.04)], 0, True),
    ],
)
def test_a_mean_lies_within_the_spread_of_its_references_or_beyond_it(
    made_up_run, tmp_path, references, beyond, within
):
    mean = mean_of(made_up_run, "linear")
    rows = [
        f"digits,linear,accuracy,{mean + at!r},{by or ''},0.01,{name},doi:{name}"
        for name, (at, by) in zip("AB", references, strict=False)
    ]
    found = compared(made_up_run, tmp_path, "\n".join(rows) + "\n").loc["linear"]
    assert found["beyond"] == pytest.approx(beyond, abs=1e-9)
    assert found["within"] == within
    assert [part.partition(":")[0] for part in found["published"].split("; ")] == list("AB")[: len(references)]
    assert found["source"] == "; ".join(f"doi:{name}" for name in "AB"[: len(references)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "digits,linear,auc,0.9,,0.1,A,b\ndigits,linear,auc,high,,0.1,B,b\n",
            "line 3: column value: expected a finite",
        ),
        ("digits,linear,auc,0.9,,,A,b\n", "line 2: column tolerance: expected a finite number"),
        (
            "digits,linear,auc,0.9,,0.1,A,b\ndigits,linear,auc,0.8,,0.1,A,b\n",
            "A stands twice at auc of linear on digits",
        ),
    ],
)
def test_published_values_that_cannot_be_used_are_named(made_up_run, tmp_path, rows, message):
    with pytest.raises(UserError, match=rf"digits/published.csv.*{message}"):
        compared(made_up_run, tmp_path, rows)


def test_drift_is_flagged_beyond_the_tolerance_and_for_lost_numbers(made_up_run, tmp_path):
    expected = expected_numbers(made_up_run.tables)
    expected = expected[(expected["dataset"] == "digits") & (expected["metric"] == "accuracy")]
    expected.to_csv(tmp_path / "same.csv", index=False)
    same = compare_reference(made_up_run.tables, tmp_path / "same.csv", tmp_path, {"accuracy": 0.0})
    assert len(same) == len(expected)
    assert not same["drift"].any()
    errors = same["tolerance"].to_numpy()  # nothing is tolerated but what the seeds differ by
    for far, drifted in ((0.99, False), (1.01, True)):
        expected.assign(expected=same["found"].to_numpy() + far * np.maximum(errors, 0.05)).to_csv(
            tmp_path / "moved.csv", index=False
        )
        moved = compare_reference(made_up_run.tables, tmp_path / "moved.csv", tmp_path, {"accuracy": 0.05})
        assert (moved["drift"] == drifted).all()
    expected.assign(method="gone").to_csv(tmp_path / "gone.csv", index=False)
    assert compare_reference(made_up_run.tables, tmp_path / "gone.csv", tmp_path, {"accuracy": 9.0})["drift"].all()
    assert compare_reference(made_up_run.tables, tmp_path / "absent.csv", tmp_path, {}).empty
