"""The backbone with variational operators: dilations on one half of the channels, erosions on the other."""

import torch
from torch import nn

from morphobench.contract import RecoveryOperator
from varmorph.torch import VariationalClosing2d, VariationalDilation2d, VariationalErosion2d, VariationalOpening2d

FIRST_LEVEL, LAST_LEVEL = (
    2.0,
    10.0,
)  # logits of the level in operator recovery: learned from the first, or annealed to the last


def operator(channels, kernel_size, params):
    """Return the operator with random offsets, equal weights and levels of one size: above 1/2, then below."""
    level, dilated = params["initial_level"], channels // 2
    levels = [level] * dilated + [-level] * (channels - dilated)
    layer = VariationalDilation2d(channels, kernel_size, initial_level=levels)
    nn.init.normal_(layer.bias, std=params["bias_deviation"])
    return layer


def recover(operation, bias):
    """Return the variational operation with one structuring function a channel and equal weights, which stay as they are."""
    layers = {
        "dilation": VariationalDilation2d,
        "erosion": VariationalErosion2d,
        "opening": VariationalOpening2d,
        "closing": VariationalClosing2d,
    }
    layer = layers[operation](len(bias), bias.shape[1:], initial_level=FIRST_LEVEL)
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(bias))
    layer.log_weight.requires_grad_(False)
    return layer


def recover_annealed(operation, bias):
    """Return the variational operation whose levels follow `anneal` instead of being learned."""
    layer = recover(operation, bias)
    levels(layer).requires_grad_(False)
    return layer


def anneal(layer, progress):
    """Move the levels from the first to the last in the first three quarters of the training."""
    size = FIRST_LEVEL + (LAST_LEVEL - FIRST_LEVEL) * min(1.0, progress / 0.75)
    with torch.no_grad():
        levels(layer).copy_(levels(layer).sign() * size)


def levels(layer):
    """Return the logit of the level, or both of an opening or closing."""
    return layer.logit_level if hasattr(layer, "logit_level") else layer.logit_levels


def recovery_operators():
    """Return the operator with learned and with annealed levels for the study of operator recovery."""
    return [
        RecoveryOperator("variational-learned", recover, learning_rate=0.3),
        RecoveryOperator("variational-annealed", recover_annealed, learning_rate=0.1, prepare_step=anneal),
    ]
