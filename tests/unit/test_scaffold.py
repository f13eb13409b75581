import pytest

from morphobench.layout import House
from morphobench.preparation import prepare_dataset
from morphobench.registry import DatasetInfo, MethodInfo, discover_datasets, discover_methods
from morphobench.scaffold import new_dataset, new_method
from morphobench.schemas import Mistake


def test_a_new_method_is_valid(house):
    folder = new_method(House(house.root), "mine")
    assert isinstance(discover_methods(folder.parent)["mine"], MethodInfo)


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
