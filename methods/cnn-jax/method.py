"""The backbone with a depthwise convolution in JAX."""

from morphobench.training.jax.layers import Conv2d


def operator(channels, kernel_size, params):
    """Return one convolution kernel a channel."""
    return Conv2d(channels, channels, kernel_size, groups=channels, stream=params["stream"])
