"""The introduction to the library says what happens."""

import doctest
from pathlib import Path

README = Path(__file__).resolve().parents[3] / "varmorph" / "README.md"


def test_every_example_of_the_introduction_runs_and_prints_what_it_says():
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0
