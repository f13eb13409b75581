"""The backbone with variational operators: dilations on one half of the channels, erosions on the other."""

from functools import partial

from torch import nn

from morphobench.backbones import ChannelHalves
from varmorph.torch import VariationalDilation2d, VariationalErosion2d


def operator(channels, kernel_size, params):
    """Return the operator with random offsets, equal weights and one level for all channels."""
    options = {"kernel_size": kernel_size, "initial_level": params["initial_level"]}
    halves = ChannelHalves(
        channels, partial(VariationalDilation2d, **options), partial(VariationalErosion2d, **options)
    )
    for half in halves.children():
        nn.init.normal_(half.bias, std=params["bias_deviation"])
    return halves
