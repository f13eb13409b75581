"""Solvers of energies; each is an argument of the operators that need one."""

from varmorph.jax.energy.solvers.fixed_point import Anderson, FixedPoint
from varmorph.jax.energy.solvers.gradient import AcceleratedGradient
from varmorph.jax.energy.solvers.iteration import Solver
from varmorph.jax.energy.solvers.newton import Newton
from varmorph.jax.energy.solvers.splitting import ADMM, PrimalDual

__all__ = ["ADMM", "AcceleratedGradient", "Anderson", "FixedPoint", "Newton", "PrimalDual", "Solver"]
