import json

import pandas as pd
import pytest

from morphobench.studies.benchmarks import COLUMNS, benchmark_table, tabulate


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


REPORT = {
    "machine_info": {"cpu": {"brand_raw": "Some Processor"}},
    "benchmarks": [
        benchmark("dilation", "varmorph", 6.0),
        benchmark("convolution", "torch depthwise conv2d", 3.0),
        benchmark("maximum", "torch max_pool2d", 12.0),
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


def test_the_table_is_written_in_both_formats(tmp_path):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(REPORT))
    tabulate(path, tmp_path / "out")
    csv = pd.read_csv(tmp_path / "out" / "benchmarks.csv")
    assert list(csv["median_s"]) == list(pd.read_parquet(tmp_path / "out" / "benchmarks.parquet")["median_s"])


def test_no_benchmarks_give_an_empty_table():
    assert list(benchmark_table({"benchmarks": []}).columns) == COLUMNS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "key 'benchmarks' not found"),
        ('{"benchmarks": [{"name": "a", "extra_info": {"operator": "x"}, "stats": {}}]}', "a: extra_info lacks impl"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"other.json: {message}"):
        tabulate(path, tmp_path)
