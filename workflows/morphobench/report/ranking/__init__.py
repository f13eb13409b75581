"""Section on ranks."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Ranking",
    place=50,
    files={"ranking": "ranks by data set and average ranks", "friedman": "Friedman's test, or why it was not made"},
)
