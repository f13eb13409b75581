import numpy as np
import pytest

from morphobench.contract import Task
from morphobench.frameworks import why_unavailable
from morphobench.layout import House
from morphobench.preparation import prepare_dataset
from morphobench.registry import DatasetInfo, MethodInfo, discover_datasets, discover_methods, load_method
from morphobench.scaffold import new_dataset, new_method
from morphobench.schemas import Mistake


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_new_method_is_valid_and_maps_images_to_scores(house, framework):
    if why_unavailable(framework):
        pytest.skip(why_unavailable(framework))
    folder = new_method(House(house.root), "mine", framework)
    info = discover_methods(folder.parent)["mine"]
    assert isinstance(info, MethodInfo)
    method, task = load_method(info), Task("segmentation", (1, 8, 8), 2)
    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    assert method.predict(method.build(task), images).shape == task.score_shape(images)


def test_there_is_nothing_to_start_from_in_an_unknown_framework(house):
    with pytest.raises(Mistake, match="--framework: found 'abacus', expected one of torch, jax"):
        new_method(House(house.root), "mine", "abacus")


def test_a_new_data_set_is_valid_and_prepares(house):
    place = House(house.root)
    folder = new_dataset(place, "mine")
    assert isinstance(discover_datasets(folder.parent)["mine"], DatasetInfo)
    assert prepare_dataset(place, "mine").status == "ok"


@pytest.mark.parametrize("name", ["Mine", "../mine", "_mine", ""])
def test_a_name_that_cannot_be_a_folder_is_refused(house, name):
    with pytest.raises(Mistake):
        new_method(House(house.root), name)


def test_a_plugin_that_exists_is_not_written_over(house):
    new_method(House(house.root), "mine")
    with pytest.raises(Mistake, match="exists already"):
        new_method(House(house.root), "mine")
