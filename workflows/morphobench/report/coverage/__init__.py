"""Section on coverage: which trials have a score, and why the others have none."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Coverage",
    place=20,
    answer_place=4,
    files={"trials": "one row a trial: status, message, times, memory, parameters, commit, hashes of code and data"},
)
