import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)$")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(lines):
    matches = [PIN.match(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert all(matches), "every line is name==version"
    return {normal(match[1]): match[2] for match in matches}


@pytest.fixture(scope="module")
def pins(project):
    return read_pins((project.root / "constraints.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def requirements(project):
    """Name and lower bound of everything pyproject.toml asks for, but the optional peers, slurm and triton.

    PyTorch's CUDA build names the one version of triton that fits it; a pin of ours could only contradict it.
    """
    table = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]
    extras = table["optional-dependencies"]
    lines = [
        *table["dependencies"],
        *(line for name in ("torch", "jax", "suite", "onnx", "dev") for line in extras[name]),
    ]
    found = (
        re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)$", line) for line in lines if not line.startswith(("varmorph", "triton"))
    )
    return {normal(match[1]): match[2] for match in found}


def version(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def test_every_requirement_is_pinned_above_its_lower_bound(pins, requirements):
    assert requirements.keys() <= pins.keys()
    assert all(version(pins[name]) >= version(bound) for name, bound in requirements.items())


def test_conda_users_get_the_same_versions(project, pins):
    environment = yaml.safe_load((project.root / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert read_pins(pip) == pins


def test_torch_is_pinned_without_a_build_suffix(pins):
    assert pins["torch"] == "2.13.0"
    assert not any("+" in pin for pin in pins.values())


def test_medmnist_imports_although_torchvision_may_not(tmp_path):
    """The suite itself needs neither torchvision nor medmnist's own download."""
    done = subprocess.run(
        [sys.executable, "-c", "import medmnist; print(len(medmnist.INFO))"],
        env={"HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 12


def test_the_makefile_and_ci_call_what_the_readme_names(project):
    makefile = (project.root / "Makefile").read_text()
    readme = (project.root / "README.md").read_text()
    for target in ("reproduce", "test", "env", "smoke"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert f"make {target}" in readme
    assert "make check" in (project.root / ".ci" / "run").read_text()


def test_every_file_that_the_suite_reads_of_itself_is_installed_with_it(project):
    """pip install, without --editable, copies modules and the package data that are named, and no more."""
    declared = tomllib.loads((project.root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, folder in (("morphobench", project.harness), ("varmorph", project.library)):
        data = {path for pattern in declared.get(package, []) for path in folder.glob(pattern)}
        left = {
            path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".md", ".png") and "__pycache__" not in path.parts
        }
        assert left - data == set(), "name it in package-data of pyproject.toml"


# What the modules of each folder may import, deferred imports included: the extra that brings it. PyTorch brings Triton.
EXTRAS = {"torch": {"torch"}, "jax": {"jax"}, "kernels": {"torch", "jax"}}
BESIDES = {"torch/backend/cuda": {"triton"}, "pictures": {"torch", "matplotlib", "skimage", "PIL"}}


def test_the_library_imports_nothing_that_its_extras_do_not_ask_for(project):
    table = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]
    always = names_of(table["dependencies"])
    by_extra = {extra: names_of(table["optional-dependencies"][extra]) for extra in ("torch", "jax")}
    for path in project.library.rglob("*.py"):
        place = path.relative_to(project.library)
        extras = [by_extra[extra] for extra in EXTRAS.get(place.parts[0], ())]
        allowed = always | (set.intersection(*extras) if extras else set())
        allowed |= {name for folder, names in BESIDES.items() if place.is_relative_to(folder) for name in names}
        left = outside(path) - allowed - {"varmorph"}
        assert not left, f"{place} imports {', '.join(sorted(left))}: name it in an extra of pyproject.toml"


def names_of(requirements):
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in requirements}


def outside(path):
    """Packages that a module imports and that do not come with Python."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names
