"""What will run, given a configuration and the plugins."""

import pytest
import yaml

from morphobench.plugins.discovery import discover_methods
from morphobench.project.paths import Project
from morphobench.runs.plan import load_plan

MINIMAL = "run: try\ndatasets: [toy]\nstatistics: {baseline: coin}\n"


@pytest.fixture
def toy(scratch):
    scratch.add_dataset("toy")
    scratch.add_method("coin")
    return scratch


def load(scratch, text):
    return load_plan(scratch.write_config(text), Project(scratch.root))


def test_the_plan_pairs_methods_with_the_data_sets_whose_task_they_do(toy):
    folder = toy.add_method("other")
    (folder / "method.yaml").write_text((folder / "method.yaml").read_text().replace("classification", "segmentation"))
    plan = load(toy, MINIMAL)
    assert plan.cells == (("toy", "coin", "default"),)


def test_a_data_set_may_be_restricted_to_some_methods(toy):
    toy.add_dataset("other")
    toy.add_method("dice")
    text = "run: try\ndatasets: [toy, {name: other, methods: [coin]}]\nstatistics: {baseline: coin}\n"
    plan = load(toy, text)
    assert plan.cells == (("toy", "coin", "default"), ("toy", "dice", "default"), ("other", "coin", "default"))


def test_a_broken_plugin_stays_in_the_plan_so_that_its_reason_is_seen(toy):
    toy.add_method("broken", code="def build(task, params)\n")
    plan = load(toy, MINIMAL)
    assert ("toy", "broken", "default") in plan.cells


def test_the_first_variant_is_taken_where_only_that_is_asked_for(toy):
    folder = toy.add_method("many")
    (folder / "method.yaml").write_text(
        (folder / "method.yaml").read_text() + "variants: {one: {}, two: {}, three: {}}\n"
    )
    first = load(toy, MINIMAL + "methods: {variants: first}\n").cells
    assert first == (("toy", "coin", "default"), ("toy", "many", "one"))
    named = load(toy, MINIMAL + "methods: {variants: first, include: [{name: many, variants: [two, three]}]}\n")
    assert named.cells == (("toy", "many", "two"), ("toy", "many", "three"))
    written = named.written_out()["methods"]["include"]
    assert written == [{"name": "many", "variants": ["two", "three"]}]


def test_a_variant_takes_part_where_its_own_tasks_include_that_of_the_data(toy):
    path = toy.add_method("many") / "method.yaml"
    path.write_text(path.read_text() + "variants: {all: {}, other: {tasks: [segmentation]}}\n")
    cells = load(toy, MINIMAL).cells
    assert [variant for _, name, variant in cells if name == "many"] == ["all"]
    info = discover_methods(toy.root / "methods")["many"]
    assert (info.tasks_of("all"), info.tasks_of("other")) == (("classification",), ("segmentation",))
    assert info.params_of("all") == info.params_of("other") == {}


def test_the_smoke_tier_runs_every_plugin(project):
    cells = load_plan(project.workflows / "config" / "smoke.yaml", project).cells
    assert {name.split(".")[0] for name, _, _ in cells} == {
        path.parent.name for path in project.datasets.glob("*/*.yaml")
    }
    assert {name for _, name, _ in cells} == {path.parent.name for path in project.methods.glob("*/method.yaml")}


def test_every_tier_of_the_project_is_valid(project):
    for tier in ("smoke", "default", "full"):
        plan = load_plan(project.workflows / "config" / f"{tier}.yaml", project)
        assert plan.configuration.run == tier
        assert plan.cells


def test_the_written_configuration_is_the_run_again(toy):
    toy.add_method("dice")
    given = (
        MINIMAL.replace("[toy]", "[{name: toy, budget: {timeout_s: 300}}]") + "studies: {recovery: {datasets: [toy]}}\n"
    )
    plan = load(toy, given + "methods: {exclude: [dice]}\n")
    plan.write()
    again = load_plan(plan.run.results / "config.yaml", Project(toy.root))
    assert again.cells == plan.cells == (("toy", "coin", "default"),)
    assert again.written_out() == plan.written_out()
    written = yaml.safe_load((plan.run.results / "config.yaml").read_text())
    assert written["datasets"] == [{"name": "toy", "budget": {"timeout_s": 300}}]
    assert written["methods"]["include"] == [{"name": "coin", "variants": ["default"]}]
    assert written["tuning"] == {"mode": "stored", "grid": [0.0003, 0.001, 0.003, 0.01]}
    assert list(written["studies"]) == ["recovery"]
    assert written["studies"]["recovery"]["steps"] == 300


def test_a_method_that_is_added_later_does_not_join_a_run_that_goes_on(toy):
    plan = load(toy, MINIMAL)
    plan.write()
    toy.add_method("dice")
    assert load_plan(plan.run.results / "config.yaml", Project(toy.root)).cells == plan.cells
