"""The harness: finds the plugins, runs the trials, scores them and writes the report."""

__version__ = "0.1.0"
