"""Separable variational operators as differentiable functions of images (N, C, H, W)."""

from __future__ import annotations

from varmorph.arguments import Size, geometry_of
from varmorph.torch.arguments import check_bias, check_image, check_level, check_smoothing, check_weight, two_levels
from varmorph.torch.backend.choice import plain_shape
from varmorph.torch.separable.minimisation import minimise
from varmorph.torch.separable.neighbours import negative_offsets
from varmorph.torch.shapes import Images, LevelPair, Outputs, PerChannel, StructuringFunction
from varmorph.windows import Padding

__all__ = ["variational_closing", "variational_dilation", "variational_erosion", "variational_opening"]


def variational_dilation(
    x: Images,
    bias: StructuringFunction,
    logit_level: PerChannel,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> Outputs:
    """Variational dilation: y_i minimises sum_k weight_k rho_tau(x_{i+k} + bias_k - y_i), tau = sigmoid(logit_level).

    With the expectile penalty rho_tau(r) = a r^2 / 2, a = tau where r >= 0 and 1 - tau elsewhere. The result runs from
    the least x + bias (level -> -inf) over the weighted mean (level 0) to the max-plus dilation (level -> +inf). The
    backward pass gives the exact implicit gradient; every neighbour takes part in it.
    With the quantile penalty a |r| the result is a weighted quantile, the median at level 0; with the huber penalty, a
    smoothed |r|, it lies between the two.

    Parameters
    ----------
    x : (N, C, H, W)
        Images, floating point; computed in float32 unless they are float64.
    bias : (C, kh, kw) or (kh, kw)
        Offsets; -inf leaves an element out.
    weight : (C, kh, kw) or (kh, kw) or None
        Nonnegative weights, None for ones.
    logit_level : number, () or (C,)
        log(tau / (1 - tau)), finite.
    penalty : {"expectile", "quantile", "huber"}
        Penalty of the residuals.
    smoothing : number, () or (C,), for "huber" alone
        mu > 0: the penalty is a r^2 / (2 mu) where |r| <= mu and a (|r| - mu / 2) elsewhere. It gets a gradient too.
    stride, rate, padding
        As in `dilation`; with "geodesic" the weight beyond the border is 0. A pixel whose window holds no neighbour of
        positive weight has no minimiser: it is NaN.

    Returns
    -------
    (N, C, ceil(H / stride), ceil(W / stride)), smaller with padding "valid".

    Raises
    ------
    TypeError
        If an argument is not a floating point tensor.
    ValueError
        If a shape or an option does not fit, logit_level is not finite, a weight is negative, or a channel keeps no
        element (bias -inf or weight 0 everywhere).

    Notes
    -----
    The idea of families between erosion and dilation by minimisation is that of Najman, Pesquet and Talbot (ISMM 2015,
    doi 10.1007/978-3-319-18720-4_40). Where v_k = y_i the residual counts as positive.

    Quantile and huber energies may be flat at their minimum: the middle of the minimisers is taken, and its gradient goes
    by halves to the neighbours at the two ends. The quantile has no gradient in weight and level, being piecewise constant.

    NaN spreads to the windows that hold it, even at weight 0, and no further. An infinite pixel is a value like others to
    the quantile. With the expectile a window that holds one is infinite, or NaN if it holds both infinities, or one at
    weight 0; with the huber penalty it is NaN. The gradient of an infinite result means nothing.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 1.0, 0.0]]]])
    >>> variational_dilation(x, torch.zeros(1, 3), 0.0)
    tensor([[[[0.5000, 0.3333, 0.5000]]]])
    >>> variational_dilation(x, torch.zeros(1, 3), 10.0)
    tensor([[[[1.0000, 0.9999, 1.0000]]]])
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    weight = check_weight(weight, bias)
    level = check_level(logit_level, x.shape[1], x)
    mu = check_smoothing(penalty, smoothing, x.shape[1], x)
    geometry = geometry_of(plain_shape(x), plain_shape(bias), stride, rate, padding, False)
    return minimise(x, bias, weight, level, geometry, penalty, mu)


def variational_erosion(
    x: Images,
    bias: StructuringFunction,
    logit_level: PerChannel,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> Outputs:
    """Variational erosion: the edges of the variational dilation reversed, offsets -bias, edge level -logit_level.

    It is minus the variational dilation of -x along the reversed edges, and tends to the max-plus erosion by `bias` as
    the level grows. Arguments, result and errors are those of `variational_dilation`; a stride samples the result.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 2.0, 3.0, 1.0]]]])
    >>> variational_erosion(x, torch.zeros(1, 3), 12.0).round(decimals=3)
    tensor([[[[0., 0., 1., 1.]]]])
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    weight = check_weight(weight, bias)
    level = check_level(logit_level, x.shape[1], x)
    mu = check_smoothing(penalty, smoothing, x.shape[1], x)
    geometry = geometry_of(plain_shape(x), plain_shape(bias), stride, rate, padding, True)
    return minimise(x, negative_offsets(bias), weight, -level, geometry, penalty, mu)


def variational_opening(
    x: Images,
    bias: StructuringFunction,
    logit_levels: LevelPair,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> Outputs:
    """Variational opening: erosion edges at edge level logit_levels[0], then dilation edges at logit_levels[1].

    Levels (-s, s) tend to `opening` by `bias` as s grows. `logit_levels` is (2,) or (2, C), or two numbers. The other
    arguments, result and errors are those of `variational_dilation`; a stride samples the result.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])
    >>> variational_opening(x, torch.zeros(1, 3), (-14.0, 14.0)).round(decimals=3)
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """
    first, second = two_levels(logit_levels)
    eroded = variational_erosion(
        x, bias, -first, weight=weight, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding
    )
    return variational_dilation(
        eroded,
        bias,
        second,
        weight=weight,
        penalty=penalty,
        smoothing=smoothing,
        stride=stride,
        rate=rate,
        padding=padding,
    )


def variational_closing(
    x: Images,
    bias: StructuringFunction,
    logit_levels: LevelPair,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> Outputs:
    """Variational closing: dilation edges at edge level logit_levels[0], then erosion edges at logit_levels[1].

    Levels (s, -s) tend to `closing` by `bias` as s grows. Arguments, result and errors are those of `variational_opening`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])
    >>> variational_closing(x, torch.zeros(1, 3), (14.0, -14.0)).round(decimals=3)
    tensor([[[[2., 2., 2., 0., 0., 0.]]]])
    """
    first, second = two_levels(logit_levels)
    dilated = variational_dilation(
        x, bias, first, weight=weight, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding
    )
    return variational_erosion(
        dilated,
        bias,
        -second,
        weight=weight,
        penalty=penalty,
        smoothing=smoothing,
        stride=stride,
        rate=rate,
        padding=padding,
    )
