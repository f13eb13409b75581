"""Section on paired differences to the baseline."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Differences to the baseline",
    place=40,
    answer_place=1,
    files={"differences": "paired differences to the baseline"},
)
