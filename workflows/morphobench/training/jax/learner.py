"""The training loop and the prediction of JAX methods that bring none of their own."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from morphobench.contract import Run, Split, Task
from morphobench.project.files import atomic
from morphobench.training import loop
from morphobench.training.jax.compilation import Program, ProgramCache, seconds_spent_compiling
from morphobench.training.loop import EVALUATION_BATCH, Outcome, batches_to_evaluate, centred, check_score_shape
from morphobench.training.metrics import dice

__all__ = [
    "JaxLearner",
    "Network",
    "count_parameters",
    "fit",
    "load_weights",
    "loss_of",
    "metric_of_images",
    "predict",
    "save_weights",
]

Leaves = list[jax.Array]


class Network:
    """A model of JAX that can be trained in place: a module that never changes, and the arrays that do.

    Parameters
    ----------
    module : equinox.Module
        Maps images (N, C, H, W) in [-1, 1] to scores; with state (`equinox.nn.StateIndex`), images and state to scores and
        state. Its arrays of floating-point numbers are what training changes.
    task : Task
        Decides the loss, the metric and the shape of the scores.

    Attributes
    ----------
    weights, state : pytree
        What training changes by its gradients, and what it changes otherwise: running statistics.
    """

    def __init__(self, module: eqx.Module, task: Task):
        self.task = task
        module, self._stateful = _name_states(module)
        self.state = eqx.nn.State(module)
        self.weights, self._rest = eqx.partition(eqx.nn.delete_init_state(module), eqx.is_inexact_array)

    @property
    def module(self) -> Any:
        """The module with its weights as they are."""
        return eqx.combine(self.weights, self._rest)

    def apply(self, weights: Any, state: Any, images: jax.Array, inference: bool) -> tuple[jax.Array, Any]:
        """Return the scores of images in [-1, 1] and the next state."""
        module = eqx.nn.inference_mode(eqx.combine(weights, self._rest), value=inference)
        return module(images, state) if self._stateful else (module(images), state)

    def named_arrays(self) -> dict[str, np.ndarray]:
        """Weights and state by the path of their layer, as the ``state_dict`` of PyTorch names them."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.module, is_leaf=_is_index)
        return {
            _name(path): np.asarray(self.state.get(leaf) if _is_index(leaf) else leaf)
            for path, leaf in leaves
            if _is_index(leaf) or eqx.is_array(leaf)
        }

    @functools.cached_property
    def programs(self) -> _Programs:
        """What is computed of the network; networks of equal structure share it."""
        leaves, structure = jax.tree_util.tree_flatten((self._rest, self.weights, self.state))
        static = tuple((leaf.shape, str(leaf.dtype)) if eqx.is_array(leaf) else leaf for leaf in leaves)
        if any(map(eqx.is_array, jax.tree_util.tree_leaves(self._rest))):
            return _Programs(self)  # arrays that are no weights, of integers say, are built into the programs
        return PROGRAMS.take((structure, static, self.task), lambda: _Programs(self))


PROGRAMS = ProgramCache()


def _is_index(leaf: Any) -> bool:
    return isinstance(leaf, eqx.nn.StateIndex)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", "")))) for key in path)


def _name_states(module: Any) -> tuple[Any, bool]:
    """Call each state by its path, so that networks of one structure have equal pytrees; tell whether there is any."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(module, is_leaf=_is_index)
    named: dict[Any, Any] = {}
    for path, leaf in leaves:
        if _is_index(leaf) and leaf.marker not in named:
            named[leaf.marker] = eqx.nn.StateIndex(leaf.init)
            object.__setattr__(named[leaf.marker], "marker", _name(path))
    renamed = [named[leaf.marker] if _is_index(leaf) else leaf for _, leaf in leaves]
    return jax.tree_util.tree_unflatten(structure, renamed), bool(named)


class _Programs:
    """What is computed of a network and a task: a step of training, scores, and what scores are worth.

    Programs take and return flat lists of arrays: passing pytrees of modules to and fro costs as much as a small step.
    """

    def __init__(self, network: Network):
        self.apply, self.task = network.apply, network.task
        self.optimiser = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0)  # as torch.optim.Adam
        carried = (network.weights, network.state, jax.eval_shape(self.optimiser.init, network.weights))
        self.training = jax.tree_util.tree_structure(carried)
        self.trained = jax.tree_util.tree_structure(carried[:2])
        self.moments = jax.tree_util.tree_leaves(carried[2])
        self.step = Program(self._step, donate=True)
        self.scores = Program(self._scores)
        self.judge = Program(self._judge)

    @property
    def seconds(self) -> float:
        """Seconds that the programs which were needed took to compile."""
        return sum(sum(program.seconds.values()) for program in (self.step, self.scores, self.judge))

    def _step(self, leaves: Leaves, images: jax.Array, labels: jax.Array, rate: jax.Array) -> tuple[Any, ...]:
        weights, state, moments = jax.tree_util.tree_unflatten(self.training, leaves)

        def loss(weights: Any) -> tuple[jax.Array, Any]:
            scores, after = self.apply(weights, state, centred(images), inference=False)
            check_score_shape(scores.shape, self.task.score_shape(images))  # type: ignore[arg-type]
            return loss_of(self.task, scores, labels), (scores, after)

        (value, (scores, after)), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
        updates, moments = self.optimiser.update(gradients, moments)
        weights = jax.tree_util.tree_map(lambda weight, update: weight - rate * update, weights, updates)
        return jax.tree_util.tree_leaves((weights, after, moments)), value, self._worth(scores, labels)

    def _scores(self, leaves: Leaves, images: jax.Array) -> jax.Array:
        weights, state = jax.tree_util.tree_unflatten(self.trained, leaves)
        return self.apply(weights, state, centred(images), inference=True)[0]

    def _judge(self, leaves: Leaves, scores: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        return loss_of(self.task, scores, labels), self._worth(scores, labels)

    def _worth(self, scores: jax.Array, labels: jax.Array) -> jax.Array:
        """Return the sum of the images' metrics, or the scores where the metric is no mean over images."""
        return scores if self.task.kind == "multilabel" else metric_of_images(self.task, scores, labels).sum()


class JaxLearner:
    """A `loop.Learner` of JAX. Its arrays live on the device, and each step takes the memory of the ones before."""

    def __init__(self, network: Network, run: Run):
        self.network = network
        self.programs = network.programs
        kept = jax.tree_util.tree_leaves((network.weights, network.state))
        # By NumPy, which compiles nothing; copied, since the programs take the memory of these.
        leaves = [np.array(leaf) for leaf in kept] + [
            np.zeros(like.shape, like.dtype) for like in self.programs.moments
        ]
        self.leaves: Leaves = [jax.device_put(leaf, may_alias=False) for leaf in leaves]
        self.count = len(kept)
        self.kept: list[np.ndarray] = []

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step of Adam, in training mode."""
        self.leaves, loss, worth = self.programs.step(self.leaves, images, labels, np.float32(rate))
        return self._outcome(loss, worth)

    def judge(self, images: np.ndarray, labels: np.ndarray) -> Outcome:
        """Return loss and metric in evaluation mode."""
        scores = self.programs.scores(self.leaves[: self.count], images)
        return self._outcome(*self.programs.judge([], scores, labels))

    def seconds(self) -> float:
        """Read the clock, without what compiling took."""
        return time.monotonic() - seconds_spent_compiling()

    def remember(self) -> None:
        """Copy weights and state to the host."""
        self.kept = [np.array(leaf) for leaf in self.leaves[: self.count]]

    def recall(self) -> None:
        """Give the copy to the network."""
        leaves = [jnp.asarray(leaf) for leaf in self.kept]
        self.network.weights, self.network.state = jax.tree_util.tree_unflatten(self.programs.trained, leaves)

    def _outcome(self, loss: jax.Array, worth: jax.Array) -> Outcome:
        if self.network.task.kind == "multilabel":
            return Outcome(float(loss), scores=np.asarray(worth))
        return Outcome(float(loss), float(worth))


def fit(network: Network, train: Split, valid: Split, run: Run) -> None:
    """Train ``network`` in place, as `loop.train` says, and leave it with the weights of its best epoch.

    Parameters
    ----------
    network : Network
        What `Network` wraps maps (N, C, H, W) to scores, see `contract.Task.score_shape`.
    train, valid, run
        As in `morphobench.training.torch.learner.fit`, and the same is raised.
    """
    loop.train(JaxLearner(network, run), train, valid, run)


def predict(network: Network, images: np.ndarray, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
    """Return the float32 scores of float32 images (N, C, H, W) in [0, 1], computed in evaluation mode."""
    leaves = jax.tree_util.tree_leaves((network.weights, network.state))
    parts = [network.programs.scores(leaves, images[part]) for part in batches_to_evaluate(len(images), batch_size)]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def loss_of(task: Task, scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the training loss of a batch, a scalar, as `morphobench.training.torch.learner.loss_of` does."""
    if task.kind == "restoration":
        return jnp.square(scores - labels).mean()
    if task.kind == "multilabel":
        return optax.sigmoid_binary_cross_entropy(scores, labels.astype(scores.dtype)).mean()
    truth = jax.nn.one_hot(labels, task.outputs, axis=1, dtype=scores.dtype)
    log_probability = jax.nn.log_softmax(scores, axis=1)
    cross_entropy = -(truth * log_probability).sum(axis=1).mean()
    if task.kind == "segmentation":
        return cross_entropy + _soft_dice_loss(jnp.exp(log_probability), truth)
    return cross_entropy


def _soft_dice_loss(probability: jax.Array, truth: jax.Array) -> jax.Array:
    """One minus the smoothed Dice coefficient of probabilities (N, K, H, W), over the batch, averaged over the foreground classes."""
    probability, truth = probability[:, 1:], truth[:, 1:]
    overlap = (probability * truth).sum((0, 2, 3))
    total = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def metric_of_images(task: Task, scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the primary metric of each image (N,), as PyTorch's half of the harness does."""
    if task.kind == "segmentation":
        classes = jnp.arange(1, task.outputs)[None, :, None, None]
        found, truth = scores.argmax(axis=1)[:, None] == classes, labels[:, None] == classes
        overlap = (found & truth).sum((2, 3))
        total = found.sum((2, 3)) + truth.sum((2, 3))
        return dice(overlap, total).mean(axis=1)
    if task.kind == "restoration":
        error = jnp.square(scores - labels).mean((1, 2, 3))
        return -10 * jnp.log10(jnp.maximum(error, 1e-10))
    return (scores.argmax(axis=1) == labels).astype(jnp.float32)


def count_parameters(network: Network) -> int:
    """Return the number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree_util.tree_leaves(network.weights))


def save_weights(network: Network, path: Path) -> None:
    """Write the weights and the state of ``network`` as safetensors, whole or not at all."""
    from safetensors.numpy import save_file

    with atomic(path) as temporary:
        save_file(network.named_arrays(), temporary)


def load_weights(network: Network, path: Path) -> None:
    """Take the weights and the state that `save_weights`, or PyTorch's half of the harness, has written.

    Raises
    ------
    KeyError
        If the file lacks one of them.
    """
    from safetensors.numpy import load_file

    found = load_file(path)

    def loaded(name: str, old: jax.Array) -> jax.Array:
        return jnp.asarray(found[name], old.dtype).reshape(old.shape)

    network.weights = jax.tree_util.tree_map_with_path(lambda at, old: loaded(_name(at), old), network.weights)
    for path_to, index in jax.tree_util.tree_flatten_with_path(network.module, is_leaf=_is_index)[0]:
        if _is_index(index):
            network.state = network.state.set(index, loaded(_name(path_to), network.state.get(index)))
