"""Morphological operators for JAX: exact (max-plus) and variational, as pure functions and as Equinox layers."""

from importlib.util import find_spec

for _needed in ("jax", "equinox", "jaxtyping"):
    if find_spec(_needed) is None:
        raise ImportError(f"varmorph.jax needs {_needed}, which is not installed: pip install 'varmorph[jax]'")

from varmorph.adjoints import Adjoint, Implicit, Neumann, OneStep, Unrolled
from varmorph.convergence import ConvergenceError, ConvergenceWarning
from varmorph.jax.backend.choice import backend
from varmorph.jax.energy.adjoints import Truncated
from varmorph.jax.energy.certificates import BackwardCertificate, Certificate, ForwardCertificate
from varmorph.jax.energy.energy import Edges, Energy, Ridge
from varmorph.jax.energy.equilibrium import equilibrium
from varmorph.jax.energy.incidence import DataEdges, GraphDataEdges, GraphEdges, GridEdges, WindowEdges
from varmorph.jax.energy.minimisation import Solution, minimise, solve_with_pullback
from varmorph.jax.energy.penalties import Penalty
from varmorph.jax.energy.solvers import ADMM, AcceleratedGradient, Anderson, FixedPoint, Newton, PrimalDual, Solver
from varmorph.jax.layers.channels import (
    MaxPlusConv2d,
    MaxPlusLinear,
    MinPlusConv2d,
    MinPlusLinear,
    VariationalConv2d,
    VariationalLinear,
)
from varmorph.jax.layers.coupled import JointClosing2d, JointOpening2d, RegularisedDilation2d
from varmorph.jax.layers.geodesic import HMaxima2d, Leveling2d, Reconstruction2d
from varmorph.jax.layers.window import (
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
from varmorph.jax.operators.channels import (
    maxplus_conv2d,
    maxplus_linear,
    minplus_conv2d,
    minplus_linear,
    variational_conv2d,
    variational_linear,
)
from varmorph.jax.operators.coupled import joint_closing, joint_opening, regularised_dilation
from varmorph.jax.operators.geodesic import (
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
from varmorph.jax.operators.graph import graph_closing, graph_dilation, graph_erosion, graph_opening
from varmorph.jax.operators.leveling import leveling
from varmorph.jax.operators.variational_graph import (
    joint_graph_closing,
    joint_graph_opening,
    regularised_graph_dilation,
    regularised_graph_erosion,
    variational_graph_dilation,
    variational_graph_erosion,
)
from varmorph.jax.operators.variational_window import (
    variational_closing,
    variational_dilation,
    variational_erosion,
    variational_opening,
)
from varmorph.jax.operators.window import (
    black_top_hat,
    closing,
    dilation,
    erosion,
    external_gradient,
    gradient,
    internal_gradient,
    opening,
    white_top_hat,
)

__all__ = [
    "ADMM",
    "AcceleratedGradient",
    "Adjoint",
    "Anderson",
    "BackwardCertificate",
    "BlackTopHat2d",
    "Certificate",
    "Closing2d",
    "ConvergenceError",
    "ConvergenceWarning",
    "DataEdges",
    "Dilation2d",
    "Edges",
    "Energy",
    "Erosion2d",
    "FixedPoint",
    "ForwardCertificate",
    "Gradient2d",
    "GraphDataEdges",
    "GraphEdges",
    "GridEdges",
    "HMaxima2d",
    "Implicit",
    "JointClosing2d",
    "JointOpening2d",
    "Leveling2d",
    "MaxPlusConv2d",
    "MaxPlusLinear",
    "MinPlusConv2d",
    "MinPlusLinear",
    "Neumann",
    "Newton",
    "OneStep",
    "Opening2d",
    "Penalty",
    "PrimalDual",
    "Reconstruction2d",
    "RegularisedDilation2d",
    "Ridge",
    "Solution",
    "Solver",
    "Truncated",
    "Unrolled",
    "VariationalClosing2d",
    "VariationalConv2d",
    "VariationalDilation2d",
    "VariationalErosion2d",
    "VariationalLinear",
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
    "maxplus_conv2d",
    "maxplus_linear",
    "minimise",
    "minplus_conv2d",
    "minplus_linear",
    "opening",
    "opening_by_reconstruction",
    "reconstruction",
    "regional_maxima",
    "regularised_dilation",
    "regularised_graph_dilation",
    "regularised_graph_erosion",
    "solve_with_pullback",
    "variational_closing",
    "variational_conv2d",
    "variational_dilation",
    "variational_erosion",
    "variational_graph_dilation",
    "variational_graph_erosion",
    "variational_linear",
    "variational_opening",
    "white_top_hat",
]
