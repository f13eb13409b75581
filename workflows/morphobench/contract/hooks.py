"""What a method plugin gives, and what it may give besides.

A plugin gives ``operator(channels, kernel_size, params)`` or ``build(task, params)``, which return a module of its framework:
a `torch.nn.Module`; in JAX an `equinox.Module` that maps batches (N, C, H, W), with state (`equinox.nn.StateIndex`) in ``build``
alone: ``scores, state = module(images, state)``. PyTorch's layers draw their first weights from a generator that the harness has
seeded; JAX has none, so that ``params["stream"]`` holds one there, an `InitialWeights`, which gives the same numbers to the same
layers made in the same order.

A plugin in PyTorch that proves its predictions gives ``certified(model, images, truth, epsilon)``: the model in evaluation mode and
float64, images (N, C, H, W) in [0, 1] of float64 on their way to the centring that the model expects, true classes (N,), and a number;
it returns (N,) of bool, whether it is proven that no change of at most ``epsilon`` in any pixel takes the prediction away from the
truth, rounding included. The study ``certified`` then attacks what was proven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

__all__ = [
    "FRAMEWORKS",
    "OPERATIONS",
    "Family",
    "FrameworkName",
    "MorphologicalTarget",
    "Operation",
    "OperatorInstance",
    "RecoveryOperator",
]

Family = Literal["variational", "morphology", "cnn", "implicit", "classical", "control"]
FrameworkName = Literal["torch", "jax", "numpy"]
FRAMEWORKS: tuple[FrameworkName, ...] = get_args(FrameworkName)
Operation = Literal["dilation", "erosion", "opening", "closing"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class OperatorInstance:
    """An operator of a plugin with arguments at which the studies differentiate and time it.

    A plugin that gives ``operator_instances()``, a list of these, takes part in the studies of gradient accuracy and of solver
    cost with its own operator.

    Parameters
    ----------
    name : str
        Lower case, digits and hyphens; unique in the plugin.
    operator : callable
        Maps one array or tensor of the plugin's framework for each argument, in their order, to one result; must be
        differentiable in all of them, in float64 and in float32.
    arguments : mapping of str to ndarray
        float64. Each is a parameter group of the tables.
    """

    name: str
    operator: Callable[..., Any]
    arguments: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class MorphologicalTarget:
    """How the pairs of a data set were made: what ``target(variant)`` of a data set for restoration returns.

    The study of operator recovery learns from the data sets that have this function.

    Parameters
    ----------
    operation : str
        One of ``OPERATIONS``, by ``structuring_function`` (kh, kw), max-plus, the window being cut at the border.
    structuring_function : ndarray
        float64, at most 0; -inf leaves a neighbour out.
    """

    operation: Operation
    structuring_function: np.ndarray


@dataclass(frozen=True)
class RecoveryOperator:
    """An operator of a plugin whose structuring function is learned from pairs of images (PyTorch).

    A plugin that gives ``recovery_operators()``, a list of these, takes part in the study of operator recovery.

    Parameters
    ----------
    name : str
        Lower case, digits and hyphens; unique in the plugin.
    make : callable
        ``make(operation, bias)`` returns a module that maps (N, C, H, W) to the same shape and tends to the operation by
        its parameter ``bias``, which starts as the float32 array ``bias`` (C, kh, kw). Channels do not mix: each learns for
        itself. Other parameters may be learned beside it.
    learning_rate : float
        Of Adam.
    prepare_step : callable, optional
        ``prepare_step(module, progress)`` is called ahead of each step with the share of the training that is over, and
        after the last with 1; for what follows a schedule.
    """

    name: str
    make: Callable[[Operation, np.ndarray], Any]
    learning_rate: float
    prepare_step: Callable[[Any, float], None] | None = None
