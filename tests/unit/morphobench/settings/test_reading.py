"""One message for a wrong file: which file, which key, what was found, what was expected."""

import pytest

from morphobench.project.errors import UserError
from morphobench.settings.dataset import DatasetDescription
from morphobench.settings.method import MethodDescription
from morphobench.settings.reading import check
from morphobench.settings.run import Configuration

RUN = {"run": "try", "datasets": ["toy"]}
METHOD = {"name": "coin", "title": "Coin", "family": "control", "framework": "numpy", "tasks": ["classification"]}
DATASET = {"name": "toy", "title": "Toy", "task": "classification", "licence": "CC0", "citation": "made up"}
FILE = {"name": "a.npz", "url": "https://example.org/a.npz", "md5": 32 * "0"}


def message(model, values):
    with pytest.raises(UserError) as caught:
        check(model, values, "a.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("a.yaml: ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"run": 1}, "key 'run': found 1, expected string (Name of the run; results and reports go to"),
        ({"quiet": "no"}, "key 'quiet': found 'no', expected boolean (Whether studies"),
        ({"threads": True}, "key 'threads': found True, expected integer (Threads of one trial"),
        ({"threads": 0}, "key 'threads': found 0, expected at least 1 (Threads of one trial"),
        ({"seeds": [0, "1"]}, "key 'seeds.1': found '1', expected integer (Seeds of the repeated trials"),
        ({"seeds": [3, 0, 3]}, "key 'seeds': found 3 more than once"),
        ({"seeds": 3}, "key 'seeds': found 3, expected array (Seeds"),
        ({"budget": {"epochs": 2.0}}, "key 'budget.epochs': found 2.0, expected integer (Passes"),
        ({"budget": {"timeout_s": float("nan")}}, "key 'budget.timeout_s': found nan, expected a finite number"),
        (
            {"budget": {"steps_per_epoch": "all"}},
            "key 'budget.steps_per_epoch': found 'all', expected integer or null (Largest number",
        ),
        ({"budget": None}, "key 'budget': found None, expected object (How much training"),
        ({"datasets": [3]}, "key 'datasets.0': found 3, expected string or object (Data sets"),
        (
            {"datasets": [{"name": "toy", "budget": {"epoch": 3}}]},
            "unknown key 'epoch' in 'datasets.0.budget'; expected",
        ),
        ({"datasets": [{"budget": {}}]}, "key 'name' is missing in datasets.0"),
        ({"methods": {"variants": "some"}}, "key 'methods.variants': found 'some', expected one of all, first"),
        ({"statistics": {"alpha": 1}}, "key 'statistics.alpha': found 1, expected less than 1 (One minus"),
        ({"reference": {"tolerances": {"dice": -1}}}, "key 'reference.tolerances.dice': found -1, expected at least 0"),
        ({"robustness": {"severities": [6]}}, "key 'robustness.severities.0': found 6, expected at most 5"),
        ({"budget": {1: 2}}, "key 'budget.1': found 1, expected text as a key"),
        ({"reference": {"tolerances": {3: 0.1}}}, "key 'reference.tolerances.3': found 3, expected text as a key"),
        ({"treads": 1, "sedes": [1]}, "unknown key 'sedes', 'treads'; expected one of: budget, datasets"),
    ],
)
def test_a_configuration_that_does_not_fit(given, expected):
    assert message(Configuration, {**RUN, **given}).startswith(expected)


def test_a_document_that_is_no_mapping():
    assert message(Configuration, ["run"]).startswith("key 'the document': found ['run'], expected object (A tier")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tasks": []}, "key 'tasks': found [], expected at least 1 of them (Kinds of task"),
        ({"tasks": ["guessing"]}, "key 'tasks.0': found 'guessing', expected one of classification, multilabel"),
        ({"params": {"learning_rate": 0}}, "key 'params.learning_rate': found 0, expected more than 0 (Learning rate"),
        ({"variants": {}}, "key 'variants': found {}, expected at least 1 of them (Name of each variant"),
        ({"variants": {"Big": {}}}, "key 'variants.Big': found 'Big', expected text that matches ^[a-z0-9]"),
        ({"variants": {"big": 3}}, "key 'variants.big': found 3, expected object or null"),
        (
            {"variants": {"big": {"tasks": "all"}}},
            "key 'variants.big.tasks': found 'all', expected array or null (Kinds",
        ),
        ({"resources": {"gpu": 2}}, "key 'resources.gpu': found 2, expected at most 1 (Number of GPUs"),
    ],
)
def test_a_method_that_does_not_fit(given, expected):
    assert message(MethodDescription, {**METHOD, **given}).startswith(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"licence": ""}, "key 'licence': found '', expected text of at least 1 characters (Licence"),
        ({"files": [{**FILE, "url": "ftp://a"}]}, "key 'files.0.url': found 'ftp://a', expected text that matches"),
        ({"files": [{**FILE, "md5": None}]}, "key 'files.0': found no checksum, expected md5 or sha256"),
        ({"variants": {"small": {"at": -1}}}, "key 'variants.small.at': found -1, expected more than 0 (The number"),
        ({"variants": {"small": {"size": 1}}}, "unknown key 'size' in 'variants.small'; expected one of: at, classes"),
    ],
)
def test_a_data_set_that_does_not_fit(given, expected):
    assert message(DatasetDescription, {**DATASET, **given}).startswith(expected)


def test_a_variant_with_nothing_behind_it_differs_in_nothing():
    method = check(MethodDescription, {**METHOD, "params": {"width": 3}, "variants": {"one": None}}, "a.yaml")
    assert method.params_of("one") == {"width": 3}
    assert method.tasks_of("one") == ("classification",)
    dataset = check(DatasetDescription, {**DATASET, "variants": {"one": None}}, "a.yaml")
    assert (dataset.variant_title("one"), dataset.variant_task("one")) == ("Toy", "classification")


@pytest.mark.parametrize("mode", ["python", "json"])
def test_numbers_stay_as_they_were_written(mode):
    given = {"budget": {"timeout_s": 300}, "tuning": {"grid": [1, 0.1]}}
    found = check(Configuration, {**RUN, **given}, "a.yaml").model_dump(mode=mode)
    assert [type(found["budget"]["timeout_s"]), *map(type, found["tuning"]["grid"])] == [int, int, float]
