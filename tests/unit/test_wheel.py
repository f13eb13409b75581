"""The wheel as others install it: alone, with what one extra of it asks for and nothing else of this environment."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution, distribution
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

# Imports every module and runs its examples: those of the conversion with both frameworks, all others with one. They run in
# tensor code and XLA, since kernels would be compiled again for each copy of their sources.
EVERY_MODULE = """
import contextlib, doctest, importlib, json, pkgutil, sys
folder, *halves = sys.argv[1:]
sys.path.insert(0, folder)
import varmorph
assert varmorph.__file__.startswith(folder)
modules, missing = [varmorph], {}
for found in pkgutil.walk_packages(varmorph.__path__, "varmorph.", onerror=id):
    try:
        modules.append(importlib.import_module(found.name))
    except ImportError as error:
        missing[found.name] = str(error)
with contextlib.ExitStack() as stack:
    for half in halves:
        backend = importlib.import_module("varmorph." + half).backend
        stack.enter_context(backend({"torch": "tensor", "jax": "xla"}[half]))
    both = len(halves) == 2
    results = [doctest.testmod(module) for module in modules if (module.__name__ == "varmorph.convert") == both]
print(json.dumps({
    "missing": missing,
    "suite": [name for name in sys.modules if name.startswith("morphobench")],
    "examples": sum(result.attempted for result in results),
    "failed": sum(result.failed for result in results),
}))
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory):
    """Build the wheel of a copy, which leaves nothing in the checkout."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project.root / name, sources)
    ignored = shutil.ignore_patterns("__pycache__", "config", "schemas")
    for name in ("varmorph", "workflows/morphobench"):
        shutil.copytree(project.root / name, sources / name, ignore=ignored)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(built), str(sources))
    (found,) = built.glob("*.whl")
    return found


def asked_for(wheel, extras):
    """Distributions that a wheel and its extras ask for, and what these ask for in turn."""
    found, waiting = {}, [(wheel, {"", *extras})]
    while waiting:
        asking, extras = waiting.pop()
        for requirement in map(Requirement, asking.requires or ()):
            applies = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras)
            key = requirement.name, *sorted(requirement.extras)
            if applies and key not in found:
                found[key] = distribution(requirement.name)
                waiting.append((found[key], {"", *requirement.extras}))
    return found.values()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Make a folder with the wheel's files and, by links, the distributions that one of its extras asks for."""

    def install(*extras):
        folder = tmp_path_factory.mktemp("-".join(("with", *extras)))
        ZipFile(wheel).extractall(folder)
        (metadata,) = folder.glob("varmorph-*.dist-info")
        for one in asked_for(PathDistribution(metadata), extras):
            for name in {path.parts[0] for path in one.files or ()} - {"..", "__pycache__"}:
                if not (folder / name).exists():
                    (folder / name).symlink_to(one.locate_file(name))
        return folder

    return install


@pytest.fixture
def findings(installed):
    """Import all modules and run all examples where an extra is installed."""

    def of(*extras):
        # Python sees neither this environment (-S) nor PYTHONPATH (-I).
        quick = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        out = run(sys.executable, "-I", "-S", "-c", EVERY_MODULE, str(installed(*extras)), *extras, env=quick)
        found = json.loads(out.splitlines()[-1])
        assert found["failed"] == 0, out
        assert found["suite"] == []
        return found["examples"], found["missing"]

    return of


def needs(half):
    return f"varmorph.{half} needs {half}, which is not installed: pip install 'varmorph[{half}]'"


def by_half(missing):
    """Leave out the kernels of GPUs, for which PyTorch brings Triton where there can be one."""
    gpu = "varmorph.torch.backend.cuda."
    assert {text for name, text in missing.items() if name.startswith(gpu)} <= {"No module named 'triton'"}
    return {name: text for name, text in missing.items() if not name.startswith(gpu)}


def test_the_wheel_holds_the_library_with_its_types_and_the_suite(wheel):
    names = ZipFile(wheel).namelist()
    assert "varmorph/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"varmorph", "morphobench"}


@pytest.mark.parametrize(("half", "other"), [("torch", "jax"), pytest.param("jax", "torch", marks=pytest.mark.slow)])
def test_each_half_works_alone(findings, half, other):
    examples, missing = findings(half)
    assert examples > 100
    missing = by_half(missing)
    if half == "jax":  # the pictures are drawn with PyTorch
        assert missing.pop("varmorph.pictures.draw") == "No module named 'torch'"
    assert missing == {f"varmorph.{other}": needs(other)}


def test_both_halves_work_without_the_suite(findings):
    examples, missing = findings("torch", "jax")
    assert examples > 3
    assert by_half(missing) == {}


def test_the_reference_works_without_a_framework(findings):
    examples, missing = findings()
    assert examples > 20
    found = {name: text for name, text in missing.items() if not name.startswith("varmorph.kernels.")}
    assert found.pop("varmorph.pictures.draw") == "No module named 'torch'"
    assert found == {f"varmorph.{half}": needs(half) for half in ("torch", "jax")}
