import pandas as pd
import pytest

from morphobench.registry import discover_methods


@pytest.fixture
def tried(project):
    return pd.read_csv(project.reference / "learning_rates.csv")


def test_every_stored_learning_rate_is_the_best_on_validation(project, tried):
    means = tried.groupby(["method", "variant", "learning_rate"])["validation_score"].mean().unstack()
    assert len(means) >= 14
    methods = discover_methods(project.methods)
    for (method, variant), scores in means.iterrows():
        info = methods[method]
        stored = {**info.params, **info.variants[variant]}["learning_rate"]
        assert scores[stored] == scores.max(), (method, variant)


def test_every_method_tried_the_same_rates(tried):
    rates = tried.groupby(["dataset", "method", "variant"])["learning_rate"].apply(sorted)
    assert all(one == rates.iloc[0] for one in rates)
