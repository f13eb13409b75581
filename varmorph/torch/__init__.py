"""Morphological operators for PyTorch: exact (max-plus) and variational, as functions and as layers."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError("varmorph.torch needs torch, which is not installed: pip install 'varmorph[torch]'")

from varmorph.adjoints import Implicit, Neumann, OneStep, Unrolled
from varmorph.convergence import ConvergenceError, ConvergenceWarning
from varmorph.torch.adjoints import Truncated
from varmorph.torch.backends import backend
from varmorph.torch.certificates import (
    BackwardCertificate,
    Certificate,
    ForwardCertificate,
)
from varmorph.torch.coupled import joint_closing, joint_opening, regularised_dilation
from varmorph.torch.coupled_layers import JointClosing2d, JointOpening2d, RegularisedDilation2d
from varmorph.torch.energy import Edges, Energy, Ridge
from varmorph.torch.equilibrium import equilibrium
from varmorph.torch.functional import (
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
from varmorph.torch.geodesic import (
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
from varmorph.torch.geodesic_layers import HMaxima2d, Leveling2d, Reconstruction2d
from varmorph.torch.graph import (
    graph_closing,
    graph_dilation,
    graph_erosion,
    graph_opening,
    joint_graph_closing,
    joint_graph_opening,
    variational_graph_dilation,
    variational_graph_erosion,
)
from varmorph.torch.incidence import GraphEdges, GraphPulls, Pulls, Sides, WindowEdges
from varmorph.torch.layers import (
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
from varmorph.torch.leveling import leveling
from varmorph.torch.minimisation import Solution, minimise
from varmorph.torch.penalties import Penalty
from varmorph.torch.solvers import ADMM, AcceleratedGradient, Anderson, FixedPoint, Newton, PrimalDual

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
    "variational_closing",
    "variational_dilation",
    "variational_erosion",
    "variational_graph_dilation",
    "variational_graph_erosion",
    "variational_opening",
    "white_top_hat",
]
