"""What a trial's worker runs is part of the hash of its code, or is here with the reason why it need not be."""

import json
import subprocess
from pathlib import Path

import pytest

from morphobench.contract import FRAMEWORKS
from morphobench.plugins.code_hash import method_sources
from morphobench.plugins.discovery import discover_methods
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
