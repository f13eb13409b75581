"""What every method owes the harness. An assertion's message says what the author has to change."""

import random
import time
from dataclasses import dataclass

import numpy as np
import pytest

from morphobench.contract import OPERATIONS, PRIMARY_METRIC, Budget, Graph, GraphSplit, Run, Split, Task
from morphobench.evaluation import metrics
from morphobench.plugins.code_hash import code_hash
from morphobench.plugins.discovery import MethodInfo, discover_methods, names_in
from morphobench.plugins.loading import load_method
from morphobench.studies.plugin_operators import load_operators, load_recovery_operators
from morphobench.training.frameworks import framework_of, why_unavailable

SIZE = 12
BUDGET = Budget(epochs=12, batch_size=16)
GLANCE = Budget(epochs=2, batch_size=16)  # enough to tell two runs apart
LEARNED = ("classification", "segmentation", "restoration", "node_classification")  # where all plugins are tested
GRAPH_BUDGET = Budget(epochs=60)  # an epoch is one step


def toy_images(count, rng):
    """Return noisy pictures with no, one or two bright bars: how many can be told from the mean grey value alone."""
    classes = np.arange(count) % 3
    truth = np.zeros((count, SIZE, SIZE), dtype=np.int64)
    for image, bars in zip(truth, classes, strict=True):
        rows = rng.permutation([1, 7])[:bars] + rng.integers(0, 2)
        for row in rows:
            image[row : row + 3, 1:11] = 1
    images = 0.2 + 0.6 * truth + 0.1 * rng.standard_normal(truth.shape)
    return np.clip(images, 0, 1).astype(np.float32)[:, None], classes, truth


def toy_graph(seed=0):
    """Return directed chains of six nodes of one class, whose features say the class under much noise: edges help."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(60) % 3, 6)
    x = np.eye(3)[classes] + 0.7 * rng.standard_normal((360, 3))
    source = np.delete(np.arange(360), np.arange(5, 360, 6))
    return Graph(x.astype(np.float32), np.stack([source, source + 1])), classes


def toy_nodes(seed):
    """Return the nodes of every third chain: three splits of one graph."""
    graph, classes = toy_graph()
    nodes = np.flatnonzero(np.arange(360) // 18 % 3 == seed % 3)
    return GraphSplit(graph, nodes, classes[nodes])


def toy_split(kind, count, seed):
    if kind == "node_classification":
        return toy_nodes(seed)
    images, classes, truth = toy_images(count, np.random.default_rng(seed))
    labels = {
        "classification": classes,
        "ordinal": classes,
        "multilabel": np.stack([classes > 0, classes > 1], axis=1).astype(np.uint8),
        "segmentation": truth,
        "restoration": (0.2 + 0.6 * truth[:, None]).astype(np.float32),
    }
    return Split(images, labels[kind])


SHAPE = {"node_classification": (3,)}
OUTPUTS = {
    "classification": 3,
    "ordinal": 3,
    "multilabel": 2,
    "segmentation": 2,
    "restoration": 1,
    "node_classification": 3,
}

# Variants that are controls inside a method: what is left of it without the part that it is about.
CONTROLS = {
    (
        "certified",
        "mean",
    ): "level 0 leaves linear maps whose rows have norm 1; they are there to show that they do not learn"
}

# What a constant answer gets on the toy task, and how much better a method has to be.
TO_BEAT = {
    "classification": 0.55,
    "ordinal": 0.55,
    "multilabel": 0.7,
    "segmentation": 0.5,
    "restoration": 12.0,
    "node_classification": 0.55,
}


@dataclass
class Trained:
    info: MethodInfo
    kind: str
    task: Task
    method: object
    model: object
    test: Split | GraphSplit
    scores: np.ndarray


def train(name, variant, kind, project, folder, budget=None):
    info = discover_methods(project.methods)[name]
    assert isinstance(info, MethodInfo), f"{name} is invalid: {info.why}"
    if why_unavailable(info.framework):
        pytest.skip(f"{name} is {why_unavailable(info.framework)}")
    method = load_method(info, variant)
    budget = budget or (GRAPH_BUDGET if kind == "node_classification" else BUDGET)
    task = Task(
        kind, SHAPE.get(kind, (1, SIZE, SIZE)), OUTPUTS[kind], tuple(f"class {k}" for k in range(OUTPUTS[kind]))
    )
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - plugins may use the legacy generator
    framework_of(info.framework).seed(0)
    model = method.build(task)
    folder.mkdir(exist_ok=True)
    deadline = time.monotonic() + 300
    run = Run(0, deadline, folder, lambda line: None, task, budget, method.learning_rate, method.params)
    method.fit(model, toy_split(kind, 96, 1), toy_split(kind, 30, 2), run)
    test = toy_split(kind, 30, 3)
    return Trained(info, kind, task, method, model, test, method.predict(model, test.inputs))


@pytest.fixture(scope="module")
def learns(method_task, request):
    """Whether the case is trained until it has learned something: see `LEARNED`."""
    return bool(request.config.getoption("--plugin")) or method_task[2] in LEARNED


@pytest.fixture(scope="module")
def trained(method_task, learns, project, tmp_path_factory):
    return train(*method_task, project, tmp_path_factory.mktemp("run"), None if learns else GLANCE)


def test_the_plugin_is_valid_and_documented(method_name, project):
    info = discover_methods(project.methods)[method_name]
    assert isinstance(info, MethodInfo), f"{method_name} is invalid: {info.why}"
    assert (info.folder / "README.md").is_file(), (
        f"methods/{method_name} needs a README.md: what it is, source, weaknesses"
    )
    assert info.summary, f"methods/{method_name}/method.yaml needs a summary: one sentence for the report"
    assert code_hash(project, info)


def test_scores_have_the_shape_of_the_task_and_are_finite(trained):
    expected = trained.task.score_shape(trained.test.inputs)
    assert trained.scores.shape == expected, (
        f"predict must return {expected} for {trained.kind}, not {trained.scores.shape}"
    )
    assert np.issubdtype(trained.scores.dtype, np.floating), "predict must return floating-point scores (logits)"
    assert np.isfinite(trained.scores).all(), "predict returned NaN or infinity on a toy task: lower the learning rate"


def test_scores_do_not_depend_on_the_batch(trained):
    if trained.kind == "node_classification":
        pytest.skip("a graph is one batch")
    alone = np.concatenate([trained.method.predict(trained.model, trained.test.images[k : k + 1]) for k in range(6)])
    message = "the scores of an image depend on the images beside it: is the model in eval mode in predict?"
    np.testing.assert_allclose(alone, trained.scores[:6], rtol=1e-3, atol=1e-4, err_msg=message)


def test_scores_of_nodes_do_not_depend_on_their_numbers(trained):
    if trained.kind != "node_classification" or trained.info.family == "control":
        pytest.skip("about methods that learn from graphs")
    graph, order = trained.test.graph, np.random.default_rng(0).permutation(360)
    edges = np.argsort(order)[graph.edges]  # node order[k] is called k
    renamed = Graph(graph.x[order], edges[:, np.lexsort(edges[::-1])])
    message = "other numbers of the nodes give other scores: what depends on the order of nodes or edges?"
    found = trained.method.predict(trained.model, renamed)
    np.testing.assert_allclose(found, trained.scores[order], rtol=1e-3, atol=1e-4, err_msg=message)


def test_it_learns_a_toy_task(trained, learns, method_task):
    if not learns:
        pytest.skip(
            "two epochs: the same network learns the classification; `python -m morphobench check` trains it on"
        )
    if trained.info.family == "control":
        pytest.skip("controls are exempt: they are what learning is measured against")
    if method_task[:2] in CONTROLS:
        pytest.skip(CONTROLS[method_task[:2]])
    name = PRIMARY_METRIC[trained.kind]
    value = metrics.score(trained.kind, trained.test.own(trained.scores), trained.test.labels)[name]
    needed = TO_BEAT[trained.kind]
    assert value > needed, f"{name} {value:.3f} on a toy task, expected more than {needed}: it does not learn"


def test_predicting_leaves_random_generators_and_threads_alone(trained):
    if trained.info.framework == "torch":
        import torch

        before = (torch.get_rng_state(), torch.get_num_threads())
    states = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    trained.method.predict(trained.model, trained.test.inputs)
    assert random.getstate() == states[0], "predict draws from Python's global generator"
    assert np.random.get_state()[1].tolist() == states[1], "predict draws from NumPy's global generator"  # noqa: NPY002
    if trained.info.framework == "torch":
        assert torch.equal(torch.get_rng_state(), before[0]), "predict draws from torch's global generator"
        assert torch.get_num_threads() == before[1], "predict changes torch's number of threads"


def test_parameters_are_counted_and_weights_can_be_stored(trained, tmp_path):
    from safetensors.numpy import load_file

    framework, path = trained.method.framework, tmp_path / "weights.safetensors"
    framework.save_weights(trained.model, path)
    weights = load_file(path)
    if trained.info.framework != "numpy":
        assert 0 < framework.count_parameters(trained.model) <= sum(array.size for array in weights.values())
    assert all(np.isfinite(array).all() for array in weights.values()), "training left weights that are not finite"
    again = trained.method.build(trained.task)
    framework.load_weights(again, path)
    message = "a model that is built anew and given the stored weights predicts something else: what does it keep beside them?"
    scores = trained.method.predict(again, trained.test.inputs)
    np.testing.assert_allclose(scores, trained.scores, rtol=1e-5, atol=1e-6, err_msg=message)


def test_what_it_describes_can_be_stored(trained):
    described = trained.method.describe(trained.model)
    for name, values in described.items():
        assert name.rpartition(":")[2] in ("bias", "weight", "level"), (
            f"describe: {name!r} is not '<layer>:bias|weight|level'"
        )
        assert isinstance(values, np.ndarray), f"describe: {name!r} is {type(values).__name__}, expected a NumPy array"


def test_its_operators_are_finite_and_differentiable(method_name, project):
    info = discover_methods(project.methods)[method_name]
    if "operator_instances" not in names_in(info.folder / "method.py"):
        pytest.skip("brings no operator of its own to the studies")
    if why_unavailable(info.framework):
        pytest.skip(f"{method_name} is {why_unavailable(info.framework)}")
    for instance in load_operators(method_name):
        value, gradients = value_and_gradients(info.framework, instance)
        assert np.isfinite(value).all(), f"operator {instance.name}: the value is not finite"
        for name, gradient in zip(instance.arguments, gradients, strict=True):
            shape = instance.arguments[name].shape
            assert gradient.shape == shape, (
                f"operator {instance.name}: the gradient by {name} is {gradient.shape}, not {shape}"
            )
            assert np.isfinite(gradient).all(), f"operator {instance.name}: the gradient by {name} is not finite"


def test_its_recovery_operators_keep_the_function_they_start_from(method_name, project):
    info = discover_methods(project.methods)[method_name]
    if "recovery_operators" not in names_in(info.folder / "method.py"):
        pytest.skip("brings no operator to the study of operator recovery")
    import torch

    bias = np.random.default_rng(0).uniform(-1, 0, (2, 5, 5)).astype(np.float32)
    images = torch.rand((3, 2, 9, 8), generator=torch.Generator().manual_seed(0))
    for operator in load_recovery_operators(method_name):
        for operation in OPERATIONS:
            module, where = operator.make(operation, bias), f"{operator.name}, {operation}"
            np.testing.assert_array_equal(module.bias.detach().numpy(), bias, err_msg=f"{where}: another start")
            if operator.prepare_step is not None:
                operator.prepare_step(module, 0.5)
            found = module(images)
            assert found.shape == images.shape, f"{where}: {tuple(found.shape)} from {tuple(images.shape)}"
            found[:, 0].sum().backward()
            gradient = module.bias.grad
            assert gradient.isfinite().all(), f"{where}: a gradient is not finite"
            assert gradient[0].any(), f"{where}: no gradient"
            assert not gradient[1].any(), f"{where}: channels mix"


def value_and_gradients(framework, instance):
    """Return the value of an operator and the gradients of its sum, as arrays."""
    arrays = list(instance.arguments.values())
    if framework == "torch":
        import torch

        leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
        value = instance.operator(*leaves)
        return value.detach().numpy(), [g.numpy() for g in torch.autograd.grad(value.sum(), leaves)]
    import jax

    with jax.enable_x64(True):
        value, pullback = jax.vjp(instance.operator, *map(jax.numpy.asarray, arrays))
        return np.asarray(value), [np.asarray(g) for g in pullback(jax.numpy.ones_like(value))]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores(method_name, project, tmp_path):
    info = discover_methods(project.methods)[method_name]
    variant, kind = next(iter(info.variants)), info.tasks[0]
    first = train(method_name, variant, kind, project, tmp_path, GLANCE)
    second = train(method_name, variant, kind, project, tmp_path, GLANCE)
    message = "two runs with one seed differ: draw only from the generators the harness seeds, or from run.seed"
    np.testing.assert_array_equal(first.scores, second.scores, err_msg=message)
