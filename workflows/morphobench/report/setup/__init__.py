"""Section on what was compared: methods, data sets and the protocol."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="What was compared, and how",
    place=10,
)
