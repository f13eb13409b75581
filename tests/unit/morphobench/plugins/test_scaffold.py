import numpy as np
import pytest

from morphobench.contract import Task
from morphobench.data.preparation import prepare_dataset
from morphobench.plugins.discovery import DatasetInfo, MethodInfo, discover_datasets, discover_methods
from morphobench.plugins.loading import load_method
from morphobench.plugins.scaffold import new_dataset, new_method
from morphobench.project.errors import UserError
from morphobench.project.paths import Project
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


@pytest.mark.parametrize("name", ["Mine", "../mine", "_mine", ""])
def test_a_name_that_cannot_be_a_folder_is_refused(scratch, name):
    with pytest.raises(UserError):
        new_method(Project(scratch.root), name)


def test_a_plugin_that_exists_is_not_written_over(scratch):
    new_method(Project(scratch.root), "mine")
    with pytest.raises(UserError, match="exists already"):
        new_method(Project(scratch.root), "mine")
