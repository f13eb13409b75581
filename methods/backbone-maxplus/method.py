"""The backbone with max-plus operators: dilations on one half of the channels, erosions on the other."""

import torch
from torch import nn

from morphobench.contract import RecoveryOperator
from varmorph.torch import Closing2d, Dilation2d, Erosion2d, Opening2d


def operator(channels, kernel_size, params):
    """Return the operator with random structuring functions."""
    layer = Dilation2d(channels, kernel_size, dual=channels - channels // 2)
    nn.init.normal_(layer.bias, std=params["bias_deviation"])
    return layer


def recover(operation, bias):
    """Return the max-plus operation with one structuring function a channel."""
    layers = {"dilation": Dilation2d, "erosion": Erosion2d, "opening": Opening2d, "closing": Closing2d}
    layer = layers[operation](len(bias), bias.shape[1:])
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def recovery_operators():
    """Return the max-plus operator for the study of operator recovery."""
    return [RecoveryOperator("max-plus", recover, learning_rate=0.03)]
