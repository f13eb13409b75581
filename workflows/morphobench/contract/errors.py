"""Errors that a plugin may raise; each becomes a status, and its message a row of the report."""

__all__ = ["DataUnavailable", "Diverged", "FrameworkUnavailable", "InvalidPlugin", "OutOfTime"]


class InvalidPlugin(Exception):
    """A plugin that does not parse, import or keep its contract; the message becomes a row of the report."""


class DataUnavailable(Exception):
    """A data set whose files are neither here nor to be had; the message becomes a row of the report."""


class FrameworkUnavailable(Exception):
    """A framework that is not installed here; the message becomes a row of the report."""


class Diverged(Exception):
    """Training met a loss or a score that is not finite."""


class OutOfTime(Exception):
    """The deadline of the trial has passed."""
