"""Max-plus operators as differentiable functions of images (N, C, H, W)."""

from __future__ import annotations

from varmorph.arguments import Size, check_dual, geometry_of
from varmorph.differences import difference
from varmorph.torch.arguments import check_bias, check_image
from varmorph.torch.backend.choice import plain_shape
from varmorph.torch.separable.maxplus import dilate
from varmorph.torch.shapes import Images, Outputs, StructuringFunction
from varmorph.windows import Padding

__all__ = [
    "black_top_hat",
    "closing",
    "dilation",
    "erosion",
    "external_gradient",
    "gradient",
    "internal_gradient",
    "opening",
    "white_top_hat",
]


def dilation(
    x: Images,
    bias: StructuringFunction,
    *,
    stride: Size = 1,
    rate: Size = 1,
    padding: Padding = "geodesic",
    dual: int = 0,
) -> Outputs:
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
    dual : int
        Number of channels, the last ones, that get the dual under negation: y_i is the least x_{i+k} - bias_k, which is the
        erosion by the transposed function. One call for a layer of both.

    Returns
    -------
    (N, C, ceil(H / stride), ceil(W / stride)), smaller with padding "valid".

    Raises
    ------
    TypeError
        If x or bias is not a floating point tensor.
    ValueError
        If a shape does not fit, the bias of a channel is -inf everywhere, there are fewer than `dual` channels, or an option is unknown.

    Notes
    -----
    Where several elements attain the maximum, the first in row-major order takes the gradient. J. Serra (1982), Image
    Analysis and Mathematical Morphology; P. Soille (2003), Morphological Image Analysis, 2nd edition, chapter 3.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 2.0, 0.0, 1.0]]]])
    >>> dilation(x, torch.tensor([[0.0, 0.0, -0.5]]))
    tensor([[[[1.5000, 2.0000, 2.0000, 1.0000]]]])
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    shape = plain_shape(x)
    raised = shape[1] - check_dual(dual, shape[1])
    return dilate(x, bias, geometry_of(shape, plain_shape(bias), stride, rate, padding, False), raised)


def erosion(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Max-plus erosion: y_j is the least x_i - bias_k over the edges that the dilation draws from j to i.

    Reversing the dilation's edges makes the two an adjunction for even windows and for every padding that maps into
    the image: dilation(x) <= y exactly where x <= erosion(y). With padding "valid" the adjoint of this erosion is the
    full dilation, which is larger than the image, and not `dilation` with padding "valid".
    With a stride the erosion of stride 1 is sampled.

    Arguments, result, errors and sources are those of `dilation`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 2.0, 3.0, 1.0]]]])
    >>> erosion(x, torch.zeros(1, 3))
    tensor([[[[0., 0., 1., 1.]]]])
    """
    x = check_image(x)
    bias = check_bias(bias, x.shape[1])
    return dilate(x, bias, geometry_of(plain_shape(x), plain_shape(bias), stride, rate, padding, True), 0)


def opening(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Opening: dilation of the erosion. A stride samples the result.

    Arguments, result and errors are those of `dilation`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import torch
    >>> opening(torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """
    return dilation(erosion(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def closing(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Closing: erosion of the dilation. A stride samples the result.

    Arguments, result and errors are those of `dilation`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import torch
    >>> closing(torch.tensor([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]]), torch.zeros(1, 3))
    tensor([[[[2., 2., 2., 0., 0., 0.]]]])
    """
    return erosion(dilation(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def gradient(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Morphological gradient: dilation minus erosion. A stride samples the result.

    Arguments, result and errors are those of `dilation`; with padding "valid" the result has the pixels where both exist,
    and it is an error if there are none. Where infinities of one sign are subtracted the result is NaN. Soille (2003),
    chapter 3.

    Examples
    --------
    >>> import torch
    >>> gradient(torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 5., 5., 0.]]]])
    """
    high = dilation(x, bias, rate=rate, padding=padding)
    low = erosion(x, bias, rate=rate, padding=padding)
    return difference((high, False, True), (low, True, False), bias, stride, rate, padding)


def internal_gradient(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Internal gradient: the image minus its erosion. A stride samples the result.

    Arguments, result, errors and source are those of `gradient`.

    Examples
    --------
    >>> import torch
    >>> internal_gradient(torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 0., 5., 0.]]]])
    """
    low = erosion(x, bias, rate=rate, padding=padding)
    return difference((x, False, False), (low, True, False), bias, stride, rate, padding)


def external_gradient(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """External gradient: the dilation minus the image. A stride samples the result.

    Arguments, result, errors and source are those of `gradient`.

    Examples
    --------
    >>> import torch
    >>> external_gradient(torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 5., 0., 0.]]]])
    """
    high = dilation(x, bias, rate=rate, padding=padding)
    return difference((high, False, True), (x, False, False), bias, stride, rate, padding)


def white_top_hat(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """White top-hat: the image minus its opening. A stride samples the result.

    Arguments, result and errors are those of `gradient`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import torch
    >>> white_top_hat(torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 3., 0., 0., 0., 0.]]]])
    """
    opened = opening(x, bias, rate=rate, padding=padding)
    return difference((x, False, False), (opened, True, True), bias, stride, rate, padding)


def black_top_hat(
    x: Images, bias: StructuringFunction, *, stride: Size = 1, rate: Size = 1, padding: Padding = "geodesic"
) -> Outputs:
    """Black top-hat: the closing minus the image. A stride samples the result.

    Arguments, result and errors are those of `gradient`. Soille (2003), chapter 4.

    Examples
    --------
    >>> import torch
    >>> black_top_hat(torch.tensor([[[[3.0, 0.0, 3.0, 1.0, 1.0, 1.0]]]]), torch.zeros(1, 3))
    tensor([[[[0., 3., 0., 0., 0., 0.]]]])
    """
    closed = closing(x, bias, rate=rate, padding=padding)
    return difference((closed, True, True), (x, False, False), bias, stride, rate, padding)
