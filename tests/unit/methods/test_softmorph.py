"""The operators of methods/softmorph against their formulas and limits."""

import numpy as np
import pytest
import torch

from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from varmorph import reference
from varmorph.torch import dilation


@pytest.fixture(scope="module")
def operators(project):
    import sys

    load_method(discover_methods(project.methods)["softmorph"], "smorph")
    return sys.modules["morphobench_method_softmorph.operators"]


@pytest.fixture
def arguments():
    rng = np.random.default_rng(0)
    x, bias = rng.random((2, 3, 6, 5)), 0.2 * rng.standard_normal((3, 3, 3))
    return torch.tensor(x), torch.tensor(bias), torch.tensor([-1.5, 0.7, 3.0], dtype=torch.float64)


def window(x, bias, n, c, i, j):
    """Values of the window of one pixel and their structuring function, cut at the border."""
    height, width = x.shape[-2:]
    inside = [(r, s) for r in range(3) for s in range(3) if 0 <= i + r - 1 < height and 0 <= j + s - 1 < width]
    values = np.array([float(x[n, c, i + r - 1, j + s - 1]) for r, s in inside])
    return values, np.array([float(bias[c, r, s]) for r, s in inside])


def scaled(x):
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return 1 + (x - low) / (high - low)


FORMULAS = {
    "smorph": lambda x, b, s: ((x + b) * np.exp(s * (x + b))).sum() / np.exp(s * (x + b)).sum(),
    "lmorph": lambda x, b, s: ((x + b) ** (s + 1)).sum() / ((x + b) ** s).sum(),
    "p-convolution": lambda x, b, s: (np.exp(b) * x ** (s + 1)).sum() / (np.exp(b) * x**s).sum(),
    "log-sum-exp": lambda x, b, s: np.log(np.exp(s * (x + b)).mean()) / s,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_every_pixel_follows_the_formula(operators, arguments, kind):
    x, bias, sharpness = arguments
    found = operators.OPERATORS[kind](x, bias, sharpness)
    seen = scaled(x) if kind in ("lmorph", "p-convolution") else x
    for n, c, i, j in np.ndindex(*x.shape):
        expected = FORMULAS[kind](*window(seen, bias, n, c, i, j), float(sharpness[c]))
        if kind in ("lmorph", "p-convolution"):
            plane = x[n, c]
            expected = float(plane.min() + (expected - 1) * (plane.max() - plane.min()))
        assert float(found[n, c, i, j]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["smorph", "lmorph", "log-sum-exp"])
def test_a_large_sharpness_gives_the_dilation(operators, arguments, kind):
    x, bias, _ = arguments
    if kind == "lmorph":  # its structuring function is in units of the range of the plane
        x = scaled(x) - 1
    found = operators.OPERATORS[kind](x, bias, torch.full((3,), 4000.0, dtype=torch.float64))
    torch.testing.assert_close(found, dilation(x, bias), atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_gradient_is_that_of_differences(operators, arguments, kind):
    x, bias, sharpness = (argument.requires_grad_() for argument in arguments)
    # The range of a plane counts as a constant, so its extreme pixels are held.
    fixed = x.detach()
    function = operators.OPERATORS[kind]
    assert torch.autograd.gradcheck(lambda b, s: function(fixed, b, s), (bias, sharpness))
    if kind in ("smorph", "log-sum-exp"):
        assert torch.autograd.gradcheck(lambda v: function(v, bias.detach(), sharpness.detach()), (x,))


@pytest.mark.parametrize("kind", FORMULAS)
def test_constant_and_large_images_stay_finite(operators, kind):
    bias = torch.zeros(1, 3, 3, requires_grad=True)
    for x in (torch.full((1, 1, 5, 5), 0.3), 1e4 * torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))):
        value = operators.OPERATORS[kind](x, bias, torch.tensor([50.0]))
        (gradient,) = torch.autograd.grad(value.sum(), bias)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("operation", ["dilation", "erosion", "opening", "closing"])
@pytest.mark.parametrize(("kind", "sharpness", "bound"), [("smorph", 400, 0.01), ("lmorph", 900, 0.02)])
def test_every_operation_tends_to_that_of_max_plus_morphology(operators, operation, kind, sharpness, bound):
    rng = np.random.default_rng(1)
    x, bias = rng.random((2, 2, 8, 7)), rng.uniform(-0.4, 0, (2, 3, 3))
    soft = operators.SoftOperation(operation, bias, kind=kind, initial_sharpness=float(sharpness)).double()
    sharp = getattr(reference, operation)(x, bias)
    assert np.abs(soft(torch.from_numpy(x)).detach().numpy() - sharp).max() < bound
