import pandas as pd
import pytest

from morphobench.plugins.discovery import discover_methods
from morphobench.studies.plugin_operators import RECOVERY, load_recovery_operators, methods_with_operators


@pytest.fixture
def tried(project):
    return pd.read_csv(project.reference / "learning_rates.csv")


def test_every_stored_learning_rate_is_the_best_on_validation(project, tried):
    means = tried.groupby(["method", "variant", "learning_rate"])["validation_score"].mean().unstack()
    assert len(means) >= 14
    methods = discover_methods(project.methods)
    for (method, variant), scores in means.iterrows():
        info = methods[method]
        stored = info.params_of(variant)["learning_rate"]
        assert scores[stored] == scores.max(), (method, variant)


def test_every_method_tried_the_same_rates(tried):
    rates = tried.groupby(["dataset", "method", "variant"])["learning_rate"].apply(sorted)
    assert all(one == rates.iloc[0] for one in rates)


def test_operators_of_the_study_of_recovery_learn_at_the_rate_with_the_smallest_validation_error(project):
    tried = pd.read_csv(project.reference / "tuning_elements.csv")
    errors = tried.groupby(["operator", "learning_rate"])["valid_error"].mean().unstack()
    best = errors.idxmin(axis=1).to_dict()
    assert set(best.values()) <= set(errors.columns[1:-1])  # a best rate at the end of the grid may not be the best
    methods = methods_with_operators(discover_methods(project.methods), "torch", RECOVERY)
    chosen = {op.name: op.learning_rate for info in methods for op in load_recovery_operators(info.name)}
    assert chosen == best
