"""What a run left is found: its own tables and those of the runs that it includes."""

from __future__ import annotations

import shutil

import pytest

from morphobench.project.paths import RunFolder
from morphobench.report.results import Entry, read_run_results


def test_results_copied_under_another_name_are_still_found(made_up_run, tmp_path):
    results = tmp_path / "results" / "renamed"
    shutil.copytree(made_up_run.results, results, ignore=shutil.ignore_patterns("studies", "statistics"))
    results = read_run_results(RunFolder(results, tmp_path / "report"))
    assert next(results.trial_folders("digits", Entry("linear", "default")))[1].is_dir()


def test_the_baseline_and_titles_come_from_the_run(results):
    assert results.baseline == Entry("backbone-depthwise", "default")
    assert results.title(Entry("backbone-variational", "two-sided")) == "Backbone, variational operator (two-sided)"
    assert results.dataset_names[0] == "digits"


def test_an_included_run_without_results_is_named(made_up_run, tmp_path):
    results = tmp_path / "results" / "main"
    (results / "tables").mkdir(parents=True)
    (results / "config.yaml").write_text("run: main\nreport: {include: [elsewhere]}\n")
    with pytest.raises(FileNotFoundError, match=r"report\.include names 'elsewhere'"):
        read_run_results(RunFolder(results, tmp_path / "reports" / "main"))
