"""Scores over the number that sets the variants of a data set apart."""

import dataclasses

import pandas as pd
import pytest

from morphobench.report.scores.sweeps import draw_sweeps
from morphobench.report.style import drawing_style

SCORES = {"far": [1.0, 0.97, 0.96], "near": [0.96, 0.6, 0.97], "blind": [0.5, 0.5, 0.5]}
LENGTHS = [5, 20, 100]


@pytest.fixture
def results(empty):
    rows = [
        {"dataset": f"chains.length-{at}", "method": name, "variant": "default", "task": "node_classification"}
        | {
            "split": "test",
            "metric": "accuracy",
            "primary": True,
            "mean": mean,
            "low": mean - 0.01,
            "high": mean + 0.01,
        }
        for name, means in SCORES.items()
        for at, mean in zip(LENGTHS, means, strict=True)
    ]
    table = pd.DataFrame(rows).assign(family="cnn", seed=0, status="ok")
    datasets = {f"chains.length-{at}": {"sweep": "nodes in a chain", "at": float(at)} for at in LENGTHS}
    return dataclasses.replace(empty, means=table, trials=table, datasets=datasets)


def test_the_caption_says_how_far_each_method_goes(results):
    with drawing_style():
        (drawing,) = draw_sweeps(results)
        drawing.figure.canvas.draw()
    assert drawing.name == "sweep-chains"
    assert "5 to 100" in drawing.caption
    assert drawing.caption.endswith("0.95 or more is kept up to 100: far; up to 5: near; nowhere: blind.")
    (axis,) = drawing.figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "20", "100"]


def test_a_single_variant_is_no_sweep(results):
    alone = results.means[results.means["dataset"] == "chains.length-5"]
    assert list(draw_sweeps(dataclasses.replace(results, means=alone))) == []
