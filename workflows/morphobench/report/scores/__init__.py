"""Section on scores, alone, against cost and over sweeps, with training curves and segmentations."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Scores",
    place=30,
    files={"scores": "one row a trial, split and metric", "means": "means over seeds with intervals"},
)
