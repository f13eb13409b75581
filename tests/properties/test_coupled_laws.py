"""The laws of the operators whose outputs depend on each other: regularised dilation, joint opening, joint closing.

Every law is one of mathematics.md, sections 1 to 3. The energies are written out here once more, edge by edge, so that
nothing is shared with the code under test.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from padding import pixel_at

from varmorph.torch import (
    ADMM,
    Implicit,
    Newton,
    PrimalDual,
    closing,
    dilation,
    joint_closing,
    joint_opening,
    opening,
    regularised_dilation,
    variational_dilation,
)

INDEX_MAPS = ("geodesic", "replicate", "reflect", "circular")
EXACTLY = {"solver": Newton(tolerance=1e-12), "adjoint": Implicit(tolerance=1e-12)}
SMALL = 1e-9


def dilation_edges(image, size, rate, padding):
    """Sources, targets and elements of the edges x_(i+k) -> y_i, pixels and elements numbered in row-major order."""
    edges = []
    for i, j in np.ndindex(*image):
        for k, m in np.ndindex(*size):
            row = pixel_at(i + rate * (k - size[0] // 2), image[0], padding)
            column = pixel_at(j + rate * (m - size[1] // 2), image[1], padding)
            if row is not None and column is not None:
                edges.append((row * image[1] + column, i * image[1] + j, k * size[1] + m))
    return torch.tensor(edges).T


def per_channel(numbers):
    return numbers if numbers is None or numbers.ndim == 0 else numbers[:, None]


def penalty_of(r, smoothing, level=None):
    """rho_tau(r): r^2 / 2 without smoothing, else Huber's penalty; without level the same on both sides."""
    h = r * r / 2
    if smoothing is not None:
        mu = per_channel(smoothing)
        h = torch.where(r.abs() <= mu, h / mu, r.abs() - mu / 2)
    if level is None:
        return h
    level = per_channel(level)
    return torch.where(r >= 0, torch.sigmoid(level), torch.sigmoid(-level)) * h


def negated(bias):
    """Offsets with the other sign; what is left out stays left out."""
    return torch.where(torch.isneginf(bias), bias, -bias)


def sup(tensor):
    return tensor.abs().max().item()


@dataclass(frozen=True)
class Draw:
    """What a problem is made from; `penalty` and `edge_penalty` are those with a derivative."""

    seed: int
    channels: int
    image: tuple[int, int]
    size: tuple[int, int]
    rate: int
    padding: str
    spread: float
    sharpness: float
    penalty: str
    edge_penalty: str

    @property
    def window(self):
        return {"rate": self.rate, "padding": self.padding}

    @cached_property
    def rng(self):
        return np.random.default_rng(self.seed)

    def tensor(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    def positive(self, *shape):
        return self.tensor(*shape).exp()

    def pixels(self):
        return self.spread * self.tensor(1, self.channels, *self.image)

    def structuring_function(self):
        """Some elements are left out; the origin stays."""
        left_out = torch.from_numpy(self.rng.random((self.channels, *self.size)) < 0.2)
        left_out[:, self.size[0] // 2, self.size[1] // 2] = False
        return self.tensor(self.channels, *self.size).masked_fill(left_out, -torch.inf)

    def smoothing(self, penalty):
        return self.spread / self.sharpness * self.positive(self.channels) if penalty == "huber" else None


def draws(penalty=("expectile", "huber"), edge_penalty=("quadratic", "huber"), channels=2):
    return st.builds(
        Draw,
        seed=st.integers(0, 2**32 - 1),
        channels=st.integers(1, channels),
        image=st.tuples(st.integers(1, 4), st.integers(1, 5)),
        size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        rate=st.integers(1, 2),
        padding=st.sampled_from(INDEX_MAPS),
        spread=st.sampled_from((0.1, 1.0, 30.0)),
        sharpness=st.sampled_from((3.0, 30.0)),
        penalty=st.sampled_from(penalty),
        edge_penalty=st.sampled_from(edge_penalty),
    )


quadratic = draws(("expectile",), ("quadratic",))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Arguments that all operators share. Variants of a problem that differ in x alone are solved as one batch."""

    drawn: Draw
    x: torch.Tensor
    bias: torch.Tensor
    weight: torch.Tensor
    level: torch.Tensor
    smoothing: torch.Tensor | None

    @classmethod
    def shared(cls, drawn):
        return {
            "drawn": drawn,
            "x": drawn.pixels(),
            "bias": drawn.structuring_function(),
            "weight": drawn.positive(drawn.channels, *drawn.size),
            "smoothing": drawn.smoothing(drawn.penalty),
        }

    @property
    def options(self):
        penalty = "expectile" if self.smoothing is None else "huber"
        return {"penalty": penalty, "smoothing": self.smoothing, **self.drawn.window, **EXACTLY}

    @cached_property
    def edges(self):
        """Edges of the dilation, offsets and weights (C, edges); those that are left out have weight 0."""
        source, target, element = dilation_edges(self.drawn.image, self.drawn.size, self.drawn.rate, self.drawn.padding)
        bias = self.bias.flatten(1)[:, element]
        left_out = torch.isneginf(bias)
        weight = self.weight.flatten(1)[:, element].masked_fill(left_out, 0.0)
        return source, target, bias.masked_fill(left_out, 0.0), weight

    @cached_property
    def solution(self):
        return self.solve()

    @property
    def value(self):
        return self.solution.value

    def values(self, *images):
        return replace(self, x=torch.cat(images)).value.chunk(len(images))

    def dual(self):
        return replace(self, x=-self.x, bias=negated(self.bias), level=-self.level)

    def is_unique(self):
        return bool(self.solution.certificate.forward.unique.all())

    @property
    def reach(self):
        """Bound of the numbers that occur."""
        return self.drawn.spread + 1


@dataclass(frozen=True, kw_only=True)
class Regularised(Problem):
    coupling: torch.Tensor
    edge_weights: torch.Tensor | None
    edge_smoothing: torch.Tensor | None
    ridge: torch.Tensor | float

    @classmethod
    def of(cls, drawn):
        shared = cls.shared(drawn)
        weighted, own_weights, with_ridge = drawn.rng.random(3) < 0.5
        of_edges = (1, drawn.channels if own_weights else 1, 2, *drawn.image)
        return cls(
            **shared,
            level=2 * drawn.tensor(drawn.channels),
            coupling=drawn.positive(drawn.channels),
            edge_weights=drawn.positive(*of_edges) if weighted else None,
            edge_smoothing=drawn.smoothing(drawn.edge_penalty),
            ridge=0.3 * drawn.positive(drawn.channels) if with_ridge else 0.0,
        )

    def solve(self, **how):
        a = self.edge_weights
        options = {
            "edge_weights": None if a is None else a.expand(self.x.shape[0], *a.shape[1:]),
            "edge_penalty": "quadratic" if self.edge_smoothing is None else "huber",
            "edge_smoothing": self.edge_smoothing,
            "ridge": self.ridge,
        }
        arguments = (self.x, self.bias, self.level, self.coupling)
        return regularised_dilation(*arguments, weight=self.weight, **{**options, **self.options, **how})

    def factors(self):
        """Weights of the edges to the pixel below and to the pixel at the right."""
        a = self.edge_weights
        a = torch.ones(1, 1, 2, *self.drawn.image, dtype=torch.float64) if a is None else a
        return a[:, :, 0, : self.drawn.image[0] - 1].flatten(2), a[:, :, 1, :, : self.drawn.image[1] - 1].flatten(2)

    def output(self, z):
        return z

    def energy(self, z):
        """E of each sample and channel (N, C)."""
        source, target, bias, weight = self.edges
        r = self.x.flatten(2)[..., source] + bias - z.flatten(2)[..., target]
        total = (weight * penalty_of(r, self.smoothing, self.level)).sum(-1)
        below, beside = self.factors()
        down = below * penalty_of((z[..., 1:, :] - z[..., :-1, :]).flatten(2), self.edge_smoothing)
        right = beside * penalty_of((z[..., 1:] - z[..., :-1]).flatten(2), self.edge_smoothing)
        sides = down.sum(-1) + right.sum(-1)
        ridge = torch.as_tensor(self.ridge) / 2 * ((z - self.x) ** 2).flatten(2).sum(-1)
        return total + self.coupling * sides + ridge

    def random_start(self):
        return 3 * self.drawn.pixels()


@dataclass(frozen=True, kw_only=True)
class Joint(Problem):
    """`level` holds those of the first and of the second family, (2, C)."""

    eta: torch.Tensor

    @classmethod
    def of(cls, drawn):
        shared = cls.shared(drawn)
        return cls(**shared, level=2 * drawn.tensor(2, drawn.channels), eta=drawn.positive(drawn.channels))

    def solve(self, **how):
        arguments = (self.x, self.bias, self.level, self.eta)
        return self.operator(*arguments, weight=self.weight, **{**self.options, **how})

    def output(self, z):
        return z[:, :, 1]

    def energy(self, z):
        """E of each sample and channel (N, C), at z = (u, y) of shape (N, C, 2, H, W)."""
        u, y = z.flatten(3).unbind(2)
        source, target, bias, weight = self.edges
        dilating, eroding = (source, target, bias), (target, source, -bias)
        first, second = (eroding, dilating) if self.operator is joint_opening else (dilating, eroding)
        total = 0.0
        for known, unknown, (start, end, offset), level, factor in (
            (self.x.flatten(2), u, first, self.level[0], 1.0),
            (u, y, second, self.level[1], self.eta),
        ):
            r = known[..., start] + offset - unknown[..., end]
            total = total + factor * (weight * penalty_of(r, self.smoothing, level)).sum(-1)
        return total

    def random_start(self):
        return 3 * torch.stack((self.drawn.pixels(), self.drawn.pixels()), 2)


class JointOpening(Joint):
    operator = staticmethod(joint_opening)
    limit = staticmethod(opening)


class JointClosing(Joint):
    operator = staticmethod(joint_closing)
    limit = staticmethod(closing)


every_operator = pytest.mark.parametrize("operator", [Regularised, JointOpening, JointClosing])
joint_operators = pytest.mark.parametrize("operator", [JointOpening, JointClosing])
some = settings(max_examples=7)
few = settings(max_examples=5)


# --- the value ------------------------------------------------------------------------------------------------------


@every_operator
@some
@given(drawn=draws())
def test_the_output_is_a_minimiser_of_its_energy(operator, drawn):
    problem = operator.of(drawn)
    z = problem.solution.unknowns.clone().requires_grad_()
    assert torch.equal(problem.value, problem.output(z))
    energy = problem.energy(z)
    (slope,) = torch.autograd.grad(energy.sum(), z)
    # Beside the gradient at a point that is a little off, which grows with the stiffness of the edges.
    off = (z.detach() + 1e-4 * problem.reach * drawn.tensor(*z.shape)).requires_grad_()
    (slope_off,) = torch.autograd.grad(problem.energy(off).sum(), off)
    assert sup(slope) <= SMALL / 1e-4 * sup(slope_off)
    for size in (1e-4, 1e-2, 1.0):
        other = problem.energy(z.detach() + size * problem.reach * drawn.tensor(*z.shape))
        assert (energy <= other * (1 + 1e-12)).all()


@every_operator
@some
@given(drawn=draws())
def test_where_the_minimiser_is_unique_every_start_leads_to_it(operator, drawn):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    for _ in range(2):
        again = problem.solve(start=problem.random_start()).value
        assert sup(again - problem.value) <= SMALL * problem.reach


# --- the laws -------------------------------------------------------------------------------------------------------


@every_operator
@some
@given(drawn=draws(), constant=st.floats(-5, 5))
def test_adding_a_constant_to_the_image_adds_it_to_the_output(operator, drawn, constant):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    value, shifted = problem.values(problem.x, problem.x + constant)
    assert sup(shifted - value - constant) <= SMALL * (5 + problem.reach)


@every_operator
@some
@given(drawn=draws())
def test_the_operator_is_increasing(operator, drawn):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    value, higher = problem.values(problem.x, problem.x + drawn.pixels().relu())
    assert (higher >= value - SMALL * problem.reach).all()


@every_operator
@some
@given(drawn=draws(), share=st.sampled_from((0.01, 1.0)))
def test_the_operator_is_1_lipschitz_in_the_sup_norm(operator, drawn, share):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    change = share * drawn.pixels()
    value, other = problem.values(problem.x, problem.x + change)
    assert sup(other - value) <= sup(change) + SMALL * problem.reach


@every_operator
@some
@given(drawn=draws())
def test_the_operator_is_self_dual(operator, drawn):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    assert sup(problem.dual().value + problem.value) <= SMALL * problem.reach


@every_operator
@some
@given(drawn=quadratic, factor=st.floats(0.1, 10))
def test_with_quadratic_penalties_the_operator_is_homogeneous(operator, drawn, factor):
    problem = operator.of(drawn)
    scaled = replace(problem, x=factor * problem.x, bias=factor * problem.bias)
    assert sup(scaled.value - factor * problem.value) <= SMALL * factor * problem.reach


@pytest.mark.parametrize(
    ("operator", "penalty", "edge_penalty"),
    [
        (Regularised, "huber", "quadratic"),
        (Regularised, "expectile", "huber"),
        (JointOpening, "huber", "quadratic"),
        (JointClosing, "huber", "quadratic"),
    ],
)
def test_with_a_huber_penalty_the_operator_is_not_homogeneous(operator, penalty, edge_penalty):
    drawn = Draw(0, 1, (3, 3), (3, 3), 1, "geodesic", 1.0, 3.0, penalty, edge_penalty)
    problem = operator.of(drawn)
    doubled = replace(problem, x=2 * problem.x, bias=2 * problem.bias)
    assert sup(doubled.value - 2 * problem.value) > 1e-2


@every_operator
@few
@given(drawn=draws(channels=1))
def test_rows_of_the_jacobian_are_nonnegative_and_sum_to_one(operator, drawn):
    problem = operator.of(drawn)
    assume(problem.is_unique())
    pixels = problem.x.numel()
    # One sample for each row: samples do not see each other.
    x = problem.x.repeat(pixels, 1, 1, 1).requires_grad_()
    solution = replace(problem, x=x).solution
    (rows,) = torch.autograd.grad(solution.value.flatten(1).diagonal().sum(), x)
    rows = rows.flatten(1)
    assert solution.certificate.backward.converged.all()
    assert not solution.certificate.backward.singular.any()
    assert (rows >= -SMALL).all()
    assert sup(rows.sum(1) - 1) <= SMALL


# --- the limits -----------------------------------------------------------------------------------------------------


@given(drawn=draws())
@some
def test_without_coupling_and_ridge_it_is_the_separable_dilation(drawn):
    problem = replace(Regularised.of(drawn), coupling=torch.zeros((), dtype=torch.float64), ridge=0.0)
    assume(problem.is_unique())
    options = {name: value for name, value in problem.options.items() if name not in EXACTLY}
    separable = variational_dilation(problem.x, problem.bias, problem.level, weight=problem.weight, **options)
    assert sup(problem.value - separable) <= SMALL * problem.reach


@joint_operators
@some
@given(drawn=draws())
def test_huber_with_a_large_smoothing_is_the_expectile_of_a_joint_operator(operator, drawn):
    problem = operator.of(drawn)
    large = torch.full((drawn.channels,), 50 * problem.reach, dtype=torch.float64)
    huber, expectile = replace(problem, smoothing=large), replace(problem, smoothing=None)
    assert sup(huber.value - expectile.value) <= SMALL * problem.reach


@some
@given(drawn=draws())
def test_huber_with_a_large_smoothing_is_the_expectile_divided_by_it(drawn):
    problem = Regularised.of(drawn)
    large = torch.full((drawn.channels,), 50 * problem.reach, dtype=torch.float64)
    others = {"coupling": problem.coupling / large, "ridge": torch.as_tensor(problem.ridge) / large}
    huber, expectile = replace(problem, smoothing=large, **others), replace(problem, smoothing=None)
    assert sup(huber.value - expectile.value) <= SMALL * problem.reach


def known_values(problem):
    """Values x + b of a one-channel problem on its edges that are not left out, their weights and their targets."""
    source, target, bias, weight = problem.edges
    present = weight[0] > 0
    return (problem.x.flatten()[source] + bias[0])[present], weight[0, present], target[present]


@some
@given(drawn=draws(("expectile",), ("quadratic",), channels=1), level=st.floats(2, 10))
def test_at_a_fixed_coupling_a_large_level_gives_the_greatest_value_of_the_image(drawn, level):
    problem = replace(Regularised.of(drawn), level=torch.tensor(level, dtype=torch.float64), ridge=0.0)
    values, weight, _ = known_values(problem)
    tau, cotau = torch.sigmoid(problem.level), torch.sigmoid(-problem.level)
    # All pulls downwards together are at most `down`; they bound the pull at the greatest value, and the force on every
    # edge between two outputs, hence their difference.
    down = cotau * weight.sum() * (values.max() - values.min())
    stiffness = problem.coupling * min([1.0, *(factor.min() for factor in problem.factors() if factor.numel())])
    path = sum(drawn.image) - 2
    bound = down / (tau * weight[values.argmax()]) + path * down / stiffness
    distance = values.max() - problem.value
    assert (distance >= -SMALL * problem.reach).all()
    assert (distance <= bound + SMALL * problem.reach).all()


@some
@given(drawn=draws(("expectile",), channels=1), level=st.floats(2, 10), share=st.floats(-6, 0))
def test_a_large_level_and_a_coupling_small_beside_one_minus_it_give_the_classical_dilation(drawn, level, share):
    problem = replace(
        Regularised.of(drawn), level=torch.tensor(level, dtype=torch.float64), ridge=0.0, edge_weights=None
    )
    tau, cotau = torch.sigmoid(problem.level), torch.sigmoid(-problem.level)
    stiffness = 1.0 if problem.edge_smoothing is None else problem.edge_smoothing
    problem = replace(problem, coupling=10**share * cotau * stiffness)
    values, weight, target = known_values(problem)
    reach = values.max() - values.min()
    distance = (dilation(problem.x, problem.bias, **drawn.window) - problem.value).flatten()
    for pixel in range(distance.numel()):
        near, pulls = values[target == pixel], weight[target == pixel]
        sideways = 4 * 10**share * cotau * reach  # at most 4 outputs beside it
        below = (cotau * pulls.sum() * reach + sideways) / (tau * pulls[near.argmax()])
        above = sideways / (cotau * pulls.sum())
        assert -above - SMALL * problem.reach <= distance[pixel] <= below + SMALL * problem.reach


@joint_operators
@few
@given(drawn=draws())
def test_a_joint_operator_tends_to_the_classical_one_along_a_path_of_levels(operator, drawn):
    problem = operator.of(drawn)
    exact = problem.limit(problem.x, problem.bias, **drawn.window)
    sign = -1.0 if operator is JointOpening else 1.0
    errors = []
    for s in (6.0, 9.0, 12.0):
        # eta (1 - tau_2) / tau_1 of the opening, eta tau_2 / (1 - tau_1) of the closing: about eta exp(-s).
        level = torch.tensor([[sign * s], [-2 * sign * s]], dtype=torch.float64).expand(2, drawn.channels)
        # At these levels the energy is so flat on one side that rounding may end a solve before it is exact.
        solution = replace(problem, level=level).solve(solver=Newton(tolerance=1e-7))
        errors.append(sup(solution.value - exact))
    assert all(later <= earlier / 4 + SMALL * problem.reach for earlier, later in itertools.pairwise(errors))
    assert errors[-1] <= 0.02 * problem.reach


# --- the quantile penalty -------------------------------------------------------------------------------------------


def with_quantiles(drawn):
    """A problem with a positive ridge and the absolute penalty, and the scale of its energy: weights times range."""
    problem = replace(Regularised.of(drawn), smoothing=None, ridge=0.3 * drawn.positive(1))
    values, weight, _ = known_values(problem)
    known = torch.cat((values, problem.x.flatten()))
    sides = sum(factor.sum() for factor in problem.factors())
    return problem, ((weight.sum() + problem.coupling * sides) * (known.max() - known.min())).item()


def quantile_energy(problem, z):
    """E with h(r) = |r|: Huber's penalty without its smoothing."""
    none = torch.full((1,), 1e-300, dtype=torch.float64)
    return replace(problem, smoothing=none).energy(z).item()


def solve_with(problem, solver):
    solution = problem.solve(penalty="quantile", solver=solver)
    return solution.value, solution.certificate.forward.residual.item()


@some
@given(drawn=draws(("expectile",), channels=1))
def test_the_duality_gap_bounds_the_energy_above_the_least_and_so_the_distance_of_two_solvers(drawn):
    problem, scale = with_quantiles(drawn)
    (first, gap), (second, other_gap) = (solve_with(problem, solver(tolerance=1e-7)) for solver in (PrimalDual, ADMM))
    difference = quantile_energy(problem, first) - quantile_energy(problem, second)
    rounding = 1e-12 * scale
    assert -other_gap * scale - rounding <= difference <= gap * scale + rounding
    # The ridge makes the energy strongly convex.
    squared = ((first - second) ** 2).sum().item()
    assert problem.ridge.item() / 2 * squared <= 2 * (gap + other_gap) * scale + rounding


@some
@given(drawn=draws(("expectile",), channels=1), share=st.sampled_from((0.1, 0.01)))
def test_huber_is_no_farther_from_the_quantile_than_its_smoothing(drawn, share):
    problem, scale = with_quantiles(drawn)
    quantile, gap = solve_with(problem, ADMM(tolerance=1e-7))
    # Huber's slope at r is one of the absolute value at a residual within mu of r, and the minimiser is 1-Lipschitz in
    # the known values of the edges.
    smoothing = torch.full((1,), share * drawn.spread, dtype=torch.float64)
    huber = replace(problem, smoothing=smoothing).value
    error = math.sqrt(2 * gap * scale / problem.ridge.item())
    assert sup(huber - quantile) <= smoothing.item() + error + SMALL * problem.reach
