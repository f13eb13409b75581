"""Many small changes of one instance as the channels of one batch: channels do not interact in any of the operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from morphobench.studies.instances import Instance

__all__ = ["by_channel", "coordinates", "moved", "stacked"]


def _axis(array: np.ndarray) -> int:
    """Axis of the channels: numbers (C,) and functions (C, kh, kw), or levels (2, C) and images (1, C, H, W)."""
    return 0 if array.ndim in (1, 3) else 1


def by_channel(array: np.ndarray) -> np.ndarray:
    """Return an argument or its gradient as (C, entries of a channel)."""
    return np.moveaxis(array, _axis(array), 0).reshape(array.shape[_axis(array)], -1)


def coordinates(instance: Instance, parameter: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose at most ``limit`` entries of a parameter group, spread evenly.

    Returns
    -------
    channel, entry : ndarray
        (P,) each: the channel, and the index into what the group holds of that channel. The offset at the origin of a
        reconstruction is left out: it must be 0.
    """
    per_channel = by_channel(instance.arguments[parameter])
    flat = np.arange(per_channel.size)
    if instance.family == "geodesic" and parameter == "bias":
        flat = flat[flat % per_channel.shape[1] != per_channel.shape[1] // 2]
    chosen = flat[np.unique(np.linspace(0, flat.size - 1, min(limit, flat.size)).round().astype(int))]
    return np.divmod(chosen, per_channel.shape[1])


def stacked(instance: Instance, channel: np.ndarray) -> Instance:
    """Stack the problems of the listed channels as the channels of one instance."""
    arguments = {name: np.take(value, channel, _axis(value)) for name, value in instance.arguments.items()}
    return replace(instance, arguments=arguments, cotangent=instance.cotangent[:, channel])


def moved(batch: Instance, parameter: str, change: np.ndarray) -> Instance:
    """Add ``change`` (C, entries of a channel) to a parameter group."""
    before = batch.arguments[parameter]
    shape = np.moveaxis(before, _axis(before), 0).shape
    after = np.moveaxis((by_channel(before) + change).reshape(shape), 0, _axis(before))
    return replace(batch, arguments={**batch.arguments, parameter: after})
