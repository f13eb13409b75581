"""Section on predictions that are proven, and on attacks."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Certified and attacked accuracy",
    place=75,
    optional=True,
    answer_place=5,
    files={
        "certified": "shares of test images that are right, survive attacks and are proven, one row a seed and epsilon"
    },
)
