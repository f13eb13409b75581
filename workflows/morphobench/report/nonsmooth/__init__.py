"""Section on nonsmooth differentiation."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Nonsmooth differentiation",
    place=100,
    optional=True,
    files={"nonsmooth": "nonsmooth differentiation, one row a layer, place, way, setting and argument"},
)
