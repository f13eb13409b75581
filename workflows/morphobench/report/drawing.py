"""The figures of a run: drawn from its tables, each as SVG, PDF and PNG, and listed in ``figures.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from morphobench.project.files import write_json
from morphobench.project.paths import RunFolder
from morphobench.report.results import RunResults, read_run_results
from morphobench.report.sections import sections
from morphobench.report.style import Absent, Drawing, drawing_style, save

__all__ = ["draw_figures"]

Drawer = Callable[[RunResults], Drawing | Absent | Iterable[Drawing | Absent]]


def draw_figures(run: RunFolder, out: Path, *, processes: int = 1) -> list[dict[str, Any]]:
    """Draw every figure for which there are data.

    Parameters
    ----------
    run : RunFolder
        The run; those of its ``report.include`` are read too.
    out : Path
        Folder for ``<name>.svg``, ``.pdf``, ``.png`` and ``figures.json``.
    processes : int
        How many processes share the figures.

    Returns
    -------
    list of dict
        The content of ``figures.json``: section, name, title, caption, alt, source (a CSV below the results folder) and
        files, or section, name, title and the reason why the figure was not drawn.
    """
    places = range(len(_drawers()))
    drawn: dict[int, list[dict[str, Any]]] = {}
    if processes > 1:
        shares = [(run, out, places[first::processes]) for first in range(processes)]
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for share in pool.map(_draw_share, *zip(*shares, strict=True)):
                drawn |= share
    else:
        drawn = _draw_share(run, out, places)
    listed = [entry for place in places for entry in drawn[place]]
    write_json(out / "figures.json", listed)
    return listed


def _drawers() -> list[tuple[str, Drawer]]:
    """What draws the figures, with the section they belong to, in the order of the page."""
    found: list[tuple[str, Drawer]] = []
    for section in sections():
        figures = section.module("figures")
        found += [(section.name, draw) for draw in figures.FIGURES] if figures else []
    return found


def _draw_share(run: RunFolder, out: Path, places: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Draw what the drawers at some places give; return what is to be listed, by place."""
    results, drawers, listed = read_run_results(run), _drawers(), dict[int, list[dict[str, Any]]]()
    with drawing_style():
        for place in places:
            section, draw = drawers[place]
            drawn = draw(results)
            figures = [drawn] if isinstance(drawn, Drawing | Absent) else drawn
            listed[place] = [{"section": section, **_saved(figure, out)} for figure in figures]
    return listed


def _saved(drawn: Drawing | Absent, out: Path) -> dict[str, Any]:
    if isinstance(drawn, Absent):
        return {"name": drawn.name, "title": drawn.title, "drawn": False, "reason": drawn.reason}
    files = save(drawn.figure, out, drawn.name)
    entry = {key: getattr(drawn, key) for key in ("name", "title", "caption", "alt", "source")}
    return {**entry, "drawn": True, "files": files}
