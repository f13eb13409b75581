"""Models of plugins that bring fit and predict of their own."""

import types

import numpy as np
import pytest

from morphobench.contract import InvalidPlugin, Task
from morphobench.training.numpy.framework import NumPy

TASK = Task("classification", (1, 4, 4), 2)


def plugin(model):
    return types.SimpleNamespace(build=lambda task, params: model)


@pytest.mark.parametrize("kind", [dict, types.SimpleNamespace])
def test_a_dict_is_kept_as_an_object_is(tmp_path, kind):
    path, parts = tmp_path / "weights.safetensors", {"weights": np.arange(6.0).reshape(2, 3).T, "count": 3, "name": "a"}
    NumPy().save_weights(NumPy().build(plugin(kind(**parts)), TASK, {}), path)
    model = NumPy().build(plugin(kind(weights=None, count=0, name="b")), TASK, {})
    NumPy().load_weights(model, path)
    found = model if kind is dict else vars(model)
    assert np.array_equal(found["weights"], parts["weights"])
    assert (found["count"], found["name"]) == (3, "b")


@pytest.mark.parametrize(("model", "name"), [([1.0], "list"), (None, "NoneType"), (np.zeros(3), "ndarray")])
def test_a_model_whose_weights_could_not_be_kept_is_refused_before_it_is_trained(model, name):
    with pytest.raises(InvalidPlugin, match=rf"returned {name}, expected an object with attributes, or a dict"):
        NumPy().build(plugin(model), TASK, {})
