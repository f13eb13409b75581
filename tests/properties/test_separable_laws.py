"""The laws of the separable variational operators, for random images, structuring functions, weights and levels."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varmorph.torch import backend, dilation, erosion, variational_dilation, variational_erosion

INDEX_MAPS = ("geodesic", "replicate", "reflect", "circular")
SMALL = 1e-11


@dataclass
class Problem:
    """Arguments of a separable operator, drawn from a seeded generator; `padding` is an index map."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    size: tuple[int, int]
    padding: str
    spread: float
    penalty: ClassVar[dict] = {}  # set by the fixture `computed_by`

    def __post_init__(self):
        channels = self.shape[1]
        self.x = self.image()
        self.bias = self.tensor(channels, *self.size)
        self.weight = self.tensor(channels, *self.size).exp()
        self.level = 3 * self.tensor(channels)

    def tensor(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    def image(self):
        return self.spread * self.tensor(*self.shape)

    def apply(self, operator, x=None, bias=None, level=None):
        arguments = (
            self.x if x is None else x,
            self.bias if bias is None else bias,
            self.level if level is None else level,
        )
        return operator(*arguments, weight=self.weight, padding=self.padding, **self.penalty)


@st.composite
def problems(draw):
    side = st.integers(1, 6)
    return Problem(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        (draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(side), draw(side)),
        (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        draw(st.sampled_from(INDEX_MAPS)),
        draw(st.sampled_from((0.1, 1.0, 30.0))),
    )


@st.composite
def single_windows(draw):
    """Problems with one output, whose window is the image: 50 samples of x + b, (samples, neighbours)."""
    problem = draw(problems())
    problem.shape = (50, 1, *problem.size)
    problem.padding = "valid"
    problem.__post_init__()
    return problem, (problem.x + problem.bias).flatten(1), problem.weight.flatten()


EXPECTILE = [pytest.param(("tensor", {}), id="tensor"), pytest.param(("auto", {}), id="auto")]
QUANTILE = pytest.param(("tensor", {"penalty": "quantile"}), id="quantile")
HUBER = pytest.param(("tensor", {"penalty": "huber", "smoothing": 0.5}), id="huber")


@pytest.fixture(params=EXPECTILE, autouse=True)
def computed_by(request, monkeypatch):
    name, penalty = request.param
    monkeypatch.setattr(Problem, "penalty", penalty)
    with backend(name):
        yield


every_penalty = pytest.mark.parametrize("computed_by", [*EXPECTILE, QUANTILE, HUBER], indirect=True)
one_degree = pytest.mark.parametrize("computed_by", [*EXPECTILE, QUANTILE], indirect=True)


both_operators = pytest.mark.parametrize("operator", [variational_dilation, variational_erosion])


def sup(tensor):
    return tensor.abs().max().item()


@given(single_windows())
def test_the_output_is_the_minimiser_of_its_energy(drawn):
    problem, values, weight = drawn
    y = problem.apply(variational_dilation).flatten()[:, None]
    tau = torch.sigmoid(problem.level)
    residual = values - y
    slope = (weight * torch.where(residual >= 0, tau, 1 - tau) * residual).sum(1)
    assert sup(slope) <= SMALL * (weight.sum() * problem.spread).item()


@every_penalty
@both_operators
@given(problem=problems())
def test_there_is_one_finite_output_for_every_pixel(operator, problem):
    y = problem.apply(operator)
    assert y.shape == problem.x.shape
    assert torch.isfinite(y).all()


@every_penalty
@both_operators
@given(problem=problems(), constant=st.floats(-5, 5))
def test_adding_a_constant_to_the_image_adds_it_to_the_output(operator, problem, constant):
    shifted = problem.apply(operator, x=problem.x + constant)
    assert sup(shifted - problem.apply(operator) - constant) <= SMALL * (5 + problem.spread)


@every_penalty
@both_operators
@given(problem=problems())
def test_the_operator_is_increasing(operator, problem):
    higher = problem.x + problem.image().relu()
    assert (problem.apply(operator, x=higher) >= problem.apply(operator) - SMALL * problem.spread).all()


@every_penalty
@given(problem=problems(), step=st.floats(0, 4))
def test_the_dilation_increases_with_its_level(problem, step):
    higher = problem.apply(variational_dilation, level=problem.level + step)
    assert (higher >= problem.apply(variational_dilation) - SMALL * (1 + problem.spread)).all()


@every_penalty
@given(problem=problems(), step=st.floats(0, 4))
def test_the_erosion_decreases_with_its_level(problem, step):
    higher = problem.apply(variational_erosion, level=problem.level + step)
    assert (higher <= problem.apply(variational_erosion) + SMALL * (1 + problem.spread)).all()


@every_penalty
@both_operators
@given(problem=problems())
def test_the_operator_is_1_lipschitz_in_the_sup_norm(operator, problem):
    other = problem.image()
    apart = problem.apply(operator, x=other) - problem.apply(operator)
    assert sup(apart) <= sup(other - problem.x) * (1 + SMALL)


@every_penalty
@both_operators
@given(problem=problems())
def test_the_operator_is_self_dual(operator, problem):
    mirrored = problem.apply(operator, x=-problem.x, bias=-problem.bias, level=-problem.level)
    assert sup(mirrored + problem.apply(operator)) <= SMALL * (1 + problem.spread)


@one_degree
@both_operators
@given(problem=problems(), factor=st.floats(0.1, 10))
def test_the_operator_is_homogeneous(operator, problem, factor):
    scaled = problem.apply(operator, x=factor * problem.x, bias=factor * problem.bias)
    assert sup(scaled - factor * problem.apply(operator)) <= SMALL * factor * (1 + problem.spread)


@given(single_windows())
def test_the_distance_to_the_max_plus_dilation_is_bounded(drawn):
    problem, values, weight = drawn
    distance = (dilation(problem.x, problem.bias, padding="valid") - problem.apply(variational_dilation)).flatten()
    tau, total = torch.sigmoid(problem.level), weight.sum()
    at_maximum = weight[values.argmax(1)]
    reach = values.max(1).values - values.min(1).values
    bound = (1 - tau) / tau * (total - at_maximum) / at_maximum * reach
    assert (distance >= -SMALL * (1 + problem.spread)).all()
    assert (distance <= bound + SMALL * (1 + problem.spread)).all()


@every_penalty
@pytest.mark.parametrize(("variational", "exact"), [(variational_dilation, dilation), (variational_erosion, erosion)])
@given(problem=problems())
def test_a_large_level_gives_the_exact_operator(variational, exact, problem):
    limit = problem.apply(variational, level=torch.full_like(problem.level, 40.0))
    assert sup(limit - exact(problem.x, problem.bias, padding=problem.padding)) <= 1e-10 * (1 + problem.spread)


@every_penalty
@both_operators
@given(problem=problems())
def test_rows_of_the_jacobian_are_nonnegative_and_sum_to_one(operator, problem):
    x = problem.x[:1, :1, :4, :4].clone()
    problem.bias, problem.weight, problem.level = problem.bias[:1], problem.weight[:1], problem.level[:1]
    rows = torch.autograd.functional.jacobian(lambda x: problem.apply(operator, x=x), x).reshape(x.numel(), -1)
    assert (rows >= 0).all()
    assert sup(rows.sum(1) - 1) <= SMALL


@given(single_windows())
def test_from_level_one_half_on_it_is_the_greatest_weighted_mean_over_subsets(drawn):
    problem, values, weight = drawn
    if weight.numel() > 9:
        return
    level = problem.level.abs()
    tau = torch.sigmoid(level)
    subsets = torch.tensor(list(itertools.product((False, True), repeat=weight.numel())))
    weights = weight * torch.where(subsets, tau, 1 - tau)
    means = values @ (weights / weights.sum(1, keepdim=True)).T
    y = problem.apply(variational_dilation, level=level).flatten()
    assert sup(y - means.max(1).values) <= SMALL * (1 + problem.spread)
