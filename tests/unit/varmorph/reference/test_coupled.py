"""The coupled operators of the specification: against definitions, limits, differences and a general minimiser."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from varmorph import reference


@pytest.fixture
def rng():
    return np.random.default_rng(0)


penalties = pytest.mark.parametrize("penalty", ["expectile", "huber"])
edge_penalties = pytest.mark.parametrize("edge_penalty", ["quadratic", "huber"])
joints = pytest.mark.parametrize("name", ["joint_opening", "joint_closing"])


def regularised(seed, *, penalty="expectile", edge_penalty="quadratic", shape=(2, 2, 2, 3)):
    """Draw the arguments of a regularised dilation, with a value of its own for every channel."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    arguments = {
        "x": rng.standard_normal(shape),
        "bias": 0.3 * rng.standard_normal((c, 3, 2)),
        "weight": rng.random((c, 3, 2)) + 0.1,
        "logit_level": np.linspace(1.5, -0.5, c),
        "coupling": np.linspace(0.2, 0.7, c),
        "edge_weights": rng.random((n, 1, 2, h, w)) + 0.1,
        "ridge": np.asarray(0.3),
    }
    if penalty == "huber":
        arguments["smoothing"] = np.linspace(0.4, 0.9, c)
    if edge_penalty == "huber":
        arguments["edge_smoothing"] = np.linspace(0.5, 0.2, c)
    return arguments


def joint(seed, *, penalty="expectile", shape=(2, 2, 2, 3)):
    """Draw the arguments of a joint opening or closing, with structuring function and smoothing shared by the channels."""
    rng = np.random.default_rng(seed)
    arguments = {
        "x": rng.standard_normal(shape),
        "bias": 0.3 * rng.standard_normal((3, 2)),
        "weight": rng.random((3, 2)) + 0.1,
        "logit_levels": np.stack([np.linspace(-1.0, 0.4, shape[1]), np.linspace(0.7, -0.3, shape[1])]),
        "eta": np.linspace(0.5, 1.2, shape[1]),
    }
    if penalty == "huber":
        arguments["smoothing"] = np.asarray(0.6)
    return arguments


def penalised(r, mu):
    """h(r) of the table in mathematics.md, for one number."""
    if mu is None:
        return r**2 / 2
    return r**2 / (2 * mu) if abs(r) <= mu else abs(r) - mu / 2


def energy_of(y, x, bias, weight, logit_level, coupling, edge_weights, ridge, mu=None, edge_mu=None):
    """Add up the energy of one plane term by term, windows cut at the border."""
    tau, (height, width), total = 1 / (1 + np.exp(-logit_level)), x.shape, 0.0
    for i, j in np.ndindex(x.shape):
        for (k, m), offset in np.ndenumerate(bias):
            p, q = i + k - bias.shape[0] // 2, j + m - bias.shape[1] // 2
            if 0 <= p < height and 0 <= q < width:
                r = x[p, q] + offset - y[i, j]
                total += weight[k, m] * (tau if r >= 0 else 1 - tau) * penalised(r, mu)
        if i + 1 < height:
            total += coupling * edge_weights[0, i, j] * penalised(y[i, j] - y[i + 1, j], edge_mu)
        if j + 1 < width:
            total += coupling * edge_weights[1, i, j] * penalised(y[i, j] - y[i, j + 1], edge_mu)
        total += ridge / 2 * (y[i, j] - x[i, j]) ** 2
    return total


def plane(arguments, *, n=0, c=1):
    """The numbers of one plane, for `energy_of`."""
    shared = {"edge_weights": arguments["edge_weights"][n, 0], "ridge": arguments["ridge"], "x": arguments["x"][n, c]}
    own = {name: arguments[name][c] for name in ("bias", "weight", "logit_level", "coupling")}
    mu, edge_mu = (arguments[name][c] if name in arguments else None for name in ("smoothing", "edge_smoothing"))
    return {**shared, **own, "mu": mu, "edge_mu": edge_mu}


def assert_derivatives(function, gradients, arguments, cotangent, step=1e-6):
    """Compare the derivatives along two random directions of every argument with central differences."""
    rng = np.random.default_rng(5)
    given = {name: value for name, value in gradients._asdict().items() if value is not None}
    assert given.keys() == arguments.keys()
    for name, argument in arguments.items():
        assert given[name].shape == argument.shape
        for _ in range(2):
            direction = np.asarray(rng.standard_normal(argument.shape))
            ahead, behind = (function(**{**arguments, name: argument + sign * step * direction}) for sign in (1, -1))
            numerical = (cotangent * (ahead - behind)).sum() / (2 * step)
            assert (given[name] * direction).sum() == pytest.approx(numerical, rel=1e-6, abs=1e-7), name


# --- regularised dilation -------------------------------------------------------------------------------------------


@penalties
@edge_penalties
def test_no_other_image_has_a_lower_energy(penalty, edge_penalty):
    arguments, rng = regularised(0, penalty=penalty, edge_penalty=edge_penalty), np.random.default_rng(1)
    y = reference.regularised_dilation(**arguments, penalty=penalty, edge_penalty=edge_penalty)[0, 1]
    lowest = energy_of(y, **plane(arguments))
    for scale in (1e-3, 1e-1, 1.0):
        for _ in range(5):
            assert energy_of(y + scale * rng.standard_normal(y.shape), **plane(arguments)) > lowest


@penalties
@edge_penalties
def test_a_general_minimiser_finds_the_same_image(penalty, edge_penalty):
    arguments = regularised(2, penalty=penalty, edge_penalty=edge_penalty, shape=(1, 2, 2, 3))
    y = reference.regularised_dilation(**arguments, penalty=penalty, edge_penalty=edge_penalty)[0, 1]
    found = minimize(
        lambda z: energy_of(z.reshape(y.shape), **plane(arguments)), np.zeros(y.size), options={"gtol": 1e-7}
    )
    np.testing.assert_allclose(found.x.reshape(y.shape), y, atol=1e-5)


@penalties
@edge_penalties
@pytest.mark.parametrize("padding", ["geodesic", 0.4])
def test_the_regularised_gradient_equals_central_differences(penalty, edge_penalty, padding):
    arguments = regularised(3, penalty=penalty, edge_penalty=edge_penalty)
    options = {"penalty": penalty, "edge_penalty": edge_penalty, "padding": padding}
    cotangent = np.random.default_rng(4).standard_normal(arguments["x"].shape)
    gradients = reference.regularised_dilation_gradient(**arguments, cotangent=cotangent, **options)
    assert_derivatives(
        lambda **changed: reference.regularised_dilation(**changed, **options), gradients, arguments, cotangent
    )


@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.3), ("quantile", None)])
@pytest.mark.parametrize("padding", ["geodesic", "reflect", 0.5])
def test_without_coupling_it_is_the_separable_dilation(penalty, smoothing, padding):
    arguments = regularised(4)
    head = {name: arguments[name] for name in ("x", "bias", "weight", "logit_level")}
    options = {"penalty": penalty, "smoothing": smoothing, "rate": 2, "padding": padding}
    expected = reference.variational_dilation(**head, **options)
    np.testing.assert_allclose(reference.regularised_dilation(**head, coupling=0.0, **options), expected, atol=1e-12)
    cotangent = np.random.default_rng(0).standard_normal(expected.shape)
    found = reference.regularised_dilation_gradient(**head, coupling=0.0, cotangent=cotangent, **options)
    for name in ("x", "bias", "weight", "logit_level"):
        separable = getattr(reference.variational_dilation_gradient(**head, cotangent=cotangent, **options), name)
        np.testing.assert_allclose(getattr(found, name), separable, atol=1e-11)


def test_a_large_coupling_makes_one_scalar_problem_of_the_image(rng):
    x = rng.standard_normal((1, 1, 2, 3))
    y = reference.regularised_dilation(x, np.zeros((1, 1)), 1.3, 1e9)
    expected = reference.variational_dilation(x.reshape(1, 1, 1, 6), np.zeros((1, 6)), 1.3, padding="valid")
    np.testing.assert_allclose(y, expected.item(), atol=1e-7)


def test_coupled_quantiles_minimise_their_energy():
    arguments, rng = regularised(6), np.random.default_rng(7)
    y = reference.regularised_dilation(**arguments, penalty="quantile")[0, 1]

    def energy(z):
        return energy_of(z, **{**plane(arguments), "mu": 1e-12})

    for scale in (1e-5, 1e-3, 1e-1):
        for _ in range(5):
            assert energy(y) < energy(y + scale * rng.standard_normal(y.shape)) + 1e-8


@penalties
@edge_penalties
def test_it_commutes_with_translations_and_is_a_mean_of_its_input(penalty, edge_penalty):
    arguments, options = regularised(8, penalty=penalty, edge_penalty=edge_penalty), {"edge_penalty": edge_penalty}
    y = reference.regularised_dilation(**arguments, penalty=penalty, **options)
    moved = reference.regularised_dilation(**{**arguments, "x": arguments["x"] + 7}, penalty=penalty, **options)
    np.testing.assert_allclose(moved, y + 7, atol=1e-11)
    one = np.zeros(y.shape)
    one[1, 0, 1, 1] = 1.0
    row = reference.regularised_dilation_gradient(**arguments, cotangent=one, penalty=penalty, **options).x
    assert row.min() >= 0
    assert row[1, 0].sum() == pytest.approx(1.0)
    assert np.count_nonzero(row) == np.count_nonzero(row[1, 0])


def test_the_self_dual_image_of_a_coupled_dilation():
    arguments = regularised(9, penalty="huber", edge_penalty="huber")
    y = reference.regularised_dilation(**arguments, penalty="huber", edge_penalty="huber")
    negative = {name: -arguments[name] for name in ("x", "bias", "logit_level")}
    dual = reference.regularised_dilation(**{**arguments, **negative}, penalty="huber", edge_penalty="huber")
    np.testing.assert_allclose(dual, -y, atol=1e-12)


# --- joint opening and closing --------------------------------------------------------------------------------------


@joints
@penalties
@pytest.mark.parametrize("padding", ["geodesic", -0.3])
def test_the_joint_gradient_equals_central_differences(name, penalty, padding):
    arguments = joint(0, penalty=penalty)
    options = {"penalty": penalty, "padding": padding}
    cotangent = np.random.default_rng(4).standard_normal(arguments["x"].shape)
    gradients = getattr(reference, f"{name}_gradient")(**arguments, cotangent=cotangent, **options)
    assert_derivatives(
        lambda **changed: getattr(reference, name)(**changed, **options), gradients, arguments, cotangent
    )


@joints
@pytest.mark.parametrize("padding", ["geodesic", "circular", 0.3])
def test_the_classical_operator_is_the_limit(rng, name, padding):
    x, bias = rng.standard_normal((1, 1, 4, 5)), 0.3 * rng.standard_normal((2, 3))
    classical = getattr(reference, name.removeprefix("joint_"))(x, bias, padding=padding)
    sign, errors = (-1 if name == "joint_opening" else 1), []
    for level in (4.0, 8.0, 12.0):
        levels = [sign * level, -sign * level]
        errors.append(np.abs(getattr(reference, name)(x, bias, levels, 1e-4, padding=padding) - classical).max())
    assert errors[2] < errors[1] / 10 < errors[0] / 100
    assert errors[2] < 1e-3


def test_the_joint_closing_is_dual_to_the_joint_opening():
    arguments = joint(1, penalty="huber")
    arguments["bias"], arguments["weight"] = np.random.default_rng(2).random((2, 3, 3)) + 0.1  # odd: the origin stays
    opening = reference.joint_opening(**arguments, penalty="huber")
    dual = {
        "x": -arguments["x"],
        "bias": arguments["bias"][::-1, ::-1],
        "weight": arguments["weight"][::-1, ::-1],
        "logit_levels": -arguments["logit_levels"],
    }
    np.testing.assert_allclose(reference.joint_closing(**{**arguments, **dual}, penalty="huber"), -opening, atol=1e-12)


@joints
def test_a_small_eta_is_the_composition(name):
    arguments = {**joint(3), "eta": np.asarray(1e-9)}
    composed = getattr(reference, name.replace("joint", "variational"))
    head = {key: arguments[key] for key in ("x", "bias", "weight", "logit_levels")}
    np.testing.assert_allclose(getattr(reference, name)(**arguments), composed(**head), atol=1e-7)


def test_joint_quantiles_solve_a_linear_programme(rng):
    x, bias, weight, (low, high), eta = rng.standard_normal(7), rng.random(3), rng.random(3) + 0.1, (-1.0, 0.6), 0.4
    y = reference.joint_opening(
        x.reshape(1, 1, 1, 7), [bias], [low, high], eta, weight=[weight], penalty="quantile"
    ).ravel()
    rows, right, above, below = [], [], [], []  # one row an edge: a u + b y + p - q = constant, with p, q >= 0
    for i, k in np.ndindex(7, 3):
        if 0 <= (j := i + k - 1) < 7:
            tau, cotau = weight[k] / (1 + np.exp(-low)), weight[k] / (1 + np.exp(low))
            rows.append(np.eye(14)[j])  # the reversed edge x_i -> u_j
            right.append(x[i] - bias[k])
            above.append(tau), below.append(cotau)
            tau, cotau = eta * weight[k] / (1 + np.exp(-high)), eta * weight[k] / (1 + np.exp(high))
            rows.append(np.eye(14)[7 + i] - np.eye(14)[j])
            right.append(bias[k])
            above.append(tau), below.append(cotau)
    matrix = np.hstack([rows, np.eye(len(rows)), -np.eye(len(rows))])
    cost, free = np.concatenate([np.zeros(14), above, below]), [(None, None)] * 7
    slack = [(0, None)] * (2 * len(rows))
    least = linprog(cost, A_eq=matrix, b_eq=right, bounds=[*free, *free, *slack]).fun
    ours = linprog(cost, A_eq=matrix, b_eq=right, bounds=[*free, *((value, value) for value in y), *slack]).fun
    assert ours == pytest.approx(least, rel=1e-8)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_neighbour_left_out_gets_no_gradient():
    arguments = regularised(10)
    arguments["bias"][:, 0, 1] = -np.inf
    left_out = reference.regularised_dilation(**arguments)
    gradients = reference.regularised_dilation_gradient(**arguments, cotangent=np.ones(left_out.shape))
    assert not gradients.bias[:, 0, 1].any()
    assert not gradients.weight[:, 0, 1].any()
    arguments["bias"][:, 0, 1], arguments["weight"][:, 0, 1] = 0.0, 0.0
    np.testing.assert_allclose(reference.regularised_dilation(**arguments), left_out, atol=1e-12)


def test_a_singular_hessian_is_refused():
    # Each of the two pixels sees 0 and 10 with equal weights: every common value between them has the same energy.
    x, flat, options = [[[[0.0, 10.0]]]], np.zeros((1, 3)), {"penalty": "huber", "smoothing": 0.1}
    options |= {"edge_penalty": "huber", "edge_smoothing": 0.1}
    with pytest.raises(ValueError, match="Hessian of the energy is singular"):
        reference.regularised_dilation_gradient(x, flat, 0.0, 1.0, np.ones((1, 1, 1, 2)), **options)
    assert reference.regularised_dilation_gradient(
        x, flat, 0.0, 1.0, np.ones((1, 1, 1, 2)), ridge=0.1, **options
    ).x.sum() == pytest.approx(2.0)


def test_a_coupled_quantile_has_no_gradient():
    with pytest.raises(ValueError, match="coupled quantile has no implicit gradient: use huber and a ridge"):
        reference.regularised_dilation_gradient(**regularised(0), cotangent=np.ones((2, 2, 2, 3)), penalty="quantile")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "valid"}, "padding must keep the size"),
        ({"penalty": "huber"}, "penalty must be 'expectile', 'quantile' or 'huber' with a smoothing, found 'huber'"),
        ({"edge_penalty": "huber"}, "edge_penalty must be 'quadratic' or 'huber' with an edge_smoothing"),
        ({"weight": np.zeros((3, 2)), "ridge": 0.0}, "not well-posed"),
        ({"bias": np.full((3, 2), -np.inf), "ridge": 0.0}, "not well-posed"),
        ({"x": np.full((2, 2, 2, 3), np.nan)}, "x must be finite"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        reference.regularised_dilation(**{**regularised(0), **options})
