"""methods/morpholayers against TensorFlow, forward and gradient, ties included; the fixtures stand beside the script that made them."""

import json
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from morphobench.project.paths import Project

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "morphobench_method_morpholayers"
ROUNDED = ("MixedPooling2D", "MinofDilations2D", "MaxofErosions2D", "SeparableDilation2D", "SeparableErosion2D")


def read_fixtures():
    with np.load(ROOT / "tests" / "fixtures" / "morpholayers" / "fixtures.npz") as stored:
        cases, numbers = json.loads(stored["cases"].tobytes())["cases"], stored["numbers"]
    found, start = [], 0
    for case in cases:
        arrays = []
        for shape in case.pop("shapes"):
            arrays.append(numbers[start : start + int(np.prod(shape))].reshape(shape))
            start += arrays[-1].size
        found.append((case, arrays))
    assert start == len(numbers)
    return found


FIXTURES = read_fixtures()


def name_of(case):
    return "-".join(str(value).replace(" ", "") for key, value in case.items())


@pytest.fixture(scope="module", autouse=True)
def plugin():
    load_method(discover_methods(Project(ROOT).methods)["morpholayers"], "depthwise")


def module(name):
    return import_module(f"{PLUGIN}.{name}")


def ours(array):
    """Turn TensorFlow's order of the axes into PyTorch's."""
    orders = {4: (0, 3, 1, 2), 3: (2, 0, 1), 2: (1, 0)}
    return torch.tensor(np.ascontiguousarray(array.transpose(orders[array.ndim])))


def functions_in_front(array):
    """(kh, kw, C, F) -> (F, C, kh, kw)."""
    return torch.tensor(np.ascontiguousarray(array.transpose(3, 2, 0, 1)))


def arguments_of(case, arrays):
    if "filters" not in case:
        return [ours(array) for array in arrays]
    x, kernel, offsets = arrays
    return [ours(x), functions_in_front(kernel), ours(offsets)]


def merged(layer, x, kernel, offsets):
    """Run a layer on given structuring functions and offsets, as if they were its parameters."""
    names = {name: kernel for name, value in layer.named_parameters() if value.ndim == 4}
    names |= {name: offsets for name, value in layer.named_parameters() if value.ndim == 2}
    return torch.func.functional_call(layer, names, (x,))


def function_of(case):
    name = case["operator"]
    if name in ("dilation", "erosion"):
        options = {key: tuple(v) if isinstance(v := case[key], list) else v for key in ("stride", "rate", "padding")}
        return partial(getattr(module("operators"), name), **options)
    if name.endswith("Pooling2D"):
        return getattr(module("pooling"), name)(case["size"], case["stride"], case["padding"])
    if "filters" in case:
        layer = getattr(module("separable" if name.startswith("Separable") else "layers"), name)
        options = {"multiplier": case["multiplier"]} if name.startswith("Separable") else {}
        return partial(merged, layer(2, case["filters"], tuple(case["window"]), **options))
    return getattr(module("geodesic"), name)


def computed(case, arrays):
    """Return result and gradients of ours and of TensorFlow, in our order of the axes."""
    count = (len(arrays) - 2) // 2
    arguments = [argument.requires_grad_() for argument in arguments_of(case, arrays[:count])]
    cotangent, expected = ours(arrays[count]), ours(arrays[count + 1])
    result = function_of(case)(*arguments)
    gradients = torch.autograd.grad((result * cotangent).sum(), arguments, allow_unused=True, materialize_grads=True)
    return (result.detach(), *gradients), (expected, *arguments_of(case, arrays[count + 2 :]))


@pytest.mark.parametrize(("case", "arrays"), FIXTURES, ids=[name_of(case) for case, _ in FIXTURES])
def test_it_computes_what_tensorflow_does(case, arrays):
    (found, *gradients), (expected, *expected_gradients) = computed(case, arrays)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    # A mean, and a gradient that is shared among equal channels, are rounded.
    tolerance = 1e-6 if case["operator"] in ROUNDED else 0
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=tolerance, rtol=tolerance)


def test_the_fixtures_cover_what_they_should():
    cases = [case for case, _ in FIXTURES]
    windows = {tuple(case["window"]) for case in cases if "window" in case}
    assert {(3, 3), (2, 2), (4, 3), (1, 5)} <= windows
    assert {case["padding"] for case in cases if "padding" in case} == {"same", "valid"}
    assert {json.dumps(case["stride"]) for case in cases if "rate" in case} >= {"1", "2", "[2, 3]", "3"}
    assert {json.dumps(case["rate"]) for case in cases if "rate" in case} >= {"1", "2", "[3, 2]"}
    assert {case["ties"] for case in cases} == {True, False}
