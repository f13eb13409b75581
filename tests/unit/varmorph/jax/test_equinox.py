"""Layers among those of Equinox: in its containers, and applied to one image at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import varmorph.jax
from varmorph.jax import Dilation2d, dilation

ONE_IMAGE = ["Dilation2d", "Erosion2d", "Opening2d", "Closing2d", "Gradient2d", "WhiteTopHat2d", "BlackTopHat2d",
             "VariationalDilation2d", "VariationalErosion2d", "VariationalOpening2d", "VariationalClosing2d",
             "RegularisedDilation2d", "JointOpening2d", "JointClosing2d"]  # fmt: skip
TWO_IMAGES = ["Reconstruction2d", "Leveling2d"]


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(0).random((3, 2, 6, 7), np.float32))


def made(name):
    return getattr(varmorph.jax, name)(2, **({"kernel_size": 3} if name in ONE_IMAGE else {}))


def test_a_sequence_of_layers_passes_its_key_on(images):
    network = eqx.nn.Sequential([Dilation2d(2, 3), eqx.nn.Lambda(jax.nn.relu), made("VariationalOpening2d")])
    expected = made("VariationalOpening2d")(jax.nn.relu(Dilation2d(2, 3)(images)))
    np.testing.assert_allclose(network(images, key=jax.random.key(0)), expected)
    np.testing.assert_allclose(network(images), expected)


def test_layers_stand_beside_convolutions_which_take_one_image(images):
    convolution = eqx.nn.Conv2d(2, 2, 3, padding=1, key=jax.random.key(0))
    network = eqx.nn.Sequential([convolution, Dilation2d(2, 3), eqx.nn.Lambda(jax.nn.relu)])
    expected = jax.nn.relu(Dilation2d(2, 3)(jax.vmap(convolution)(images)))
    np.testing.assert_allclose(jax.vmap(network)(images), expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*ONE_IMAGE, *TWO_IMAGES, "HMaxima2d"])
def test_one_image_at_a_time_is_the_batch(name, images):
    layer, given = made(name), (images[:, :, ::-1] - 0.1, images) if name in TWO_IMAGES else (images,)
    expected = layer(*given)
    np.testing.assert_allclose(layer(*(image[1] for image in given)), expected[1], atol=1e-5)
    np.testing.assert_allclose(jax.vmap(layer)(*given), expected, atol=1e-5)
    np.testing.assert_allclose(layer(*given, key=jax.random.key(0)), expected)


def test_a_single_image_may_have_weights_of_its_edges(images):
    layer = made("RegularisedDilation2d")
    weights = jnp.ones((3, 1, 2, 6, 7)).at[:, :, :, 2].set(0.1)
    np.testing.assert_allclose(layer(images[0], weights[0]), layer(images, weights)[0], atol=1e-5)


def test_functions_say_that_an_axis_is_missing(images):
    with pytest.raises(ValueError, match=r"found \(2, 6, 7\): add an axis to a single image, x\[None\]"):
        dilation(images[0], jnp.zeros((3, 3)))
