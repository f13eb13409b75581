"""Solvers of energies; each is an argument of the operators that need one."""

from varmorph.torch.energy.solvers.fixed_point import Anderson, FixedPoint
from varmorph.torch.energy.solvers.gradient import AcceleratedGradient
from varmorph.torch.energy.solvers.iteration import Solver
from varmorph.torch.energy.solvers.newton import Newton
from varmorph.torch.energy.solvers.splitting import ADMM, PrimalDual

__all__ = ["ADMM", "AcceleratedGradient", "Anderson", "FixedPoint", "Newton", "PrimalDual", "Solver"]
