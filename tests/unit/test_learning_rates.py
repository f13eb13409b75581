import pandas as pd
import yaml


def test_every_stored_learning_rate_is_the_best_on_validation(project):
    table = pd.read_csv(project.reference / "learning_rates.csv")
    means = table.groupby(["method", "learning_rate"])["validation_score"].mean().unstack()
    assert len(means) >= 6
    for method, best in means.idxmax(axis=1).items():
        declared = yaml.safe_load((project.methods / method / "method.yaml").read_text())
        assert declared["params"]["learning_rate"] == best, method


def test_every_method_tried_the_same_rates(project):
    table = pd.read_csv(project.reference / "learning_rates.csv")
    tried = table.groupby(["dataset", "method"])["learning_rate"].apply(sorted)
    assert all(rates == tried.iloc[0] for rates in tried)
