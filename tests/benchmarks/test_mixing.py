"""Layers that mix channels beside `torch.nn.Conv2d` of the same sizes, and beside our own tensor code; see `test_bars.py`.

Forward and backward together, with the gradients of all parameters, on 64 x 32 x 14 x 14 from 32 to 64 channels by 3 x 3.
"""

import pytest
import torch

from varmorph.torch import MaxPlusConv2d, VariationalConv2d, backend

SIZES = (32, 64, 3)
SMALL = (2, 4, 3)


def both_passes(layer, x):
    leaves = [x.clone().requires_grad_(), *layer.parameters()]
    cotangent = torch.ones_like(layer(x))
    return lambda: torch.autograd.grad(layer(leaves[0]), leaves, cotangent)


@pytest.fixture
def problem(timed):
    sizes = SIZES if timed else SMALL
    shape = (64, 32, 14, 14) if timed else (2, 2, 6, 6)
    torch.manual_seed(0)
    return sizes, torch.randn(shape)


@pytest.mark.parametrize(
    ("layer", "bar"), [(VariationalConv2d, 25.0), (MaxPlusConv2d, 8.0)], ids=["variational", "max-plus"]
)
def test_a_layer_and_a_convolution(against, problem, layer, bar):
    sizes, x = problem
    peers = {"Conv2d": both_passes(torch.nn.Conv2d(*sizes, padding=1), x)}
    ours = both_passes(layer(*sizes, signed=True), x)
    against(
        ours,
        peers,
        operator=f"{layer.__name__}, signed",
        window=3,
        shape=x.shape,
        phase="forward and backward",
        bar=bar,
    )


def test_kernels_and_tensor_code(against, problem):
    sizes, x = problem
    x = x[:2]  # tensor code lists every edge
    layer = VariationalConv2d(*sizes, signed=True)

    def by_tensor_code():
        with backend("tensor"):
            both_passes(layer, x)()

    against(
        both_passes(layer, x), {"tensor code": by_tensor_code}, operator="VariationalConv2d, signed", window=3, shape=x.shape,
        phase="forward and backward", bar=1 / 20, rounds=5,
    )  # fmt: skip
