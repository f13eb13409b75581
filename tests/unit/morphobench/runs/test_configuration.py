"""What a configuration may say."""

import pytest

from morphobench.project.errors import UserError
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
        ("run: try\ndatasets: [toy, toy]\n", ["'datasets'", "toy more than once"]),
        (
            MINIMAL + "robustness: {datasets: [tyo]}\n",
            ["'robustness.datasets'", "'tyo' is no data set", "did you mean"],
        ),
        (MINIMAL + "robustness: {noise_datasets: [toy]}\n", ["'toy' is not in robustness.datasets"]),
        (MINIMAL + "robustness: {methods: [cion]}\n", ["'robustness.methods'", "did you mean 'coin'?"]),
        (
            MINIMAL + "studies: {recovery: {datasets: [nowhere]}}\n",
            ["'studies.recovery.datasets'", "found 'nowhere', expected a data set (toy)"],
        ),
        (
            MINIMAL + "studies: {recovery: {datasets: [toy.big]}}\n",
            ["'studies.recovery.datasets'", "found 'toy.big', expected a variant of toy (default)"],
        ),
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
