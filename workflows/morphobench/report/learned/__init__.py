"""Section on what the morphological layers have learned."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="What was learned",
    place=80,
)
