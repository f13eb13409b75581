"""Both halves say the same of wrong arguments."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import varmorph.jax
import varmorph.torch

X, FLAT, NODES = np.zeros((2, 3, 6, 5)), np.zeros((3, 3, 3)), np.zeros((4, 2))
EDGES = np.array([[0, 1], [1, 2]])
NEGATIVE = FLAT - 1.0

WRONG = {
    "rank of an image": ("dilation", X[0], FLAT),
    "empty image": ("dilation", X[..., :0], FLAT),
    "channels of a bias": ("erosion", X, FLAT[:2]),
    "bias of NaN": ("dilation", X, FLAT * np.nan),
    "bias of -inf alone": ("dilation", X, FLAT - np.inf),
    "negative weight": ("variational_dilation", X, FLAT, 0.0, {"weight": NEGATIVE}),
    "no weight": ("variational_dilation", X, FLAT, 0.0, {"weight": FLAT}),
    "window of a weight": ("variational_dilation", X, FLAT, 0.0, {"weight": FLAT[:, :2] + 1}),
    "infinite level": ("variational_dilation", X, FLAT, np.inf),
    "levels of other channels": ("variational_dilation", X, FLAT, FLAT[:2, 0, 0]),
    "one level of two": ("variational_opening", X, FLAT, (1.0,)),
    "a level for two": ("variational_opening", X, FLAT, FLAT[0, 0, 0]),
    "images of two shapes": ("reconstruction", X, X[:1], FLAT),
    "bias above 0": ("reconstruction", X, X, FLAT + 1),
    "bias below 0 at the origin": ("reconstruction", X, X, NEGATIVE),
    "shape of edge weights": ("regularised_dilation", X, FLAT, 0.0, 1.0, {"edge_weights": X}),
    "negative edge weights": (
        "regularised_dilation",
        X,
        FLAT,
        0.0,
        1.0,
        {"edge_weights": np.full((2, 1, 2, 6, 5), -1.0)},
    ),
    "rank of features": ("graph_dilation", NODES[0], EDGES),
    "edges of three nodes": ("graph_dilation", NODES, EDGES[[0, 1, 1]]),
    "edges to no node": ("graph_dilation", NODES, EDGES + 2),
    "offsets of other edges": ("graph_dilation", NODES, EDGES, NODES[:3, 0]),
    "offsets of NaN": ("graph_dilation", NODES, EDGES, np.full(2, np.nan)),
    "negative weights of edges": ("variational_graph_dilation", NODES, EDGES, None, 0.0, {"weight": np.full(2, -1.0)}),
}


def message(half, name, *arguments):
    arrays = {varmorph.torch: torch.from_numpy, varmorph.jax: jnp.asarray}[half]
    options = arguments[-1] if isinstance(arguments[-1], dict) else {}
    positional = arguments[: len(arguments) - bool(options)]

    def converted(value):
        return arrays(np.array(value)) if isinstance(value, np.ndarray) else value

    with pytest.raises(ValueError, match="must") as caught:
        getattr(half, name)(*map(converted, positional), **{key: converted(value) for key, value in options.items()})
    return str(caught.value)


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_errors_have_the_same_words(call):
    assert message(varmorph.torch, *call) == message(varmorph.jax, *call)
