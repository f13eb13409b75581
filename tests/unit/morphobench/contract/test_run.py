"""What a training routine tells of itself."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from morphobench.contract import Budget, Run, Task


@pytest.fixture
def run(tmp_path):
    return Run(0, 0.0, tmp_path, lambda line: None, Task("classification", (1, 4, 4), 2), Budget())


def test_a_curve_takes_the_numbers_of_numpy(run):
    run.record_epoch(np.int64(3), "valid", np.float32(0.5), np.array(0.25), np.float64(1))
    assert json.loads(json.dumps(asdict(run.curve[0]))) == {
        **{"epoch": 3, "split": "valid", "loss": 0.5, "metric": 0.25, "seconds": 1.0}
    }


def test_an_epoch_is_an_integer(run):
    with pytest.raises(TypeError, match="integer"):
        run.record_epoch(1.5, "valid", 0.0, 0.0, 0.0)
