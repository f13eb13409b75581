import pytest
from score_tables import score_table

from morphobench.statistics.tables import SCORES, read_scores, read_table


def test_duplicates_of_an_included_run_give_way_to_the_first_run(tmp_path):
    for name, value in (("one", 0.5), ("two", 0.9)):
        table = score_table({"a": [value]} if name == "one" else {"a": [value], "b": [value]}).assign(run=name)
        folder = tmp_path / name / "tables"
        folder.mkdir(parents=True)
        table.to_csv(folder / "scores.csv", index=False)
    merged = read_scores(tmp_path / "one" / "tables", ["two"]).set_index("method")
    assert merged["value"].to_dict() == {"a": 0.5, "b": 0.9}


def test_a_method_called_none_survives_csv(tmp_path):
    table = score_table({"None": [0.5]})
    table.to_csv(tmp_path / "scores.csv", index=False)
    assert read_table(tmp_path / "scores.csv", SCORES)["method"].tolist() == ["None"]


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "scores.csv").write_text("run,dataset\nr,d\n")
    with pytest.raises(ValueError, match=r"scores\.csv: columns task, .* are missing; found run, dataset"):
        read_table(tmp_path / "scores.csv", SCORES)
