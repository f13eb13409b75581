"""Section on paired differences to the baseline."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="Differences to the baseline",
    place=40,
    answer_place=1,
    files={
        "differences": "paired differences to the baseline",
    },
)
