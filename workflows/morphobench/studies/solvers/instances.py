"""What the solver study measures, as NumPy: arguments of layers and coupled operators, and the cells that use them."""

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
from morphobench.studies.cells import Cell, Row
from morphobench.studies.plugin_operators import methods_with_operators

__all__ = [
    "LAYERS",
    "PEERS",
    "SOLVERS",
    "CostInstance",
    "about_peer",
    "coupled_instance",
    "installed_version",
    "layer_instance",
    "list_cells",
    "reference",
]

LEVEL = 3.0  # tau = 0.95: near a dilation, where the iterations are more than at an easy level
ETA = 0.1
WINDOW = 3  # side of the window of coupled operators

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
COUPLED_LAYERS = ("regularised-dilation", "joint-opening", "reconstruction")
SOLVERS = ("newton", "fixed-point", "anderson", "accelerated-gradient", "primal-dual", "admm")
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


@cache
def reference(operator: str, size: int, coupling: float, seed: int) -> np.ndarray:
    """Minimiser of a `coupled_instance` by the float64 reference."""
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


def list_cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
    """List the cells of one framework, instance by instance; JAX has settings of its own, since each cell is compiled."""
    if framework == "jax":
        settings = {
            **settings,
            **{key.removeprefix("jax_"): settings[key] for key in settings if key.startswith("jax_")},
        }
    cells = [Cell("copy", f"copy-{settings['copy_mib']}", {"role": "copy"})]
    for kernel in settings["kernel_sizes"]:
        for size in settings["image_sizes"]:
            cells += _layer_cells(settings, framework, size, kernel)
    for size, coupling in _coupled_grid(settings):
        cells += _coupled_cells(settings, "regularised_dilation", size, coupling)
    for size in settings["joint_sizes"] if framework == "torch" else []:
        cells += _coupled_cells(settings, "joint_opening", size, ETA)
    cells += _peer_cells(settings, framework)
    for method in methods_with_operators(framework):
        cells.append(Cell(f"method-{method}", f"method-{method}", {"role": "plugin", "method": method}))
    return cells


def _layer_cells(settings: Mapping[str, Any], framework: str, size: int, kernel: int) -> list[Cell]:
    instance = f"layers-{size}-{kernel}x{kernel}"
    about = {"role": "layer", "image_size": size, "kernel_size": kernel}
    cells = []
    for name in settings["layers"]:
        if name in COUPLED_LAYERS and (size > settings["largest_coupled_layer"] or kernel != WINDOW):
            continue
        # What XLA makes of the operators is compiled for seconds and far slower than kernels: for the first size alone.
        other = ["tensor"] if framework == "torch" else ["xla"] if size == settings["image_sizes"][0] else []
        own = ["kernels", *other]
        if framework == "torch" and size in settings["compiled_sizes"] and kernel == settings["kernel_sizes"][0]:
            own.append("compile")
        # Convolution and pooling are the framework's own, and the coupled layers are timed as a user meets them.
        backends = own if name in ("variational-dilation", "max-plus-dilation") else ["auto"]
        for backend in backends:
            solver = f"{instance}-{name}" + ("" if backend == "auto" else f"-{backend}")
            cells.append(Cell(solver, instance, {**about, "solver": name, "backend": backend}))
    return cells


def _coupled_grid(settings: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Sizes at the first coupling, and the other couplings at the middle size."""
    sizes, couplings = settings["coupled_sizes"], settings["couplings"]
    if not sizes or not couplings:
        return []
    middle = sizes[len(sizes) // 2]
    return [(size, couplings[0]) for size in sizes] + [(middle, coupling) for coupling in couplings[1:]]


def _coupled_cells(settings: Mapping[str, Any], operator: str, size: int, coupling: float) -> list[Cell]:
    kind = "joint" if operator == "joint_opening" else "coupled"
    instance = f"{kind}-{size}-{coupling:g}"
    cells = []
    for solver in settings["solvers"]:
        for tolerance in settings["tolerances"]:
            about = {"role": "coupled", "operator": operator, "solver": solver, "tolerance": tolerance}
            about |= {"image_size": size, "coupling": coupling}
            cells.append(Cell(f"{instance}-{solver}-{tolerance:.0e}", instance, about))
    return cells


def _peer_cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
    """Put the peers of a framework beside varmorph, problem by problem."""
    cells = []
    for problem in ("regularised", "conic", "dilation"):
        peers = [name for name in settings["peers"] if PEERS[name] == (framework, problem)]
        size = settings["conic_size"] if problem == "conic" else settings["peer_size"]
        about: dict[str, Any] = {"role": "peer", "problem": problem, "image_size": size}
        if problem != "dilation":
            about |= {"operator": "regularised_dilation", "coupling": 1.0, "tolerance": settings["peer_tolerance"]}
        instance = f"peers-{problem}-{size}"
        for name in ["varmorph", *peers] if peers else []:
            cells.append(Cell(f"{instance}-{name}", instance, {**about, "solver": name}))
    return cells


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
