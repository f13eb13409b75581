"""The random numbers of layers are PyTorch's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from morphobench.training.jax.initial_weights import InitialWeights  # noqa: E402

LAYERS = [
    lambda: torch.nn.Conv2d(3, 8, 1),
    lambda: torch.nn.Conv2d(8, 8, 3, groups=8),
    lambda: torch.nn.Conv2d(6, 4, 1, bias=False),
    lambda: torch.nn.Linear(37, 11),
    lambda: torch.nn.Conv2d(40, 50, 5),
]


@pytest.mark.parametrize("seed", [0, 1, 123456, 2**32 + 3])
def test_layers_made_in_turn_start_equal_bit_by_bit(seed):
    torch.manual_seed(seed)
    stream = InitialWeights(seed)
    for make in LAYERS:
        layer = make()
        weight, bias = stream.layer(layer.weight.shape, layer.bias is not None)
        np.testing.assert_array_equal(weight, layer.weight.detach().numpy())
        if layer.bias is not None:
            np.testing.assert_array_equal(bias, layer.bias.detach().numpy())


def test_normal_numbers_agree_to_the_last_places_and_leave_the_stream_at_the_same_place():
    torch.manual_seed(5)
    stream = InitialWeights(5)
    for shape in [(4, 3, 3), (1, 3, 3), (2, 2), (16,), (1000, 7), (3, 3), (17,)]:
        expected = torch.nn.init.normal_(torch.empty(shape), std=0.3).numpy()
        np.testing.assert_allclose(stream.normal(shape, 0.3), expected, rtol=1e-5, atol=5e-7)
    np.testing.assert_array_equal(stream.uniform((9,), 0.5), torch.empty(9).uniform_(-0.5, 0.5).numpy())
