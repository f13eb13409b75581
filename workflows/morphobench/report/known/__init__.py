"""Section on published values and the committed numbers of earlier runs."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="Comparison with known numbers",
    place=130,
    files={
        "published": "comparison with published values",
        "reference": "comparison with the committed numbers",
    },
)
