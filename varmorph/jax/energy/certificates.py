"""What a solve says of itself: whether it converged, sample by sample, and what happens where it did not."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from varmorph.certificates import ActiveSet, BackwardCertificate, ForwardCertificate
from varmorph.convergence import ConvergenceError, ConvergenceWarning, OnFailure, failure_message, warning_message

__all__ = ["ActiveSet", "BackwardCertificate", "Certificate", "ForwardCertificate", "apply_policy"]


class Certificate(NamedTuple):
    """The solves of one call.

    `backward` is None: a gradient can hand nothing else back in JAX. `solve_with_pullback` gives that certificate.
    """

    forward: ForwardCertificate
    backward: BackwardCertificate | None = None


def apply_policy(policy: OnFailure, failed: jax.Array, value: jax.Array, residual: jax.Array, what: str) -> jax.Array:
    """Do what was asked for where a solve failed; return the value, with NaN in failed samples for "nan".

    Inside `jit`, where it is not known yet what fails, an error is raised by Equinox when the program runs, and a warning
    comes from a callback.

    failed, residual : (N,).  value : (N, ...).  what : the solve, with its tolerance and limit.
    """
    if policy == "nan":
        return jnp.where(failed.reshape(-1, *(1,) * (value.ndim - 1)), jnp.nan, value)
    known = not isinstance(failed, jax.core.Tracer)
    if policy == "raise":
        if not known:
            return eqx.error_if(value, failed, f"{what} did not converge for some samples")
        if failed.any():
            samples = failed.nonzero()[0].tolist()
            raise ConvergenceError(failure_message(what, samples, residual[failed].tolist()))
        return value

    def warn(failed: np.ndarray) -> None:
        if np.any(failed):
            warnings.warn(warning_message(what), ConvergenceWarning, stacklevel=2)

    if known:
        warn(np.asarray(failed))
    else:
        jax.lax.cond(failed.any(), lambda: jax.debug.callback(warn, failed), lambda: None)
    return value
