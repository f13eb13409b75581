"""The frameworks by name; each is imported when a method of it is loaded, and one alone in a process."""

from __future__ import annotations

import functools
from importlib.util import find_spec

from morphobench.contract import FrameworkUnavailable
from morphobench.training.framework import Framework

__all__ = ["framework_of", "why_unavailable"]

# Packages without which a framework does nothing here, and what installs them.
NEEDS: dict[str, dict[str, str]] = {
    "torch": {"torch": "'varmorph[torch]'"},
    "jax": {"jax": "'varmorph[jax]'", "equinox": "'varmorph[jax]'", "optax": "optax"},
    "numpy": {},
}


def why_unavailable(name: str) -> str:
    """Say which package a framework lacks and how to get it; "" if none.

    Examples
    --------
    >>> why_unavailable("numpy")
    ''
    """
    for package, source in NEEDS[name].items():
        if find_spec(package) is None:
            return f"not available: {package} is not installed: pip install {source}"
    return ""


@functools.cache
def framework_of(name: str) -> Framework:
    """Return the framework of a name of `contract.FRAMEWORKS`, imported.

    Raises
    ------
    FrameworkUnavailable
        If a package that it needs is not installed.
    """
    why = why_unavailable(name)
    if why:
        raise FrameworkUnavailable(why)
    if name == "torch":
        from morphobench.training.torch.framework import Torch

        return Torch()
    if name == "jax":
        from morphobench.training.jax.framework import Jax

        return Jax()
    from morphobench.training.numpy.framework import NumPy

    return NumPy()
