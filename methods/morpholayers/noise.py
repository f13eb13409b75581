"""How a classifier stands additive noise: the protocol of BMVC 2022, uniform and normal noise at 20 levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["NOISES", "accuracy_under_noise", "noise_levels"]

# Noise of standard deviation 1.
NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
}


def noise_levels(count: int = 20, greatest: float = 0.5) -> np.ndarray:
    """Return standard deviations from 0 to the greatest one, equally spaced, (count,)."""
    return np.linspace(0.0, greatest, count)


def accuracy_under_noise(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    noise: str,
    levels: Sequence[float] | np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return the share of images that a classifier gets right at each level of noise.

    Parameters
    ----------
    predict : callable
        Maps images (N, C, H, W) to scores (N, K).
    images : ndarray
        (N, C, H, W), in [0, 1]. Noisy images are cut to that range.
    labels : ndarray
        (N,).
    noise : {"uniform", "normal"}
        Kind of noise, one draw for all levels.
    levels : sequence of float
        Standard deviations, see `noise_levels`.
    seed : int
        Of the noise.

    Returns
    -------
    ndarray
        (levels,).

    Raises
    ------
    ValueError
        If the kind of noise is unknown.
    """
    if noise not in NOISES:
        raise ValueError(f"noise must be one of {', '.join(map(repr, NOISES))}, found {noise!r}")
    drawn = NOISES[noise](np.random.default_rng(seed), images.shape)
    shares = []
    for level in levels:
        noisy = np.clip(images + level * drawn, 0.0, 1.0).astype(np.float32)
        shares.append(float((predict(noisy).argmax(1) == labels).mean()))
    return np.array(shares)
