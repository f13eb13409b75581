"""The backbone with soft maxima and minima of a window: SMorph, LMorph, p-convolution, log-sum-exp."""

from functools import partial

import numpy as np

from morphobench.contract import InvalidPlugin, OperatorInstance, RecoveryOperator

from .operators import OPERATORS, RECOVERY, SoftOperation, SoftWindow, smorph


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


def recovery_operators():
    """Return SMorph and LMorph for the study of operator recovery."""
    return [RecoveryOperator(kind, partial(SoftOperation, kind=kind), learning_rate=0.3) for kind in RECOVERY]
