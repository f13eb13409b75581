"""`jax.numpy`, and what the formulas that both frameworks share ask for besides."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.lax import stop_gradient

__all__ = ["xp"]


class _Namespace:
    """The functions of `jax.numpy`, and one of JAX."""

    detach = staticmethod(stop_gradient)

    def __getattr__(self, name: str) -> Any:
        found = getattr(jnp, name)
        setattr(self, name, found)  # formulas run many times: from then on this is an attribute like others
        return found


xp = _Namespace()
