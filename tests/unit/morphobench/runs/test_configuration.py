import pytest

from morphobench.plugins.discovery import discover_methods
from morphobench.project.paths import Project
from morphobench.project.errors import UserError
from morphobench.runs.plan import load_plan

MINIMAL = "run: try\ndatasets: [toy]\nstatistics: {baseline: coin}\n"


@pytest.fixture
def toy(scratch):
    scratch.add_dataset("toy")
    scratch.add_method("coin")
    return scratch


def load(scratch, text):
    return load_plan(scratch.write_config(text), Project(scratch.root))


def test_defaults_are_filled_in(toy):
    configuration = load(toy, MINIMAL).configuration
    assert configuration.seeds == [0, 1, 2, 3, 4, 5]
    assert configuration.budget_for("toy").batch_size == 64
    assert configuration.seed_chunks() == [[0, 1, 2], [3, 4, 5]]


def test_a_data_set_may_change_its_budget_for_every_method_alike(toy):
    text = "run: try\ndatasets: [{name: toy, budget: {epochs: 3}}]\nbudget: {epochs: 7}\nstatistics: {baseline: coin}\n"
    configuration = load(toy, text).configuration
    assert configuration.budget_for("toy").epochs == 3
    assert configuration.budget_for("other").epochs == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "sedes: [1]\n", ["unknown key 'sedes'", "expected one of", "seeds"]),
        (MINIMAL + "budget: {epoch: 3}\n", ["unknown key 'epoch' in 'budget'", "epochs"]),
        (MINIMAL + "budget: {epochs: many}\n", ["'budget.epochs'", "found 'many'", "expected integer"]),
        (MINIMAL + "seeds: []\n", ["'seeds'", "found []"]),
        (MINIMAL + "methods: {include: [cion]}\n", ["unknown method 'cion'", "did you mean 'coin'?"]),
        ("run: try\ndatasets: [tyo]\n", ["unknown data set 'tyo'", "did you mean 'toy'?"]),
        ("run: try\ndatasets: [toy.big]\n", ["'toy' has no variant 'big'", "default"]),
        ("run: ../try\ndatasets: [toy]\n", ["'run'", "'../try'"]),
        ("datasets: [toy]\n", ["'run' is missing"]),
        ("run: try\ndatasets: [toy]\nstatistics: {baseline: nobody}\n", ["statistics.baseline", "'nobody'"]),
        (MINIMAL + "methods: {include: [{name: coin, variants: [odd]}]}\n", ["coin has no variant 'odd'"]),
        (MINIMAL + "studies: {speed: {}}\n", ["unknown key 'speed' in 'studies'", "gradients"]),
        (
            "run: try\ndatasets: [{name: toy, methods: [cion]}]\n",
            ["'datasets'", "toy", "'cion'", "did you mean 'coin'?"],
        ),
        ("run: [try\n", ["line", "not valid YAML"]),
        ("run: try\ndatasets: [toy, toy]\n", ["toy more than once"]),
    ],
)
def test_a_mistake_gets_one_message_that_names_file_key_found_and_expected(toy, text, expected):
    with pytest.raises(UserError) as caught:
        load(toy, text)
    message = str(caught.value)
    assert "config.yaml" in message
    assert "\n" not in message
    for part in expected:
        assert part in message


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
