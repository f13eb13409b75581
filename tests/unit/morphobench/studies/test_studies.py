"""What holds of every study."""

import subprocess
import sys

import pytest

from morphobench.project.errors import UserError
from morphobench.studies.cells import study_module, study_names


def test_a_study_is_a_package_with_a_module_of_that_name():
    assert {"gradients", "solvers", "recovery", "nonsmooth"} <= set(study_names())
    for name in study_names():
        assert study_module(name).__name__ == f"morphobench.studies.{name}.study"
    with pytest.raises(UserError, match="found 'benchmarks', expected gradients or "):
        study_module("benchmarks")


@pytest.mark.parametrize("name", study_names())
def test_cells_are_listed_and_their_failures_told_without_starting_a_framework(name):
    code = f"""
import sys
from morphobench.plugins.discovery import discover_plugins
from morphobench.project.paths import find_project
from morphobench.settings.studies import Studies
from morphobench.studies.cells import study_module
study, settings = study_module({name!r}), Studies(**{{{name!r}: {{}}}}).model_dump()[{name!r}]
plugins = discover_plugins(find_project())
for framework in settings["frameworks"]:
    study.plugin_folders(settings, framework, plugins)
    cells = study.cells(settings, framework, plugins)
    assert cells and all(study.failed_rows(cell) for cell in cells)
assert not {{"torch", "jax"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
