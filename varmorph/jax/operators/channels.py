"""Operators that mix channels: an output channel sees the windows of all input channels of its group.

With `signed` an edge comes from x and another from -x: the layer is not monotone any more, and holds linear maps (level 0) and the
neuron of sup-norm distance (max-plus) as special cases. Whatever the offsets, weights, level and penalty are, such an operator is
1-Lipschitz in the sup norm over all channels.
"""

from __future__ import annotations

import jax

from varmorph.arguments import Size, geometry_of
from varmorph.jax.arguments import (
    check_features_of_last_axis,
    check_image,
    check_level,
    check_mixing_bias,
    check_mixing_weight,
    check_smoothing,
)
from varmorph.jax.separable.mixing import Mixing, extremum, minimise
from varmorph.jax.shapes import (
    Images,
    MixedFeatures,
    MixedOutputs,
    MixingFunctions,
    MixingMatrix,
    PerOutput,
    WideFeatures,
)
from varmorph.windows import Padding

__all__ = [
    "maxplus_conv2d",
    "maxplus_linear",
    "minplus_conv2d",
    "minplus_linear",
    "variational_conv2d",
    "variational_linear",
]


def maxplus_conv2d(
    x: Images,
    bias: MixingFunctions,
    *,
    groups: int = 1,
    signed: bool = False,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> MixedOutputs:
    """Max-plus convolution: y_{o,i} is the greatest x_{c,i+k} + bias_{o,c,k} over the channels c of its group and the window.

    Parameters
    ----------
    x : (N, C, H, W)
        Images, floating point; computed in float32 unless they are float64.
    bias : (O, S C / groups, kh, kw)
        Offsets, S = 2 if signed, else 1; -inf leaves an edge out. The origin of the window is (kh // 2, kw // 2).
    groups : int
        Output channel o sees the input channels of group o // (O / groups).
    signed : bool
        Whether each edge from x has a twin from -x: the first half of the second axis of bias meets x, the second half -x. With
        offsets (-a, a) the result is the distance max |x - a| of the window from a pattern.
    stride, rate, padding
        As in `dilation`; a number as padding is what lies beyond the border of x, and the other sign beyond that of -x.

    Returns
    -------
    (N, O, ceil(H / stride), ceil(W / stride)), smaller with padding "valid".

    Raises
    ------
    TypeError
        If x or bias is not a floating point array.
    ValueError
        If a shape does not fit, an output channel keeps no offset above -inf, or an option is unknown.

    Notes
    -----
    It is 1-Lipschitz in the sup norm over all channels. The gradient goes to the first edge that attains the maximum: channel by
    channel, x before -x, in row-major order of the window. B. Zhang, T. Cai, Z. Lu, D. He, L. Wang (2021), Towards certifying
    l-infinity robustness using neural networks with l-inf-dist neurons, ICML, for the signed case.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0]], [[1.0, -4.0]]]])
    >>> maxplus_conv2d(x, jnp.zeros((1, 2, 1, 1)))
    Array([[[[1., 2.]]]], dtype=float32)
    >>> maxplus_conv2d(x, jnp.zeros((1, 4, 1, 1)), signed=True)
    Array([[[[1., 4.]]]], dtype=float32)
    """
    return _extremum(x, bias, groups, signed, stride, rate, padding, 1)


def minplus_conv2d(
    x: Images,
    bias: MixingFunctions,
    *,
    groups: int = 1,
    signed: bool = False,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> MixedOutputs:
    """Min-plus convolution: the least of the same x_{c,i+k} + bias_{o,c,k}.

    An offset -inf leaves an edge out here too. Arguments, result and errors are those of `maxplus_conv2d`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0]], [[1.0, -4.0]]]])
    >>> minplus_conv2d(x, jnp.zeros((1, 2, 1, 1)))
    Array([[[[ 0., -4.]]]], dtype=float32)
    """
    return _extremum(x, bias, groups, signed, stride, rate, padding, -1)


def _extremum(
    x: jax.Array, bias: jax.Array, groups: int, signed: bool, stride: Size, rate: Size, padding: Padding, sign: int
) -> jax.Array:
    x = check_image(x)
    bias = check_mixing_bias(bias, x.shape[1], groups, signed)
    geometry = geometry_of(x.shape, bias.shape, stride, rate, padding, False)
    return extremum(x, bias, Mixing(groups, signed, geometry), sign)


def variational_conv2d(
    x: Images,
    bias: MixingFunctions,
    logit_level: PerOutput,
    *,
    weight: MixingFunctions | None = None,
    groups: int = 1,
    signed: bool = False,
    penalty: str = "expectile",
    smoothing: PerOutput | None = None,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
) -> MixedOutputs:
    """Variational convolution: y_{o,i} minimises sum_{c,k} weight_{o,c,k} rho_tau(x_{c,i+k} + bias_{o,c,k} - y_{o,i}).

    It runs from `minplus_conv2d` (level -> -inf) over weighted means to `maxplus_conv2d` (level -> +inf); erosion-like channels
    are those of negative level. At level 0 a signed one is the convolution by weight - weight' over the sum of both, plus a
    constant. The backward pass gives the exact implicit gradient; every edge takes part in it.

    Parameters
    ----------
    x, groups, signed, stride, rate, padding
        As in `maxplus_conv2d`; with "geodesic" the weight beyond the border is 0.
    bias, weight : (O, S C / groups, kh, kw)
        Offsets, and weights >= 0, None for ones; S = 2 if signed: the first half of the second axis meets x, the other -x.
    logit_level : number, () or (O,)
        log(tau / (1 - tau)), finite.
    penalty, smoothing
        As in `variational_dilation`; `smoothing` is a number, () or (O,).

    Returns
    -------
    (N, O, ceil(H / stride), ceil(W / stride)), smaller with padding "valid".

    Raises
    ------
    TypeError, ValueError
        As `maxplus_conv2d` and `variational_dilation`.

    Notes
    -----
    With groups = C = O and not signed it is `variational_dilation`, to the bit. The rows of its Jacobian have absolute sum 1, so that
    it is 1-Lipschitz in the sup norm over all channels; so is every stack of such layers.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 2.0]], [[1.0, -4.0]]]])
    >>> for level in (-9.0, 0.0, 9.0):
    ...     variational_conv2d(x, jnp.zeros((1, 2, 1, 1)), level).round(2)
    Array([[[[ 0., -4.]]]], dtype=float32)
    Array([[[[ 0.5, -1. ]]]], dtype=float32)
    Array([[[[1., 2.]]]], dtype=float32)
    """
    x = check_image(x)
    bias = check_mixing_bias(bias, x.shape[1], groups, signed)
    weight = check_mixing_weight(weight, bias)
    outputs = bias.shape[0]
    level = check_level(logit_level, outputs, x)
    mu = check_smoothing(penalty, smoothing, outputs, x)
    geometry = geometry_of(x.shape, bias.shape, stride, rate, padding, False)
    return minimise(x, bias, weight, level, Mixing(groups, signed, geometry), penalty, mu)


def maxplus_linear(x: WideFeatures, bias: MixingMatrix, *, signed: bool = False) -> MixedFeatures:
    """Max-plus map of features: y_o is the greatest x_f + bias_{o,f}, and -x_f + bias'_{o,f} if signed.

    Parameters
    ----------
    x : (..., F)
        Features, floating point.
    bias : (O, S F)
        Offsets, S = 2 if signed: the first half meets x, the second -x; -inf leaves an edge out.
    signed : bool
        Whether -x is seen too.

    Returns
    -------
    (..., O)

    Raises
    ------
    TypeError, ValueError
        As `maxplus_conv2d`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> maxplus_linear(jnp.array([1.0, 2.0]), jnp.array([[0.0, 0.0], [5.0, -jnp.inf]]))
    Array([2., 6.], dtype=float32)
    """
    images, shape = _as_images(x)
    y = maxplus_conv2d(images, _as_windows(bias), signed=signed)
    return y.reshape(*shape, y.shape[1])


def minplus_linear(x: WideFeatures, bias: MixingMatrix, *, signed: bool = False) -> MixedFeatures:
    """Min-plus map of features: the least of what `maxplus_linear` takes the greatest of; arguments and errors as there.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> minplus_linear(jnp.array([1.0, 2.0]), jnp.array([[0.0, 0.0], [5.0, -jnp.inf]]))
    Array([1., 6.], dtype=float32)
    """
    images, shape = _as_images(x)
    y = minplus_conv2d(images, _as_windows(bias), signed=signed)
    return y.reshape(*shape, y.shape[1])


def variational_linear(
    x: WideFeatures,
    bias: MixingMatrix,
    logit_level: PerOutput,
    *,
    weight: MixingMatrix | None = None,
    signed: bool = False,
    penalty: str = "expectile",
    smoothing: PerOutput | None = None,
) -> MixedFeatures:
    """Variational map of features: y_o minimises sum_f weight_{o,f} rho_tau(x_f + bias_{o,f} - y_o), and the same of -x if signed.

    Parameters
    ----------
    x, bias, signed
        As in `maxplus_linear`.
    weight : (O, S F), optional
        Weights >= 0, None for ones.
    logit_level, penalty, smoothing
        As in `variational_conv2d`.

    Returns
    -------
    (..., O)

    Raises
    ------
    TypeError, ValueError
        As `variational_conv2d`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> variational_linear(jnp.array([1.0, 2.0]), jnp.zeros((1, 2)), 0.0)
    Array([1.5], dtype=float32)
    """
    images, shape = _as_images(x)
    weights = None if weight is None else _as_windows(weight)
    y = variational_conv2d(
        images,
        _as_windows(bias),
        logit_level,
        weight=weights,
        signed=signed,
        penalty=penalty,
        smoothing=smoothing,
    )
    return y.reshape(*shape, y.shape[1])


def _as_images(x: jax.Array) -> tuple[jax.Array, tuple[int, ...]]:
    """Take features for the channels of images of one pixel."""
    x = check_features_of_last_axis(x)
    return x.reshape(-1, x.shape[-1], 1, 1), x.shape[:-1]


def _as_windows(function: jax.Array) -> jax.Array:
    """Take a matrix for windows of one pixel."""
    return function[..., None, None] if hasattr(function, "ndim") else function
