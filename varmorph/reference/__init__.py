"""The executable specification: every operator in NumPy, float64, edge by edge, and nothing clever.

Functions have the names and arguments of `varmorph.torch`; arrays come in and go out. Edges are listed one by one, an
erosion swaps their ends, an expectile is found by trying all splits of the sorted values instead of iterating, and a
coupled energy is minimised with sparse direct solves, so that this package shares neither geometry nor solver with the
code that is tested against it.
"""

from varmorph.reference.coupled import (
    joint_closing,
    joint_closing_gradient,
    joint_opening,
    joint_opening_gradient,
    regularised_dilation,
    regularised_dilation_gradient,
)
from varmorph.reference.exact import (
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
from varmorph.reference.geodesic import (
    closing_by_reconstruction,
    extended_maxima,
    fill_holes,
    h_convex,
    h_maxima,
    h_minima,
    leveling,
    opening_by_reconstruction,
    reconstruction,
    regional_maxima,
)
from varmorph.reference.gradients import Gradients
from varmorph.reference.graph import (
    graph_closing,
    graph_dilation,
    graph_erosion,
    graph_opening,
    joint_graph_closing,
    joint_graph_closing_gradient,
    joint_graph_opening,
    joint_graph_opening_gradient,
    variational_graph_dilation,
    variational_graph_dilation_gradient,
    variational_graph_erosion,
    variational_graph_erosion_gradient,
)
from varmorph.reference.separable import (
    variational_closing,
    variational_dilation,
    variational_dilation_gradient,
    variational_erosion,
    variational_erosion_gradient,
    variational_opening,
)

__all__ = [
    "Gradients",
    "black_top_hat",
    "closing",
    "closing_by_reconstruction",
    "dilation",
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
    "joint_closing_gradient",
    "joint_graph_closing",
    "joint_graph_closing_gradient",
    "joint_graph_opening",
    "joint_graph_opening_gradient",
    "joint_opening",
    "joint_opening_gradient",
    "leveling",
    "opening",
    "opening_by_reconstruction",
    "reconstruction",
    "regional_maxima",
    "regularised_dilation",
    "regularised_dilation_gradient",
    "variational_closing",
    "variational_dilation",
    "variational_dilation_gradient",
    "variational_erosion",
    "variational_erosion_gradient",
    "variational_graph_dilation",
    "variational_graph_dilation_gradient",
    "variational_graph_erosion",
    "variational_graph_erosion_gradient",
    "variational_opening",
    "white_top_hat",
]
