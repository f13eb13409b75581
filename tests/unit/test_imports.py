"""Imports point one way (architecture): plugins -> library and harness -> nothing of the plugins."""

import ast
import re
import subprocess
import sys

import pytest


def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


def packages(path):
    return {name.split(".")[0] for name in imported(path)}


def test_the_library_knows_nothing_of_the_suite(project):
    for path in project.library.rglob("*.py"):
        assert not packages(path) & {"morphobench", "methods", "datasets", "snakemake"}, path


def test_only_the_studies_import_the_library(project):
    for path in project.harness.rglob("*.py"):
        if "studies" not in path.parts:
            assert "varmorph" not in packages(path), path


@pytest.mark.parametrize("folder", ["library", "harness", "methods", "datasets"])
def test_torch_and_jax_never_meet_in_one_module(project, folder):
    for path in getattr(project, folder).rglob("*.py"):
        assert not {"torch", "jax"} <= packages(path), path


def test_what_both_halves_of_the_library_share_imports_neither_of_them(project):
    shared = [path for path in project.library.rglob("*.py") if not {"torch", "jax", "pictures"} & set(path.parts)]
    assert any("kernels" in path.parts for path in shared)
    for path in shared:
        names = imported(path)
        assert not any(re.match(r"(varmorph\.)?(torch|jax)\b", name) for name in names), path


def test_the_halves_of_the_library_do_not_import_each_other(project):
    for path in (project.library / "torch").rglob("*.py"):
        assert not any(name == "jax" or name.startswith("varmorph.jax") for name in imported(path)), path
    for path in (project.library / "jax").rglob("*.py"):
        assert not any(name == "torch" or name.startswith("varmorph.torch") for name in imported(path)), path


def test_plugins_do_not_import_each_other(project):
    for folder in (project.methods, project.datasets):
        for path in folder.rglob("*.py"):
            assert not packages(path) & {"methods", "datasets"}, path


@pytest.mark.parametrize(("missing", "half"), [("jax", "jax"), ("equinox", "jax"), ("torch", "torch")])
def test_each_half_says_what_it_needs(missing, half):
    code = f"import sys; sys.modules['{missing}'] = None; import varmorph.{half}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = f"varmorph.{half} needs {missing}, which is not installed: pip install 'varmorph[{half}]'"
    assert f"ImportError: {expected}" in result.stderr


@pytest.mark.parametrize(("missing", "half"), [("torch", "jax"), ("jax", "torch")])
def test_each_half_works_without_the_other(missing, half):
    array = {"jax": "jax.numpy.zeros((1, 1, 3, 3))", "torch": "torch.zeros(1, 1, 3, 3)"}[half]
    code = f"""
import sys
sys.modules["{missing}"] = None
import {half}, varmorph.{half}
assert varmorph.{half}.dilation({array}, {array}[0]).shape == (1, 1, 3, 3)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
