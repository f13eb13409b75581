"""Section on what operators and their solvers cost."""

from morphobench.report.sections import Section

SECTION = Section(
    __name__,
    "Solver cost",
    place=120,
    answer_place=3,
    files={
        "solvers": "solver study, one row a cell and phase: layers, solvers of coupled operators, other libraries, a copy",
        "benchmarks": "operator benchmarks with ratios to peers",
        "ratios": "operators timed in turn with what they replace, one row an operator, window, phase and peer, with the bar",
    },
)
