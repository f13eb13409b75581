"""Graph and image methods on one task: what the figure says is what the tables hold."""

import dataclasses

import pandas as pd
import pytest

from morphobench.report.scores.common_tasks import draw_common_tasks
from morphobench.report.style import drawing_style

DICE = {"digits.small": {"unet": 0.9, "majority": 0.0}, "graphs.digits": {"far": 0.71, "near": 0.6, "majority": 0.0}}


@pytest.fixture
def results(empty):
    rows = []
    for dataset, scores in DICE.items():
        for method, mean in scores.items():
            row = {"dataset": dataset, "method": method, "variant": "default", "split": "test", "primary": False}
            row |= {"family": "control" if method == "majority" else "cnn", "low": mean - 0.01, "high": mean + 0.01}
            rows.append(row | {"metric": "dice", "mean": mean})
            if dataset == "graphs.digits":
                rows.append(row | {"metric": "dice_limit", "mean": 0.82})
    table = pd.DataFrame(rows).assign(seed=0, status="ok", task="segmentation")
    datasets = {"digits.small": {"title": "Digits"}, "graphs.digits": {"title": "Parts", "images": "digits.small"}}
    return dataclasses.replace(empty, means=table, trials=table, datasets=datasets)


def test_the_best_on_images_stands_beside_the_best_on_graphs_and_the_limit(results):
    with drawing_style():
        (drawing,) = draw_common_tasks(results)
        drawing.figure.canvas.draw()
    assert drawing.name == "common-graphs-digits"
    assert "true classes that is 0.820" in drawing.caption
    assert "0.900 [0.890, 0.910] by unet on images, 0.710 [0.700, 0.720] by far on superpixels" in drawing.caption
    above, below = drawing.figure.axes
    assert [label.get_text() for label in above.get_yticklabels()] == ["unet"]
    assert [label.get_text() for label in below.get_yticklabels()] == ["far", "near"]


def test_a_graph_whose_images_were_not_run_is_not_compared(results):
    alone = results.means[results.means["dataset"] == "graphs.digits"]
    assert list(draw_common_tasks(dataclasses.replace(results, means=alone))) == []
