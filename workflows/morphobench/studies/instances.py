"""Instances of the operators whose gradients are compared: random and photographic data, easy and hard numbers, ties on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from morphobench.settings.studies import LARGEST_IMAGE, GradientData

__all__ = ["DATA", "OPERATORS", "Instance", "Specification", "build"]

OPERATORS = {
    "separable": ("variational_dilation", "variational_erosion"),
    "regularised": ("regularised_dilation",),
    "regularised-huber": ("regularised_dilation",),
    "joint": ("joint_opening", "joint_closing"),
    "geodesic": ("reconstruction",),
}
DATA = get_args(GradientData)
CHANNELS = 2


@dataclass(frozen=True)
class Specification:
    """What an instance is, before its arrays are made; numbers that its operator does not have are None."""

    family: str
    operator: str
    data: str
    image_size: int
    kernel_size: int
    logit_level: float | None
    coupling: float | None = None
    ridge: float | None = None
    edge_smoothing: float | None = None

    @property
    def name(self) -> str:
        """Unique in a study; says every number that varies."""
        operator = self.operator.split("_")[-1]
        parts = [self.family, operator, self.data, f"{self.image_size}px", f"{self.kernel_size}x{self.kernel_size}"]
        parts += [] if self.logit_level is None else [f"level{self.logit_level:g}"]
        numbers = {"coupling": self.coupling, "ridge": self.ridge, "smoothing": self.edge_smoothing}
        return "-".join(parts + [f"{name}{value:g}" for name, value in numbers.items() if value is not None])


@dataclass(frozen=True)
class Instance:
    """One problem and the direction in which its output is differentiated.

    All arrays are float64 and exactly representable in float32, so that single precision solves the same problem.

    Parameters
    ----------
    family, operator : str
        One of `OPERATORS`.
    arguments : mapping of str to ndarray
        Images (1, C, H, W), functions (C, kh, kw), numbers of a channel (C,) and levels (2, C), in the order of the
        operator's arguments: what is differentiated.
    options : mapping
        The operator's other arguments.
    cotangent : ndarray
        (1, C, H, W); the scalar that is differentiated is the sum of cotangent times output.
    """

    family: str
    operator: str
    arguments: Mapping[str, np.ndarray]
    options: Mapping[str, Any]
    cotangent: np.ndarray

    @property
    def channels(self) -> int:
        """Number of channels, which do not interact."""
        return self.cotangent.shape[1]


def build(given: Specification, seed: int) -> Instance:
    """Make the arrays of an instance."""
    operators = sorted({name for names in OPERATORS.values() for name in names})
    words = operators.index(given.operator), DATA.index(given.data), given.image_size, given.kernel_size
    # Levels and couplings do not enter the seed: along them nothing else changes.
    rng = np.random.default_rng([seed, *words])
    x, shape = _image(given, rng), (CHANNELS, given.kernel_size, given.kernel_size)
    ties = given.data == "ties"
    bias = np.zeros(shape) if ties else 0.3 * rng.standard_normal(shape)
    if given.family == "geodesic":
        arguments = _geodesic_arguments(x, bias, ties, rng)
    else:
        weight = np.ones(shape) if ties else rng.uniform(0.5, 1.5, shape)
        arguments = {"x": x, "bias": bias, "weight": weight, **_numbers_of_channels(given)}
    options = {"edge_penalty": "huber"} if given.family == "regularised-huber" else {}
    cotangent = _single(rng.standard_normal(x.shape))
    arguments = {name: _single(value) for name, value in arguments.items()}
    return Instance(given.family, given.operator, arguments, options, cotangent)


def _geodesic_arguments(x: np.ndarray, bias: np.ndarray, ties: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Marker below a mask in most places; offsets that differ, so that no two paths give the same value."""
    centre = bias.shape[-1] // 2
    offsets = -0.125 - 0.2 * np.abs(bias)  # so far below 0 that finite differences stay below it
    offsets[:, centre, centre] = 0.0
    # On plateaus the marker touches the mask in one pixel of each, from where several paths are equally good.
    drop = np.full(x.shape, 1.0) if ties else np.abs(rng.standard_normal(x.shape)) * np.ptp(x)
    if ties:
        drop[..., ::5, ::5] = 0.0
    return {"marker": x - drop, "mask": x, "bias": offsets}


def _numbers_of_channels(given: Specification) -> dict[str, np.ndarray]:
    def each(value: float | None) -> np.ndarray:
        return np.full(CHANNELS, value, dtype=np.float64)

    if given.family == "separable":
        return {"logit_level": each(given.logit_level)}
    if given.family == "joint":
        level = each(given.logit_level)
        levels = (-level, level) if given.operator == "joint_opening" else (level, -level)
        return {"logit_levels": np.stack(levels), "eta": each(given.coupling)}
    numbers = {"logit_level": each(given.logit_level), "coupling": each(given.coupling), "ridge": each(given.ridge)}
    return numbers | ({"edge_smoothing": each(given.edge_smoothing)} if given.family == "regularised-huber" else {})


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32).astype(np.float64)


def _image(given: Specification, rng: np.random.Generator) -> np.ndarray:
    """Draw, cut out or build the image (1, C, H, W)."""
    size = given.image_size
    if given.data == "random":
        return rng.standard_normal((1, CHANNELS, size, size))
    return _photograph(size) if given.data == "image" else _plateaus(size, constant=given.family not in SHARP)


SHARP = ("separable", "geodesic")  # families that keep plateaus; the others blur them, so that only a constant has ties


def _plateaus(size: int, *, constant: bool) -> np.ndarray:
    """A square of value 1 on 0 and two halves; or, in the first channel, one constant.

    Where a window lies inside one grey value every neighbour equals the output, in any arithmetic and any order of
    summation, and for levels other than 0 the operator is not differentiable there.
    """
    x = np.zeros((1, CHANNELS, size, size))
    edge = max(size // 6, 1)
    x[:, 0, edge : size - edge, edge : size - edge] = 1.0
    x[:, 1, :, : size // 2] = 1.0
    x[:, 0] = 1.0 if constant else x[:, 0]
    return x


def _photograph(size: int) -> np.ndarray:
    """Two regions of scikit-image's test photograph (1, C, size, size) in [0, 1]."""
    from skimage.data import camera  # costs a second to import and is not needed for random data

    photograph, step = camera(), max(LARGEST_IMAGE // size, 1)
    crops = [photograph[r : r + size * step : step, c : c + size * step : step] for r, c in ((40, 180), (200, 60))]
    return (np.stack(crops)[None] / 255.0).astype(np.float64)
