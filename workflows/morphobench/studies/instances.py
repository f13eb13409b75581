"""The problems on which gradients are compared: random and photographic data, easy and hard levels, ties on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["DATA", "OPERATORS", "PARAMETERS", "Instance", "gradient_instances", "kink_instances"]

OPERATORS = ("variational_dilation", "variational_erosion")
PARAMETERS = ("x", "bias", "weight", "logit_level")
DATA = ("random", "image")
CHANNELS = 2


@dataclass(frozen=True)
class Instance:
    """One separable problem and the direction in which its output is differentiated.

    All arrays are float64 and exactly representable in float32, so that single precision solves the same problem.

    Parameters
    ----------
    name : str
        Unique in a study.
    operator : str
        One of `OPERATORS`.
    data : str
        One of `DATA`, or ``"plateaus"``.
    x : ndarray
        (1, C, H, W).
    bias, weight : ndarray
        (C, kh, kw), the weight positive.
    logit_level : ndarray
        (C,).
    cotangent : ndarray
        (1, C, H, W); the scalar that is differentiated is the sum of cotangent times output.
    """

    name: str
    operator: str
    data: str
    x: np.ndarray
    bias: np.ndarray
    weight: np.ndarray
    logit_level: np.ndarray
    cotangent: np.ndarray

    @property
    def erosion(self) -> bool:
        """Whether the edges are reversed."""
        return self.operator == "variational_erosion"

    @property
    def arguments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The arrays that are differentiated, in the order of `PARAMETERS`."""
        return self.x, self.bias, self.weight, self.logit_level


def gradient_instances(settings: Mapping[str, Any]) -> Iterator[Instance]:
    """Yield the instances without deliberate ties: operator x data x window x level.

    Parameters
    ----------
    settings : mapping
        ``image_size``, ``kernel_sizes``, ``logit_levels``, ``data`` and ``seed``.

    Raises
    ------
    ValueError
        For a kind of data that is not in `DATA`.
    """
    size = settings["image_size"]
    for data in settings["data"]:
        if data not in DATA:
            raise ValueError(f"studies.gradients.data: found {data!r}, expected entries of {', '.join(DATA)}")
    for operator in OPERATORS:
        for data in settings["data"]:
            for kernel in settings["kernel_sizes"]:
                for level in settings["logit_levels"]:
                    # The level does not enter the seed: along the levels only the level changes.
                    rng = _generator(settings["seed"], OPERATORS.index(operator), DATA.index(data), kernel)
                    x = rng.standard_normal((1, CHANNELS, size, size)) if data == "random" else _photograph(size)
                    name = f"{operator}-{data}-{size}x{size}-{kernel}x{kernel}-level{level:+g}"
                    shape = (CHANNELS, kernel, kernel)
                    bias = 0.3 * rng.standard_normal(shape)
                    yield _instance(name, operator, data, x, bias, rng.uniform(0.5, 1.5, shape), level, rng)


def kink_instances(settings: Mapping[str, Any]) -> Iterator[Instance]:
    """Yield instances with ties: squares of value 1 on 0, a flat window and equal weights.

    Where a window lies inside one grey value every neighbour equals the output, in any arithmetic and any order of
    summation, and for levels other than 0 the operator is not differentiable there.
    """
    size = settings["image_size"]
    x = np.zeros((1, CHANNELS, size, size))
    edge = max(size // 6, 1)
    x[:, 0, edge : size - edge, edge : size - edge] = 1.0
    x[:, 1, :, : size // 2] = 1.0
    levels = sorted({min(settings["logit_levels"]), max(settings["logit_levels"])} - {0})
    for operator in OPERATORS:
        for kernel in settings["kernel_sizes"]:
            for level in levels:
                rng = _generator(settings["seed"], OPERATORS.index(operator), len(DATA), kernel)
                shape = (CHANNELS, kernel, kernel)
                name = f"{operator}-plateaus-{size}x{size}-{kernel}x{kernel}-level{level:+g}"
                yield _instance(name, operator, "plateaus", x, np.zeros(shape), np.ones(shape), level, rng)


def _instance(
    name: str,
    operator: str,
    data: str,
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    level: float,
    rng: np.random.Generator,
) -> Instance:
    levels = np.full(CHANNELS, level)
    arrays = (x, bias, weight, levels, rng.standard_normal(x.shape))
    return Instance(name, operator, data, *(array.astype(np.float32).astype(np.float64) for array in arrays))


def _generator(seed: int, *words: int) -> np.random.Generator:
    return np.random.default_rng([seed, *words])


def _photograph(size: int) -> np.ndarray:
    """Two regions of scikit-image's test photograph (1, C, size, size) in [0, 1]."""
    from skimage.data import camera  # costs a second to import and is not needed for random data

    photograph = camera()
    corners: Sequence[tuple[int, int]] = ((40, 180), (200, 60))
    step = max(256 // size, 1)
    crops = [photograph[r : r + size * step : step, c : c + size * step : step] for r, c in corners]
    if crops[0].shape != (size, size) or crops[1].shape != (size, size):
        raise ValueError(f"studies.gradients.image_size: found {size}, expected at most 256 for image data")
    return (np.stack(crops)[None] / 255.0).astype(np.float64)
