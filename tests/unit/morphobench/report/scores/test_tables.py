"""Tables of scores: each row leads to its row of the CSV."""

from __future__ import annotations

import re

import pandas as pd

from morphobench.report.scores.tables import scores


def test_a_row_link_names_the_row_of_the_csv(made_up_run, results):
    means = pd.read_csv(made_up_run.statistics / "means.csv")
    for row in scores(results, "vessels").rows:
        position = int(re.search(r"#row=(\d+)$", row[-1].link).group(1)) - 2
        assert means.loc[position, "dataset"] == "vessels"
        assert results.methods[means.loc[position, "method"]]["title"] in row[0].text
