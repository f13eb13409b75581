"""Coverage: no cell is empty, and every reason why there is no score is listed."""

from __future__ import annotations

import re

from morphobench.report.coverage.tables import coverage, failures


def test_no_cell_of_the_coverage_is_empty(results):
    table = coverage(results)
    assert len(table.rows) == len(results.entries)
    assert all(cell.text for row in table.rows for cell in row)
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    columns = dict(zip(results.dataset_names, range(5), strict=True))
    assert texts["U-Net"][columns["vessels"]] == "out of memory 6 of 6 seeds"
    assert texts["U-Net"][columns["digits"]] == "not its task"
    assert texts["ResNet-18"][columns["mnist5k"]] == "not run here"
    assert texts["Chance"][columns["medmnist.breast"]] == "not available"
    assert re.fullmatch(r"0\.\d{3}; diverged 2 of 6 seeds", texts["Backbone, max-plus"][columns["vessels"]])


def test_every_status_is_among_the_failures(results):
    found = {row[0].text for row in failures(results).rows}
    assert found == {"timeout", "error", "diverged", "out of memory", "invalid", "unavailable"}
