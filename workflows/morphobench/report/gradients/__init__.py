"""Section on gradient accuracy."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Gradient accuracy",
    place=110,
    answer_place=2,
    files={
        "gradients": "gradient study, one row a cell and parameter group",
        "gradients_summary": "gradient study, medians over instances",
    },
)
