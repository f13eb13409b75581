"""Tables of scores that tests make up."""

import pandas as pd

from morphobench.statistics.tables import SCORES


def score_table(values, dataset="d", task="classification"):
    """Primary test scores from {method: [value or status for each seed]}."""
    rows = []
    for method, found in values.items():
        for seed, value in enumerate(found):
            failed = isinstance(value, str)
            row = ["r", dataset, task, method, "default", "torch", seed, value if failed else "ok"]
            rows.append([*row, "test", "accuracy" if task == "classification" else "dice", None if failed else value])
    return pd.DataFrame(rows, columns=SCORES).astype({"value": float})
