"""One framework a process; what is not installed is said and stops nothing else."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from morphobench.contract import FRAMEWORKS, InvalidPlugin, Task
from morphobench.plugins.code_hash import code_hash, method_sources
from morphobench.plugins.discovery import BrokenPlugin, discover_methods
from morphobench.project.paths import Project
from morphobench.runs.environment import THREADS
from morphobench.settings.records import Record
from morphobench.training.framework import Framework
from morphobench.training.frameworks import NEEDS, framework_of, why_unavailable

CONFIG = "run: try\ndatasets: [toy]\nseeds: [0]\nstatistics: {baseline: coin}\n"
OPERATOR_YAML = "name: {name}\ntitle: {name}\nfamily: cnn\nframework: {framework}\ntasks: [classification]\n"


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**environment} or None
    )


def operator_method(scratch, name, framework, extra=""):
    folder = scratch.root / "methods" / name
    folder.mkdir()
    (folder / "method.yaml").write_text(OPERATOR_YAML.format(name=name, framework=framework) + extra)
    (folder / "method.py").write_text(f"import {framework}\n\n\ndef operator(channels, kernel_size, params): ...\n")
    return folder


def test_every_framework_is_known_by_its_modules_and_needs():
    assert set(FRAMEWORKS) == set(NEEDS)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_framework_answers_to_the_interface(name):
    if why_unavailable(name):
        pytest.skip(why_unavailable(name))
    assert isinstance(framework_of(name), Framework)


@pytest.mark.parametrize(("name", "module"), [("torch", "torch.nn.Module"), ("jax", "equinox.Module")])
def test_a_model_that_is_no_module_is_refused_before_it_is_trained(name, module):
    if why_unavailable(name):
        pytest.skip(why_unavailable(name))
    plugin = SimpleNamespace(build=lambda task, params: {"weights": 1})
    with pytest.raises(InvalidPlugin, match=rf"build\(task, params\) returned dict, expected an? {module}"):
        framework_of(name).build(plugin, Task("classification", (1, 4, 4), 2), {})


@pytest.mark.parametrize(("name", "other"), [("jax", "torch"), ("torch", "jax")])
def test_a_process_imports_one_framework(project, name, other):
    code = f"""
import sys
from pathlib import Path
from types import SimpleNamespace
from morphobench.contract import Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
sys.modules[{other!r}] = None
for info in discover_methods(Path({str(project.methods)!r})).values():
    if info.framework == {name!r}:
        method = load_method(info, next(iter(info.variants)))
        method.framework.seed(0)
        method.build(Task(info.tasks[0], (1, 16, 16), 2))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("framework", "missing", "source"),
    [
        ("jax", "jax", "'varmorph[jax]'"),
        ("jax", "equinox", "'varmorph[jax]'"),
        ("jax", "optax", "optax"),
        ("torch", "torch", "'varmorph[torch]'"),
    ],
)
def test_a_framework_that_is_not_installed_is_a_row_and_the_rest_works(scratch, framework, missing, source):
    scratch.add_dataset("toy")
    scratch.add_method("coin")
    operator_method(scratch, "odd", framework)
    scratch.write_config(CONFIG)
    # Python imports this module when it starts, in every process of the run.
    (scratch.root / "workflows" / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    done = scratch.morphobench("prepare", "--dataset", "toy", "--output", "results/try/data/toy.json")
    assert done.returncode == 0, done.stderr
    records = {}
    for method in ("odd", "coin"):
        arguments = ["--config", "config.yaml", "--dataset", "toy", "--method", method, "--variant", "default"]
        done = scratch.morphobench("run-trials", *arguments, "--seeds", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        folder = Project(scratch.root).run("try").trial("toy", method, "default", 0)
        records[method] = Record.read(folder / "record.json")
    assert records["odd"].status == "unavailable"
    assert records["odd"].message == f"not available: {missing} is not installed: pip install {source}"
    assert records["coin"].status == "ok"


def test_the_code_hash_covers_the_framework_of_the_method_and_no_other(scratch):
    scratch.add_method("coin")
    for name in ("torch", "jax"):
        operator_method(scratch, f"odd-{name}", name)
    place, edited = Project(scratch.root), {"torch": "training/torch/learner.py", "jax": "training/jax/learner.py"}
    methods = discover_methods(place.methods)
    before = {name: code_hash(place, info) for name, info in methods.items()}
    for framework, file in edited.items():
        path = place.harness / file
        text = path.read_text()
        path.write_text(text + "\n# edited\n")
        changed = {name for name, info in methods.items() if code_hash(place, info) != before[name]}
        assert changed == {f"odd-{framework}"}
        path.write_text(text)


def test_the_code_hash_covers_the_half_of_the_library_that_computes(project):
    methods = discover_methods(project.methods)

    def parts(name):
        inside = (path for path in method_sources(project, methods[name]) if path.is_relative_to(project.library))
        return {path.relative_to(project.library).parts[0] for path in inside}

    theirs, ours = parts("backbone-variational"), parts("variational-jax")
    assert theirs - ours == {"torch"}
    assert ours - theirs == {"jax"}
    assert "kernels" in theirs & ours


def test_xla_gets_the_threads_of_the_trial(project):
    """The names of threads are those that Linux shows."""
    if why_unavailable("jax") or not Path("/proc/self/task").is_dir():
        pytest.skip("needs jax and Linux")
    code = """
import jax.numpy as jnp
from pathlib import Path
from types import SimpleNamespace
(jnp.ones((64, 64)) @ jnp.ones((64, 64))).block_until_ready()
names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
print(names.count("tf_XLAEigen"))
"""
    for threads in ("1", "3"):
        done = python(code, JAX_PLATFORMS="cpu", **dict.fromkeys(THREADS, threads))
        assert done.stdout.strip() == threads, done.stderr


@pytest.mark.parametrize(
    ("counterpart", "why"),
    [
        ("nothing", "no method of that name"),
        ("same", "a method of framework jax too"),
        ("other", "a method of other params or variants"),
        ("twin", "a method that has itself a counterpart, 'fine'"),
    ],
)
def test_a_counterpart_is_the_same_network_in_another_framework(scratch, counterpart, why):
    operator_method(scratch, "same", "jax")
    operator_method(scratch, "fine", "jax")
    operator_method(scratch, "other", "torch", "params: {width: 4}\n")
    operator_method(scratch, "twin", "torch", "counterpart: fine\n")
    operator_method(scratch, "mine", "jax", f"counterpart: {counterpart}\n")
    methods = discover_methods(scratch.root / "methods")
    assert not isinstance(methods["twin"], BrokenPlugin)
    assert isinstance(methods["mine"], BrokenPlugin)
    assert methods["mine"].why.startswith(f"methods/mine/method.yaml: key 'counterpart': found '{counterpart}', {why}")
