"""What the tests of the report share: the made-up run as the report reads it."""

import pytest

from morphobench.report.results import read_run_results


@pytest.fixture(scope="session")
def results(made_up_run):
    return read_run_results(made_up_run)
