"""Nonsmooth differentiation: who is right away from kinks, what holds at them, and that the pathological cases are detected."""

import math

import numpy as np
import pandas as pd
import pytest

from morphobench.plugins.discovery import Plugins
from morphobench.settings.studies import NonsmoothStudy
from morphobench.studies.cells import by_instance
from morphobench.studies.measurement import Repeated
from morphobench.studies.nonsmooth import study as nonsmooth
from morphobench.studies.nonsmooth.layers import Lasso, TotalVariation, at_distance, collinear, finite_differences
from morphobench.studies.nonsmooth.pathologies import split_identity

MAKERS = {"lasso": Lasso.random, "total-variation": lambda seed: TotalVariation.random(seed, size=3)}
SMALL = {
    "seeds": 1,
    "distances": [1e-2, 0.0],
    "smoothings": [1e-2],
    "factors": [1.1],
    "unrolled": [10],
    "steps": [1e-5],
}


def error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.fixture(scope="module", params=list(MAKERS))
def generic(request):
    return at_distance(MAKERS[request.param], 0, 1e-3)[0]


def test_implicit_gradients_are_exact_next_to_a_kink(generic):
    found, exact = generic.differentiate("implicit", math.nan), generic.reference()
    assert not found.singular
    for name, gradient in found.gradients.items():
        assert error(gradient, exact[name]) <= 1e-9, name


def test_finite_differences_confirm_them_while_their_step_is_shorter_than_the_distance(generic):
    exact = generic.reference()["x"]
    assert error(finite_differences(generic, 1e-5).gradients["x"], exact) <= 1e-6
    assert error(finite_differences(generic, 1e-1).gradients["x"], exact) >= 1e-3


@pytest.mark.parametrize("parameter", ["bias", "weight", "logit_level", "coupling"])
def test_parameter_gradients_of_total_variation_are_finite_differences(parameter):
    problem = at_distance(MAKERS["total-variation"], 1, 1e-2)[0]
    gradient = problem.differentiate("implicit", math.nan).gradients[parameter]
    entry, step = np.unravel_index(1, gradient.shape), 1e-6
    change = np.zeros(gradient.shape)
    change[entry] = step
    ahead, behind = (problem.moved(parameter, sign * change).solve() for sign in (1, -1))
    assert (ahead.pattern == behind.pattern).all()
    assert gradient[entry] == pytest.approx((ahead.scalar - behind.scalar) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("layer", MAKERS)
def test_at_a_kink_the_derivative_lies_between_the_one_sided_ones(layer):
    problem, direction = at_distance(MAKERS[layer], 0, 0.0)
    here, step = problem.solve(), 1e-6
    assert here.margin < 1e-10
    ends = sorted((problem.moved("x", s * direction).solve().scalar - here.scalar) / s for s in (step, -step))
    assert ends[1] - ends[0] > 1e-4  # a kink of the scalar, or nothing would be tested
    derivative = (problem.differentiate("implicit", math.nan).gradients["x"] * direction).sum()
    assert ends[0] - 1e-6 <= derivative <= ends[1] + 1e-6


def test_smoothing_errs_more_the_nearer_the_kink():
    far, near = (at_distance(Lasso.random, 0, distance)[0] for distance in (1e-1, 1e-3))
    errors = [error(p.differentiate("smoothed", 1e-3).gradients["x"], p.reference()["x"]) for p in (far, near)]
    assert errors[1] > 10 * errors[0]


@pytest.mark.parametrize("name", ["x", "dictionary", "strength"])
def test_the_smoothed_lasso_is_differentiated_rightly(name):
    """The comparison would be unfair otherwise: wide smoothing, so that finite differences of it are accurate."""
    problem, step = Lasso.random(3), 1e-5
    gradient = problem.differentiate("smoothed", 0.5).gradients[name]
    entry = (0,) * gradient.ndim
    change = np.zeros(gradient.shape)
    change[entry] = step
    ends = [smoothed_code(problem.moved(name, sign * change), 0.5) @ problem.cotangent for sign in (1, -1)]
    assert gradient[entry] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def smoothed_code(problem, width):
    from scipy.optimize import root

    x, dictionary, strength = problem.arguments.values()

    def slope(z):
        return dictionary.T @ (dictionary @ z - x) + strength * z / np.hypot(z, width)

    return root(slope, np.zeros(len(strength)), tol=1e-14).x


def test_the_split_identity_gives_any_number_at_0_and_is_detected():
    assert [split_identity(0.0, "implicit", a) for a in (0.0, 0.25, 0.5, 1.0)] == [
        (math.inf, True),
        (2.0, True),
        (1.0, True),
        (0.5, True),
    ]
    assert split_identity(0.3, "implicit", 0.0) == (1.0, False)
    assert split_identity(0.0, "smoothed", 1e-3)[0] == pytest.approx(1)
    assert split_identity(0.0, "unrolled", 40)[0] == 20  # grows by 1/2 a step
    assert split_identity(0.3, "unrolled", 60)[0] == pytest.approx(1)


def test_collinear_atoms_are_detected():
    problem = collinear()
    found = problem.differentiate("implicit", math.nan)
    assert found.singular
    # Another way chooses another selection.
    atom = problem.arguments["dictionary"][:, 0]
    assert found.gradients["x"] @ atom == pytest.approx(1)
    assert problem.differentiate("unrolled", 100).gradients["x"] @ atom == pytest.approx(0.5)


def test_every_cell_leaves_rows(tmp_path):
    settings = NonsmoothStudy(**SMALL, layers=["lasso", "pathological"]).model_dump()
    rows, cells = [], nonsmooth.cells(settings, "torch", Plugins({}, {}))
    assert len({cell.name for cell in cells}) == len(cells) == (2 + 3) * len(nonsmooth.WAYS)
    for together in by_instance(cells):
        opened = nonsmooth.open_instance(together[0].instance, settings, "torch", "cpu", 1)
        for cell in together:
            opened.prepare(cell)
            assert opened.measure(cell)["differentiate"] >= 0
            rows += opened.rows(cell, Repeated())
    assert all(set(row) <= set(nonsmooth.COLUMNS) for row in rows)
    table = pd.DataFrame(rows)
    generic = table["position"] == "generic"
    assert table.loc[generic, "relative_error"].notna().all()
    assert table.loc[~generic, "relative_error"].isna().all()  # nothing is averaged over a kink
    nonsmooth.collect(table, [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == nonsmooth.OUTPUTS
    assert '"lasso"' in (tmp_path / "nonsmooth.json").read_text()
