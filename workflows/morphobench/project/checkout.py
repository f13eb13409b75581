"""A checkout is worked in with its own code, also where the package is installed as a copy."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from morphobench.project.errors import UserError
from morphobench.project.paths import Project

__all__ = ["lead_jobs_to", "run_code_of"]


def lead_jobs_to(folders: list[str]) -> None:
    """Let every process that this one starts look for code in these folders first."""
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *(path for path in given if path not in folders)])


def run_code_of(project: Project) -> None:
    """Start the command line again with the code of the checkout if another copy of it runs.

    The files of the checkout are what results are keyed by: another copy, as an install that is not editable leaves behind, would
    give them a key that is not theirs.

    Raises
    ------
    UserError
        If Python does not look where it is told to.
    """
    running = Path(__file__).resolve().parents[1]
    if running == project.harness.resolve():
        return
    paths = [str(project.workflows), str(project.root)]
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if given[: len(paths)] == paths:
        raise UserError(f"{running}: this is not the code of {project.root}; run pip install --editable . there")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, *given])}
    os.execve(sys.executable, [sys.executable, "-m", "morphobench", *sys.argv[1:]], environment)
