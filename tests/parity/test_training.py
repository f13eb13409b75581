"""Training by both frameworks: the same losses, metrics and steps; weights go from one to the other."""

import time

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("optax", reason="optax is not installed")

from morphobench.contract import Budget, Run, Split, Task  # noqa: E402
from morphobench.plugins.discovery import discover_methods  # noqa: E402
from morphobench.plugins.loading import load_method  # noqa: E402
from morphobench.training.jax import learner as jax_training  # noqa: E402
from morphobench.training.torch import learner as training  # noqa: E402

SCORES = {
    "classification": lambda rng: (rng.standard_normal((30, 3)), rng.integers(0, 3, 30)),
    "multilabel": lambda rng: (rng.standard_normal((30, 3)), rng.integers(0, 2, (30, 3)).astype(np.uint8)),
    "segmentation": lambda rng: (rng.standard_normal((5, 3, 6, 6)), rng.integers(0, 2, (5, 6, 6))),
    "restoration": lambda rng: (rng.random((5, 3, 6, 6)), rng.random((5, 3, 6, 6)).astype(np.float32)),
}
TASKS = [Task("classification", (1, 9, 11), 3), Task("segmentation", (1, 9, 11), 2)]
TWINS = [("backbone-depthwise", "cnn-jax"), ("backbone-variational", "variational-jax")]


@pytest.mark.parametrize("kind", SCORES)
def test_losses_and_their_gradients_are_the_same(kind):
    scores, labels = SCORES[kind](np.random.default_rng(0))
    scores, task = scores.astype(np.float32), Task(kind, (1, 6, 6), 3)
    tensor = torch.from_numpy(scores).requires_grad_()
    loss = training.loss_of(task, tensor, torch.from_numpy(labels))
    loss.backward()
    value, gradient = jax.value_and_grad(lambda s: jax_training.loss_of(task, s, labels))(scores)
    assert float(value) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [kind for kind in SCORES if kind != "multilabel"])
def test_metrics_are_the_same(kind):
    scores, labels = SCORES[kind](np.random.default_rng(0))
    scores, task = scores.astype(np.float32), Task(kind, (1, 6, 6), 3)
    expected = training.outcome_of(task, torch.from_numpy(scores), torch.from_numpy(labels), 0.0).metric
    assert float(jax_training.metric_of_images(task, scores, labels).sum()) == pytest.approx(expected, rel=1e-5)


def split(task, count, seed):
    rng = np.random.default_rng(seed)
    shape = (count, *task.input_shape[1:]) if task.kind == "segmentation" else (count,)
    labels = rng.integers(0, task.outputs, shape)
    grey = labels[:, None] if task.kind == "segmentation" else labels[:, None, None, None]
    images = 0.3 * rng.random((count, *task.input_shape)) + 0.3 * grey
    return Split(images.astype(np.float32), labels)


def method_of(name, project):
    method = load_method(discover_methods(project.methods)[name])
    method.framework.seed(0)
    return method


def run_of(task, folder, **budget):
    budget = Budget(**{"epochs": 1, "batch_size": 8, **budget})
    return Run(0, time.monotonic() + 300, folder, lambda line: None, task, budget, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins[1])
def test_a_few_steps_on_the_same_batches_give_the_same_losses(twins, task, project, tmp_path):
    curves, scores = [], []
    for name in twins:
        method = method_of(name, project)
        model, run = method.build(task), run_of(task, tmp_path, epochs=2)
        method.fit(model, split(task, 24, 1), split(task, 10, 2), run)
        curves.append([(row.loss, row.metric) for row in run.curve])
        scores.append(method.predict(model, split(task, 7, 3).images))
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-2, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins[1])
def test_weights_trained_by_jax_mean_the_same_in_torch(twins, project, tmp_path):
    from safetensors.torch import load_file

    task = TASKS[1]
    theirs, ours = (method_of(name, project) for name in twins)
    network, model = ours.build(task), theirs.build(task)
    ours.fit(network, split(task, 8, 1), split(task, 8, 2), run_of(task, tmp_path, epochs=1))
    ours.framework.save_weights(network, tmp_path / "weights.safetensors")
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = split(task, 7, 3).images
    np.testing.assert_allclose(ours.predict(network, images), theirs.predict(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_weights_trained_by_torch_mean_the_same_in_jax(project, tmp_path):
    task = TASKS[0]
    theirs, ours = (method_of(name, project) for name in TWINS[0])
    network, model = ours.build(task), theirs.build(task)
    theirs.fit(model, split(task, 8, 1), split(task, 8, 2), run_of(task, tmp_path))
    theirs.framework.save_weights(model, tmp_path / "weights.safetensors")
    jax_training.load_weights(network, tmp_path / "weights.safetensors")
    images = split(task, 7, 3).images
    np.testing.assert_allclose(ours.predict(network, images), theirs.predict(model, images), rtol=1e-4, atol=1e-5)
