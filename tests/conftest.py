"""Scratch checkouts with toy plugins, so that the harness and the workflow are tested on seconds of work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Tests that run side by side share the cores; a thread pool in each of them would make every one slower.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]

TOY_DATASET_YAML = """\
name: {name}
title: Toy {name}
task: classification
licence: CC0
citation: made up for the tests
classes: [low, high]
"""

TOY_DATASET = """\
import numpy as np

from morphobench.contract import Split


def prepare(variant, cache):
    pass


def load(variant, cache, split):
    rng = np.random.default_rng(("train", "valid", "test").index(split))
    labels = np.arange(20) % 2
    images = (rng.random((20, 1, 4, 4)) * 100 + labels[:, None, None, None] * 100).astype(np.uint8)
    return Split(images, labels.astype(np.int64))
"""

TOY_METHOD_YAML = """\
name: {name}
title: Toy {name}
family: control
framework: {framework}
tasks: [classification]
"""

TOY_METHOD = """\
import time
import types

import numpy as np


def build(task, params):
    return types.SimpleNamespace(task=task)


def fit(model, train, valid, run):
    time.sleep({sleep})
    model.seed = run.seed


def predict(model, images):
    rng = np.random.default_rng(model.seed)
    return {scores}


def describe(model):
    return {{}}
"""

RANDOM_SCORES = "rng.standard_normal(model.task.score_shape(images))"


class ScratchProject:
    """A checkout in a temporary folder: the project's workflow and harness, toy plugins of the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Snakefile", "environment.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        for name in ("profiles", "workflows"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("methods", "datasets", "varmorph", "results/reference", "tests/benchmarks"):
            (root / name).mkdir(parents=True)

    def add_method(
        self,
        name: str,
        *,
        sleep: float = 0.0,
        scores: str = RANDOM_SCORES,
        code: str | None = None,
        framework: str = "numpy",
    ) -> Path:
        folder = self.root / "methods" / name
        folder.mkdir(exist_ok=True)
        (folder / "method.yaml").write_text(TOY_METHOD_YAML.format(name=name, framework=framework))
        (folder / "method.py").write_text(code or TOY_METHOD.format(sleep=sleep, scores=scores))
        return folder

    def add_dataset(self, name: str, *, code: str = TOY_DATASET) -> Path:
        folder = self.root / "datasets" / name
        folder.mkdir(exist_ok=True)
        (folder / "dataset.yaml").write_text(TOY_DATASET_YAML.format(name=name))
        (folder / "dataset.py").write_text(code)
        return folder

    def write_config(self, text: str) -> Path:
        path = self.root / "config.yaml"
        path.write_text(text)
        return path

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(self.root / "workflows"), str(self.root)]
        given = {name: value for name, value in os.environ.items() if not name.startswith("MORPHOBENCH_")}
        return given | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "default"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "morphobench", *arguments]

    def morphobench(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    def snakemake_command(self, *arguments: str) -> list[str]:
        # Runs of seconds: the scheduler looks at the jobs more often than the profile asks, which would be waited for at the end.
        often = ["--max-jobs-per-timespan", "100/1s"]
        return [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", "config.yaml", *often]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.snakemake_command(*arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )


@pytest.fixture(scope="session")
def new_scratch():
    """Make an empty scratch checkout in a folder."""
    return ScratchProject


@pytest.fixture
def scratch(tmp_path, new_scratch):
    """Return an empty scratch checkout."""
    root = tmp_path / "scratch"
    root.mkdir()
    return new_scratch(root)


@pytest.fixture(scope="session")
def project():
    """Return the checkout that is being tested."""
    from morphobench.project.paths import Project

    return Project(ROOT)
