"""No two trials that differ in anything share a key; the same trial has the same key wherever it lies."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.contract import FRAMEWORKS, TASK_KINDS, Budget
from morphobench.data.preparation import manifest_of
from morphobench.plugins.discovery import MethodInfo
from morphobench.project.paths import Project
from morphobench.trials.trial import DATA, Trial

words = st.sampled_from(["a", "b", "a-b", "c"])
sizes = st.integers(1, 3)
params = st.dictionaries(words, st.one_of(sizes, st.floats(0, 1), st.booleans(), words, st.lists(sizes)), max_size=2)
BUDGET = {
    "epochs": sizes,
    "batch_size": sizes,
    "timeout_s": st.floats(1, 2),
    "memory_mb": sizes,
    "steps_per_epoch": st.none() | sizes,
    "shift": sizes,
}
MANIFEST = {
    "id": words,
    "task": st.sampled_from(TASK_KINDS),
    "splits": st.fixed_dictionaries({"train": sizes, "test": sizes}),
    "input_shape": st.lists(sizes, max_size=3),
    "outputs": sizes,
    "class_names": st.lists(words, max_size=2),
    "data_hash": words,
}
METHOD = {
    "name": words,
    "family": st.sampled_from(["cnn", "control"]),
    "framework": st.sampled_from(FRAMEWORKS),
    "params": params,
    "variants": st.fixed_dictionaries({"one": params, "two": params}) | params.map(lambda p: {"one": p, "two": p}),
}
TUNING = {"mode": words, "grid": st.lists(st.floats(0.1, 1), max_size=2)}
NESTED = {"budget": BUDGET, "manifest": MANIFEST, "method": METHOD, "tuning": TUNING}
# What is drawn, by the name of the field that holds it.
DRAWN = {
    "run": words,
    "variant": st.sampled_from(["one", "two"]),
    "seed": st.integers(0, 3),
    "threads": sizes,
    "device": st.sampled_from(["cpu", "cuda"]),
    "code_hash": words,
    "versions": st.dictionaries(words, words, max_size=2),
    **{name: st.fixed_dictionaries(parts) for name, parts in NESTED.items()},
}
descriptions = st.fixed_dictionaries(DRAWN)
REPORTED = {"title": "", "licence": "", "citation": "", "summary": "", "status": "ok", "message": ""}


def trial_of(description, root="here"):
    described = copy.deepcopy(description)
    method = {"title": "t", "tasks": ["classification"], "folder": Path(root), **described.pop("method")}
    return Trial(
        project=Project(Path(root)),
        manifest=manifest_of({**REPORTED, **described.pop("manifest")}),
        method=MethodInfo.model_validate(method),
        budget=Budget(**described.pop("budget")),
        **described,
    )


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_everything_that_a_trial_is_made_of_is_drawn():
    assert {field.name for field in dataclasses.fields(Trial)} == {*DRAWN, "project"}
    assert {field.name for field in dataclasses.fields(Budget)} == set(BUDGET)
    # The rest of a manifest are words of the report, no part of a trial.
    assert set(DATA) == set(MANIFEST)


@given(descriptions)
def test_equal_trials_have_equal_keys_wherever_the_checkout_lies(description):
    assert trial_of(description).key == trial_of(description, "elsewhere").key


@pytest.mark.parametrize(
    "name", [*sorted(DRAWN.keys() - NESTED.keys()), *(f"{a}.{b}" for a in NESTED for b in NESTED[a])]
)
@settings(max_examples=20)
@given(descriptions, st.data())
def test_trials_that_differ_in_one_thing_have_different_keys(name, one, data):
    outer, _, inner = name.rpartition(".")
    drawn, changed = NESTED[outer] if outer else DRAWN, copy.deepcopy(one)
    place = changed[outer] if outer else changed
    place[inner] = data.draw(drawn[inner].filter(lambda value: not same(value, place[inner])))
    assert trial_of(one).key != trial_of(changed).key


@given(descriptions, descriptions)
def test_trials_that_differ_have_different_keys(one, other):
    assert (trial_of(one).key == trial_of(other).key) == same(one, other)
