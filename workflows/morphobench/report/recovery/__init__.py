"""Section on operator recovery."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Operator recovery",
    place=90,
    optional=True,
    files={"recovery": "operator recovery, one row a data set, initialisation, operator and seed"},
)
