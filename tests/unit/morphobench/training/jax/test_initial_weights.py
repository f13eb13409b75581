import numpy as np
import pytest

from morphobench.training.jax.initial_weights import InitialWeights

# torch.manual_seed(0); torch.rand(4) and torch.nn.Conv2d(1, 2, 1).weight after torch.manual_seed(0)
FRACTIONS = [0.49625658988952637, 0.7682217955589294, 0.08847743272781372, 0.13203048706054688]
WEIGHT = [-0.007486820220947266, 0.5364435911178589]


def test_the_numbers_are_those_that_torch_is_known_for():
    assert InitialWeights(0).uniform((4,), 0.5).tolist() == pytest.approx(
        [value - 0.5 for value in FRACTIONS], abs=1e-7
    )
    assert InitialWeights(0).layer((2, 1, 1, 1))[0].ravel().tolist() == pytest.approx(WEIGHT, abs=1e-7)


def test_layers_draw_one_after_the_other():
    stream = InitialWeights(1)
    first, second = stream.layer((3, 2, 3, 3))[0], stream.layer((3, 2, 3, 3))[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(InitialWeights(1).layer((3, 2, 3, 3))[0], first)


@pytest.mark.parametrize("shape", [(3,), (15,), (16,), (17,), (40, 50)])
def test_normal_numbers_have_their_shape_and_deviation(shape):
    drawn = np.concatenate([InitialWeights(seed).normal(shape, 2.0).ravel() for seed in range(200)])
    assert InitialWeights(0).normal(shape, 2.0).shape == shape
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.35
    assert drawn.std() == pytest.approx(2.0, rel=0.1)


def test_without_a_bias_none_is_drawn():
    one, other = InitialWeights(2), InitialWeights(2)
    assert one.layer((4, 1, 1, 1), bias=False)[1] is None
    other.uniform((4,), 1.0)
    np.testing.assert_array_equal(one.uniform((3,), 1.0), other.uniform((3,), 1.0))


def test_seeds_for_other_generators_are_drawn_too():
    stream = InitialWeights(0)
    assert 0 <= stream.seed() < 2**32
    assert stream.seed() != stream.seed()
