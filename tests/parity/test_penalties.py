"""Penalties in both frameworks: one signature, the same numbers, and the laws that tie their formulas together."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

import varmorph.jax.energy.penalties  # noqa: E402
import varmorph.torch.energy.penalties  # noqa: E402

TAU, MU = np.array([0.2, 0.9]), np.array([0.5, 1.0])
NAMES = {
    "quadratic": {},
    "expectile": {"sides": (TAU, 1 - TAU)},
    "quantile": {"sides": (TAU, 1 - TAU)},
    "huber": {"sides": (TAU, 1 - TAU), "smoothing": MU},
}
every_name = pytest.mark.parametrize("name", NAMES)
SMOOTH = [name for name in NAMES if name != "quantile"]
RESIDUALS = np.array([-3.0, -1.0, -0.5, -0.3, -1e-9, 0.0, 1e-9, 0.3, 0.5, 1.0, 3.0])
GENERIC = np.array([-3.1, -0.31, 0.29, 2.9])  # off all kinks
FORMULAS = {
    "energy": (),
    "slope": (),
    "curvature": (),
    "stiffness": (),
    "greatest_stiffness": (np.array(0.4),),
    "prox": (np.array(0.7),),
    "distance_to_kink": (),
    "piece": (),
}


def named(library, asarray, name):
    """The penalty of that name for two channels, of numbers behind them."""
    given = NAMES[name]
    sides = tuple(map(asarray, given["sides"])) if "sides" in given else None
    smoothing = asarray(given["smoothing"]) if "smoothing" in given else None
    return library.energy.penalties.named_penalty(name, sides=sides, smoothing=smoothing, node_dims=1)


def in_torch(name):
    return named(varmorph.torch, torch.as_tensor, name)


@every_name
@pytest.mark.parametrize("formula", FORMULAS)
def test_both_frameworks_give_the_same_numbers(name, formula):
    r = np.stack((RESIDUALS, RESIDUALS))
    extra = FORMULAS[formula]
    theirs = getattr(in_torch(name), formula)(*map(torch.as_tensor, (r, *extra)))
    ours = getattr(named(varmorph.jax, jax.numpy.asarray, name), formula)(*map(jax.numpy.asarray, (r, *extra)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    assert ours.dtype == theirs.numpy().dtype


@every_name
def test_slopes_and_curvatures_are_derivatives(name):
    rho = in_torch(name)
    r = torch.tensor(np.stack((GENERIC, GENERIC)), requires_grad=True)
    (slope,) = torch.autograd.grad(rho.energy(r).sum(), r)
    torch.testing.assert_close(slope, rho.slope(r))
    torch.testing.assert_close(rho.stiffness(r) * r, rho.slope(r))
    if name != "quantile":
        (curvature,) = torch.autograd.grad(rho.slope(r).sum(), r)
        torch.testing.assert_close(curvature, rho.curvature(r).detach())


@every_name
def test_a_proximal_map_balances_the_slope(name):
    rho, r, step = in_torch(name), torch.tensor(np.stack((GENERIC, GENERIC))), torch.tensor(0.7)
    q = rho.prox(r, step)
    balance = (r - q) / step
    at_corner = q == 0
    torch.testing.assert_close(balance[~at_corner], rho.slope(q)[~at_corner])
    within = (balance <= torch.tensor(TAU)[:, None]) & (balance >= torch.tensor(TAU - 1)[:, None])
    assert within[at_corner].all()
    assert bool(at_corner.any()) == (name == "quantile")


@every_name
def test_conjugates_are_exact_at_the_slope(name):
    """Fenchel and Young: rho(r) + rho*(p) = r p at p = rho'(r), of w rho as well."""
    rho, r, weight = in_torch(name), torch.tensor(np.stack((GENERIC, GENERIC))), torch.tensor(1.3)
    p = weight * rho.slope(r)
    torch.testing.assert_close(weight * rho.energy(r) + rho.conjugate(p, weight), r * p)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_nan_reaches_the_gradient_of_a_slope(name):
    r = torch.tensor([[torch.nan, 1.0], [2.0, torch.nan]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(in_torch(name).slope(r), r, r.detach())
    assert gradient.isnan().tolist() == r.isnan().tolist()
