"""The figures of a run: drawn from its tables, each as SVG, PDF and PNG, and listed in ``figures.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphobench.contract import Split
from morphobench.figures.benchmarks import draw_benchmarks
from morphobench.figures.canvas import Absent, Drawing, drawing_style, save
from morphobench.figures.coupled_solvers import draw_accuracy, draw_iterations
from morphobench.figures.evidence import Evidence, read_evidence
from morphobench.figures.gradient_cosines import draw_cosines
from morphobench.figures.gradient_costs import draw_gradient_memory, draw_gradient_time
from morphobench.figures.gradient_curves import draw_steps, draw_tolerances
from morphobench.figures.nonsmooth import draw_nonsmooth
from morphobench.figures.ratios import draw_ratios
from morphobench.figures.recovery import draw_gradient_shares, draw_recovered, draw_recovery_success
from morphobench.figures.robustness import draw_noise, draw_robustness
from morphobench.figures.scores import draw_parameters, draw_scores, draw_times
from morphobench.figures.segmentations import TestData, draw_segmentations
from morphobench.figures.solvers import draw_layer_ratios, draw_phases
from morphobench.figures.structuring import draw_levels, draw_structuring_functions
from morphobench.figures.throughput import draw_throughput
from morphobench.figures.training import draw_training
from morphobench.files import write_json
from morphobench.layout import RunFolder, find_house

__all__ = ["draw_figures"]

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


def draw_figures(run: RunFolder, out: Path, test_data: TestData | None = None) -> list[dict[str, Any]]:
    """Draw every figure for which there are data.

    Parameters
    ----------
    run : RunFolder
        The run; those of its ``report.include`` are read too.
    out : Path
        Folder for ``<name>.svg``, ``.pdf``, ``.png`` and ``figures.json``.
    test_data : callable, optional
        Gives the test split of a data set; default: the prepared data of this checkout.

    Returns
    -------
    list of dict
        The content of ``figures.json``: name, title, caption, alt, source (a CSV below the results folder) and files,
        or name, title and the reason why the figure was not drawn.
    """
    evidence = read_evidence(run)
    listed: list[dict[str, Any]] = []
    with drawing_style():
        for drawn in _all(evidence, test_data or _prepared_data(evidence)):
            if isinstance(drawn, Absent):
                listed.append({"name": drawn.name, "title": drawn.title, "drawn": False, "reason": drawn.reason})
                continue
            files = save(drawn.figure, out, drawn.name)
            entry = {key: getattr(drawn, key) for key in ("name", "title", "caption", "alt", "source")}
            listed.append({**entry, "drawn": True, "files": files})
    write_json(out / "figures.json", listed)
    return listed


def _all(evidence: Evidence, test_data: TestData) -> Iterator[Drawing | Absent]:
    for draw in SINGLE:
        yield draw(evidence)
    yield from draw_recovered(evidence)
    yield from draw_segmentations(evidence, test_data)
    yield from draw_structuring_functions(evidence)


def _prepared_data(evidence: Evidence) -> TestData:
    def load(dataset: str) -> Split:
        from morphobench.preparation import images_of_test, labels_of_test, read_manifest

        house = find_house()
        paths = [folder.results / "data" / f"{dataset}.json" for folder in evidence.folders.values()]
        manifest = read_manifest(next(path for path in paths if path.is_file()))
        return Split(images_of_test(house, manifest), labels_of_test(house, manifest))

    return load
