"""What a trial's worker runs is part of the hash of its code, or is here with the reason why it need not be."""

import json
import subprocess
from pathlib import Path

import pytest

from morphobench.contract import FRAMEWORKS
from morphobench.data.splits import recipe
from morphobench.plugins.code_hash import code_hash, dataset_sources, method_sources, plugin_files
from morphobench.plugins.discovery import discover_datasets, discover_methods
from morphobench.project.paths import Project
from morphobench.training.frameworks import why_unavailable

# Modules of the harness that a worker imports and whose change leaves its arrays as they are.
CHANGE_NO_ARRAY = {
    "__init__.py": "a docstring",
    "project": "paths, whole files, where a result comes from",
    "runs/__init__.py": "a docstring",
    "runs/failures.py": "words of a record",
    "runs/processes.py": "starts and watches; what a worker finds when it starts is runs/environment.py",
    "settings": "what is read of a description (params, tuning, budget) is part of the key",
    "trials/__init__.py": "a docstring",
    "trials/job.py": "hands on what the key is made of",
    "trials/store.py": "keeps what was computed",
    "trials/trial.py": "the key itself",
}

CONFIG = "run: try\ndatasets: [toy]\nseeds: [0]\nbudget: {epochs: 1, memory_mb: 12000}\nstatistics: {baseline: toy}\n"

WITNESS = """\
import atexit, json, sys
from pathlib import Path

@atexit.register
def _():
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("morphobench", "varmorph")]
    files = [module.__file__ for module in [*ours, sys.modules["__main__"]] if module.__file__]
    Path(__file__).with_name("seen.json").write_text(json.dumps(files))

"""

LAYER = """\
from varmorph.{framework} import VariationalDilation2d

def operator(channels, kernel_size, params):
    return VariationalDilation2d(channels, kernel_size)
"""


def add_method(scratch, framework):
    """Add a method on the default training, and so on the backbone, where the framework has them."""
    folder = scratch.add_method("toy")
    if framework != "numpy":
        described = folder / "method.yaml"
        described.write_text(described.read_text().replace("framework: numpy", f"framework: {framework}"))
        (folder / "method.py").write_text(LAYER.format(framework=framework))
    code = folder / "method.py"
    code.write_text(WITNESS + code.read_text())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_whatever_a_worker_imports_is_hashed_or_changes_no_array(project, scratch, framework):
    if why_unavailable(framework):
        pytest.skip(why_unavailable(framework))
    (scratch.root / "varmorph").rmdir()
    (scratch.root / "varmorph").symlink_to(project.library)
    scratch.add_dataset("toy")
    folder = add_method(scratch, framework)
    scratch.write_config(CONFIG)
    scratch.morphobench("prepare", "--dataset", "toy", "--output", "results/try/data/toy.json")
    cell = ("--config", "config.yaml", "--dataset", "toy", "--method", "toy", "--variant", "default", "--seeds", "0")
    # Kernels that nobody has used before are compiled first, which takes minutes on a busy machine.
    command, options = scratch.command("run-trials", *cell), {"cwd": scratch.root, "env": scratch.environment}
    done = subprocess.run(command, **options, capture_output=True, text=True, timeout=600, check=False)
    place = Project(scratch.root)
    record = json.loads((place.run("try").trial("toy", "toy", "default", 0) / "record.json").read_text())
    assert record["status"] == "ok", done.stdout + done.stderr
    seen = {Path(file) for file in json.loads((folder / "seen.json").read_text())}
    assert place.harness / "trials/worker.py" in seen
    assert framework == "numpy" or place.library / framework / "__init__.py" in seen
    harmless = {place.harness / name for name in CHANGE_NO_ARRAY}
    unhashed = seen - set(method_sources(place, discover_methods(place.methods)["toy"]))
    assert {path for path in unhashed if not harmless & {path, path.parent}} == set()


def test_every_file_of_a_plugin_is_part_of_it_but_words_and_what_tools_leave(tmp_path):
    plugin, elsewhere = tmp_path / "plugin", tmp_path / "elsewhere"
    for name in ("tables/one.csv", "weights.bin", "method.py", "method.yaml", "README.md", "published.csv"):
        (plugin / name).parent.mkdir(parents=True, exist_ok=True)
        (plugin / name).write_text("")
    for name in ("__pycache__/method.pyc", ".git/HEAD", ".method.py.swp", "method.py~"):
        (plugin / name).parent.mkdir(exist_ok=True)
        (plugin / name).write_text("")
    elsewhere.mkdir()
    (elsewhere / "far.csv").write_text("")
    (plugin / "linked").symlink_to(elsewhere)
    (plugin / "round").symlink_to(plugin)
    (plugin / "nothing").symlink_to(tmp_path / "nowhere")
    found = {path.relative_to(plugin).as_posix() for path in plugin_files(plugin)}
    assert found == {"tables/one.csv", "weights.bin", "method.py", "method.yaml", "linked/far.csv"}


def parts_of(project, sources):
    return {path.relative_to(project.library).parts[0] for path in sources if path.is_relative_to(project.library)}


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("from varmorph import reference", "reference"),
        ("import varmorph.pictures.draw", "pictures"),
        ("from varmorph.convert import anything", "convert.py"),
        ("from varmorph.torch import Dilation2d", "torch"),
    ],
)
def test_what_a_plugin_imports_of_the_library_is_part_of_its_code(project, scratch, line, part):
    """Its framework is NumPy."""
    (scratch.root / "varmorph").rmdir()
    (scratch.root / "varmorph").symlink_to(project.library)
    folder, place = scratch.add_method("coin"), Project(scratch.root)
    (folder / "other.py").write_text("from varmorph.formulas import anything")
    assert part not in parts_of(place, method_sources(place, discover_methods(place.methods)["coin"]))
    (folder / "other.py").write_text(line)
    assert part in parts_of(place, method_sources(place, discover_methods(place.methods)["coin"]))


def test_what_a_plugin_imports_of_the_harness_is_part_of_its_code(scratch):
    folder, place = scratch.add_method("coin"), Project(scratch.root)
    metrics, learner = place.harness / "evaluation/metrics.py", place.harness / "training/torch/learner.py"
    assert not {metrics, learner} & set(method_sources(place, discover_methods(place.methods)["coin"]))
    (folder / "other.py").write_text(
        "from morphobench.evaluation import metrics\nimport morphobench.training.torch.learner\n"
    )
    assert {metrics, learner} <= set(method_sources(place, discover_methods(place.methods)["coin"]))


def test_a_file_that_is_no_python_is_hashed_all_the_same(scratch):
    folder, place = scratch.add_method("coin"), Project(scratch.root)
    (folder / "odd.py").write_bytes(b"\xff\x00")
    before = code_hash(place, discover_methods(place.methods)["coin"])
    (folder / "odd.py").write_bytes(b"\xfe\x00")
    assert code_hash(place, discover_methods(place.methods)["coin"]) != before


def test_a_data_set_that_calls_the_library_depends_on_what_it_calls(project):
    datasets = discover_datasets(project.datasets)
    assert "reference" in parts_of(project, dataset_sources(project, datasets["operator-recovery"]))
    assert not parts_of(project, dataset_sources(project, datasets["digits"]))


@pytest.mark.parametrize("name", ["dataset.py", "dataset.yaml", "table.csv"])
def test_the_recipe_of_generated_data_follows_every_file_of_the_plugin(scratch, name):
    path = scratch.add_dataset("toy") / name
    before = recipe(path.parent)
    with path.open("a") as file:
        file.write("# edited")
    assert recipe(path.parent) != before
