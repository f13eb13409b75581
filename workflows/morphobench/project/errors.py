"""The error that the command line shows without a traceback."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user can mend: a bad config, plugin, data file or argument. The command line exits with 2."""
