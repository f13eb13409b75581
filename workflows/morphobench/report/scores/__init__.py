"""Section on scores, alone, against cost and over sweeps, with training curves and segmentations."""

from morphobench.report.sections import Section

__all__ = ["SECTION"]

SECTION = Section(
    package=__name__,
    title="Scores",
    place=30,
    files={
        "scores": "one row a trial, split and metric",
        "means": "means over seeds with intervals",
    },
)
