"""Imports point one way (architecture): plugins -> library and harness -> nothing of the plugins; inside both, downwards."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

# From the top floor down: a package imports only what stands to the right of it.
HARNESS = (
    *("__main__", "report", "evaluation", "trials", "studies", "data", "runs", "backbones", "plugins", "training"),
    *("statistics", "settings", "contract", "project"),
)
LIBRARY_HALF = ("layers", "operators", "lasso", "energy", "separable", "arguments", "backend", "shapes")


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


def modules(folder):
    """Return the modules of a package: dotted name -> path."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(folder):
    """Return, for each module, the modules of the same package that it imports: deferred, for annotations or by name as well."""
    known = modules(folder)
    return {name: {_known(one, known) for one in _named(name, path)} - {name, None} for name, path in known.items()}


def _named(module, path):
    """Yield the dotted names that a module imports, those of objects included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package of the module, each further one the package around it.
            around = module.split(".")[: len(module.split(".")) - node.level + (path.stem == "__init__")]
            origin = ".".join([*(around if node.level else ()), *([node.module] if node.module else ())])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            yield from _literal(node.args[0])


def _literal(argument):
    """Yield the name that a call imports; of one that is put together, as much as is written down."""
    start = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
    if isinstance(start, ast.Constant) and isinstance(start.value, str):
        yield start.value.rstrip(".")


def _known(name, known):
    """Return the module that a dotted name is, or lies in; None for what is not of the package."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name if name in known else None


def upward(graph, package, order):
    """List the imports of a package that do not go down in an order of its parts."""
    place = {f"{package}.{name}": rank for rank, name in enumerate(order)}
    depth = package.count(".") + 2
    found = []
    for module, imports in graph.items():
        own = ".".join(module.split(".")[:depth])
        if not own.startswith(f"{package}."):
            continue
        for other in sorted(imports):
            its = ".".join(other.split(".")[:depth])
            if its.startswith(f"{package}.") and its != own and not place[its] > place[own]:
                found.append(f"{module} imports {other}")
    return found


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


@pytest.mark.parametrize("folder", ["library", "harness"])
def test_no_modules_import_each_other_in_a_circle(project, folder):
    try:
        TopologicalSorter(import_graph(getattr(project, folder))).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_packages_of_the_suite_import_those_below_them(project):
    graph = import_graph(project.harness)
    assert {name.split(".")[1] for name in graph if "." in name} == set(HARNESS)
    assert upward(graph, "morphobench", HARNESS) == []


@pytest.mark.parametrize("half", ["torch", "jax"])
def test_packages_of_the_library_import_those_below_them(project, half):
    graph, package = import_graph(project.library), f"varmorph.{half}"
    assert {name.split(".")[2] for name in graph if name.startswith(f"{package}.")} <= set(LIBRARY_HALF)
    assert upward(graph, package, LIBRARY_HALF) == []


def test_studies_do_not_import_each_other(project):
    graph = import_graph(project.harness)
    studies = {path.parent.name for path in (project.harness / "studies").glob("*/study.py")}
    for module, imports in graph.items():
        if module.startswith("morphobench.studies."):
            others = studies - set(module.split(".")[2:3])
            assert not {name for name in imports if set(name.split(".")[2:3]) & others}, module


def test_imports_are_found_wherever_they_are_written(tmp_path):
    """Every way of importing, or the tests above would hold of nothing."""
    package = tmp_path / "house"
    (package / "inner").mkdir(parents=True)
    for name in ("cellar", "inner/below", "inner/__init__", "one", "two", "three", "four", "five", "six"):
        (package / f"{name}.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "inner" / "door.py").write_text(
        "import house.one, importlib\n"
        "from house import two as second\n"
        "from house.three import thing\n"
        "from . import below\n"
        "from ..six import thing\n"
        "if TYPE_CHECKING:\n    from house.four import Thing\n"
        "def later(name):\n"
        "    importlib.import_module('house.five')\n"
        "    return importlib.import_module(f'house.cellar.{name}')\n"
    )
    found = import_graph(package)["house.inner.door"]
    assert found == {
        f"house.{name}" for name in ("one", "two", "three", "four", "five", "six", "cellar", "inner.below")
    }
    order = ("one", "inner", "two", "three", "four", "five", "six", "cellar")
    assert upward(import_graph(package), "house", order) == ["house.inner.door imports house.one"]


def test_plugins_do_not_import_each_other(project):
    for folder in (project.methods, project.datasets):
        for path in folder.rglob("*.py"):
            assert not packages(path) & {"methods", "datasets"}, path


@pytest.mark.parametrize(
    ("missing", "half"),
    [("jax", "jax"), ("equinox", "jax"), ("jaxtyping", "jax"), ("torch", "torch"), ("jaxtyping", "torch")],
)
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


def test_the_compiler_of_pytorch_is_imported_by_those_who_compile_alone():
    code = """
import sys, torch, varmorph.torch
x, bias = torch.rand(1, 1, 4, 4), torch.zeros(1, 3, 3)
def value(x):
    return varmorph.torch.regularised_dilation(varmorph.torch.dilation(x, bias), bias, 1.0, 1.0).value
with varmorph.torch.backend("tensor"):
    expected = value(x.requires_grad_())
    expected.sum().backward()
    assert "torch._dynamo" not in sys.modules  # which takes longer to import than the library
    assert torch.equal(torch.compile(value, backend="eager")(x), expected)
assert "torch._dynamo" in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
