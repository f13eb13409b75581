"""On which pieces of their penalties the edges of an instance lie, in NumPy: two solutions are compared by them."""

from __future__ import annotations

import numpy as np

import varmorph.reference
from morphobench.studies.instances import Instance

__all__ = ["has_ties", "pieces", "window_residuals"]

TIE = 1e-12  # a residual below this share of the range of the solution counts as a tie


def pieces(instance: Instance, unknowns: np.ndarray) -> np.ndarray:
    """Describe the active set of every channel by one whole number a residual, (C, K).

    Parameters
    ----------
    unknowns : ndarray
        Of a joint operator (1, C, 2, H, W), else the output (1, C, H, W).

    Returns
    -------
    ndarray
        Whether a residual is >= 0; of lateral edges with Huber's penalty, whether they are straight and on which side; of a
        reconstruction, of which neighbour, of marker or of mask each pixel is a copy.
    """
    if instance.family == "geodesic":
        return _sources(instance, unknowns).reshape(instance.channels, -1)
    found = [(r >= 0).astype(np.int8) for r in _residuals(instance, unknowns)]
    if instance.family == "regularised-huber":
        limit = instance.arguments["edge_smoothing"][:, None]
        for axis in (-2, -1):
            r = np.diff(unknowns[0], axis=axis).reshape(instance.channels, -1)
            found.append((np.sign(r) * (np.abs(r) > limit)).astype(np.int8))
    return np.concatenate(found, axis=1)


def _sources(instance: Instance, value: np.ndarray) -> np.ndarray:
    """Say of what each pixel is a copy in a complete reconstruction, but where ``value`` has stopped at marker or mask."""
    found = varmorph.reference.reconstruction_sources(**instance.arguments)
    found = np.where(value == instance.arguments["marker"], varmorph.reference.IN_MARKER, found)
    return np.where(value == instance.arguments["mask"], varmorph.reference.IN_MASK, found)


def has_ties(instance: Instance, unknowns: np.ndarray) -> bool:
    """Whether some residual vanishes, so that there may be no derivative; a reconstruction: whether values repeat."""
    if instance.family == "geodesic":
        images = (instance.arguments["marker"], instance.arguments["mask"])
        return any(np.unique(image[0, c]).size < image[0, c].size for image in images for c in range(instance.channels))
    limit = TIE * max(float(np.ptp(instance.arguments["x"])), 1.0)
    return any(bool((np.abs(r) <= limit).any()) for r in _residuals(instance, unknowns))


def _residuals(instance: Instance, unknowns: np.ndarray) -> list[np.ndarray]:
    """Residuals of the edges with a level, (C, K) a family."""
    x, bias = instance.arguments["x"][0], instance.arguments["bias"]
    if instance.family != "joint":
        return [window_residuals(x, bias, unknowns[0], erosion=instance.operator.endswith("erosion"))]
    between, output = unknowns[0, :, 0], unknowns[0, :, 1]
    opening = instance.operator == "joint_opening"
    return [
        window_residuals(x, bias, between, erosion=opening),
        window_residuals(between, bias, output, erosion=not opening),
    ]


def window_residuals(source: np.ndarray, bias: np.ndarray, target: np.ndarray, *, erosion: bool) -> np.ndarray:
    """List source + bias - target over all edges inside the image, (C, K); images (C, H, W), bias (C, kh, kw).

    An erosion reverses the edges of a dilation: offsets and biases change sign.
    """
    rows, columns = bias.shape[-2:]
    before = (rows // 2, columns // 2)
    after = (rows - 1 - before[0], columns - 1 - before[1])
    margins = tuple(zip(after, before, strict=True)) if erosion else tuple(zip(before, after, strict=True))
    padded = np.pad(source, ((0, 0), *margins), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))
    if erosion:
        windows, bias = windows[..., ::-1, ::-1], -bias
    residuals = windows + bias[:, None, None] - target[..., None, None]
    inside = ~np.isnan(windows[0])
    return residuals[:, inside]
