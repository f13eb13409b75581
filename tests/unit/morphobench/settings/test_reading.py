"""One message for a wrong file: which file, which key, what was found, what was expected."""

import json
from typing import Annotated, get_args, get_origin

import pytest

from morphobench.project.errors import UserError
from morphobench.settings import model, yaml_text
from morphobench.settings.dataset import DatasetDescription
from morphobench.settings.method import MethodDescription
from morphobench.settings.reading import check, read_yaml
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
        ({"budget": {"epochs": 2.5}}, "key 'budget.epochs': found 2.5, expected integer (Passes"),
        ({"seeds": [0, 1.5]}, "key 'seeds.1': found 1.5, expected integer (Seeds of the repeated trials"),
        ({"threads": float("inf")}, "key 'threads': found inf, expected integer (Threads of one trial"),
        ({"threads": "2e-1"}, "key 'threads': found '2e-1', expected integer (Threads of one trial"),
        ({"budget": {"epochs": 0.0}}, "key 'budget.epochs': found 0, expected at least 1 (Passes"),
        ({"seeds": [1.0, 1]}, "key 'seeds': found 1 more than once"),
        ({"budget": {"timeout_s": "300"}}, "key 'budget.timeout_s': found '300', expected number (Wall-clock"),
        ({"budget": {"timeout_s": "1e999"}}, "key 'budget.timeout_s': found inf, expected a finite number"),
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
        ({"treads": 1, "sedes": [1]}, "unknown key 'sedes', 'treads'; expected one of: budget, certified, datasets"),
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


WHOLE = {
    "seeds": [0.0, "1e1"],
    "seeds_per_job": 2.0,
    "threads": 2.0,
    "budget": {"epochs": 5.0, "batch_size": "1e2", "memory_mb": 4e3, "steps_per_epoch": 3.0},
    "datasets": [{"name": "toy", "budget": {"epochs": 2.0}}],
    "robustness": {"severities": [1.0], "noise_levels": 3.0, "seeds": 1.0},
    "studies": {"gradients": {"image_sizes": [8.0], "neumann": [2.0]}, "solvers": {"kernel_sizes": [3.0]}},
}


@pytest.mark.parametrize("mode", ["python", "json"])
def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(mode):
    found = check(Configuration, {**RUN, **WHOLE}, "a.yaml").model_dump(mode=mode)
    as_integers = json.loads(json.dumps(WHOLE).replace(".0", "").replace('"1e1"', "10").replace('"1e2"', "100"))

    def chosen(values, given):
        if isinstance(given, dict):
            return {key: chosen(values[key], given[key]) for key in given}
        return [chosen(*both) for both in zip(values, given, strict=True)] if isinstance(given, list) else values

    assert repr(chosen(found, as_integers)) == repr(as_integers)


def integers(annotation, metadata=()):
    """Yield what limits each integer of an annotation."""
    if annotation is int:
        yield metadata
    elif get_origin(annotation) is Annotated:
        yield from integers(annotation.__origin__, annotation.__metadata__)
    else:
        for part in get_args(annotation):
            yield from integers(part)


def below(kind):
    return {kind, *(one for child in kind.__subclasses__() for one in below(child))}


def test_every_integer_of_what_people_write_may_have_a_point():
    fields = [
        (kind.__name__, name, field) for kind in below(model.Settings) for name, field in kind.model_fields.items()
    ]
    found = {
        (*at, model.AsInteger in given) for *at, field in fields for given in integers(field.annotation, field.metadata)
    }
    assert len(found) > 20
    assert {place for place in found if not place[-1]} == set()


def test_numbers_that_snakemake_leaves_as_text_become_numbers():
    given = {"budget": {"timeout_s": "1e3"}, "tuning": {"grid": ["1e-3", "+2.5E-2"]}, "statistics": {"alpha": "1e-2"}}
    found = check(Configuration, {**RUN, **given}, "a.yaml").model_dump()
    assert (found["budget"]["timeout_s"], found["tuning"]["grid"], found["statistics"]["alpha"]) == (
        1000.0,
        [0.001, 0.025],
        0.01,
    )


def test_exponents_of_a_method_are_numbers(tmp_path):
    path = tmp_path / "method.yaml"
    path.write_text("params: {learning_rate: 1e-3, width: 2.5e2}\nvariants: {sharp: {level: -.5e1, word: '1e-3'}}\n")
    method = check(MethodDescription, {**METHOD, **read_yaml(path)}, "a.yaml")
    assert method.params_of("sharp") == {"learning_rate": 0.001, "width": 250.0, "level": -5.0, "word": "1e-3"}


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("run: a\nseeds: [0]\nrun: b\n", 3, "'run' twice, first in line 1"),
        ("budget: {epochs: 1, timeout_s: 2, epochs: 3}\n", 1, "'epochs' twice, first in line 1"),
        ("datasets:\n  - name: toy\n    name: other\n", 3, "'name' twice, first in line 2"),
        ("run: a\n'run': b\n", 2, "'run' twice, first in line 1"),
    ],
)
def test_a_key_that_is_written_twice_is_refused_with_its_line(tmp_path, text, line, key):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"a.yaml, line {line}, column \d+: not valid YAML: found key {key}$"):
        read_yaml(path)


def test_keys_that_a_merge_brings_in_may_be_overridden(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n")
    assert read_yaml(path)["c"] == {"x": 2, "y": 3}


def test_text_that_looks_like_a_number_is_written_so_that_it_is_read_as_text(tmp_path):
    path = tmp_path / "a.yaml"
    values = {"name": "1e-3", "number": 1e-3, "small": 1e-300, "none": "null", "title": "Médiane"}
    path.write_text(yaml_text.dump(values), encoding="utf-8")
    assert read_yaml(path) == values
