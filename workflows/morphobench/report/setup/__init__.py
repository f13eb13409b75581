"""Section on what was compared: methods, data sets and the protocol."""

from morphobench.report.sections import Section

SECTION = Section(__name__, "What was compared, and how", place=10)
