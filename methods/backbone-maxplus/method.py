"""The backbone with max-plus operators: dilations on one half of the channels, erosions on the other."""

from functools import partial

from torch import nn

from morphobench.backbones import ChannelHalves
from varmorph.torch import Dilation2d, Erosion2d


def operator(channels, kernel_size, params):
    """Return the operator with random structuring functions."""
    halves = ChannelHalves(
        channels, partial(Dilation2d, kernel_size=kernel_size), partial(Erosion2d, kernel_size=kernel_size)
    )
    for structuring_function in halves.parameters():
        nn.init.normal_(structuring_function, std=params["bias_deviation"])
    return halves
