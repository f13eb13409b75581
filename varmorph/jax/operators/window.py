"""Morphological operators as pure functions of images (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from varmorph.arguments import Size, geometry_of
from varmorph.differences import difference
from varmorph.jax.arguments import check_bias, check_image, check_level, check_smoothing, check_weight, two_levels
from varmorph.jax.backend.choice import compute_dtype
from varmorph.jax.separable import expectile as separable
from varmorph.jax.separable import maxplus
from varmorph.windows import Geometry, Padding

__all__ = [
    "black_top_hat",
    "closing",
    "dilation",
    "erosion",
    "external_gradient",
    "gradient",
    "internal_gradient",
    "opening",
    "variational_closing",
    "variational_dilation",
    "variational_erosion",
    "variational_opening",
    "white_top_hat",
]


def _dilate(x: jax.Array, bias: jax.Array, geometry: Geometry, sign: int) -> jax.Array:
    """Compute sign * max(sign * x + bias) over the windows: the dilation for sign 1, the erosion for -1."""
    dtype, padding = compute_dtype(x), geometry[4]
    outside = sign * padding if isinstance(padding, float) else -jnp.inf
    function = bias.astype(dtype).reshape(bias.shape[0], -1)
    return maxplus.supremum(x.astype(dtype), function, geometry, outside, sign).astype(x.dtype)


def _minimise(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array,
    level: jax.Array,
    geometry: Geometry,
    penalty: str,
    smoothing: jax.Array | None,
) -> jax.Array:
    """Minimise the separable energy with offsets `bias` (-inf: absent) and edge level `level`."""
    dtype, padding = compute_dtype(x), geometry[4]
    outside = padding if isinstance(padding, float) else None
    offsets, weights = (function.astype(dtype).reshape(bias.shape[0], -1) for function in (bias, weight))
    mu = () if smoothing is None else (smoothing.astype(dtype),)
    sides = sides_of(level.astype(dtype))
    return separable.minimise((x.astype(dtype), offsets, weights, *sides, *mu), (geometry, outside, penalty)).astype(
        x.dtype
    )


def sides_of(level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give tau and 1 - tau, whose logit is the level."""
    return jax.nn.sigmoid(level), jax.nn.sigmoid(-level)


def dilation(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Max-plus dilation: y_i is the greatest x_{i+k} + bias_k over the window.

    Parameters
    ----------
    x : (N, C, H, W)
        Images, floating point. NaN spreads to the windows that hold it; infinity is a value like others.
    bias : (C, kh, kw) or (kh, kw)
        Structuring function; -inf leaves an element out. The origin is (kh // 2, kw // 2).
    stride, rate : int or pair
        Step between outputs, and between elements of the window.
    padding : {"geodesic", "replicate", "reflect", "circular", "valid"} or a number
        What the window meets beyond the border. "geodesic" cuts the window there. "reflect" does not repeat the border
        pixel. "valid" gives only the outputs whose window lies in the image. A number breaks the laws that tie
        dilation and erosion together (adjunction, extensivity, idempotence), and invariance to added constants.

    Returns
    -------
    (N, C, ceil(H / stride), ceil(W / stride)), smaller with padding "valid".

    Raises
    ------
    TypeError
        If x or bias is not a floating point array.
    ValueError
        If a shape does not fit, the bias of a channel is -inf everywhere, or an option is unknown.

    Notes
    -----
    Where several elements attain the maximum, the first in row-major order takes the gradient. J. Serra (1982), Image
    Analysis and Mathematical Morphology; P. Soille (2003), Morphological Image Analysis, 2nd edition, chapter 3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0, 0.0, 1.0]]]])
    >>> dilation(x, jnp.array([[0.0, 0.0, -0.5]]))
    Array([[[[1.5, 2. , 2. , 1. ]]]], dtype=float32)
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    return _dilate(x, bias, geometry_of(x.shape, bias.shape, stride, rate, padding, False), 1)


def erosion(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Max-plus erosion: y_j is the least x_i - bias_k over the edges that the dilation draws from j to i.

    Reversing the dilation's edges makes the two an adjunction for even windows and for every padding that maps into
    the image: dilation(x) <= y exactly where x <= erosion(y). With padding "valid" the adjoint of this erosion is the
    full dilation, which is larger than the image, and not `dilation` with padding "valid".
    With a stride the erosion of stride 1 is sampled.

    Arguments, result, errors and sources are those of `dilation`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0, 3.0, 1.0]]]])
    >>> erosion(x, jnp.zeros((1, 3)))
    Array([[[[0., 0., 1., 1.]]]], dtype=float32)
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    return _dilate(x, bias, geometry_of(x.shape, bias.shape, stride, rate, padding, True), -1)


def opening(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Opening: dilation of the erosion. A stride samples the result.

    Arguments, result and errors are those of `dilation`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> opening(jnp.array([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 0., 0., 2., 2., 2.]]]], dtype=float32)
    """
    return dilation(erosion(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def closing(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Closing: erosion of the dilation. A stride samples the result.

    Arguments, result and errors are those of `dilation`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> closing(jnp.array([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]]), jnp.zeros((1, 3)))
    Array([[[[2., 2., 2., 0., 0., 0.]]]], dtype=float32)
    """
    return erosion(dilation(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def gradient(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Morphological gradient: dilation minus erosion. A stride samples the result.

    Arguments, result and errors are those of `dilation`; with padding "valid" the result has the pixels where both exist,
    and it is an error if there are none. Where infinities of one sign are subtracted the result is NaN. Soille (2003),
    chapter 3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> gradient(jnp.array([[[[0.0, 0.0, 5.0, 5.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 5., 5., 0.]]]], dtype=float32)
    """
    high = dilation(x, bias, rate=rate, padding=padding)
    low = erosion(x, bias, rate=rate, padding=padding)
    return difference((high, False, True), (low, True, False), bias, stride, rate, padding)


def internal_gradient(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Internal gradient: the image minus its erosion. A stride samples the result.

    Arguments, result, errors and source are those of `gradient`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> internal_gradient(jnp.array([[[[0.0, 0.0, 5.0, 5.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 0., 5., 0.]]]], dtype=float32)
    """
    low = erosion(x, bias, rate=rate, padding=padding)
    return difference((x, False, False), (low, True, False), bias, stride, rate, padding)


def external_gradient(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """External gradient: the dilation minus the image. A stride samples the result.

    Arguments, result, errors and source are those of `gradient`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> external_gradient(jnp.array([[[[0.0, 0.0, 5.0, 5.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 5., 0., 0.]]]], dtype=float32)
    """
    high = dilation(x, bias, rate=rate, padding=padding)
    return difference((high, False, True), (x, False, False), bias, stride, rate, padding)


def white_top_hat(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """White top-hat: the image minus its opening. A stride samples the result.

    Arguments, result and errors are those of `gradient`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> white_top_hat(jnp.array([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 3., 0., 0., 0., 0.]]]], dtype=float32)
    """
    opened = opening(x, bias, rate=rate, padding=padding)
    return difference((x, False, False), (opened, True, True), bias, stride, rate, padding)


def black_top_hat(
    x: jax.Array, bias: jax.Array, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> jax.Array:
    """Black top-hat: the closing minus the image. A stride samples the result.

    Arguments, result and errors are those of `gradient`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> black_top_hat(jnp.array([[[[3.0, 0.0, 3.0, 1.0, 1.0, 1.0]]]]), jnp.zeros((1, 3)))
    Array([[[[0., 3., 0., 0., 0., 0.]]]], dtype=float32)
    """
    closed = closing(x, bias, rate=rate, padding=padding)
    return difference((closed, True, True), (x, False, False), bias, stride, rate, padding)


def variational_dilation(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array | None,
    logit_level: jax.Array | float,
    *,
    penalty: str = "expectile",
    smoothing: jax.Array | float | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> jax.Array:
    """Variational dilation: y_i minimises sum_k weight_k rho_tau(x_{i+k} + bias_k - y_i), tau = sigmoid(logit_level).

    With the expectile penalty rho_tau(r) = a r^2 / 2, a = tau where r >= 0 and 1 - tau elsewhere. The result runs from
    the least x + bias (level -> -inf) over the weighted mean (level 0) to the max-plus dilation (level -> +inf). The
    gradient is the exact implicit one; every neighbour takes part in it.
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
        If an argument is not a floating point array.
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
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 1.0, 0.0]]]])
    >>> variational_dilation(x, jnp.zeros((1, 3)), None, 0.0).round(4)
    Array([[[[0.5   , 0.3333, 0.5   ]]]], dtype=float32)
    >>> variational_dilation(x, jnp.zeros((1, 3)), None, 10.0).round(4)
    Array([[[[1.    , 0.9999, 1.    ]]]], dtype=float32)
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    weight = check_weight(weight, bias)
    level = check_level(logit_level, x.shape[1], x)
    mu = check_smoothing(penalty, smoothing, x.shape[1], x)
    geometry = geometry_of(x.shape, bias.shape, stride, rate, padding, False)
    return _minimise(x, bias, weight, level, geometry, penalty, mu)


def negative_offsets(bias: jax.Array) -> jax.Array:
    """Change the sign of a structuring function; an element that is left out stays out."""
    absent = jnp.isneginf(bias)
    return jnp.where(absent, -jnp.inf, -jnp.where(absent, 0.0, bias))


def variational_erosion(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array | None,
    logit_level: jax.Array | float,
    *,
    penalty: str = "expectile",
    smoothing: jax.Array | float | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> jax.Array:
    """Variational erosion: the edges of the variational dilation reversed, offsets -bias, edge level -logit_level.

    It is minus the variational dilation of -x along the reversed edges, and tends to the max-plus erosion by `bias` as
    the level grows. Arguments, result and errors are those of `variational_dilation`; a stride samples the result.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0, 3.0, 1.0]]]])
    >>> variational_erosion(x, jnp.zeros((1, 3)), None, 12.0).round(3)
    Array([[[[0., 0., 1., 1.]]]], dtype=float32)
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    weight = check_weight(weight, bias)
    level = check_level(logit_level, x.shape[1], x)
    mu = check_smoothing(penalty, smoothing, x.shape[1], x)
    geometry = geometry_of(x.shape, bias.shape, stride, rate, padding, True)
    return _minimise(x, negative_offsets(bias), weight, -level, geometry, penalty, mu)


def variational_opening(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array | None,
    logit_levels: jax.Array | Sequence[float],
    *,
    penalty: str = "expectile",
    smoothing: jax.Array | float | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> jax.Array:
    """Variational opening: erosion edges at edge level logit_levels[0], then dilation edges at logit_levels[1].

    Levels (-s, s) tend to `opening` by `bias` as s grows. `logit_levels` is (2,) or (2, C), or two numbers. The other
    arguments, result and errors are those of `variational_dilation`; a stride samples the result.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])
    >>> variational_opening(x, jnp.zeros((1, 3)), None, (-14.0, 14.0)).round(3)
    Array([[[[0., 0., 0., 2., 2., 2.]]]], dtype=float32)
    """
    first, second = two_levels(logit_levels)
    eroded = variational_erosion(
        x, bias, weight, -first, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding
    )
    return variational_dilation(
        eroded, bias, weight, second, penalty=penalty, smoothing=smoothing, stride=stride, rate=rate, padding=padding
    )


def variational_closing(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array | None,
    logit_levels: jax.Array | Sequence[float],
    *,
    penalty: str = "expectile",
    smoothing: jax.Array | float | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> jax.Array:
    """Variational closing: dilation edges at edge level logit_levels[0], then erosion edges at logit_levels[1].

    Levels (s, -s) tend to `closing` by `bias` as s grows. Arguments, result and errors are those of `variational_opening`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])
    >>> variational_closing(x, jnp.zeros((1, 3)), None, (14.0, -14.0)).round(3)
    Array([[[[2., 2., 2., 0., 0., 0.]]]], dtype=float32)
    """
    first, second = two_levels(logit_levels)
    dilated = variational_dilation(
        x, bias, weight, first, penalty=penalty, smoothing=smoothing, rate=rate, padding=padding
    )
    return variational_erosion(
        dilated, bias, weight, -second, penalty=penalty, smoothing=smoothing, stride=stride, rate=rate, padding=padding
    )
