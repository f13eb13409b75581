"""What the public functions say to wrong input: the argument, what was found, what was expected."""

import pytest
import torch

from varmorph.torch import (
    Dilation2d,
    VariationalDilation2d,
    dilation,
    erosion,
    gradient,
    variational_dilation,
    variational_erosion,
    variational_opening,
)

X, FLAT = torch.zeros(2, 3, 6, 5), torch.zeros(3, 3, 3)

WRONG = [
    (lambda: dilation([[0.0]], FLAT), TypeError, "x must be a torch.Tensor, found list"),
    (lambda: dilation(X.long(), FLAT), TypeError, "x must hold floating point numbers, found dtype torch.int64"),
    (lambda: dilation(X[0], FLAT), ValueError, r"x must have shape \(N, C, H, W\).*found \(3, 6, 5\)"),
    (lambda: dilation(X[..., :0], FLAT), ValueError, r"x must have shape .* H, W >= 1, found \(2, 3, 6, 0\)"),
    (lambda: erosion(X, FLAT[:2]), ValueError, r"bias must have shape \(3, kh, kw\) or \(kh, kw\), found \(2, 3, 3\)"),
    (lambda: erosion(X, None), TypeError, "bias must be a torch.Tensor, found NoneType"),
    (lambda: erosion(X, FLAT[0, 0]), ValueError, r"bias must have shape .* found \(3,\)"),
    (lambda: dilation(X, FLAT - torch.inf), ValueError, "bias must keep at least one element"),
    (lambda: dilation(X, FLAT + torch.inf), ValueError, r"bias must hold finite numbers or -inf, found NaN or \+inf"),
    (lambda: dilation(X, FLAT * torch.nan), ValueError, "bias must hold finite numbers or -inf"),
    (lambda: dilation(X, FLAT, stride=0), ValueError, "stride must be a positive integer or two of them, found 0"),
    (lambda: dilation(X, FLAT, rate=(1, 2, 3)), ValueError, r"rate must be .* found \(1, 2, 3\)"),
    (lambda: dilation(X, FLAT, rate=1.5), ValueError, "rate must be a positive integer or two of them, found 1.5"),
    (lambda: dilation(X, FLAT, padding="same"), ValueError, "padding must be one of 'geodesic', .*, found 'same'"),
    (lambda: dilation(X, FLAT, padding=float("nan")), ValueError, "padding must be .* finite number, found nan"),
    (lambda: dilation(X, FLAT, padding="valid", rate=3), ValueError, r"at least \(7, 7\) pixels .* found \(6, 5\)"),
    (lambda: gradient(X, FLAT[..., :2, :], padding="valid", rate=(5, 1)), ValueError, "leaves no pixel"),
    (lambda: variational_dilation(X, FLAT, 0.0, weight=-FLAT - 1), ValueError, "weight must hold finite numbers >= 0"),
    (lambda: variational_dilation(X, FLAT, 0.0, weight=FLAT), ValueError, "weight must be positive at some element"),
    (
        lambda: variational_dilation(X, FLAT, 0.0, weight=torch.ones(5, 5)),
        ValueError,
        r"weight must have the window size of bias \(3, 3\), found \(5, 5\)",
    ),
    (lambda: variational_dilation(X, FLAT, torch.zeros(2)), ValueError, r"logit_level .* \(3,\), found \(2,\)"),
    (lambda: variational_dilation(X, FLAT, torch.inf), ValueError, r"logit_level must be finite .* found inf"),
    (lambda: variational_dilation(X, FLAT, "high"), TypeError, "logit_level must be a torch.Tensor, found str"),
    (
        lambda: variational_erosion(X, FLAT, 0.0, penalty="square"),
        ValueError,
        "penalty must be one of 'expectile', 'quantile', 'huber', found 'square'",
    ),
    (
        lambda: variational_erosion(X, FLAT, 0.0, penalty="huber"),
        ValueError,
        "smoothing must be a positive number for penalty 'huber', found None",
    ),
    (
        lambda: variational_erosion(X, FLAT, 0.0, penalty="huber", smoothing=-1.0),
        ValueError,
        r"smoothing must be positive, found \[-1.0",
    ),
    (
        lambda: variational_erosion(X, FLAT, 0.0, penalty="huber", smoothing=torch.inf),
        ValueError,
        "smoothing must be finite, found inf",
    ),
    (
        lambda: variational_erosion(X, FLAT, 0.0, smoothing=0.1),
        ValueError,
        "smoothing must be None for penalty 'expectile', found 0.1",
    ),
    (lambda: variational_opening(X, FLAT, torch.zeros(3)), ValueError, r"logit_levels .* two .* found \(3,\)"),
    (lambda: variational_opening(X, FLAT, 1.0), ValueError, "logit_levels must hold two levels.* found 1.0"),
    (lambda: Dilation2d(0, 3), ValueError, "channels must be a positive integer, found 0"),
    (lambda: Dilation2d(2, (3, 0)), ValueError, r"kernel_size must be a positive integer .* found \(3, 0\)"),
    (lambda: Dilation2d(2, 3, padding="same"), ValueError, "padding must be one of"),
    (lambda: VariationalDilation2d(2, 3, penalty="huber"), ValueError, "smoothing must be a positive number .* None"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_zero_weight_removes_an_element():
    x = torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    weight, bias = torch.ones(3, 3), torch.zeros(3, 3)
    weight[0, 2] = 0
    bias[0, 2] = -torch.inf
    removed = variational_dilation(x, torch.zeros(3, 3), 2.0, weight=weight)
    torch.testing.assert_close(removed, variational_dilation(x, bias, 2.0))
