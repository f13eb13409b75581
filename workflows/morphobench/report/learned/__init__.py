"""Section on what the morphological layers have learned."""

from morphobench.report.sections import Section

SECTION = Section(__name__, "What was learned", place=80)
