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
    graph = [edges, bias.reshape(2, -1).T[elements], weight.reshape(2, -1).T[elements]]
    return {"image": [x, bias, weight], "graph": [x[0].reshape(2, -1).T, *graph], "elements": elements}


# --- max-plus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dilation", "erosion", "opening", "closing"])
def test_on_a_grid_the_max_plus_operators_are_those_of_images(twin, name):
    x, bias, _ = twin["image"]
    nodes, edges, offsets, _ = twin["graph"]
    found = getattr(reference, f"graph_{name}")(nodes, edges, offsets, self_edge=False)
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
    more = (None, 1.0) if name.startswith("variational") else ()
    expected = getattr(reference, name)(x, edges[:, 1:], bias[1:], *more)
    bias[0] = -np.inf
    np.testing.assert_allclose(getattr(reference, name)(x, edges, bias, *more), expected, atol=ERROR)


def test_a_batch_is_one_graph_at_a_time(rng):
    x, edges = rng.standard_normal((3, 5, 2)), rng.integers(0, 5, (2, 8))
    arguments = (edges, rng.standard_normal((8, 2)), rng.random(8))
    calls = [
        lambda x: reference.graph_opening(x, *arguments[:2]),
        lambda x: reference.variational_graph_erosion(x, *arguments, [0.5, -1.0], **LATERAL),
        lambda x: reference.joint_graph_closing(x, *arguments, [1.0, -1.0], 0.5),
    ]
    for call in calls:
        np.testing.assert_allclose(call(x), np.stack([call(one) for one in x]), atol=ERROR)


# --- variational ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["dilation", "erosion"])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.4), ("quantile", None)])
def test_on_a_grid_the_separable_operators_are_those_of_images(twin, direction, penalty, smoothing):
    x, *function = twin["image"]
    options, level = {"penalty": penalty, "smoothing": smoothing}, [1.0, -0.5]
    found = getattr(reference, f"variational_graph_{direction}")(*twin["graph"], level, self_edge=False, **options)
    expected = getattr(reference, f"variational_{direction}")(x, *function, level, **options)
    np.testing.assert_allclose(as_image(found, x.shape), expected, atol=ERROR)


@pytest.mark.parametrize("direction", ["dilation", "erosion"])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.4), ("quantile", None)])
def test_on_a_grid_the_separable_gradients_are_those_of_images(twin, rng, direction, penalty, smoothing):
    x, *function = twin["image"]
    x[...] = twin["graph"][0].T.reshape(x.shape)
    options, level = {"penalty": penalty, "smoothing": smoothing}, [1.0, -0.5]
    pull = rng.standard_normal((12, 2))
    found = getattr(reference, f"variational_graph_{direction}_gradient")(
        *twin["graph"], level, pull, self_edge=False, **options
    )
    expected = getattr(reference, f"variational_{direction}_gradient")(
        x, *function, level, as_image(pull, x.shape), **options
    )
    np.testing.assert_allclose(as_image(found.x, x.shape), expected.x, atol=ERROR)
    np.testing.assert_allclose(found.logit_level, expected.logit_level, atol=ERROR)
    for name in ("bias", "weight"):
        summed = np.stack([np.bincount(twin["elements"], column) for column in getattr(found, name).T])
        np.testing.assert_allclose(summed, getattr(expected, name).reshape(2, -1), atol=ERROR)


def test_on_a_grid_the_regularised_dilation_is_that_of_images(twin):
    x, *function = twin["image"]
    lateral, _ = grid(3, 4, (1, 2))
    cross = np.concatenate([lateral, grid(3, 4, (2, 1))[0]], axis=1)
    found = reference.variational_graph_dilation(
        *twin["graph"], 0.8, lateral_edges=cross[:, cross[0] != cross[1]], self_edge=False, **LATERAL
    )
    expected = reference.regularised_dilation(x, *function, 0.8, **LATERAL)
    np.testing.assert_allclose(as_image(found, x.shape), expected, atol=ERROR)


@pytest.mark.parametrize("name", ["opening", "closing"])
def test_on_a_grid_the_joint_operators_are_those_of_images(twin, name):
    x, *function = twin["image"]
    arguments = ([-1.0, 0.6], [0.5, 0.8])
    found = getattr(reference, f"joint_graph_{name}")(*twin["graph"], *arguments, self_edge=False)
    expected = getattr(reference, f"joint_{name}")(x, *function, *arguments)
    np.testing.assert_allclose(as_image(found, x.shape), expected, atol=ERROR)


def test_a_self_edge_has_bias_0_and_weight_1(rng):
    x, edges = rng.standard_normal((4, 2)), np.array([[0, 1, 3], [1, 2, 1]])
    bias, weight = rng.standard_normal((3, 2)), rng.random((3, 2))
    loops = np.concatenate([edges, [range(4)] * 2], axis=1)
    explicit = loops, np.concatenate([bias, np.zeros((4, 2))]), np.concatenate([weight, np.ones((4, 2))])
    for call in (
        lambda *graph, **options: reference.graph_closing(x, *graph[:2], **options),
        lambda *graph, **options: reference.variational_graph_dilation(x, *graph, 0.7, **LATERAL, **options),
        lambda *graph, **options: reference.joint_graph_opening(x, *graph, [-1.0, 1.0], 0.7, **options),
    ):
        np.testing.assert_allclose(call(edges, bias, weight), call(*explicit, self_edge=False), atol=ERROR)


def test_lateral_edges_are_by_default_the_pairs_that_an_edge_connects(rng):
    x, edges = rng.standard_normal((4, 1)), np.array([[0, 1, 1, 2, 2, 3], [1, 0, 2, 3, 3, 3]])
    found = reference.variational_graph_dilation(x, edges, None, None, 1.0, coupling=2.0)
    pairs = [[0, 1, 3], [1, 2, 2]]
    expected = reference.variational_graph_dilation(x, edges, None, None, 1.0, coupling=2.0, lateral_edges=pairs)
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
    assert_derivatives(f"variational_graph_{direction}", arguments, options, rng)


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
        ([[0], [1]], {"lateral_edges": [[0], [1]]}, "lateral_edges need a coupling"),
        ([[0], [1]], {"lateral_edges": [[0], [-1]], "coupling": 1.0}, "lateral_edges must be nodes"),
        ([[0], [1]], {"self_edge": False}, "not well-posed"),
        ([[0], [1]], {"penalty": "absolute"}, "penalty must be"),
    ],
)
def test_what_has_no_meaning_is_refused(edges, options, message):
    with pytest.raises(ValueError, match=message):
        reference.variational_graph_dilation(np.zeros((3, 1)), edges, None, None, 0.0, **options)
