"""What is kept for the backward pass: with a provenance or implicit gradient nothing that grows with the iterations."""

import contextlib
import gc

import kornia.morphology
import pytest
import torch

from varmorph.torch import (
    FixedPoint,
    Implicit,
    Newton,
    Unrolled,
    backend,
    graph_dilation,
    joint_graph_opening,
    joint_opening,
    reconstruction,
    regularised_dilation,
    regularised_graph_dilation,
    variational_dilation,
    variational_graph_dilation,
)


def live_storages():
    """Return the storages of all tensors that Python holds, by address."""
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            with contextlib.suppress(RuntimeError, UserWarning):  # those that torch.compile traced with have no storage
                found[thing.untyped_storage().data_ptr()] = thing
    return found


def bytes_kept(call):
    """Return the result of a call, and the bytes of all storages kept with it, each once.

    Counted are tensors that autograd saves, and those that Python holds after the call and did not before: a function may
    keep numbers in its context without autograd.
    """
    gc.collect()
    before, saved = live_storages(), {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    gc.collect()
    kept = saved | {place: tensor for place, tensor in live_storages().items() if place not in before}
    return result, sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_reconstruction_keeps_a_fiftieth_of_what_unrolling_keeps():
    mask = torch.nn.functional.avg_pool2d(noise(1, 1, 256, 256), 7, 1, 3)
    leaves = (mask - 0.3).requires_grad_(), mask.requires_grad_()
    ours, kept = bytes_kept(lambda: reconstruction(*leaves))
    theirs, kept_by_kornia = bytes_kept(lambda: kornia.morphology.reconstruction(*leaves))
    assert torch.equal(ours, theirs)
    assert kept <= 0.02 * kept_by_kornia


@pytest.fixture
def dilate():
    image = noise(2, 1, 24, 24).double().requires_grad_()
    flat = torch.zeros(3, 3, dtype=torch.float64)

    def dilate(solver, adjoint):
        solution, kept = bytes_kept(lambda: regularised_dilation(image, flat, 3.0, 1.0, solver=solver, adjoint=adjoint))
        return int(solution.certificate.forward.iterations.max()), kept

    return dilate


@pytest.mark.parametrize("solver", [Newton, FixedPoint])
def test_implicit_gradient_keeps_as_much_after_few_iterations_as_after_many(dilate, solver):
    (few, kept), (many, kept_after_many) = (dilate(solver(tolerance=t), Implicit()) for t in (1e-2, 1e-8))
    assert few < many
    assert kept == kept_after_many


def test_unrolling_keeps_every_iteration(dilate):
    (few, kept), (many, kept_after_many) = (dilate(FixedPoint(tolerance=t), Unrolled()) for t in (1e-2, 1e-8))
    assert many >= 4 * few
    assert kept_after_many >= 3 * kept


EDGES = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
LEVELS = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
BY_GRAPH = {
    "separable": lambda x: variational_graph_dilation(x, EDGES, None, 2.0),
    "coupled": lambda x: regularised_graph_dilation(x, EDGES, None, 2.0, 1.0).value,
    "joint": lambda x: joint_graph_opening(x, EDGES, None, LEVELS, 1.0).value,
    "exact": lambda x: graph_dilation(x, EDGES),
}
BY_IMAGE = {
    "regularised": lambda x: regularised_dilation(x, torch.zeros(2, 3, 3), 2.0, 1.0, weight=torch.ones(2, 3, 3)).value,
    "joint image": lambda x: joint_opening(x, torch.zeros(2, 3, 3), LEVELS, 1.0, weight=torch.ones(2, 3, 3)).value,
    "variational": lambda x: variational_dilation(x, torch.zeros(2, 3, 3), 2.0, weight=torch.ones(2, 3, 3)),
}


@pytest.mark.parametrize("implementation", ["auto", "tensor"])
@pytest.mark.parametrize("name", [*BY_GRAPH, *BY_IMAGE])
def test_a_step_leaves_nothing_that_waits_for_the_garbage_collector(name, implementation):
    """A cycle of references keeps the tensors of a step: memory grows with the steps, since nothing tells Python how large they are."""
    operator = {**BY_GRAPH, **BY_IMAGE}[name]
    x = noise(4, 2) if name in BY_GRAPH else noise(1, 2, 6, 6)
    x.requires_grad_()

    def step():
        operator(x).sum().backward()

    gc.disable()
    try:
        with backend(implementation):
            step()  # what is made once
            gc.collect()
            before = set(live_storages())
            step()
        left = [tensor.shape for place, tensor in live_storages().items() if place not in before]
    finally:
        gc.enable()
    assert left == []
