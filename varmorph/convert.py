"""Layers of PyTorch as layers of JAX, and the reverse: the same class, options and numbers.

Examples
--------
>>> from varmorph.convert import to_jax, to_torch
>>> from varmorph.torch import VariationalDilation2d
>>> layer = VariationalDilation2d(2, 3, padding="reflect")
>>> to_torch(to_jax(layer))
VariationalDilation2d(2, kernel_size=(3, 3), padding='reflect')
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["to_jax", "to_torch"]

OPTIONS = (
    "kernel_size", "stride", "rate", "padding", "penalty", "smoothing", "initial_level", "by", "initial_height", "connectivity", "dual",
    "groups", "signed", "initial_spread", "edge_penalty", "edge_smoothing", "ridge", "initial_coupling", "initial_eta", "adjoint", "solver",
)  # fmt: skip
MIXING = ("PlusConv2d", "PlusLinear", "VariationalConv2d", "VariationalLinear")  # layers that are made by two sizes
NUMBERS = ("bias", "log_weight", "logit_level", "logit_levels", "log_height", "log_coupling", "log_eta")


def _twin(layer: Any, library: str) -> Any:
    """Make a layer of the same class and options from another half of the library."""
    name = type(layer).__name__
    home, module = f"varmorph.{library}", import_module(f"varmorph.{library}")
    if not type(layer).__module__.startswith("varmorph.") or not hasattr(module, name):
        raise TypeError(f"layer must be of a class that {home} has too, found {type(layer).__module__}.{name}")
    options = {option: getattr(layer, option) for option in OPTIONS if hasattr(layer, option)}
    if name.endswith(MIXING):
        kind = "features" if name.endswith("Linear") else "channels"
        sizes = (getattr(layer, f"in_{kind}"), getattr(layer, f"out_{kind}"))
        return getattr(module, name)(*sizes, **options, **_key(library))
    if "solver" in options:  # solved for the whole image at once, so that there is no stride
        del options["stride"]
        options |= {option: _method(options[option], module) for option in ("solver", "adjoint")}
    return getattr(module, name)(layer.channels, **options)


def _key(library: str) -> dict[str, Any]:
    """Give what a layer of JAX draws its first numbers with, which others take the place of."""
    return {"key": import_module("jax").random.key(0)} if library == "jax" else {}


def _method(method: Any, module: Any) -> Any:
    """Make a solver or an adjoint of the same settings for another half of the library."""
    settings = {field.name: getattr(method, field.name) for field in fields(method) if field.init}
    if "through" in settings:
        settings["through"] = _method(settings["through"], module)
    return getattr(module, type(method).__name__)(**settings)


def to_jax(layer: Any) -> Any:
    """Make the layer of `varmorph.jax` that computes what a layer of `varmorph.torch` does.

    Raises
    ------
    TypeError
        If it is no layer of `varmorph.torch`, or `varmorph.jax` has none of its name.
    """
    equinox, numpy, twin = import_module("equinox"), import_module("jax.numpy"), _twin(layer, "jax")
    for name in filter(lambda name: hasattr(layer, name), NUMBERS):
        array = numpy.asarray(getattr(layer, name).detach().cpu().numpy())
        twin = equinox.tree_at(lambda tree, name=name: getattr(tree, name), twin, array)
    return twin


def to_torch(layer: Any) -> Any:
    """Make the layer of `varmorph.torch` that computes what a layer of `varmorph.jax` does.

    Raises
    ------
    TypeError
        If it is no layer of `varmorph.jax`, or `varmorph.torch` has none of its name.
    """
    torch, twin = import_module("torch"), _twin(layer, "torch")
    numbers = {name: torch.tensor(np.asarray(getattr(layer, name))) for name in NUMBERS if hasattr(layer, name)}
    twin.load_state_dict(numbers, assign=True)  # whatever their dtype
    return twin
