import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
eqx = pytest.importorskip("equinox", reason="equinox is not installed")
pytest.importorskip("optax", reason="optax is not installed")

from morphobench.contract import InvalidPlugin, Task  # noqa: E402
from morphobench.training.jax import backbones as jax_backbones  # noqa: E402
from morphobench.training.jax.initial_weights import InitialWeights  # noqa: E402
from morphobench.training.jax.layers import BatchNorm2d, Conv2d  # noqa: E402
from morphobench.training.jax.learner import Network  # noqa: E402


class Identity(eqx.Module):
    def __call__(self, x):
        return x


class Threshold(eqx.Module):
    def __call__(self, x):
        return 0 * x


class Cut(eqx.Module):
    def __call__(self, x):
        return x[:, :, 1:]


def identity(channels, kernel_size, params):
    return Identity()


def task(kind, channels=1, size=8):
    return Task(kind, (channels, size, size), 3)


def build(given, operator=identity, **params):
    return jax_backbones.build(given, operator, {**params, "stream": InitialWeights(0)})


@pytest.mark.parametrize("size", [(8, 8), (11, 9)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["classification", "ordinal", "multilabel", "segmentation", "restoration"])
def test_scores_have_the_shape_of_the_task(kind, channels, size):
    given = task(kind, channels)
    network = Network(build(given), given)
    images = np.zeros((2, channels, *size), dtype=np.float32)
    scores, _ = jax.eval_shape(lambda: network.apply(network.weights, network.state, images, inference=True))
    assert scores.shape == given.score_shape(images)


def test_graphs_have_no_backbone():
    with pytest.raises(InvalidPlugin, match="node_classification"):
        build(Task("node_classification", (5,), 3))


def test_an_operator_that_is_no_module_is_refused():
    with pytest.raises(InvalidPlugin, match="returned function"):
        build(task("classification"), lambda *given: lambda x: x)


def test_an_operator_that_changes_the_shape_is_refused():
    given = task("classification")
    network = Network(build(given, lambda *arguments: Cut()), given)
    with pytest.raises(InvalidPlugin, match="expected the same shape"):
        network.apply(network.weights, network.state, np.zeros((1, 1, 8, 8), np.float32), inference=True)


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_operators_get_the_window_and_the_parameters(kind):
    seen = []

    def operator(channels, kernel_size, params):
        seen.append((kernel_size, params["slope"]))
        return Identity()

    build(task(kind), operator, kernel_size=5, slope=2)
    assert set(seen) == {(5, 2)}


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_doubling_undoes_the_halving_of_a_constant(size):
    image = np.full((1, 2, *size), 3.0, np.float32)
    np.testing.assert_array_equal(jax_backbones.double(jax_backbones.halve(image), size), image)


@pytest.mark.parametrize(("kernel_size", "groups"), [(2, 1), (3, 3)])
def test_windows_and_groups_that_do_not_fit_are_refused(kernel_size, groups):
    with pytest.raises(ValueError, match=f"found kernel_size {kernel_size}, groups {groups}"):
        Conv2d(4, 4, kernel_size, groups=groups, stream=InitialWeights(0))


def test_a_batch_of_one_pixel_leaves_the_running_variance_finite():
    norm, state = eqx.nn.make_with_state(BatchNorm2d)(2)
    _, state = norm(np.ones((1, 2, 1, 1), np.float32), state)
    assert np.isfinite(state.get(norm.running_var)).all()
