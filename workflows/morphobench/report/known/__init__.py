"""Section on published values and the committed numbers of earlier runs."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Comparison with known numbers",
    place=130,
    files={"published": "comparison with published values", "reference": "comparison with the committed numbers"},
)
