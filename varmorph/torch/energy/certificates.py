"""What a solve says of itself: whether it converged, sample by sample, and what happens where it did not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from varmorph.certificates import ActiveSet, BackwardCertificate, ForwardCertificate
from varmorph.convergence import ConvergenceError, ConvergenceWarning, OnFailure, failure_message, warning_message

__all__ = [
    "ActiveSet",
    "BackwardCertificate",
    "Certificate",
    "ForwardCertificate",
    "apply_policy",
]


@dataclass
class Certificate:
    """Both solves of one call; `backward` is None until the backward pass has run, and stays None for `Unrolled`."""

    forward: ForwardCertificate
    backward: BackwardCertificate | None = None


def apply_policy(policy: OnFailure, failed: Tensor, value: Tensor, residual: Tensor, what: str) -> Tensor:
    """Do what was asked for where a solve failed; return the value, with NaN in failed samples for "nan".

    failed, residual : (N,).  value : (N, ...).  what : the solve, with its tolerance and limit.
    """
    if not bool(failed.any()):
        return value
    if policy == "nan":
        return value.masked_fill(failed.view(-1, *(1,) * (value.ndim - 1)), torch.nan)
    if policy == "raise":
        samples = failed.nonzero().flatten().tolist()
        raise ConvergenceError(failure_message(what, samples, residual[failed].tolist()))
    warnings.warn(warning_message(what), ConvergenceWarning, stacklevel=2)
    return value
