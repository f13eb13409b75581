"""The nodes of a graph minimised each alone, over the edges into it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from varmorph.jax.energy.energy import Edges
from varmorph.jax.energy.incidence import GraphDataEdges
from varmorph.jax.separable.expectile import off_the_extremes
from varmorph.jax.separable.minimisation import minimise_each

__all__ = ["known", "minimise_each_node"]


def known(name: str, edges: jax.Array | np.ndarray) -> np.ndarray:
    """Require edges that are known, not traced: the shapes of arrays depend on them."""
    if isinstance(edges, jax.core.Tracer):
        raise ValueError(f"{name} must be known while the function is traced (close over them), found a traced array")
    return np.asarray(edges)


def minimise_each_node(pulls: Edges, penalty: str) -> jax.Array:
    """Minimise over each node alone: (B, F, nodes)."""
    if penalty == "expectile":
        return _expectiles(pulls)
    endpoints, rho = pulls.incidence, pulls.penalty
    assert isinstance(endpoints, GraphDataEdges)
    numbers = [number[None, None] for number in (rho.tau, rho.cotau, rho.smoothing) if number is not None]
    slots = _slots(known(f"edges of nodes alone with penalty {penalty!r}", endpoints.targets), endpoints.nodes)
    present = jnp.asarray(slots >= 0)[:, None, None]
    weights = jnp.broadcast_to(pulls.weight, pulls.offset.shape)
    listed = (jnp.where(present, jnp.moveaxis(e[..., slots], -2, 0), 0.0) for e in (pulls.offset, weights))
    return minimise_each((*listed, *numbers), penalty)


def _slots(targets: np.ndarray, nodes: int) -> np.ndarray:
    """List the edges into each node: (greatest degree, nodes), -1 behind the last."""
    degree = np.bincount(targets, minlength=nodes)
    order = np.argsort(targets, kind="stable")
    place = np.arange(targets.size) - (degree.cumsum() - degree)[targets[order]]
    slots = np.full((max(degree.max(initial=0), 1), nodes), -1, np.int32)
    slots[place, targets[order]] = order
    return slots


def _expectiles(pulls: Edges) -> jax.Array:
    """Find the expectile of each node by Newton's method from the weighted mean, as `varmorph.torch.separable.expectile` says.

    One more step with the signs of the residuals held fixed carries the implicit derivative.
    """
    endpoints, rho = pulls.incidence, pulls.penalty
    assert isinstance(endpoints, GraphDataEdges)
    assert rho.tau is not None
    assert rho.cotau is not None
    fixed = jax.tree.map(stop_gradient, (pulls.offset, pulls.weight, rho.tau, rho.cotau))

    def newton(z: jax.Array, values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array) -> jax.Array:
        conductance = weight * jnp.where(stop_gradient(values) >= endpoints.at_target(z), tau, cotau)
        return endpoints.add_at_target(conductance * values) / endpoints.add_at_target(conductance)

    values, weight, tau, cotau = fixed
    every = jnp.broadcast_to(weight, values.shape)
    mean = endpoints.add_at_target(every * values) / endpoints.add_at_target(every)
    upwards = tau >= cotau

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        z, _ = state
        proposed = newton(z, *fixed)
        moved = jnp.where(upwards, proposed > z, proposed < z)
        return jnp.where(moved, proposed, z), moved.any()

    z, _ = jax.lax.while_loop(lambda state: state[1], step, (mean, jnp.bool_(values.size > 0)))
    least = mean.at[..., endpoints.targets].min(jnp.where(every > 0, values, jnp.inf))
    greatest = mean.at[..., endpoints.targets].max(jnp.where(every > 0, values, -jnp.inf))
    z = off_the_extremes(z, least, greatest, mean, upwards)
    return newton(z, pulls.offset, pulls.weight, rho.tau, rho.cotau)
