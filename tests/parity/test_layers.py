"""The layers of both halves: converted ones compute the same, and have the same gradients."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
eqx = pytest.importorskip("equinox", reason="equinox is not installed")

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402
from varmorph.convert import to_jax, to_torch  # noqa: E402

LAYERS = sorted(
    name for name in varmorph.jax.__all__ if name[0].isupper() and name.endswith("2d") and not name.endswith("Conv2d")
)
GEODESIC = ("HMaxima2d", "Leveling2d", "Reconstruction2d")
NUMBERS = ("bias", "log_weight", "logit_level", "logit_levels", "log_height")


@pytest.fixture
def double_precision():
    """Layers are made and applied in float32 here."""


def draw(name):
    """A layer of PyTorch whose parameters are all different, and the images that it takes."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randn(2, 3, 7, 6, generator=generator) for _ in range(1 + (name in ("Leveling2d", "Reconstruction2d")))
    ]
    if name in GEODESIC:
        options = {"by": "erosion"} if name == "Reconstruction2d" else {"connectivity": 4}
        return _moved(getattr(varmorph.torch, name)(3, **options), generator), images
    options = {"penalty": "huber", "smoothing": 0.2} if name == "VariationalErosion2d" else {}
    if name == "RegularisedDilation2d":
        options = {"edge_penalty": "huber", "edge_smoothing": 0.3, "ridge": 0.1, "initial_coupling": 0.5}
    if name == "JointOpening2d":
        options = {"initial_eta": 0.3, "solver": varmorph.torch.Newton(tolerance=1e-7)}
    if name == "JointClosing2d":
        options = {"adjoint": varmorph.torch.Truncated(steps=200), "initial_level": 1.0, "initial_eta": 1.0}
    layer = getattr(varmorph.torch, name)(3, (3, 2), rate=(1, 2), padding="reflect", **options)
    return _moved(layer, generator), images


def _moved(layer, generator):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_a_converted_layer_computes_the_same_with_the_same_gradients(name):
    layer, images = draw(name)
    twin, arrays = to_jax(layer), [image.numpy() for image in images]
    y = layer(*(image.clone().requires_grad_() for image in images))
    y.square().sum().backward()
    apply = eqx.filter_jit(eqx.filter_value_and_grad(lambda layer, *images: (layer(*images) ** 2).sum()))
    value, gradients = apply(twin, *arrays)
    np.testing.assert_allclose(np.asarray(twin(*arrays)), y.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(value, y.detach().square().sum(), rtol=1e-4)
    for parameter, tensor in layer.named_parameters():
        np.testing.assert_allclose(getattr(gradients, parameter), tensor.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_from_its_conversion_as_it_was(name):
    layer, _ = draw(name)
    back = to_torch(to_jax(layer))
    assert repr(back) == repr(layer)
    assert {n: p.tolist() for n, p in back.named_parameters()} == {n: p.tolist() for n, p in layer.named_parameters()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_start_with_the_same_numbers(name):
    arguments = (2,) if name in GEODESIC else (2, 3)
    ours, theirs = getattr(varmorph.jax, name)(*arguments), getattr(varmorph.torch, name)(*arguments)
    for number in NUMBERS:
        assert hasattr(ours, number) == hasattr(theirs, number)
        if hasattr(ours, number):
            np.testing.assert_array_equal(getattr(ours, number), getattr(theirs, number).detach())


def test_numbers_alone_are_learnable():
    leaves = jax.tree_util.tree_leaves(varmorph.jax.VariationalOpening2d(2, 3, penalty="huber", smoothing=0.1))
    assert sorted(leaf.shape for leaf in leaves) == [(2, 2), (2, 3, 3), (2, 3, 3)]


def test_what_has_no_twin_is_refused():
    with pytest.raises(TypeError, match=r"a class that varmorph.jax has too, found torch.nn.modules.conv.Conv2d"):
        to_jax(torch.nn.Conv2d(1, 1, 3))
