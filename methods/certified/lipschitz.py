"""Lipschitz constants in the sup norm, computed by walking the layers of a network."""

from __future__ import annotations

from torch import nn

from varmorph.torch import (
    MaxPlusConv2d,
    MaxPlusLinear,
    MinPlusConv2d,
    MinPlusLinear,
    VariationalConv2d,
    VariationalLinear,
)

# Rows of absolute sum 1 at most, over all channels; and what moves no value further than the greatest change of its input.
ONE = (
    VariationalConv2d,
    VariationalLinear,
    MaxPlusConv2d,
    MaxPlusLinear,
    MinPlusConv2d,
    MinPlusLinear,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Flatten,
    nn.Identity,
)


def lipschitz_constant(module: nn.Module) -> float:
    """Return a bound of the change of the outputs over that of the inputs, both in the sup norm, in evaluation mode.

    A module of another kind says its own by an attribute ``lipschitz``.

    Raises
    ------
    TypeError
        If a layer does not say its constant.
    """
    if isinstance(module, nn.Sequential):
        constant = 1.0
        for layer in module:
            constant *= lipschitz_constant(layer)
        return constant
    if isinstance(module, ONE):
        return 1.0
    own = getattr(module, "lipschitz", None)
    if isinstance(own, nn.Module):
        return lipschitz_constant(own)
    if not isinstance(own, (int, float)):
        raise TypeError(
            f"{type(module).__name__} does not say its Lipschitz constant: give it an attribute `lipschitz`"
        )
    return float(own)
