import subprocess

import numpy as np
import pytest

from morphobench.contract import Task
from morphobench.data.preparation import prepare_dataset
from morphobench.plugins.discovery import (
    DatasetInfo,
    MethodInfo,
    discover_datasets,
    discover_methods,
    discover_plugins,
)
from morphobench.plugins.loading import load_method
from morphobench.plugins.scaffold import new_dataset, new_method, print_written
from morphobench.project.errors import UserError
from morphobench.project.paths import Project
from morphobench.runs.configuration import check_names
from morphobench.settings.reading import check, read_yaml
from morphobench.settings.run import Configuration
from morphobench.training.frameworks import why_unavailable


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_new_method_is_valid_and_maps_images_to_scores(scratch, framework):
    if why_unavailable(framework):
        pytest.skip(why_unavailable(framework))
    folder = new_method(Project(scratch.root), "mine", framework)
    info = discover_methods(folder.parent)["mine"]
    assert isinstance(info, MethodInfo)
    method, task = load_method(info), Task("segmentation", (1, 8, 8), 2)
    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    assert method.predict(method.build(task), images).shape == task.score_shape(images)


def test_there_is_nothing_to_start_from_in_an_unknown_framework(scratch):
    with pytest.raises(UserError, match="--framework: found 'abacus', expected one of torch, jax"):
        new_method(Project(scratch.root), "mine", "abacus")


def test_a_new_data_set_is_valid_and_prepares(scratch):
    place = Project(scratch.root)
    folder = new_dataset(place, "mine")
    assert isinstance(discover_datasets(folder.parent)["mine"], DatasetInfo)
    assert prepare_dataset(place, "mine").status == "ok"


@pytest.mark.parametrize(("make", "kind"), [(new_method, "methods"), (new_dataset, "datasets")])
def test_what_is_printed_last_makes_a_config_that_takes_the_plugin(scratch, project, capsys, make, kind):
    make(Project(scratch.root), "mine")
    print_written(scratch.root / kind / "mine")
    *_, restricted, command = capsys.readouterr().out.splitlines()
    assert restricted.startswith(f"plain snakemake runs only the {kind} that workflows/config/default.yaml names")
    writes, _, runs = command.strip().partition("; ")
    subprocess.run(writes, shell=True, cwd=scratch.root, check=True)
    assert runs == "snakemake --cores all --configfile mine.yaml"
    known, own = discover_plugins(project), discover_plugins(Project(scratch.root))
    configuration = check(Configuration, read_yaml(scratch.root / "mine.yaml"), "mine.yaml")
    check_names(configuration, {**known.datasets, **own.datasets}, {**known.methods, **own.methods}, "mine.yaml")
    assert "mine" in repr(getattr(configuration, kind))


@pytest.mark.parametrize("name", ["1e3", "12", "null", "yes"])
def test_a_name_that_yaml_reads_as_something_else_is_refused(scratch, name):
    with pytest.raises(UserError, match=rf"name: found '{name}', which YAML reads as"):
        new_method(Project(scratch.root), name)


@pytest.mark.parametrize("name", ["Mine", "../mine", "_mine", ""])
def test_a_name_that_cannot_be_a_folder_is_refused(scratch, name):
    with pytest.raises(UserError):
        new_method(Project(scratch.root), name)


def test_a_plugin_that_exists_is_not_written_over(scratch):
    new_method(Project(scratch.root), "mine")
    with pytest.raises(UserError, match="exists already"):
        new_method(Project(scratch.root), "mine")
