"""Morphological operators for JAX: exact (max-plus) and variational, as pure functions and as Equinox layers."""

from importlib.util import find_spec

for _needed in ("jax", "equinox"):
    if find_spec(_needed) is None:
        raise ImportError(f"varmorph.jax needs {_needed}, which is not installed: pip install 'varmorph[jax]'")

from varmorph.adjoints import Implicit, Neumann, OneStep, Unrolled
from varmorph.convergence import ConvergenceError, ConvergenceWarning
from varmorph.jax.adjoints import Truncated
from varmorph.jax.backends import backend
from varmorph.jax.certificates import BackwardCertificate, Certificate, ForwardCertificate
from varmorph.jax.coupled import joint_closing, joint_opening, regularised_dilation
from varmorph.jax.coupled_layers import JointClosing2d, JointOpening2d, RegularisedDilation2d
from varmorph.jax.energy import Edges, Energy, Ridge
from varmorph.jax.equilibrium import equilibrium
from varmorph.jax.functional import (
    black_top_hat,
    closing,
    dilation,
    erosion,
    external_gradient,
    gradient,
    internal_gradient,
    opening,
    variational_closing,
    variational_dilation,
    variational_erosion,
    variational_opening,
    white_top_hat,
)
from varmorph.jax.geodesic import (
    closing_by_reconstruction,
    extended_maxima,
    fill_holes,
    h_convex,
    h_maxima,
    h_minima,
    opening_by_reconstruction,
    reconstruction,
    regional_maxima,
)
from varmorph.jax.geodesic_layers import HMaxima2d, Leveling2d, Reconstruction2d
from varmorph.jax.graph import graph_closing, graph_dilation, graph_erosion, graph_opening
from varmorph.jax.incidence import GraphEdges, GraphPulls, Pulls, Sides, WindowEdges
from varmorph.jax.layers import (
    BlackTopHat2d,
    Closing2d,
    Dilation2d,
    Erosion2d,
    Gradient2d,
    Opening2d,
    VariationalClosing2d,
    VariationalDilation2d,
    VariationalErosion2d,
    VariationalOpening2d,
    WhiteTopHat2d,
)
from varmorph.jax.leveling import leveling
from varmorph.jax.minimisation import Solution, minimise, solve_with_pullback
from varmorph.jax.penalties import Penalty
from varmorph.jax.solvers import ADMM, AcceleratedGradient, Anderson, FixedPoint, Newton, PrimalDual
from varmorph.jax.variational_graph import (
    joint_graph_closing,
    joint_graph_opening,
    variational_graph_dilation,
    variational_graph_erosion,
)

__all__ = [
    "ADMM",
    "AcceleratedGradient",
    "Anderson",
    "BackwardCertificate",
    "BlackTopHat2d",
    "Certificate",
    "Closing2d",
    "ConvergenceError",
    "ConvergenceWarning",
    "Dilation2d",
    "Edges",
    "Energy",
    "Erosion2d",
    "FixedPoint",
    "ForwardCertificate",
    "Gradient2d",
    "GraphEdges",
    "GraphPulls",
    "HMaxima2d",
    "Implicit",
    "JointClosing2d",
    "JointOpening2d",
    "Leveling2d",
    "Neumann",
    "Newton",
    "OneStep",
    "Opening2d",
    "Penalty",
    "PrimalDual",
    "Pulls",
    "Reconstruction2d",
    "RegularisedDilation2d",
    "Ridge",
    "Sides",
    "Solution",
    "Truncated",
    "Unrolled",
    "VariationalClosing2d",
    "VariationalDilation2d",
    "VariationalErosion2d",
    "VariationalOpening2d",
    "WhiteTopHat2d",
    "WindowEdges",
    "backend",
    "black_top_hat",
    "closing",
    "closing_by_reconstruction",
    "dilation",
    "equilibrium",
    "erosion",
    "extended_maxima",
    "external_gradient",
    "fill_holes",
    "gradient",
    "graph_closing",
    "graph_dilation",
    "graph_erosion",
    "graph_opening",
    "h_convex",
    "h_maxima",
    "h_minima",
    "internal_gradient",
    "joint_closing",
    "joint_graph_closing",
    "joint_graph_opening",
    "joint_opening",
    "leveling",
    "minimise",
    "opening",
    "opening_by_reconstruction",
    "reconstruction",
    "regional_maxima",
    "regularised_dilation",
    "solve_with_pullback",
    "variational_closing",
    "variational_dilation",
    "variational_erosion",
    "variational_graph_dilation",
    "variational_graph_erosion",
    "variational_opening",
    "white_top_hat",
]
