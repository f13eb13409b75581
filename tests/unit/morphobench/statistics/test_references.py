import numpy as np
import pandas as pd

from morphobench.statistics.references import PUBLISHED, check_published, compare_reference, expected_numbers


def test_published_values_are_compared_where_there_are_any(made_up_run, tmp_path):
    check_published(made_up_run.tables, tmp_path, tmp_path / "none")
    assert pd.read_csv(tmp_path / "none" / "published.csv").columns.tolist() == PUBLISHED
    folder = tmp_path / "datasets" / "digits"
    folder.mkdir(parents=True)
    (folder / "published.csv").write_text(
        "dataset,method,metric,value,tolerance,source\n"
        "digits,resnet18,accuracy,0.90,0.01,doi:1\ndigits,linear,accuracy,0.90,0.03,doi:2\nother,linear,auc,1,1,doi:3\n"
    )
    check_published(made_up_run.tables, folder.parent, tmp_path / "some")
    found = pd.read_csv(tmp_path / "some" / "published.csv").set_index("method")
    assert found["within"].to_dict() == {"resnet18": False, "linear": True}


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
