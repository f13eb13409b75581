"""Soft maxima and minima of a window, differentiable in everything.

With v = x + b the values that a pixel sees, b being the structuring function, and s a sharpness for each channel:

=============  ==================================================  =======================================
SMorph         sum v exp(s v) / sum exp(s v)                       Kirszenberg et al. 2021, section 3
LMorph         sum v^(s + 1) / sum v^s, x scaled to [1, 2]         Kirszenberg et al. 2021, section 3
p-convolution  sum w x^(s + 1) / sum w x^s, x scaled to [1, 2]     Masci et al. 2013, equation 4 (kappa)
log-sum-exp    log(mean of exp(s v)) / s                           the smooth maximum of convex analysis
=============  ==================================================  =======================================

Each tends to the dilation by b as s grows and, the sign of s being reversed, to min (x + b); the first three are means at
s = 0. The first three are averages of v under weights proportional to an exponential, so that a softmax computes them
without overflow. Neighbours outside the image have weight 0.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["OPERATORS", "SoftOperation", "SoftWindow", "lmorph", "log_sum_exp", "p_convolution", "smorph"]

LEAST = 0.05  # values that a power is taken of are kept above this
RANGE = 1e-6  # a plane with a smaller range is not scaled


def smorph(x: Tensor, bias: Tensor, sharpness: Tensor) -> Tensor:
    """Average of the values of a window, each weighted by the exponential of its ``sharpness`` fold.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    bias : Tensor
        Structuring function, (C, kh, kw), odd window.
    sharpness : Tensor
        (C,); positive: towards the dilation, negative: towards the minimum.

    Returns
    -------
    Tensor
        (N, C, H, W).
    """
    values, inside = _window(x, bias)
    return _softmax_mean(values, _channel(sharpness) * values, inside)


def lmorph(x: Tensor, bias: Tensor, sharpness: Tensor) -> Tensor:
    """Counter-harmonic mean of x + bias, each plane of x being scaled to [1, 2] and the result scaled back.

    Parameters and result as for `smorph`; ``bias`` is in units of the range of the plane. Values below 0.05 count as 0.05.
    """
    scaled, low, span = _scaled(x)
    return _back(_counter_harmonic_mean(scaled, bias, sharpness), low, span)


def lmorph_of_unit_range(x: Tensor, bias: Tensor, sharpness: Tensor) -> Tensor:
    """As `lmorph`, for images in [0, 1], which are scaled by adding 1: so two in a row share one scale."""
    return _counter_harmonic_mean(x + 1, bias, sharpness) - 1


def p_convolution(x: Tensor, log_weight: Tensor, sharpness: Tensor) -> Tensor:
    """Counter-harmonic mean of x under the weights exp(log_weight), x scaled as in `lmorph`.

    Parameters and result as for `smorph`, ``log_weight`` (C, kh, kw) standing for ``bias``.
    """
    scaled, low, span = _scaled(x)
    values, inside = _window(scaled, torch.zeros_like(log_weight))
    logits = _channel(sharpness) * values.clamp_min(LEAST).log() + log_weight.flatten(1)[:, :, None, None]
    return _back(_softmax_mean(values, logits, inside), low, span)


def log_sum_exp(x: Tensor, bias: Tensor, sharpness: Tensor) -> Tensor:
    """Smooth maximum log(mean(exp(sharpness (x + bias)))) / sharpness, smooth minimum for a negative sharpness.

    Parameters and result as for `smorph`; ``sharpness`` must not be 0.
    """
    values, inside = _window(x, bias)
    slope = _channel(sharpness)
    total = torch.logsumexp((slope * values).masked_fill(~inside, -math.inf), dim=2)
    return (total - inside.sum(0).to(x.dtype).log()) / slope[:, 0]


OPERATORS = {"smorph": smorph, "lmorph": lmorph, "p-convolution": p_convolution, "log-sum-exp": log_sum_exp}


RECOVERY = {"smorph": smorph, "lmorph": lmorph_of_unit_range}  # of images in [0, 1]


class SoftWindow(nn.Module):
    """One of `OPERATORS` with a learned structuring function and sharpness for each channel.

    Parameters
    ----------
    channels, kernel_size : int
        Number of channels and side of the window.
    kind : str
        Key of `OPERATORS`.
    deviation : float
        Standard deviation of the first structuring function.
    initial_sharpness : float
        First sharpness: of this sign on the first half of the channels, of the other on the second. Its size is learned
        by its logarithm for log-sum-exp, whose sharpness must not pass 0.
    """

    def __init__(self, channels: int, kernel_size: int, *, kind: str, deviation: float, initial_sharpness: float):
        super().__init__()
        self.kind = kind
        shape = (channels, kernel_size, kernel_size)
        name = "log_weight" if kind == "p-convolution" else "bias"
        self.register_parameter(name, nn.Parameter(deviation * torch.randn(shape)))
        signs = torch.where(torch.arange(channels) < channels // 2, 1.0, -1.0)
        if kind == "log-sum-exp":
            self.register_buffer("signs", signs)
            self.log_sharpness = nn.Parameter(torch.full((channels,), math.log(initial_sharpness)))
        else:
            self.sharpness = nn.Parameter(initial_sharpness * signs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        structure = self.log_weight if self.kind == "p-convolution" else self.bias
        sharpness = self.signs * self.log_sharpness.exp() if self.kind == "log-sum-exp" else self.sharpness
        return OPERATORS[self.kind](x, structure, sharpness)


class SoftOperation(nn.Module):
    """Dilation, erosion, opening or closing of images in [0, 1] by one structuring function a channel.

    Parameters
    ----------
    operation : str
        dilation, erosion, opening or closing.
    bias : ndarray
        First structuring functions, (C, kh, kw), odd window.
    kind : str
        Key of `RECOVERY`.
    initial_sharpness : float
        First sharpness of each dilation and erosion, which are learned.
    """

    STEPS: ClassVar = {"dilation": "d", "erosion": "e", "opening": "ed", "closing": "de"}

    def __init__(self, operation: str, bias: np.ndarray, *, kind: str, initial_sharpness: float = 2.0):
        super().__init__()
        self.kind, self.steps = kind, self.STEPS[operation]
        self.bias = nn.Parameter(torch.from_numpy(bias).clone())
        self.sharpness = nn.Parameter(torch.full((len(self.steps), len(bias)), initial_sharpness))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        operator = RECOVERY[self.kind]
        for step, sharpness in zip(self.steps, self.sharpness, strict=True):
            # The erosion reverses the edges of the dilation: min over k of x at i - k, minus b at k.
            x = operator(x, self.bias, sharpness) if step == "d" else operator(x, -self.bias.flip(1, 2), -sharpness)
        return x


def _window(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return x + bias of every neighbour, (N, C, T, H, W), and which of them lie in the image, (T, H, W)."""
    height, width = x.shape[-2:]
    rows, columns = bias.shape[-2:]
    margin = (columns // 2, (columns - 1) // 2, rows // 2, (rows - 1) // 2)
    padded, inside = F.pad(x, margin), F.pad(torch.ones_like(x[0, 0], dtype=torch.bool), margin)
    places = [(i, j) for i in range(rows) for j in range(columns)]
    values = torch.stack([padded[..., i : i + height, j : j + width] for i, j in places], dim=2)
    seen = torch.stack([inside[i : i + height, j : j + width] for i, j in places])
    return values + bias.flatten(1)[:, :, None, None], seen


def _softmax_mean(values: Tensor, logits: Tensor, inside: Tensor) -> Tensor:
    weights = torch.softmax(logits.masked_fill(~inside, -math.inf), dim=2)
    return (weights * values).sum(dim=2)


def _counter_harmonic_mean(x: Tensor, bias: Tensor, sharpness: Tensor) -> Tensor:
    values, inside = _window(x, bias)
    values = values.clamp_min(LEAST)
    return _softmax_mean(values, _channel(sharpness) * values.log(), inside)


def _channel(sharpness: Tensor) -> Tensor:
    return sharpness[:, None, None, None]


def _scaled(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale every plane to [1, 2]; its range counts as a constant, through which no gradient passes."""
    low = x.detach().amin((-2, -1), keepdim=True)
    span = x.detach().amax((-2, -1), keepdim=True) - low
    span = torch.where(span > RANGE, span, torch.ones_like(span))
    return 1 + (x - low) / span, low, span


def _back(value: Tensor, low: Tensor, span: Tensor) -> Tensor:
    return low + (value - 1) * span
