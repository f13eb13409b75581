"""The figures of the cost of operators and solvers, in their order."""

from morphobench.report.solvers.benchmarks import draw_benchmarks
from morphobench.report.solvers.coupled_solvers import draw_accuracy, draw_iterations
from morphobench.report.solvers.layers import draw_layer_ratios, draw_phases
from morphobench.report.solvers.ratios import draw_ratios
from morphobench.report.solvers.throughput import draw_throughput

__all__ = ["FIGURES"]

FIGURES = (
    draw_iterations,
    draw_accuracy,
    draw_phases,
    draw_throughput,
    draw_layer_ratios,
    draw_benchmarks,
    draw_ratios,
)
