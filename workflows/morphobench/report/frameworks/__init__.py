"""Section on networks that were trained in two frameworks."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "The same trial in two frameworks",
    place=60,
    optional=True,
    files={"counterparts": "the same network in two frameworks: paired differences, ratios of time, compilation"},
)
