"""The numbers of a run that are committed, as what a later run of the same name is expected to give."""

from __future__ import annotations

from morphobench.evaluation.scoring import tried_learning_rates
from morphobench.project.files import atomic
from morphobench.report.results import read_run_results
from morphobench.report.sections import expected_tables
from morphobench.runs.plan import Plan
from morphobench.statistics.references import expected_numbers

__all__ = ["write_expected"]


def write_expected(plan: Plan) -> None:
    """Write the scores of a run, or the learning rates it tried, and what sections of the report add, to ``results/reference``."""
    name, run = plan.configuration.run, plan.run
    tables = {f"{name}_{end}": table for end, table in expected_tables(read_run_results(run)).items()}
    if plan.configuration.tuning.mode == "grid":
        tables["learning_rates"] = tried_learning_rates(run)
    else:
        tables[name] = expected_numbers(run.tables)
    for stem, table in tables.items():
        if table.empty:
            continue
        path = plan.project.reference / f"{stem}.csv"
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"wrote {path}")
