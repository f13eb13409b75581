"""The backbone with variational operators in JAX: dilations on one half of the channels, erosions on the other."""

import equinox as eqx
import jax.numpy as jnp

from varmorph.jax import VariationalDilation2d


def operator(channels, kernel_size, params):
    """Return the operator with random offsets, equal weights and levels of one size: above 1/2, then below."""
    level, dilated = params["initial_level"], channels // 2
    levels = [level] * dilated + [-level] * (channels - dilated)
    layer = VariationalDilation2d(channels, kernel_size, initial_level=levels)
    offsets = jnp.asarray(params["stream"].normal(layer.bias.shape, params["bias_deviation"]))
    return eqx.tree_at(lambda layer: layer.bias, layer, offsets)
