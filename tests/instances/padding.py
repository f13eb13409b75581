"""Padding pixel by pixel, apart from the maps of indices that are tested."""


def pixel_at(position, length, padding):
    """The pixel that a position on or beyond the axis stands for; None where there is none."""
    if 0 <= position < length:
        return position
    if padding == "geodesic":
        return None
    if padding == "replicate":
        return min(max(position, 0), length - 1)
    if padding == "circular":
        return position % length
    period = max(2 * (length - 1), 1)
    return min(position % period, period - position % period) if length > 1 else 0
