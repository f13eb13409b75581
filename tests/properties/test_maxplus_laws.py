"""The laws of the max-plus operators by padding, for every structuring function, odd and even windows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varmorph.torch import (
    backend,
    black_top_hat,
    closing,
    dilation,
    erosion,
    external_gradient,
    gradient,
    internal_gradient,
    opening,
    white_top_hat,
)

INDEX_MAPS = ("geodesic", "replicate", "reflect", "circular")
SMALL = 1e-12


@st.composite
def images(draw):
    """Give an image, another one, a structuring function and how the window moves."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (1, draw(st.integers(1, 2)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    size = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    x, other = torch.from_numpy(rng.standard_normal((2, *shape)))
    bias = torch.from_numpy(rng.standard_normal((shape[1], *size)))
    if draw(st.booleans()):
        # The origin stays, so that every window keeps a neighbour; an even window keeps another one beside it.
        left_out = torch.from_numpy(rng.random(size) < 0.4)
        left_out[size[0] // 2, size[1] // 2] = False
        bias = bias.masked_fill(left_out, -torch.inf)
    return x, other, bias, {"padding": draw(st.sampled_from(INDEX_MAPS)), "rate": draw(st.integers(1, 2))}


@pytest.fixture(params=["tensor", "auto"], autouse=True)
def computed_by(request):
    with backend(request.param):
        yield request.param


@given(images())
def test_erosion_and_dilation_are_an_adjunction(drawn):
    x, other, bias, how = drawn
    below = (dilation(x, bias, **how) - other).amax((2, 3))
    above = (x - erosion(other, bias, **how)).amax((2, 3))
    # dilation(x) <= other + c exactly where x <= erosion(other) + c: the least such c agree.
    torch.testing.assert_close(below, above, rtol=0, atol=SMALL)


@given(images(), st.sampled_from([*INDEX_MAPS, "valid", 0.5]), st.integers(1, 2), st.data())
def test_dual_channels_are_dilations_of_the_negative(drawn, padding, stride, data):
    x, _, bias, how = drawn
    how |= {"padding": padding, "stride": stride}
    if padding == "valid":
        how["rate"] = 1
        bias = bias[..., : x.shape[2], : x.shape[3]]
    dual = data.draw(st.integers(0, x.shape[1]))
    if torch.isneginf(bias).flatten(1).all(1).any():
        return
    negative = how | ({"padding": -0.5} if padding == 0.5 else {})
    turned = 0.0 - dilation(-x, bias, **negative)
    expected = torch.cat([dilation(x, bias, **how)[:, : x.shape[1] - dual], turned[:, x.shape[1] - dual :]], 1)
    assert torch.equal(dilation(x, bias, dual=dual, **how), expected)


@given(images())
def test_a_dual_dilation_is_the_erosion_by_the_transposed_function(drawn):
    x, _, bias, how = drawn
    bias = bias[..., : (bias.shape[1] - 1) // 2 * 2 + 1, : (bias.shape[2] - 1) // 2 * 2 + 1]  # odd
    if torch.isneginf(bias).flatten(1).all(1).any() or how["padding"] != "geodesic":
        return
    transposed = dilation(x, bias.flip((1, 2)), dual=x.shape[1], **how)
    torch.testing.assert_close(transposed, erosion(x, bias, **how), rtol=0, atol=0)


@given(images())
def test_opening_is_anti_extensive_and_closing_extensive(drawn):
    x, _, bias, how = drawn
    assert (opening(x, bias, **how) <= x + SMALL).all()
    assert (closing(x, bias, **how) >= x - SMALL).all()


@given(images())
def test_opening_and_closing_are_idempotent(drawn):
    x, _, bias, how = drawn
    for operator in (opening, closing):
        once = operator(x, bias, **how)
        torch.testing.assert_close(operator(once, bias, **how), once, rtol=0, atol=SMALL)


@given(images())
def test_dilation_distributes_over_the_supremum_and_erosion_over_the_infimum(drawn):
    x, other, bias, how = drawn
    for operator, join in ((dilation, torch.maximum), (erosion, torch.minimum)):
        together = operator(join(x, other), bias, **how)
        apart = join(operator(x, bias, **how), operator(other, bias, **how))
        torch.testing.assert_close(together, apart, rtol=0, atol=SMALL)


@given(images())
def test_adding_a_constant_commutes_with_both(drawn):
    x, _, bias, how = drawn
    for operator in (dilation, erosion):
        torch.testing.assert_close(operator(x + 3, bias, **how), operator(x, bias, **how) + 3, rtol=0, atol=SMALL)


@given(images())
def test_for_odd_windows_that_are_cut_the_erosion_is_dual_to_the_reflected_dilation(drawn):
    x, _, bias, how = drawn
    bias = bias[:, : (bias.shape[1] - 1) | 1, : (bias.shape[2] - 1) | 1]
    bias = bias.nan_to_num(neginf=-2.0)
    for padding in ("geodesic", "circular"):
        dual = -dilation(-x, bias.flip(1, 2), padding=padding, rate=how["rate"])
        torch.testing.assert_close(erosion(x, bias, padding=padding, rate=how["rate"]), dual, rtol=0, atol=SMALL)


@given(images())
def test_valid_erosion_is_the_adjoint_of_the_full_dilation(drawn):
    _, other, bias, _ = drawn
    height, width = (max(n, m) for n, m in zip(other.shape[2:], bias.shape[1:], strict=True))
    other = torch.nn.functional.pad(other, (0, width - other.shape[3], 0, height - other.shape[2]))
    eroded = erosion(other, bias, padding="valid")
    x = torch.sin(torch.arange(eroded.numel(), dtype=eroded.dtype)).view_as(eroded)
    # The full dilation of x: on an image as large as `other`, -inf around x.
    ahead = [(size - 1) // 2 for size in bias.shape[1:]]
    behind = [size - 1 - head for size, head in zip(bias.shape[1:], ahead, strict=True)]
    surrounded = torch.nn.functional.pad(x, (ahead[1], behind[1], ahead[0], behind[0]), value=-torch.inf)
    full = dilation(surrounded, bias)
    torch.testing.assert_close((full - other).amax((2, 3)), (x - eroded).amax((2, 3)), rtol=0, atol=SMALL)


def test_a_number_as_padding_breaks_the_laws():
    x = torch.tensor([[[[-2.0, -1.0, -2.0]]]], dtype=torch.float64)
    flat = torch.zeros(1, 3, dtype=torch.float64)
    assert (opening(x, flat, padding=0.0) > x).any()  # anti-extensivity
    assert not (dilation(x - 5, flat, padding=0.0) == dilation(x, flat, padding=0.0) - 5).all()  # translation
    eroded = erosion(x, flat, padding=-9.0)
    assert (dilation(eroded, flat, padding=-9.0) <= x).all()
    assert not (eroded >= erosion(x, flat)).all()
    bounded = torch.full_like(x, -1.0)  # adjunction: x <= erosion(bounded), yet dilation(x) is not below `bounded`
    assert (x <= erosion(bounded, flat, padding=0.0)).all()
    assert not (dilation(x, flat, padding=0.0) <= bounded).all()


def test_with_an_erosion_that_does_not_reverse_the_edges_replicate_would_break_the_laws():
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.standard_normal((1, 1, 6, 6)))
    bias = torch.from_numpy(rng.standard_normal((1, 3, 3)))
    mirrored = -dilation(-x, bias.flip(1, 2), padding="replicate")
    assert (dilation(mirrored, bias, padding="replicate") > x).any()
    assert (opening(x, bias, padding="replicate") <= x + SMALL).all()


@given(images())
def test_gradients_and_top_hats_are_differences(drawn):
    x, _, bias, how = drawn
    high, low = dilation(x, bias, **how), erosion(x, bias, **how)
    torch.testing.assert_close(gradient(x, bias, **how), high - low)
    torch.testing.assert_close(external_gradient(x, bias, **how) + internal_gradient(x, bias, **how), high - low)
    assert (white_top_hat(x, bias, **how) >= -SMALL).all()
    assert (black_top_hat(x, bias, **how) >= -SMALL).all()
