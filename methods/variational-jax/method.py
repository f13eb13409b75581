"""The backbone with variational operators in JAX: dilations on one half of the channels, erosions on the other."""

from functools import partial

import equinox as eqx
import jax.numpy as jnp

from morphobench.training.jax.backbones import ChannelHalves
from varmorph.jax import VariationalDilation2d, VariationalErosion2d


def operator(channels, kernel_size, params):
    """Return the operator with random offsets, equal weights and one level for all channels."""
    options = {"kernel_size": kernel_size, "initial_level": params["initial_level"]}
    halves = ChannelHalves(
        channels, partial(VariationalDilation2d, **options), partial(VariationalErosion2d, **options)
    )
    offsets = [
        jnp.asarray(params["stream"].normal(bias.shape, params["bias_deviation"])) for bias in offsets_of(halves)
    ]
    return eqx.tree_at(offsets_of, halves, offsets)


def offsets_of(halves):
    """Return the offsets of both halves; of a single channel there is but one."""
    return [half.bias for half in (halves.first, halves.second) if half is not None]
