"""CPU kernels of the separable window operators: in lanes where all pixels see the same shifts, else pixel by pixel."""

from __future__ import annotations

from varmorph.windows import Geometry, is_uniform

__all__ = ["module_of", "slots_fit_a_byte"]

IN_LANES = ("supremum", "expectile")


def module_of(function: str, geometry: Geometry) -> str:
    """Name the module whose function is to run; that in lanes is the faster one, and needs the same shifts at every pixel."""
    lanes = function.removesuffix("_backward") in IN_LANES and is_uniform(geometry)
    return f"window.{'lanes' if lanes else 'pixelwise'}"


def slots_fit_a_byte(geometry: Geometry) -> bool:
    """Tell how slots are numbered; pixels near the border may have more of them than the window has elements."""
    return is_uniform(geometry) and geometry.size[0] * geometry.size[1] < 256
