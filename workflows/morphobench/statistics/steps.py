"""The steps by which the workflow compares a run: methods with each other, published values, the committed reference."""

from __future__ import annotations

import pandas as pd

from morphobench.project.errors import UserError
from morphobench.project.paths import Project, RunFolder
from morphobench.settings.run import Configuration
from morphobench.statistics.comparisons import compare_methods
from morphobench.statistics.counterparts import read_counterparts
from morphobench.statistics.references import check_published, compare_reference

__all__ = ["compare", "print_drift"]


def compare(step: str, project: Project, configuration: Configuration) -> None:
    """Take one step and write its tables.

    Raises
    ------
    UserError
        If there is no such step.
    """
    run = project.run(configuration.run)
    if step == "methods":
        runs = [run, *(project.run(name) for name in configuration.report.include)]
        counterparts = read_counterparts(part.results / "plugins" for part in runs)
        compare_methods(run.tables, run.statistics, configuration.model_dump(), counterparts)
    elif step == "published":
        check_published(run.tables, project.datasets, run.statistics)
    elif step == "reference":
        expected = project.reference / f"{configuration.run}.csv"
        compare_reference(run.tables, expected, run.statistics, configuration.reference.tolerances)
    else:
        raise UserError(f"statistics: found {step!r}, expected methods, published or reference")


def print_drift(run: RunFolder) -> int:
    """Print the comparison with the reference; return 1 if a score lies outside its tolerance, else 0."""
    table = pd.read_csv(run.statistics / "reference.csv")
    if table.empty:
        print(f"results/reference holds no expected numbers for the run {run.results.name!r}: nothing was compared")
        return 0
    print(table.to_string(index=False))
    drifted = int(table["drift"].sum())
    print(f"{drifted} of {len(table)} scores lie outside their tolerance")
    return 1 if drifted else 0
