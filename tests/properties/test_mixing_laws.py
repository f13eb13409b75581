"""Laws of the operators that mix channels, for every draw of offsets, weights, levels, penalties and paddings."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from varmorph.torch import maxplus_conv2d, minplus_conv2d, variational_conv2d

SMALL = 1e-9
INDEX_MAPS = ("geodesic", "replicate", "reflect", "circular")


def sup(tensor):
    return tensor.nan_to_num(nan=0.0).abs().max().item()


@dataclass(frozen=True)
class Draw:
    """A problem, drawn from a seed."""

    seed: int
    groups: int
    within: int
    image: tuple[int, int]
    size: tuple[int, int]
    signed: bool
    padding: str
    stride: int
    penalty: str
    sign_of_level: int = 1
    x: torch.Tensor | None = None

    @cached_property
    def rng(self):
        return np.random.default_rng(self.seed)

    def tensor(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    @cached_property
    def parts(self):
        outputs, channels = 2 * self.groups, self.groups * self.within
        shape = (outputs, (2 if self.signed else 1) * self.within, *self.size)
        left_out = torch.from_numpy(self.rng.random(shape) < 0.1)
        left_out[:, 0, self.size[0] // 2, self.size[1] // 2] = False
        image, bias = self.tensor(2, channels, *self.image), self.tensor(*shape).masked_fill(left_out, -torch.inf)
        smoothing = self.tensor(outputs).exp() if self.penalty == "huber" else None
        return image, bias, self.tensor(*shape).exp(), 3 * self.tensor(outputs), smoothing

    @property
    def image_of(self):
        return self.parts[0] if self.x is None else self.x

    @property
    def layout(self):
        return {"groups": self.groups, "signed": self.signed, "padding": self.padding, "stride": self.stride}

    def variational(self, x=None, bias=None, level=None):
        _, own_bias, weight, own_level, smoothing = self.parts
        options = {"weight": weight, "penalty": self.penalty, "smoothing": smoothing, **self.layout}
        bias, level = own_bias if bias is None else bias, own_level if level is None else level
        return variational_conv2d(self.parts[0] if x is None else x, bias, level, **options)


draws = st.builds(
    Draw,
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 2),
    within=st.integers(1, 3),
    image=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    signed=st.booleans(),
    padding=st.sampled_from(INDEX_MAPS),
    stride=st.integers(1, 2),
    penalty=st.sampled_from(("expectile", "quantile", "huber")),
)
some = settings(max_examples=40)


@some
@given(draws)
def test_every_operator_is_1_lipschitz_in_the_sup_norm(draw):
    x, bias, *_ = draw.parts
    change = draw.tensor(*x.shape) * draw.rng.choice([1e-3, 1.0])
    for apply in (
        draw.variational,
        lambda x: maxplus_conv2d(x, bias, **draw.layout),
        lambda x: minplus_conv2d(x, bias, **draw.layout),
    ):
        assert sup(apply(x + change) - apply(x)) <= sup(change) + SMALL


@some
@given(draws)
def test_rows_of_the_jacobian_have_absolute_sum_1(draw):
    x, *_ = draw.parts
    x = x[:1].clone().requires_grad_()
    y = draw.variational(x)
    for place in np.ndindex(*y.shape):
        (row,) = torch.autograd.grad(y[place], x, retain_graph=True)
        assert torch.isnan(y[place]) or row.abs().sum() <= 1 + SMALL
        if draw.signed:
            continue
        assert (row >= -SMALL).all()
        assert torch.isnan(y[place]) or abs(row.sum().item() - 1) <= SMALL


@some
@given(draws, st.floats(-5, 5))
def test_unsigned_a_constant_is_passed_on_and_the_operator_is_increasing(draw, constant):
    draw = replace(draw, signed=False)
    x, bias, *_ = draw.parts
    more = torch.from_numpy(draw.rng.integers(0, 3, x.shape).astype(float))
    for apply in (draw.variational, lambda x: maxplus_conv2d(x, bias, **draw.layout)):
        assert sup(apply(x + constant) - apply(x) - constant) <= SMALL
        assert (apply(x + more) - apply(x)).nan_to_num(nan=0.0).min() >= -SMALL


@some
@given(draws)
def test_the_opposite_of_everything_gives_the_opposite(draw):
    draw = replace(draw, signed=False)
    x, bias, _, level, _ = draw.parts
    opposite = torch.where(torch.isneginf(bias), bias, -bias)
    assert sup(draw.variational(-x, opposite, -level) + draw.variational()) <= SMALL
    assert sup(minplus_conv2d(-x, opposite, **draw.layout) + maxplus_conv2d(x, bias, **draw.layout)) == 0


@some
@given(draws)
def test_signed_an_operator_sees_x_and_minus_x_alike(draw):
    draw = replace(draw, signed=True)
    x, bias, weight, level, smoothing = draw.parts
    turned = [torch.cat(function.chunk(2, 1)[::-1], 1) for function in (bias, weight)]
    options = {"weight": turned[1], "penalty": draw.penalty, "smoothing": smoothing, **draw.layout}
    found = variational_conv2d(-x, turned[0], level, **options)
    assert torch.equal(found.isnan(), draw.variational().isnan())
    assert sup(found - draw.variational()) <= SMALL


@some
@given(draws)
def test_levels_lead_from_the_least_to_the_greatest(draw):
    x, bias, _, level, _ = draw.parts
    least, greatest = minplus_conv2d(x, bias, **draw.layout), maxplus_conv2d(x, bias, **draw.layout)
    before = None
    for number in (-40.0, -2.0, 0.0, 2.0, 40.0):
        y = draw.variational(level=torch.full_like(level, number))
        assert (y <= greatest + SMALL).logical_or(y.isnan()).all()
        assert (y >= least - SMALL).logical_or(y.isnan()).all()
        if before is not None:
            assert (y >= before - SMALL).logical_or(y.isnan()).all()
        before = y
    assert sup((before - greatest).masked_fill(before.isnan(), 0.0)) <= SMALL
