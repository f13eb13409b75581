"""The graph operators of the specification: against the image operators on grid graphs, definitions and differences."""

import numpy as np
import pytest

from varmorph import reference

ERROR = 1e-11
LATERAL = {"coupling": 0.4, "ridge": 0.2}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def grid(height, width, size):
    """List the edges of a window cut at the border, and which element of the window each one carries."""
    edges, elements = [], []
    for i, j in np.ndindex(height, width):
        for k, m in np.ndindex(size):
            p, q = i + k - size[0] // 2, j + m - size[1] // 2
            if 0 <= p < height and 0 <= q < width:
                edges.append((p * width + q, i * width + j))
                elements.append(k * size[1] + m)
    return np.transpose(edges), np.array(elements)


def as_image(y, shape):
    """Turn node features (pixels, channels) into an image."""
    return y.T.reshape(shape)


@pytest.fixture
def twin(rng):
    """An image with a window of its own for each channel, and the same as a graph."""
    shape, size = (1, 2, 3, 4), (2, 3)
    x, bias, weight = rng.standard_normal(shape), rng.standard_normal((2, *size)), rng.random((2, *size)) + 0.1
    edges, elements = grid(3, 4, size)
    image = {"x": x, "bias": bias, "weight": weight}
    carried = {name: image[name].reshape(2, -1).T[elements] for name in ("bias", "weight")}
    graph = {"x": x[0].reshape(2, -1).T, "edges": edges, **carried, "self_edge": False}
    return {"image": image, "graph": graph, "elements": elements}


# --- max-plus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dilation", "erosion", "opening", "closing"])
def test_on_a_grid_the_max_plus_operators_are_those_of_images(twin, name):
    x, bias = twin["image"]["x"], twin["image"]["bias"]
    graph = {key: value for key, value in twin["graph"].items() if key != "weight"}
    found = getattr(reference, f"graph_{name}")(**graph)
    np.testing.assert_array_equal(as_image(found, x.shape), getattr(reference, name)(x, bias))


def test_dilation_and_erosion_are_adjoint(rng):
    edges, bias = rng.integers(0, 6, (2, 9)), rng.integers(-2, 3, (9, 2)).astype(float)
    for _ in range(20):
        x, y = rng.integers(-3, 4, (2, 6, 2)).astype(float)
        below = (reference.graph_dilation(x, edges, bias) <= y).all(0)
        np.testing.assert_array_equal(below, (x <= reference.graph_erosion(y, edges, bias)).all(0))


def test_a_node_without_edges_holds_the_neutral_value():
    x, edges = np.zeros((3, 1)), np.array([[0], [1]])
    assert reference.graph_dilation(x, edges, self_edge=False).ravel().tolist() == [-np.inf, 0.0, -np.inf]
    assert reference.graph_erosion(x, edges, self_edge=False).ravel().tolist() == [0.0, np.inf, np.inf]
    assert reference.graph_dilation(x, np.zeros((2, 0)), 1.0).ravel().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "name", ["graph_dilation", "graph_erosion", "variational_graph_dilation", "variational_graph_erosion"]
)
def test_minus_infinity_leaves_an_edge_out(rng, name):
    x, edges, bias = rng.standard_normal((5, 2)), rng.integers(0, 5, (2, 8)), rng.standard_normal(8)
    more = (1.0,) if name.startswith("variational") else ()
    expected = getattr(reference, name)(x, edges[:, 1:], bias[1:], *more)
    bias[0] = -np.inf
    np.testing.assert_allclose(getattr(reference, name)(x, edges, bias, *more), expected, atol=ERROR)


def test_a_batch_is_one_graph_at_a_time(rng):
    x, edges = rng.standard_normal((3, 5, 2)), rng.integers(0, 5, (2, 8))
    arguments = (edges, rng.standard_normal((8, 2)), rng.random(8))
    calls = [
        lambda x: reference.graph_opening(x, *arguments[:2]),
        lambda x: reference.regularised_graph_erosion(x, *arguments[:2], [0.5, -1.0], weight=arguments[2], **LATERAL),
        lambda x: reference.joint_graph_closing(x, *arguments[:2], [1.0, -1.0], 0.5, weight=arguments[2]),
    ]
    for call in calls:
        np.testing.assert_allclose(call(x), np.stack([call(one) for one in x]), atol=ERROR)


# --- variational ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["dilation", "erosion"])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.4), ("quantile", None)])
def test_on_a_grid_the_separable_operators_are_those_of_images(twin, direction, penalty, smoothing):
    options = {"penalty": penalty, "smoothing": smoothing, "logit_level": [1.0, -0.5]}
    found = getattr(reference, f"variational_graph_{direction}")(**twin["graph"], **options)
    expected = getattr(reference, f"variational_{direction}")(**twin["image"], **options)
    np.testing.assert_allclose(as_image(found, expected.shape), expected, atol=ERROR)


@pytest.mark.parametrize("direction", ["dilation", "erosion"])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.4), ("quantile", None)])
def test_on_a_grid_the_separable_gradients_are_those_of_images(twin, rng, direction, penalty, smoothing):
    options = {"penalty": penalty, "smoothing": smoothing, "logit_level": [1.0, -0.5]}
    pull, shape = rng.standard_normal((12, 2)), twin["image"]["x"].shape
    found = getattr(reference, f"variational_graph_{direction}_gradient")(**twin["graph"], cotangent=pull, **options)
    expected = getattr(reference, f"variational_{direction}_gradient")(
        **twin["image"], cotangent=as_image(pull, shape), **options
    )
    np.testing.assert_allclose(as_image(found.x, shape), expected.x, atol=ERROR)
    np.testing.assert_allclose(found.logit_level, expected.logit_level, atol=ERROR)
    for name in ("bias", "weight"):
        summed = np.stack([np.bincount(twin["elements"], column) for column in getattr(found, name).T])
        np.testing.assert_allclose(summed, getattr(expected, name).reshape(2, -1), atol=ERROR)


def test_on_a_grid_the_regularised_dilation_is_that_of_images(twin):
    lateral, _ = grid(3, 4, (1, 2))
    cross = np.concatenate([lateral, grid(3, 4, (2, 1))[0]], axis=1)
    options = {"logit_level": 0.8, **LATERAL}
    found = reference.regularised_graph_dilation(
        **twin["graph"], lateral_edges=cross[:, cross[0] != cross[1]], **options
    )
    expected = reference.regularised_dilation(**twin["image"], **options)
    np.testing.assert_allclose(as_image(found, expected.shape), expected, atol=ERROR)


@pytest.mark.parametrize("name", ["opening", "closing"])
def test_on_a_grid_the_joint_operators_are_those_of_images(twin, name):
    arguments = {"logit_levels": [-1.0, 0.6], "eta": [0.5, 0.8]}
    found = getattr(reference, f"joint_graph_{name}")(**twin["graph"], **arguments)
    expected = getattr(reference, f"joint_{name}")(**twin["image"], **arguments)
    np.testing.assert_allclose(as_image(found, expected.shape), expected, atol=ERROR)


def test_a_self_edge_has_bias_0_and_weight_1(rng):
    x, edges = rng.standard_normal((4, 2)), np.array([[0, 1, 3], [1, 2, 1]])
    bias, weight = rng.standard_normal((3, 2)), rng.random((3, 2))
    loops = np.concatenate([edges, [range(4)] * 2], axis=1)
    explicit = loops, np.concatenate([bias, np.zeros((4, 2))]), np.concatenate([weight, np.ones((4, 2))])
    for call in (
        lambda *graph, **options: reference.graph_closing(x, *graph[:2], **options),
        lambda edges, bias, weight, **options: reference.regularised_graph_dilation(
            x, edges, bias, 0.7, weight=weight, **LATERAL, **options
        ),
        lambda edges, bias, weight, **options: reference.joint_graph_opening(
            x, edges, bias, [-1.0, 1.0], 0.7, weight=weight, **options
        ),
    ):
        np.testing.assert_allclose(call(edges, bias, weight), call(*explicit, self_edge=False), atol=ERROR)


def test_lateral_edges_are_by_default_the_pairs_that_an_edge_connects(rng):
    x, edges = rng.standard_normal((4, 1)), np.array([[0, 1, 1, 2, 2, 3], [1, 0, 2, 3, 3, 3]])
    found = reference.regularised_graph_dilation(x, edges, None, 1.0, 2.0)
    pairs = [[0, 1, 3], [1, 2, 2]]
    expected = reference.regularised_graph_dilation(x, edges, None, 1.0, 2.0, lateral_edges=pairs)
    np.testing.assert_allclose(found, expected, atol=ERROR)


def arguments_of(rng, penalty, **more):
    """Draw arguments of every shape: (E, F), (E,), (F,) and scalars."""
    arguments = {"bias": 0.3 * rng.standard_normal((8, 2)), "weight": rng.random(8) + 0.1, **more}
    if penalty == "huber":
        arguments["smoothing"] = np.asarray(0.7)
    return {"x": rng.standard_normal((2, 5, 2)), **arguments}


def assert_derivatives(name, arguments, options, rng, step=1e-6):
    """Compare the derivatives along a random direction of every argument with central differences."""
    cotangent = rng.standard_normal(arguments["x"].shape)
    gradients = getattr(reference, f"{name}_gradient")(**arguments, **options, cotangent=cotangent)._asdict()
    assert {key for key, value in gradients.items() if value is not None} - {"ridge"} == arguments.keys() - {"ridge"}
    for key, argument in arguments.items():
        direction = np.asarray(rng.standard_normal(argument.shape))
        ahead, behind = (
            getattr(reference, name)(**{**arguments, key: argument + sign * step * direction}, **options)
            for sign in (1, -1)
        )
        numerical = (cotangent * (ahead - behind)).sum() / (2 * step)
        assert gradients[key].shape == argument.shape
        assert (gradients[key] * direction).sum() == pytest.approx(numerical, rel=1e-6, abs=1e-7), key


@pytest.mark.parametrize("direction", ["dilation", "erosion"])
@pytest.mark.parametrize("penalty", ["expectile", "huber"])
@pytest.mark.parametrize("edge_penalty", [None, "quadratic", "huber"])
def test_the_variational_gradient_equals_central_differences(rng, direction, penalty, edge_penalty):
    arguments = arguments_of(rng, penalty, logit_level=np.array([1.0, -0.5]))
    options = {"edges": rng.integers(0, 5, (2, 8)), "penalty": penalty}
    if edge_penalty is not None:
        arguments |= {"coupling": np.asarray(0.4), "ridge": np.array([0.1, 0.2])}
        options["edge_penalty"] = edge_penalty
    if edge_penalty == "huber":
        arguments["edge_smoothing"] = np.array([0.3, 0.6])
    kind = "variational" if edge_penalty is None else "regularised"
    assert_derivatives(f"{kind}_graph_{direction}", arguments, options, rng)


@pytest.mark.parametrize("name", ["joint_graph_opening", "joint_graph_closing"])
@pytest.mark.parametrize("penalty", ["expectile", "huber"])
def test_the_joint_gradient_equals_central_differences(rng, name, penalty):
    arguments = arguments_of(rng, penalty, logit_levels=np.array([-1.0, 0.5]), eta=np.array([0.5, 1.2]))
    options = {"edges": rng.integers(0, 5, (2, 8)), "penalty": penalty}
    assert_derivatives(name, arguments, options, rng)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "options", "message"),
    [
        ([[0, 1]], {}, r"edges must be \(2, E\) whole numbers"),
        ([[0.5], [1.0]], {}, r"edges must be \(2, E\) whole numbers"),
        ([[0], [3]], {}, "edges must be nodes 0 to 2, found 0 to 3"),
        ([[0], [1]], {"self_edge": False}, "not well-posed"),
        ([[0], [1]], {"penalty": "absolute"}, "penalty must be"),
    ],
)
def test_what_has_no_meaning_is_refused(edges, options, message):
    with pytest.raises(ValueError, match=message):
        reference.variational_graph_dilation(np.zeros((3, 1)), edges, None, 0.0, **options)
    with pytest.raises(ValueError, match="lateral_edges must be nodes"):
        reference.regularised_graph_dilation(np.zeros((3, 1)), [[0], [1]], None, 0.0, 1.0, lateral_edges=[[0], [-1]])
