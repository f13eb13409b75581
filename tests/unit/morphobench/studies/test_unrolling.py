import numpy as np
import torch

from morphobench.studies.reference import solve_reference
from morphobench.studies.torch_unrolling import (
    above,
    gradient_step,
    neighbours,
    newton_step,
    newton_updates,
    relative_residual,
    unrolled,
)


def window_of(instance):
    arrays = {name: torch.as_tensor(array) for name, array in instance.arguments.items()}
    return neighbours(**arrays, erosion=instance.operator == "variational_erosion")


def test_newton_solves_what_the_reference_solves(instance):
    window, reference = window_of(instance), solve_reference(instance)
    solution, updates = newton_updates(window)
    assert np.abs(solution.numpy() - reference.value).max() <= 1e-12
    assert updates <= window.value.shape[2]
    assert relative_residual(window, solution) <= 1e-13


def test_gradient_descent_reaches_the_same_solution(instance):
    window = window_of(instance)
    solution = newton_updates(window)[0]
    errors = [float((unrolled(window, steps, gradient_step) - solution).abs().max()) for steps in (1, 20, 400)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-10


def test_a_constant_image_is_solved_by_its_constant_with_residual_zero():
    window = neighbours(torch.full((1, 1, 4, 4), 0.3), torch.zeros(1, 3, 3), torch.ones(1, 3, 3), torch.tensor([2.0]))
    solution, _ = newton_updates(window)
    assert torch.allclose(solution, torch.tensor(0.3))
    assert relative_residual(window._replace(value=torch.ones_like(window.value)), solution) == 0.0


def test_even_windows_of_an_erosion_look_the_other_way():
    x, bias, weight = torch.arange(4.0)[None, None, None], torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
    dilation, erosion = (neighbours(x, bias, weight, torch.zeros(1), erosion=e) for e in (False, True))
    assert newton_step(dilation, x).flatten().tolist() == [0.0, 0.5, 1.5, 2.5]
    assert newton_step(erosion, x).flatten().tolist() == [0.5, 1.5, 2.5, 3.0]
    assert above(erosion, x).dtype == torch.bool
