"""The figures of a run: drawn from its tables, each as SVG, PDF and PNG, and listed in ``figures.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from morphobench.contract import Split
from morphobench.project.files import write_json
from morphobench.project.paths import RunFolder, find_project
from morphobench.report.gradients.cosines import draw_cosines
from morphobench.report.gradients.costs import draw_gradient_memory, draw_gradient_time
from morphobench.report.gradients.curves import draw_steps, draw_tolerances
from morphobench.report.learned.structuring import draw_levels, draw_structuring_functions
from morphobench.report.nonsmooth.figures import draw_nonsmooth
from morphobench.report.recovery.figures import draw_gradient_shares, draw_recovered, draw_recovery_success
from morphobench.report.results import RunResults, read_run_results
from morphobench.report.robustness.figures import draw_noise, draw_robustness
from morphobench.report.scores.common_tasks import draw_common_tasks
from morphobench.report.scores.curves import draw_training
from morphobench.report.scores.figures import draw_parameters, draw_scores, draw_times
from morphobench.report.scores.segmentations import TestData, draw_segmentations
from morphobench.report.scores.sweeps import draw_sweeps
from morphobench.report.solvers.benchmarks import draw_benchmarks
from morphobench.report.solvers.coupled_solvers import draw_accuracy, draw_iterations
from morphobench.report.solvers.figures import draw_layer_ratios, draw_phases
from morphobench.report.solvers.ratios import draw_ratios
from morphobench.report.solvers.throughput import draw_throughput
from morphobench.report.style import Absent, Drawing, drawing_style, save

__all__ = ["draw_figures"]

Drawer = Callable[[RunResults, TestData], Iterable[Drawing | Absent]]

SINGLE = (
    draw_scores,
    draw_parameters,
    draw_times,
    draw_training,
    draw_robustness,
    draw_noise,
    draw_recovery_success,
    draw_gradient_shares,
    draw_nonsmooth,
    draw_levels,
    draw_gradient_time,
    draw_gradient_memory,
    draw_tolerances,
    draw_steps,
    draw_cosines,
    draw_iterations,
    draw_accuracy,
    draw_phases,
    draw_throughput,
    draw_layer_ratios,
    draw_benchmarks,
    draw_ratios,
)


def draw_figures(
    run: RunFolder, out: Path, test_data: TestData | None = None, *, processes: int = 1
) -> list[dict[str, Any]]:
    """Draw every figure for which there are data.

    Parameters
    ----------
    run : RunFolder
        The run; those of its ``report.include`` are read too.
    out : Path
        Folder for ``<name>.svg``, ``.pdf``, ``.png`` and ``figures.json``.
    test_data : callable, optional
        Gives the test split of a data set; default: the prepared data of this checkout. Several processes use the default.
    processes : int
        How many processes share the figures.

    Returns
    -------
    list of dict
        The content of ``figures.json``: name, title, caption, alt, source (a CSV below the results folder) and files,
        or name, title and the reason why the figure was not drawn.
    """
    places = range(len(DRAWERS))
    if processes > 1 and test_data is None:
        shares = [(run, out, places[first::processes]) for first in range(processes)]
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            drawn = dict(
                entry for share in pool.map(_draw_share, *zip(*shares, strict=True)) for entry in share.items()
            )
    else:
        drawn = _draw_share(run, out, places, test_data)
    listed = [entry for place in places for entry in drawn[place]]
    write_json(out / "figures.json", listed)
    return listed


def _draw_share(
    run: RunFolder, out: Path, places: Sequence[int], test_data: TestData | None = None
) -> dict[int, list[dict[str, Any]]]:
    """Draw what the `DRAWERS` at some places give; return what is to be listed, by place."""
    results = read_run_results(run)
    with drawing_style():
        return {
            place: [_saved(figure, out) for figure in DRAWERS[place](results, test_data or _prepared_data(results))]
            for place in places
        }


def _saved(drawn: Drawing | Absent, out: Path) -> dict[str, Any]:
    if isinstance(drawn, Absent):
        return {"name": drawn.name, "title": drawn.title, "drawn": False, "reason": drawn.reason}
    files = save(drawn.figure, out, drawn.name)
    entry = {key: getattr(drawn, key) for key in ("name", "title", "caption", "alt", "source")}
    return {**entry, "drawn": True, "files": files}


def _alone(draw: Callable[[RunResults], Drawing | Absent]) -> Drawer:
    return lambda results, _: [draw(results)]


# In the order of the list; each gives any number of figures.
DRAWERS: tuple[Drawer, ...] = (
    *map(_alone, SINGLE),
    lambda results, _: draw_sweeps(results),
    lambda results, _: draw_common_tasks(results),
    lambda results, _: draw_recovered(results),
    draw_segmentations,
    lambda results, _: draw_structuring_functions(results),
)


def _prepared_data(results: RunResults) -> TestData:
    def load(dataset: str) -> Split:
        from morphobench.data.preparation import images_of_test, labels_of_test, read_manifest

        project = find_project()
        paths = [folder.results / "data" / f"{dataset}.json" for folder in results.folders.values()]
        manifest = read_manifest(next(path for path in paths if path.is_file()))
        return Split(images_of_test(project, manifest), labels_of_test(project, manifest))

    return load
