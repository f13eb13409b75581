"""What the solver study measures, as NumPy: arguments of layers and coupled operators, and the other libraries by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

from morphobench.contract import FrameworkUnavailable
from morphobench.studies.cells import Row

__all__ = [
    "LAYERS",
    "PEERS",
    "CostInstance",
    "about_peer",
    "coupled_instance",
    "coupled_problem",
    "installed_version",
    "layer_instance",
]

LEVEL = 3.0  # tau = 0.95: near a dilation, where the iterations are more than at an easy level
ETA = 0.1
WINDOW = 3  # side of the window of coupled operators
MOST_STEPS = 3000  # of every solver but Newton, so that one that is far slower ends
MOST_STEPS_OF_PEERS = 2000

# Layers in the order of the figures, with their family; "moderate" ones solve a system of all pixels.
LAYERS = {
    "variational-dilation": "variational",
    "max-plus-dilation": "morphology",
    "flat-dilation": "morphology",
    "regularised-dilation": "variational",
    "joint-opening": "variational",
    "reconstruction": "morphology",
    "depthwise-convolution": "convolution",
    "convolution": "convolution",
    "max-pooling": "pooling",
}
# Other libraries by the problem that they are given: a regularised dilation, one small enough for a conic program, or a
# max-plus dilation; with the framework whose process runs them.
PEERS = {
    "torchdeq": ("torch", "regularised"),
    "jaxopt": ("jax", "regularised"),
    "optimistix": ("jax", "regularised"),
    "cvxpylayers": ("torch", "conic"),
    "kornia": ("torch", "dilation"),
    "scikit-image": ("torch", "dilation"),
    "scipy": ("torch", "dilation"),
    "opencv": ("torch", "dilation"),
}
IMPORTS = {"scikit-image": "skimage", "opencv": "cv2"}  # names of modules, where they differ


@dataclass(frozen=True)
class CostInstance:
    """Arguments of one call, float64; those that are differentiated come first in `arguments`, all by name."""

    operator: str
    arguments: Mapping[str, np.ndarray]
    cotangent: np.ndarray
    options: Mapping[str, Any]


def layer_instance(name: str, size: int, kernel: int, settings: Mapping[str, Any]) -> CostInstance:
    """Draw the arguments of a layer of `LAYERS`: a batch of images with a window for each channel."""
    rng = np.random.default_rng([settings["seed"], size, kernel])
    channels = settings["channels"]
    image, window = (settings["batch"], channels, size, size), (channels, kernel, kernel)
    x, bias, weight = rng.standard_normal(image), 0.3 * rng.standard_normal(window), rng.uniform(0.5, 1.5, window)
    cotangent, level = rng.standard_normal(image), np.full(channels, LEVEL)
    cases: dict[str, tuple[str, dict[str, np.ndarray], dict[str, Any]]] = {
        "variational-dilation": (
            "variational_dilation",
            {"x": x, "bias": bias, "weight": weight, "logit_level": level},
            {},
        ),
        "max-plus-dilation": ("dilation", {"x": x, "bias": bias}, {}),
        "flat-dilation": ("dilation", {"x": x}, {"bias": np.zeros((kernel, kernel))}),
        "regularised-dilation": (
            "regularised_dilation",
            {"x": x, "bias": bias, "weight": weight, "logit_level": level, "coupling": np.full(channels, 1.0)},
            {},
        ),
        "joint-opening": (
            "joint_opening",
            {
                "x": x,
                "bias": bias,
                "weight": weight,
                "logit_levels": np.stack([-level, level]),
                "eta": np.full(channels, ETA),
            },
            {},
        ),
        "reconstruction": ("reconstruction", {"marker": x - 1.0, "mask": x}, {}),
        "depthwise-convolution": ("depthwise", {"x": x, "weight": weight}, {}),
        "convolution": (
            "convolution",
            {"x": x, "weight": rng.standard_normal((channels, channels, kernel, kernel))},
            {},
        ),
        "max-pooling": ("pooling", {"x": x}, {"kernel": kernel}),
    }
    operator, arguments, options = cases[name]
    return CostInstance(operator, arguments, cotangent, options)


def coupled_instance(operator: str, size: int, coupling: float, seed: int) -> CostInstance:
    """Draw one plane for the solvers: a noisy disk, whose regularised dilation or joint opening is sought."""
    rng = np.random.default_rng([seed, size, 97])
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    disk = (rows**2 + columns**2 < (0.35 * size) ** 2).astype(np.float64)
    x = (disk + 0.2 * rng.standard_normal((size, size)))[None, None]
    window = (1, WINDOW, WINDOW)
    arguments = {"x": x, "bias": 0.1 * rng.standard_normal(window), "weight": rng.uniform(0.5, 1.5, window)}
    if operator == "joint_opening":
        arguments |= {"logit_levels": np.array([[-LEVEL], [LEVEL]]), "eta": np.array([ETA])}
    else:
        arguments |= {"logit_level": np.array([LEVEL]), "coupling": np.array([coupling])}
    return CostInstance(operator, arguments, rng.standard_normal(x.shape), {})


def coupled_problem(wanted: Mapping[str, Any], seed: int) -> tuple[CostInstance, np.ndarray]:
    """Return the instance that the settings of a cell name, and its minimiser by the float64 reference."""
    named = (wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    return coupled_instance(*named), _minimiser(*named)


@cache
def _minimiser(operator: str, size: int, coupling: float, seed: int) -> np.ndarray:
    found = coupled_instance(operator, size, coupling, seed)
    library = importlib.import_module("varmorph.reference")
    return getattr(library, operator)(**found.arguments)


def installed_version(name: str) -> str:
    """Return the version of a peer, or of varmorph.

    Raises
    ------
    FrameworkUnavailable
        If it is not installed.
    """
    module = IMPORTS.get(name, name)
    if find_spec(module) is None:
        raise FrameworkUnavailable("not installed")
    try:
        return version(name)
    except PackageNotFoundError:  # varmorph in a checkout, and OpenCV, whose distributions have many names
        return importlib.import_module(module).__version__


def about_peer(wanted: Mapping[str, Any]) -> Row:
    """Say what is known of a peer, or of varmorph beside it, before it runs.

    Raises
    ------
    FrameworkUnavailable
        If it is not installed.
    """
    known = {name: wanted[name] for name in ("solver", "tolerance", "image_size", "coupling") if name in wanted}
    found = {
        "role": "peer",
        "family": wanted["problem"],
        "backend": "auto",
        "version": installed_version(wanted["solver"]),
    }
    return {**found, **known, "batch": 1, "channels": 1, "kernel_size": WINDOW}
