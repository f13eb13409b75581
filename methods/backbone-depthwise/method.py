"""The backbone with a depthwise convolution."""

from torch import nn


def operator(channels, kernel_size, params):
    """Return one convolution kernel a channel."""
    return nn.Conv2d(channels, channels, kernel_size, padding="same", groups=channels)
