"""Section on operator recovery."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="Operator recovery",
    place=90,
    optional=True,
    files={
        "recovery": "operator recovery, one row a data set, initialisation, operator and seed",
    },
)
