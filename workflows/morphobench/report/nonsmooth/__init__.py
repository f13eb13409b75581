"""Section on nonsmooth differentiation."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="Nonsmooth differentiation",
    place=100,
    optional=True,
    files={
        "nonsmooth": "nonsmooth differentiation, one row a layer, place, way, setting and argument",
    },
)
