"""Morphological operators for JAX: exact (max-plus) and variational, as pure functions and as Equinox layers."""

from importlib.util import find_spec

for _needed in ("jax", "equinox"):
    if find_spec(_needed) is None:
        raise ImportError(f"varmorph.jax needs {_needed}, which is not installed: pip install 'varmorph[jax]'")

from varmorph.jax.backends import backend
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

__all__ = [
    "BlackTopHat2d",
    "Closing2d",
    "Dilation2d",
    "Erosion2d",
    "Gradient2d",
    "HMaxima2d",
    "Leveling2d",
    "Opening2d",
    "Reconstruction2d",
    "VariationalClosing2d",
    "VariationalDilation2d",
    "VariationalErosion2d",
    "VariationalOpening2d",
    "WhiteTopHat2d",
    "backend",
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
    "leveling",
    "opening",
    "opening_by_reconstruction",
    "reconstruction",
    "regional_maxima",
    "variational_closing",
    "variational_dilation",
    "variational_erosion",
    "variational_opening",
    "white_top_hat",
]
