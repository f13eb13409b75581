"""The lasso layer: its code, its gradient away from kinks, what it is at kinks, and where there is none."""

import numpy as np
import pytest
import torch

from varmorph.convergence import ConvergenceError, ConvergenceWarning
from varmorph.reference import lasso as exhaustive
from varmorph.torch import backend
from varmorph.torch.lasso import sparse_code
from varmorph.torch.lasso.supports import Systems, shared, solve_on_supports

SAMPLES, FEATURES, ATOMS = 20, 9, 6


def problem(seed=0, samples=SAMPLES, features=FEATURES, atoms=ATOMS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((samples, features), generator=generator, dtype=dtype)
    dictionary = torch.randn((features, atoms), generator=generator, dtype=dtype)
    strength = 0.3 + 0.5 * torch.rand(atoms, generator=generator, dtype=dtype)
    return x, dictionary / dictionary.norm(dim=0), strength


@pytest.fixture(params=["tensor", "cpu"])
def computed_by(request):
    with backend(request.param):
        yield request.param


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_code_is_that_of_the_exhaustive_search(computed_by, ridge):
    x, dictionary, strength = problem(atoms=5, samples=6)
    found = sparse_code(x, dictionary, strength, ridge=ridge)
    for code, sample in zip(found.value.numpy(), x.numpy(), strict=True):
        np.testing.assert_allclose(
            code, exhaustive.sparse_code(sample, dictionary.numpy(), strength.numpy(), ridge), atol=1e-12
        )
    assert found.certificate.forward.converged.all()
    assert found.certificate.forward.unique.all()


def test_the_code_is_that_of_scikit_learn(computed_by):
    """Its Lasso divides the squares by the number of features: alpha = s / n."""
    from sklearn.linear_model import Lasso

    x, dictionary, _ = problem(seed=1, samples=4, features=10, atoms=14)
    code = sparse_code(x, dictionary, 0.4).value.numpy()
    peer = Lasso(alpha=0.4 / 10, fit_intercept=False, tol=1e-14, max_iter=100_000)
    for sample, mine in zip(x.numpy(), code, strict=True):
        np.testing.assert_allclose(mine, peer.fit(dictionary.numpy(), sample).coef_, atol=1e-7)


def test_the_gap_bounds_the_energy_above_the_minimum(computed_by):
    x, dictionary, strength = problem(seed=2)
    with pytest.warns(ConvergenceWarning):
        early = sparse_code(x, dictionary, strength, max_sweeps=1, tolerance=0.0)
    exact = sparse_code(x, dictionary, strength)

    def energy(z):
        return (x - z @ dictionary.T).square().sum(1) / 2 + (strength * z.abs()).sum(1)

    excess = (energy(early.value) - energy(exact.value)) / (x.square().sum(1) / 2)
    assert excess.max() >= -1e-14
    assert (excess <= early.certificate.forward.residual + 1e-14).all()
    assert exact.certificate.forward.residual.max() < 1e-13


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_gradients_are_finite_differences_away_from_kinks(computed_by, ridge):
    x, dictionary, strength = problem(seed=3, samples=4, features=6)
    cotangent = torch.randn(4, ATOMS, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert sparse_code(x, dictionary, strength, ridge=ridge).certificate.forward.active.margin.min() > 1e-4

    def scalar(*arguments):
        return (cotangent * sparse_code(*arguments, ridge=ridge).value).sum()

    leaves = [value.clone().requires_grad_() for value in (x, dictionary, strength)]
    gradients = torch.autograd.grad(scalar(*leaves), leaves)
    for place, gradient in enumerate(gradients):
        differences, step = torch.zeros_like(gradient).flatten(), 1e-5
        for entry in range(len(differences)):
            moved = []
            for sign in (1, -1):
                arguments = [value.clone() for value in (x, dictionary, strength)]
                arguments[place].view(-1)[entry] += sign * step
                moved.append(scalar(*arguments))
            differences[entry] = (moved[0] - moved[1]) / (2 * step)
        error = (gradient.flatten() - differences).norm() / differences.norm()
        assert error <= 1e-6, ("x", "dictionary", "strength")[place]


def test_gradients_are_those_of_the_reference(computed_by):
    x, dictionary, strength = problem(seed=4, samples=3)
    cotangent = torch.randn((3, ATOMS), generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    leaves = [value.clone().requires_grad_() for value in (x, dictionary, strength)]
    found = torch.autograd.grad((cotangent * sparse_code(*leaves, ridge=0.05).value).sum(), leaves)
    arrays = (dictionary.numpy(), strength.numpy())
    expected = [
        exhaustive.sparse_code_gradient(sample, *arrays, q, 0.05)
        for sample, q in zip(x.numpy(), cotangent.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found[0].numpy(), [one.x for one in expected], atol=1e-12)
    np.testing.assert_allclose(found[1].numpy(), sum(one.dictionary for one in expected), atol=1e-12)
    np.testing.assert_allclose(found[2].numpy(), sum(one.strength for one in expected), atol=1e-12)


def test_single_precision_agrees_with_double(computed_by):
    x, dictionary, strength = problem(seed=5)
    results = []
    for dtype in (torch.float64, torch.float32):
        leaves = [value.to(dtype).requires_grad_() for value in (x, dictionary, strength)]
        value = sparse_code(*leaves).value
        results.append([value.detach(), *torch.autograd.grad(value.square().sum(), leaves)])
    for exact, single in zip(*results, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)


def test_at_a_kink_each_derivative_lies_between_the_one_sided_ones(computed_by):
    """One atom d = 1: z = sign(x) max(|x| - s, 0), kinks at |x| = s, one-sided derivatives 0 and 1."""
    one = torch.ones((1, 1), dtype=torch.float64)
    for at in (0.5, -0.5):
        x = torch.full((1, 1), at, dtype=torch.float64, requires_grad=True)
        solution = sparse_code(x, one, 0.5)
        sides = sorted(float(sparse_code(x.detach() + step, one, 0.5).value / step) for step in (-1e-3, 1e-3))
        assert sides == pytest.approx([0, 1])
        gradient = torch.autograd.grad(solution.value.sum(), x)[0].item()
        assert sides[0] <= gradient <= sides[1]
        assert solution.certificate.forward.active.margin == 0
        assert not solution.certificate.backward.singular


def test_the_margin_is_the_distance_to_the_kink(computed_by):
    one, x = torch.ones((1, 1), dtype=torch.float64), torch.tensor([[0.4], [0.75], [-1.5]], dtype=torch.float64)
    margin = sparse_code(x, one, 0.5).certificate.forward.active.margin
    torch.testing.assert_close(margin, torch.tensor([0.2, 0.5, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("angle", [0.0, 1e-9])
def test_collinear_atoms_are_certified_singular(computed_by, angle):
    """D = [d, d']: with d' = d every split of the coefficient is a minimiser, and the formula depends on which one was found."""
    dictionary = torch.tensor([[1.0, np.cos(angle)], [0.0, np.sin(angle)]], dtype=torch.float64)
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    solution = sparse_code(x, dictionary, 0.5)
    assert solution.certificate.forward.converged.all()
    assert not solution.certificate.forward.unique
    with pytest.warns(ConvergenceWarning, match="nearly singular"):
        solution.value[:, 0].sum().backward()
    assert solution.certificate.backward.singular


def test_a_ridge_makes_collinear_atoms_regular(computed_by):
    dictionary = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    solution = sparse_code(x, dictionary, 0.5, ridge=0.1)
    solution.value[:, 0].sum().backward()
    assert not solution.certificate.backward.singular
    # Both coefficients are equal: (2 + ridge) z = 2 - s.
    torch.testing.assert_close(x.grad, torch.tensor([[1 / 2.1, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(("policy", "error"), [("raise", ConvergenceError), ("nan", None)])
def test_singular_samples_are_refused_if_asked(computed_by, policy, error):
    x = torch.tensor([[2.0, 0.0], [0.1, 0.1]], dtype=torch.float64, requires_grad=True)
    solution = sparse_code(x, torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64), 0.5, on_failure=policy)
    if error:
        with pytest.raises(error, match=r"samples \[0\]"):
            solution.value.sum().backward()
    else:
        solution.value.sum().backward()
        assert x.grad[0].isnan().all()
        assert (x.grad[1] == 0).all()


def test_zero_vectors_and_large_strengths_give_zero_codes(computed_by):
    x, dictionary, _ = problem(seed=6, samples=2)
    x[0] = 0
    solution = sparse_code(x, dictionary, 100.0)
    assert not solution.value.any()
    assert solution.certificate.forward.converged.all()


def test_samples_do_not_depend_on_each_other(computed_by):
    x, dictionary, strength = problem(seed=7, samples=6)
    together = sparse_code(x, dictionary, strength).value
    alone = torch.cat([sparse_code(row[None], dictionary, strength).value for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)


def test_second_derivatives_are_those_of_differences():
    leaves = [part.clone().requires_grad_() for part in problem(samples=2)]
    assert torch.autograd.gradgradcheck(lambda *parts: sparse_code(*parts).value, leaves, eps=1e-6, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_transforms_give_what_autograd_gives():
    x, dictionary, strength = problem(samples=3)

    def energy(x, dictionary):
        return sparse_code(x, dictionary, strength).value.square().sum()

    expected = torch.autograd.functional.hessian(lambda dictionary: energy(x, dictionary), dictionary)
    torch.testing.assert_close(torch.func.hessian(energy, argnums=1)(x, dictionary), expected)
    each = torch.func.vmap(lambda sample: torch.func.grad(energy)(sample[None], dictionary)[0])(x)
    torch.testing.assert_close(each, torch.func.grad(energy)(x, dictionary))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.ones(3)}, r"shapes \(N, n\) and \(n, m\)"),
        ({"x": torch.ones(2, 4)}, "found \\(2, 4\\) and \\(3, 2\\)"),
        ({"strength": 0.0}, "strength must hold finite numbers > 0"),
        ({"strength": torch.ones(3)}, r"strength must be a number or have shape \(2,\)"),
        ({"ridge": -1.0}, "ridge must be a number >= 0"),
        ({"dictionary": torch.zeros(3, 2)}, "no atom that is 0"),
        ({"max_sweeps": 0}, "max_sweeps must be a positive integer"),
        ({"on_failure": "ignore"}, "on_failure must be one of"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    given = {"x": torch.ones(2, 3), "dictionary": torch.ones(3, 2), "strength": 1.0} | changed
    with pytest.raises(ValueError, match=message):
        sparse_code(given.pop("x"), given.pop("dictionary"), given.pop("strength"), **given)


def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor of float32 or float64, found torch\.int64"):
        sparse_code(torch.ones((1, 1), dtype=torch.long), torch.ones(1, 1), 1.0)


def test_equal_supports_share_a_number():
    generator = torch.Generator().manual_seed(0)
    few = torch.rand((70, 4), generator=generator) > 0.5  # more atoms than one word has bits
    supports = few[:, torch.tensor([0, 1, 2, 3, 1, 0])]
    which, first = shared(supports)
    assert len(first) == 4
    assert torch.equal(supports[:, first[which]], supports)


def test_systems_are_solved_on_their_supports(computed_by):
    generator = torch.Generator().manual_seed(1)
    root = torch.randn((5, 5), generator=generator, dtype=torch.float64)
    matrix, supports = root @ root.T, torch.rand((5, 8), generator=generator) > 0.4
    right = torch.randn((5, 8), generator=generator, dtype=torch.float64)
    v = solve_on_supports(Systems.of(matrix, supports), right)
    assert not v[~supports].any()
    torch.testing.assert_close((matrix @ v)[supports], right[supports])


def test_the_exhaustive_search_refuses_large_dictionaries():
    with pytest.raises(ValueError, match="at most 9 atoms"):
        exhaustive.sparse_code(np.ones(2), np.ones((2, 10)), np.ones(10))
