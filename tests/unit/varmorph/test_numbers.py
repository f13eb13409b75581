"""Numbers of NumPy where a number is expected, and layers of a dtype and a device."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import varmorph.jax
import varmorph.torch

HALVES = [(varmorph.torch, torch.as_tensor), (varmorph.jax, jnp.asarray)]
KINDS = [np.float64, np.float32, np.float16, np.int64, np.array]
IMAGE = np.random.default_rng(0).random((1, 2, 5, 6), np.float32)
FLAT = np.zeros((3, 3), np.float32)
EDGES = np.array([[0, 1, 2], [1, 2, 0]])


@pytest.mark.parametrize(("library", "asarray"), HALVES, ids=["torch", "jax"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_number_of_numpy_is_a_number(library, asarray, kind):
    x, flat, nodes, edges = map(asarray, (IMAGE, FLAT, IMAGE[0, 0], EDGES))
    one = kind(1)
    calls = {
        "level and smoothing": lambda n: library.variational_dilation(x, flat, n, penalty="huber", smoothing=n),
        "coupling, ridge and edge smoothing": lambda n: (
            library.regularised_dilation(x, flat, n, n, ridge=n, edge_penalty="huber", edge_smoothing=n).value
        ),
        "no ridge": lambda n: library.regularised_dilation(x, flat, n, n, ridge=n * 0).value,
        "levels and eta": lambda n: library.joint_opening(x, flat, (-n, n), n).value,
        "levels as one array": lambda n: library.variational_opening(x, flat, np.array([-1, 1]) * float(n)),
        "bias and weight of edges": lambda n: library.variational_graph_dilation(nodes, edges, n, n, weight=n),
        "height": lambda n: library.h_maxima(x, n),
        "padding": lambda n: library.dilation(x, flat, padding=n),
    }
    for name, call in calls.items():
        np.testing.assert_allclose(np.asarray(call(one)), np.asarray(call(1.0)), err_msg=name)


@pytest.mark.parametrize("library", [varmorph.torch, varmorph.jax])
def test_sizes_may_be_integers_of_numpy(library):
    layer = library.Dilation2d(np.int64(2), np.int32(3), stride=np.int64(2), rate=(np.int8(1), 2))
    assert (layer.channels, layer.kernel_size, layer.stride, layer.rate) == (2, (3, 3), (2, 2), (1, 2))
    assert all(type(side) is int for side in layer.kernel_size)
    assert library.HMaxima2d(1, initial_height=np.float32(0.5)).initial_height == 0.5


@pytest.mark.parametrize(("library", "asarray"), HALVES, ids=["torch", "jax"])
@pytest.mark.parametrize(
    "call",
    [
        lambda library, x: library.dilation(x, [[0.0, 0.0]]),
        lambda library, x: library.variational_dilation(x, [[0.0, 0.0]], 1.0),
        lambda library, x: library.regularised_dilation(x, [[0.0, 0.0]], 1.0, 1.0),
        lambda library, x: library.reconstruction(x, x, [[0.0]]),
    ],
)
def test_a_list_is_no_structuring_function(library, asarray, call):
    with pytest.raises(TypeError, match=r"bias must be a (torch.Tensor|jax.Array), found list"):
        call(library, asarray(IMAGE))


@pytest.mark.parametrize("wrong", [True, "1", None, np.array("a"), 1j])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(TypeError, match="logit_level must"):
        varmorph.torch.variational_dilation(torch.as_tensor(IMAGE), torch.as_tensor(FLAT), wrong)


LAYERS = [
    name for name in varmorph.torch.__all__ if name[0].isupper() and name.endswith("2d") and not name.endswith("Conv2d")
]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_take_a_device_and_a_dtype(name):
    if name == "Leveling2d":  # without parameters
        return
    options = {} if name in ("HMaxima2d", "Reconstruction2d") else {"kernel_size": 3}
    layer = getattr(varmorph.torch, name)(2, device="meta", dtype=torch.float64, **options)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.float64)}
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    expected = getattr(varmorph.torch, name)(2, dtype=torch.float64, **options)
    for ours, theirs in zip(layer.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
