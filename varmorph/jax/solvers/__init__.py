"""Solvers of energies; each is an argument of the operators that need one."""

from varmorph.jax.solvers.fixed_point import Anderson, FixedPoint
from varmorph.jax.solvers.gradient import AcceleratedGradient
from varmorph.jax.solvers.iteration import Solver
from varmorph.jax.solvers.newton import Newton
from varmorph.jax.solvers.splitting import ADMM, PrimalDual

__all__ = ["ADMM", "AcceleratedGradient", "Anderson", "FixedPoint", "Newton", "PrimalDual", "Solver"]
