"""The backbone with soft maxima and minima of a window: SMorph, LMorph, p-convolution, log-sum-exp."""

from functools import partial

import numpy as np
import torch

from morphobench.contract import InvalidPlugin, OperatorInstance, RecoveryOperator

from .operators import OPERATORS, RECOVERY, SoftOperation, SoftWindow, smorph

FIRST_SHARPNESS, LAST_SHARPNESS = 2.0, 100.0  # of SMorph annealed in operator recovery


def operator(channels, kernel_size, params):
    """Return the operator with random structuring functions; one half of the channels starts as dilations."""
    if params["kind"] not in OPERATORS:
        raise InvalidPlugin(f"softmorph: key 'kind': found {params['kind']!r}, expected {', '.join(OPERATORS)}")
    return SoftWindow(
        channels,
        kernel_size,
        kind=params["kind"],
        deviation=params["bias_deviation"],
        initial_sharpness=params["initial_sharpness"],
    )


def operator_instances():
    """Return SMorph at random arguments, for the studies."""
    rng = np.random.default_rng(7)
    arguments = {
        "x": rng.random((1, 2, 12, 12)),
        "bias": 0.3 * rng.standard_normal((2, 3, 3)),
        "sharpness": np.array([-4.0, 4.0]),
    }
    return [OperatorInstance("smorph", smorph, arguments)]


def annealed(operation, bias):
    """Return SMorph whose sharpness follows `anneal` instead of being learned."""
    module = SoftOperation(operation, bias, kind="smorph", initial_sharpness=FIRST_SHARPNESS)
    module.sharpness.requires_grad_(False)
    return module


def anneal(module, progress):
    """Raise the sharpness from the first to the last, by equal factors, in the first three quarters of the training."""
    share = min(1.0, progress / 0.75)
    with torch.no_grad():
        module.sharpness.fill_(FIRST_SHARPNESS * (LAST_SHARPNESS / FIRST_SHARPNESS) ** share)


def recovery_operators():
    """Return SMorph, LMorph and SMorph with annealed sharpness for the study of operator recovery."""
    learned = [RecoveryOperator(kind, partial(SoftOperation, kind=kind), learning_rate=0.3) for kind in RECOVERY]
    return [*learned, RecoveryOperator("smorph-annealed", annealed, learning_rate=0.03, prepare_step=anneal)]
