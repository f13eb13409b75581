import json

import pandas as pd
import pytest

from morphobench.studies.benchmarks import COLUMNS, RATIOS, benchmark_table, ratio_table, tabulate


def benchmark(operator, implementation, median, shape=(8, 4, 32, 32)):
    return {
        "name": f"test_{operator}",
        "extra_info": {
            "operator": operator,
            "implementation": implementation,
            "window": [3, 3],
            "shape": list(shape),
            "phase": "forward",
            "threads": 2,
        },
        "stats": {"median": median, "q1": median - 1, "q3": median + 1, "min": median - 2, "rounds": 5},
    }


def in_turn(operator, ratios, bar):
    benchmark_in_turn = benchmark(operator, "varmorph, interleaved", 6.0)
    benchmark_in_turn["extra_info"] |= {"ratios": ratios, "bar": bar}
    return benchmark_in_turn


REPORT = {
    "machine_info": {"cpu": {"brand_raw": "Some Processor"}},
    "benchmarks": [
        benchmark("dilation", "varmorph", 6.0),
        benchmark("convolution", "torch depthwise conv2d", 3.0),
        benchmark("maximum", "torch max_pool2d", 12.0),
        in_turn("dilation", {"max_pool2d, contiguous": 0.5, "max_pool2d, channels last": 0.25}, 0.8),
        benchmark("dilation", "varmorph", 40.0, shape=(8, 4, 64, 64)),
    ],
}


def test_every_benchmark_is_compared_with_the_peers_on_the_same_case():
    table = benchmark_table(REPORT)
    assert list(table.columns) == COLUMNS
    assert list(table["ratio_depthwise_conv"][:3]) == [2.0, 1.0, 4.0]
    assert list(table["ratio_max_pool2d"][:3]) == [0.5, 0.25, 1.0]
    assert table["ratio_max_pool2d"].isna().tolist() == [False, False, False, True]
    assert table["shape"][3] == "8x4x64x64"
    assert set(table["processor"]) == {"Some Processor"}


def test_what_was_timed_in_turn_has_a_table_of_its_own_with_one_row_a_peer():
    table = ratio_table(REPORT)
    assert list(table.columns) == RATIOS
    assert list(table["peer"]) == ["max_pool2d, contiguous", "max_pool2d, channels last"]
    assert list(table["ratio"]) == [0.5, 0.25]
    case = {"operator": "dilation", "window": "3x3", "shape": "8x4x32x32", "phase": "forward", "threads": 2}
    case |= {"bar": 0.8, "rounds": 5, "processor": "Some Processor"}
    assert table[list(case)].to_dict("records") == [case, case]
    assert "varmorph, interleaved" not in set(benchmark_table(REPORT)["implementation"])


@pytest.mark.parametrize(("name", "column"), [("benchmarks", "median_s"), ("ratios", "ratio")])
def test_the_tables_are_written_in_both_formats(tmp_path, name, column):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(REPORT))
    tabulate(path, tmp_path / "out")
    csv = pd.read_csv(tmp_path / "out" / f"{name}.csv")
    assert list(csv[column]) == list(pd.read_parquet(tmp_path / "out" / f"{name}.parquet")[column])


@pytest.mark.parametrize(("tabulated", "columns"), [(benchmark_table, COLUMNS), (ratio_table, RATIOS)])
def test_no_benchmarks_give_an_empty_table(tabulated, columns):
    table = tabulated({"benchmarks": []})
    assert list(table.columns) == columns
    assert table.empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "key 'benchmarks' not found"),
        ('{"benchmarks": [{"name": "a", "extra_info": {"operator": "x"}, "stats": {}}]}', "a: extra_info lacks impl"),
        ('{"benchmarks": [{"name": "a", "extra_info": {"ratios": {}}, "stats": {}}]}', "a: extra_info lacks .*, bar;"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"other.json: {message}"):
        tabulate(path, tmp_path)
