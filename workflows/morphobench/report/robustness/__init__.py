"""Section on scores under corruption and noise."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Corrupted test images",
    place=70,
    optional=True,
    files={"robustness": "scores of saved models on corrupted test images, one row a seed, corruption and severity"},
)
