"""Where things lie: the folders of a checkout and of one run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Project", "RunFolder", "cache_folder", "data_folders", "dataset_cache", "find_project"]


@dataclass(frozen=True)
class Project:
    """A checkout of the project.

    Parameters
    ----------
    root : Path
        The folder that holds the Snakefile, ``methods/`` and ``datasets/``.
    """

    root: Path

    @property
    def methods(self) -> Path:
        """Folder of the method plugins."""
        return self.root / "methods"

    @property
    def datasets(self) -> Path:
        """Folder of the dataset plugins."""
        return self.root / "datasets"

    @property
    def workflows(self) -> Path:
        """Folder of the rules, configs, schemas and the harness."""
        return self.root / "workflows"

    @property
    def schemas(self) -> Path:
        """Folder of the JSON Schemas."""
        return self.workflows / "schemas"

    @property
    def harness(self) -> Path:
        """Folder of the package ``morphobench``."""
        return self.workflows / "morphobench"

    @property
    def library(self) -> Path:
        """Folder of the package ``varmorph``."""
        return self.root / "varmorph"

    @property
    def reference(self) -> Path:
        """Folder of the committed expected numbers."""
        return self.root / "results" / "reference"

    def run(self, name: str) -> RunFolder:
        """Return the folders of the run called ``name``."""
        return RunFolder(self.root / "results" / name, self.root / "reports" / name)


@dataclass(frozen=True)
class RunFolder:
    """Folders of one run: what was measured and what is read."""

    results: Path
    report: Path

    @property
    def tables(self) -> Path:
        """Tidy tables (CSV and Parquet)."""
        return self.results / "tables"

    @property
    def statistics(self) -> Path:
        """Means, differences, rankings and comparisons."""
        return self.results / "statistics"

    @property
    def studies(self) -> Path:
        """Gradient and solver studies, operator benchmarks."""
        return self.results / "studies"

    @property
    def trials(self) -> Path:
        """Records and predictions of every trial."""
        return self.results / "trials"

    def trial(self, dataset: str, method: str, variant: str, seed: int) -> Path:
        """Folder of one trial."""
        return self.trials / dataset / method / variant / f"seed-{seed}"


def find_project(start: Path | None = None) -> Project:
    """Return the checkout around ``start`` (default: the working directory), else the one this package lies in.

    Raises
    ------
    FileNotFoundError
        If neither place holds a Snakefile beside ``methods/`` and ``datasets/``.
    """
    start = (start or Path.cwd()).resolve()
    places = [start, *start.parents, Path(__file__).resolve().parents[3]]
    for place in places:
        if (place / "Snakefile").is_file() and (place / "methods").is_dir() and (place / "datasets").is_dir():
            return Project(place)
    raise FileNotFoundError(
        f"{start}: no checkout found here or above; expected a folder with Snakefile, methods/ and datasets/"
    )


def cache_folder(project: Project) -> Path:
    """Folder for prepared data: ``$MORPHOBENCH_CACHE``, else ``.cache/morphobench`` in the checkout."""
    given = os.environ.get("MORPHOBENCH_CACHE")
    return Path(given).expanduser().resolve() if given else project.root / ".cache" / "morphobench"


def dataset_cache(project: Project, name: str, variant: str) -> Path:
    """Return the folder that the plugin of a data set may keep files of a variant in; make it if it is not there."""
    folder = cache_folder(project) / name / variant
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_folders() -> list[Path]:
    """Folders of ``$MORPHOBENCH_DATA`` (a path list), searched as ``<folder>/<name>/<file>`` before a download."""
    given = os.environ.get("MORPHOBENCH_DATA", "")
    return [Path(part).expanduser() for part in given.split(os.pathsep) if part]
