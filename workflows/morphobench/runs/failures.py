"""What a worker's record tells of an error."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["LOG_TAIL", "innermost_frames", "is_out_of_memory"]

LOG_TAIL = 12  # lines of a log that a record keeps


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory was not to be had, of the host or of a device.

    Examples
    --------
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError())
    (True, False)
    """
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # PyTorch need not be installed


def innermost_frames(error: Exception, count: int = 6) -> list[str]:
    """Return one line for each of the last frames that the error went through: file, line and function."""
    frames = traceback.extract_tb(error.__traceback__)[-count:]
    return [f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
