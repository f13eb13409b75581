import numpy as np
import pytest
import torch
from torch import nn

from morphobench.contract import InvalidPlugin, Task
from morphobench.training.torch import backbones


def identity(channels, kernel_size, params):
    return nn.Identity()


def depthwise(channels, kernel_size, params):
    return nn.Conv2d(channels, channels, kernel_size, padding="same", groups=channels)


def task(kind, channels=1, size=8, outputs=3):
    return Task(kind, (channels, size, size), outputs)


@pytest.mark.parametrize("size", [(8, 8), (11, 9), (28, 28)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["classification", "ordinal", "multilabel", "segmentation", "restoration"])
def test_scores_have_the_shape_of_the_task(kind, channels, size):
    given = task(kind, channels)
    model = backbones.build(given, depthwise, {})
    images = np.zeros((2, channels, *size), dtype=np.float32)
    assert model(torch.from_numpy(images)).shape == given.score_shape(images)


def test_graphs_have_no_backbone():
    with pytest.raises(InvalidPlugin, match="node_classification"):
        backbones.build(Task("node_classification", (5,), 3), identity, {})


def test_an_operator_that_is_no_module_is_refused():
    with pytest.raises(InvalidPlugin, match="returned function"):
        backbones.build(task("classification"), lambda *given: lambda x: x, {})


def test_an_operator_that_changes_the_shape_is_refused():
    model = backbones.build(task("classification"), lambda *given: nn.MaxPool2d(2), {})
    with pytest.raises(InvalidPlugin, match="expected the same shape"):
        model(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_operators_get_the_window_and_the_parameters(kind):
    seen = []

    def operator(channels, kernel_size, params):
        seen.append((kernel_size, params["slope"]))
        return nn.Identity()

    backbones.build(task(kind), operator, {"kernel_size": 5, "slope": 2})
    assert set(seen) == {(5, 2)}


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_without_an_operator_nothing_spatial_is_learned(kind):
    model = backbones.build(task(kind), identity, {})
    assert all(module.kernel_size == (1, 1) for module in model.modules() if isinstance(module, nn.Conv2d))


def test_without_an_operator_the_classifier_ignores_where_blocks_of_pixels_lie():
    torch.manual_seed(0)
    model = backbones.build(task("classification"), identity, {}).eval()
    image = torch.rand(1, 1, 8, 8)
    swapped = torch.cat([image[..., 4:], image[..., :4]], dim=-1)
    torch.testing.assert_close(model(image), model(swapped))


def test_the_operator_alone_makes_the_difference_in_parameters():
    def count(operator):
        return sum(
            value.numel() for value in backbones.build(task("classification"), operator, {"width": 4}).parameters()
        )

    assert count(depthwise) - count(identity) == (4 + 8 + 16 + 16) * (9 + 1)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_doubling_undoes_the_halving_of_a_constant(size):
    image = torch.full((1, 2, *size), 3.0)
    assert torch.equal(backbones.double(backbones.halve(image), size), image)


def test_description_names_what_layers_have_learned():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2, 3, 3))
            self.log_weight = nn.Parameter(torch.zeros(2, 3, 3))
            self.logit_level = nn.Parameter(torch.zeros(2))

    model = nn.Sequential(Layer(), nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 2, 3), nn.Linear(2, 2))
    described = backbones.describe(model)
    assert {name: values.shape for name, values in described.items()} == {
        "0:bias": (2, 3, 3),
        "0:weight": (2, 3, 3),
        "0:level": (2,),
        "1:weight": (2, 3, 3),
    }
    assert described["0:weight"].max() == 1
    assert described["0:level"].max() == 0.5
