"""Solvers of energies; each is an argument of the operators that need one."""

from varmorph.torch.solvers.fixed_point import Anderson, FixedPoint
from varmorph.torch.solvers.gradient import AcceleratedGradient
from varmorph.torch.solvers.iteration import Solver
from varmorph.torch.solvers.newton import Newton
from varmorph.torch.solvers.splitting import ADMM, PrimalDual

__all__ = ["ADMM", "AcceleratedGradient", "Anderson", "FixedPoint", "Newton", "PrimalDual", "Solver"]
