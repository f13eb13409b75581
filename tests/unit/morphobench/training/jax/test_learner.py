import math
import time

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
eqx = pytest.importorskip("equinox", reason="equinox is not installed")
pytest.importorskip("optax", reason="optax is not installed")

from morphobench.contract import Budget, Diverged, InvalidPlugin, Run, Split, Task  # noqa: E402
from morphobench.evaluation import metrics  # noqa: E402
from morphobench.training.jax import learner as jax_training  # noqa: E402
from morphobench.training.jax.compilation import Program, ProgramCache, seconds_spent_compiling  # noqa: E402
from morphobench.training.jax.initial_weights import InitialWeights  # noqa: E402
from morphobench.training.jax.layers import BatchNorm2d, Linear  # noqa: E402

TASK = Task("classification", (1, 4, 4), 2)


class Flat(eqx.Module):
    """A linear map of the pixels."""

    linear: Linear

    def __init__(self, outputs=2, seed=0):
        self.linear = Linear(16, outputs, stream=InitialWeights(seed))

    def __call__(self, x):
        return self.linear(x.reshape(len(x), -1))


class Normed(Flat):
    """The same behind a batch norm, and a mask that is not learned."""

    norm: BatchNorm2d
    mask: jax.Array

    def __init__(self):
        super().__init__()
        self.norm = BatchNorm2d(1)
        self.mask = jax.numpy.ones((4, 4), dtype=int)

    def __call__(self, x, state):
        y, state = self.norm(x * self.mask, state)
        return self.linear(y.reshape(len(x), -1)), state


def make_run(tmp_path, learning_rate=0.1, **budget):
    budget = Budget(**{"epochs": 4, "batch_size": 8, **budget})
    return Run(0, time.monotonic() + 60, tmp_path, lambda line: None, TASK, budget, learning_rate)


def bright_or_dark(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = 0.5 * rng.random((count, 1, 4, 4)) + 0.5 * labels[:, None, None, None]
    return Split(images.astype(np.float32), labels.astype(np.int64))


@pytest.mark.parametrize("module", [Flat, Normed])
def test_it_learns(tmp_path, module):
    network, test = jax_training.Network(module(), TASK), bright_or_dark(20, seed=3)
    jax_training.fit(network, bright_or_dark(40), bright_or_dark(20, seed=2), make_run(tmp_path))
    assert metrics.accuracy(jax_training.predict(network, test.images), test.labels) == 1


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, monkeypatch):
    kept = []

    class Told(jax_training.JaxLearner):
        def judge(self, images, labels):
            kept.append(np.asarray(self.leaves[0]))
            return super().judge(images, labels)._replace(metric={2: 9.0}.get(len(kept), 0.0))

    monkeypatch.setattr(jax_training, "JaxLearner", Told)
    network, run = jax_training.Network(Flat(), TASK), make_run(tmp_path)
    jax_training.fit(network, bright_or_dark(20), bright_or_dark(10), run)
    assert run.best_epoch == 2
    np.testing.assert_array_equal(jax.tree_util.tree_leaves(network.weights)[0], kept[1])


def test_a_network_is_trained_from_where_it_is(tmp_path):
    network = jax_training.Network(Flat(), TASK)
    before = network.named_arrays()["linear.weight"]
    run = make_run(tmp_path, learning_rate=1e-9, epochs=1)
    jax_training.fit(network, bright_or_dark(20), bright_or_dark(10), run)
    np.testing.assert_allclose(network.named_arrays()["linear.weight"], before, atol=1e-6)


def test_prediction_does_not_depend_on_the_batch_size():
    network, images = jax_training.Network(Normed(), TASK), bright_or_dark(7).images
    whole, parts = jax_training.predict(network, images), jax_training.predict(network, images, 2)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_prediction_leaves_the_network_as_it_is():
    network = jax_training.Network(Normed(), TASK)
    before = network.named_arrays()
    jax_training.predict(network, bright_or_dark(7).images)
    assert all(np.array_equal(before[name], value) for name, value in network.named_arrays().items())


def test_a_loss_that_is_not_finite_is_divergence(tmp_path):
    network = jax_training.Network(Flat(), TASK)
    network.weights = jax.tree_util.tree_map(lambda leaf: leaf * math.nan, network.weights)
    with pytest.raises(Diverged, match="training loss is nan"):
        jax_training.fit(network, bright_or_dark(20), bright_or_dark(10), make_run(tmp_path))


def test_scores_of_the_wrong_shape_are_refused(tmp_path):
    with pytest.raises(InvalidPlugin, match=r"\(7, 3\), expected \(7, 2\)"):
        jax_training.fit(
            jax_training.Network(Flat(3), TASK), bright_or_dark(20), bright_or_dark(10), make_run(tmp_path)
        )


def test_running_statistics_and_integers_are_no_parameters():
    assert jax_training.count_parameters(jax_training.Network(Normed(), TASK)) == 16 * 2 + 2 + 1 + 1


def test_saved_weights_are_the_weights_and_come_back(tmp_path):
    network, other = jax_training.Network(Flat(), TASK), jax_training.Network(Flat(seed=1), TASK)
    jax_training.save_weights(network, tmp_path / "weights.safetensors")
    jax_training.load_weights(other, tmp_path / "weights.safetensors")
    assert network.named_arrays().keys() == {"linear.weight", "linear.bias"}
    assert all(np.array_equal(other.named_arrays()[name], value) for name, value in network.named_arrays().items())


def test_networks_of_one_structure_share_their_programs():
    first, second = (jax_training.Network(Flat(seed=seed), TASK) for seed in (0, 1))
    assert first.programs is second.programs
    assert first.programs is not jax_training.Network(Flat(3), TASK).programs
    assert jax_training.Network(Normed(), TASK).programs is not jax_training.Network(Normed(), TASK).programs


def test_shared_programs_compute_with_the_weights_of_their_network():
    images = bright_or_dark(5).images
    first, second = (jax_training.Network(Flat(seed=seed), TASK) for seed in (0, 1))
    assert not np.allclose(jax_training.predict(first, images), jax_training.predict(second, images))


def test_a_program_is_compiled_once_a_shape_and_says_how_long_that_took():
    traced = []
    program = Program(lambda leaves, x: (traced.append(x.shape), leaves[0] + x)[1])
    before = seconds_spent_compiling()
    for count in (2, 3, 2):
        assert program([np.float32(1)], np.zeros(count, np.float32)).tolist() == [1.0] * count
    assert traced == [(2,), (3,)]
    assert seconds_spent_compiling() - before == pytest.approx(sum(program.seconds.values()))


def test_what_cannot_be_told_apart_is_not_shared():
    cache = ProgramCache()
    assert cache.take(("a", 1), object) is cache.take(("a", 1), object)
    assert cache.take(["a"], object) is not cache.take(["a"], object)
