"""The figures of gradient accuracy, in their order."""

from morphobench.report.gradients.cosines import draw_cosines
from morphobench.report.gradients.costs import draw_gradient_memory, draw_gradient_time
from morphobench.report.gradients.curves import draw_steps, draw_tolerances

__all__ = ["FIGURES"]

FIGURES = (draw_gradient_time, draw_gradient_memory, draw_tolerances, draw_steps, draw_cosines)
