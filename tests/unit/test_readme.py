"""What the README shows is what the tests execute."""

import re

import numpy as np
import pytest

from morphobench.contract import Task
from morphobench.plugins.discovery import MethodInfo, discover_methods
from morphobench.plugins.loading import load_method

BLOCK = r"`methods/my-average/{}`\n\n```\w+\n(.*?)```"


@pytest.fixture
def example(project, scratch):
    readme = (project.root / "README.md").read_text()
    folder = scratch.root / "methods" / "my-average"
    folder.mkdir()
    for name in ("method.yaml", "method.py", "README.md"):
        (folder / name).write_text(re.search(BLOCK.format(re.escape(name)), readme, re.DOTALL)[1])
    return discover_methods(scratch.root / "methods")["my-average"]


def test_the_example_method_is_complete_and_about_ten_lines(example):
    assert isinstance(example, MethodInfo)
    lines = [line for name in ("method.yaml", "method.py") for line in (example.folder / name).read_text().splitlines()]
    assert example.summary, "the contract asks for it"
    assert sum(bool(line.strip()) for line in lines) <= 12


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_the_example_method_builds_and_predicts(example, kind):
    task = Task(kind, (1, 16, 16), 3)
    method = load_method(example)
    images = np.random.default_rng(0).random((4, 1, 16, 16), dtype=np.float32)
    scores = method.predict(method.build(task), images)
    assert scores.shape == task.score_shape(images)
    assert np.isfinite(scores).all()


def test_every_file_and_command_the_readme_names_exists(project):
    from morphobench.__main__ import _parser

    readme = (project.root / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (project.root / path).exists(), path
    known = _parser().format_help()
    for command in re.findall(r"python -m morphobench ([a-z-]+)", readme):
        assert command in known
