import subprocess
import sys

import numpy as np
import pytest

from morphobench.contract import Split
from morphobench.plugins.code_hash import code_hash, dataset_sources, method_sources
from morphobench.plugins.discovery import BrokenPlugin, MethodInfo, discover_datasets, discover_methods
from morphobench.project.paths import Project


def test_discovery_reads_yaml_and_runs_no_code(scratch):
    scratch.add_method("coin", code="raise SystemExit\ndef build(t, p): ...\ndef fit(*a): ...\ndef predict(*a): ...\n")
    assert isinstance(discover_methods(scratch.root / "methods")["coin"], MethodInfo)


@pytest.mark.parametrize("name", ["_draft", ".hidden"])
def test_folders_that_begin_with_underscore_or_dot_are_skipped(scratch, name):
    scratch.add_method(name)
    assert discover_methods(scratch.root / "methods") == {}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def build(task, params)\n    pass\n", "line 1: syntax error"),
        ("x = 1\n", "neither of operator(...) and build(...)"),
        ("def build(t, p): ...\ndef operator(c, k, p): ...\n", "both of operator(...) and build(...)"),
        ("def build(t, p): ...\n", "expected functions fit and predict"),
    ],
)
def test_a_plugin_that_breaks_its_contract_says_why(scratch, code, why):
    scratch.add_method("coin", code=code)
    found = discover_methods(scratch.root / "methods")["coin"]
    assert isinstance(found, BrokenPlugin)
    assert found.why.startswith("methods/coin/method.py")
    assert why in found.why


@pytest.mark.parametrize(
    ("line", "replacement", "why"),
    [
        ("family: control", "family: magic", "key 'family': found 'magic', expected one of variational, morphology"),
        ("name: coin", "name: dime", "key 'name': found 'dime', expected the folder's name 'coin'"),
        ("title: Toy coin", "titel: Toy coin", "unknown key 'titel'; expected one of"),
        ("title: Toy coin", "title: [", "not valid YAML"),
        ("title: Toy coin", "title: a\ntitle: b", "line 3, column 1: not valid YAML: found key 'title' twice"),
        ("title: Toy coin\n", "", "key 'title' is missing"),
    ],
)
def test_a_wrong_yaml_names_key_found_and_expected(scratch, line, replacement, why):
    folder = scratch.add_method("coin")
    path = folder / "method.yaml"
    path.write_text(path.read_text().replace(line, replacement))
    found = discover_methods(scratch.root / "methods")["coin"]
    assert isinstance(found, BrokenPlugin)
    assert "methods/coin/method.yaml" in found.why
    assert why in found.why


def test_a_data_set_with_a_key_twice_is_broken(scratch):
    with (scratch.add_dataset("toy") / "dataset.yaml").open("a") as description:
        description.write("task: ordinal\n")
    why = discover_datasets(scratch.root / "datasets")["toy"].why
    assert why.startswith("datasets/toy/dataset.yaml, line 7, column 1: not valid YAML: found key 'task' twice")


def test_a_data_set_without_load_is_broken(scratch):
    scratch.add_dataset("toy", code="def prepare(variant, cache): ...\n")
    assert "function load not found" in discover_datasets(scratch.root / "datasets")["toy"].why


def test_a_graph_of_images_needs_the_way_back(scratch):
    folder = scratch.add_dataset("toy")
    with (folder / "dataset.yaml").open("a") as description:
        description.write("variants: {parts: {images: pictures.small}}\n")
    why = discover_datasets(scratch.root / "datasets")["toy"].why
    assert why == "datasets/toy/dataset.py: function on_images not found; expected, since variant parts names images"


def test_the_code_hash_follows_the_plugin_but_not_its_readme(scratch):
    folder = scratch.add_method("coin")
    place = Project(scratch.root)
    info = discover_methods(place.methods)["coin"]
    before = code_hash(place, info)
    (folder / "README.md").write_text("words")
    assert code_hash(place, info) == before
    (folder / "method.py").write_text((folder / "method.py").read_text() + "\n# changed\n")
    assert code_hash(place, info) != before


def test_only_methods_that_import_the_library_depend_on_it(project):
    methods = discover_methods(project.methods)
    depends = {
        name: any("varmorph" in path.parts for path in method_sources(project, info)) for name, info in methods.items()
    }
    assert depends["backbone-variational"]
    assert not depends["small-cnn"]


def test_listing_the_plugins_imports_neither_framework(project):
    code = (
        "import sys\nfrom morphobench.__main__ import main\nmain(['list'])\n"
        "heavy = {'torch', 'jax', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "backbone-variational" in done.stdout


def test_bytes_become_floats_between_0_and_1():
    split = Split(np.array([[[[0, 255]]]], dtype=np.uint8), np.zeros(1)).as_float()
    assert split.images.dtype == np.float32
    assert split.images.max() == 1.0


def test_a_data_set_depends_on_those_it_is_made_from(project):
    datasets = discover_datasets(project.datasets)
    sources = dataset_sources(project, datasets["superpixels"])
    assert set(dataset_sources(project, datasets["vessels"])) < set(sources)
    assert project.datasets / "degraded-digits" / "dataset.py" in sources
