"""Command line of the harness: ``python -m morphobench COMMAND``.

Commands for people: list, check, new-method, new-dataset. The others are the steps that the Snakemake rules call, and
can be called by hand to repeat one step. Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from morphobench.project.errors import UserError
from morphobench.project.paths import Project, find_project

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (2 for a mistake of the user's, with one message)."""
    options = _parser().parse_args(arguments)
    try:
        project = find_project(options.root)
        return options.command(project, options) or 0
    except (UserError, FileNotFoundError) as error:
        print(f"morphobench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m morphobench", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=Path, help="checkout to work in (default: around the working directory)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function: object, summary: str, *needs: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=function)
        for need in needs:
            if need == "seeds":
                added.add_argument("--seeds", type=int, nargs="+", required=True)
            elif need in ("name", "study", "step"):
                added.add_argument(need)
            else:
                added.add_argument(f"--{need}", required=True, type=Path if need in ("config", "output") else str)
        return added

    command("list", _list, "list the methods and data sets that are found")
    command("check", _check, "run the contract tests of a plugin", "name")
    method = command("new-method", _new_method, "write a working method plugin", "name")
    method.add_argument("--framework", default="torch", help="torch (default) or jax")
    command("new-dataset", _new_dataset, "write a working data set plugin", "name")
    command("schemas", _schemas, "write the JSON schemas of workflows/schemas from the models of the settings")
    command("prepare", _prepare, "prepare a data set and write its manifest", "dataset", "output")
    command("check-plugin", _check_plugin, "write what is known of a method without importing it", "method", "output")
    cell = ("dataset", "method", "variant")
    command("run-trials", _run_trials, "run a chunk of seeds", "config", *cell, "seeds")
    command("retry-failed", _retry_failed, "run the failed trials of a run again", "config")
    command("score", _score, "score the trials of a data set", "config", "dataset")
    command("collect", _collect, "collect records and scores into tables", "config")
    study = "run a study in one framework, or tabulate the operator benchmarks (benchmarks)"
    command("robustness", _robustness, "score the saved models of a cell on corrupted images", "config", *cell)
    command("collect-robustness", _collect_robustness, "collect the scores on corrupted images into a table", "config")
    command("study", _study, study, "study", "config").add_argument("--framework", choices=("torch", "jax"))
    command("collect-study", _collect_study, "collect the cells of a study into its tables", "study", "config")
    command("cell", _cell, "run one cell of a study again and print its rows", "study", "name", "framework", "config")
    command("statistics", _statistics, "compare: methods, published or reference", "step", "config")
    command("figures", _figures, "draw the figures", "config").add_argument("--processes", type=int, default=1)
    command("report", _report, "write the report", "config")
    command("expect", _expect, "write the scores of a run, or the rates it tried, to results/reference", "config")
    command("verify", _verify, "print the comparison with the reference; exit 1 on drift", "config")
    return parser


def _list(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.listing import print_plugins

    print_plugins(project)


def _check(project: Project, options: argparse.Namespace) -> int:
    from morphobench.plugins.listing import run_contract_tests

    return run_contract_tests(project, options.name)


def _new_method(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.scaffold import new_method, print_written

    print_written(new_method(project, options.name, options.framework))


def _new_dataset(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.scaffold import new_dataset, print_written

    print_written(new_dataset(project, options.name))


def _schemas(project: Project, options: argparse.Namespace) -> None:
    from morphobench.settings.schemas import write_schemas

    for path in write_schemas(project.schemas):
        print(f"wrote {path}")


def _prepare(project: Project, options: argparse.Namespace) -> None:
    from morphobench.data.preparation import prepare_dataset, write_manifest

    manifest = prepare_dataset(project, options.dataset)
    if manifest.status != "ok":
        print(f"{options.dataset}: {manifest.message}", file=sys.stderr)
    write_manifest(manifest, options.output)


def _check_plugin(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.listing import write_description

    write_description(project, options.method, options.output)


def _run_trials(project: Project, options: argparse.Namespace) -> None:
    from morphobench.runs.plan import load_plan
    from morphobench.trials.supervisor import supervise

    supervise(load_plan(options.config, project), options.dataset, options.method, options.variant, options.seeds)


def _retry_failed(project: Project, options: argparse.Namespace) -> None:
    from morphobench.runs.plan import load_plan
    from morphobench.trials.retry import retry_failed

    retry_failed(load_plan(options.config, project))


def _score(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import score_dataset
    from morphobench.runs.plan import load_plan

    plan = load_plan(options.config, project)
    score_dataset(project, plan.run, options.dataset, plan.cells, plan.configuration.seeds)


def _collect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import collect_tables
    from morphobench.runs.plan import load_plan

    plan = load_plan(options.config, project)
    collect_tables(plan.run, plan.cells, plan.configuration.seeds)


def _robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import score_corrupted
    from morphobench.runs.plan import load_plan

    plan = load_plan(options.config, project)
    configuration, wanted = plan.configuration, plan.configuration.robustness
    cell = (options.dataset, options.method, options.variant)
    seeds = configuration.seeds[: wanted.seeds]
    levels = wanted.noise_levels if options.dataset in wanted.noise_datasets else 0
    score_corrupted(project, plan.run, cell, seeds, wanted.severities, levels, configuration.threads)


def _collect_robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import collect_robustness
    from morphobench.runs.plan import load_plan

    plan = load_plan(options.config, project)
    collect_robustness(plan.run, plan.corrupted_cells)


def _study(project: Project, options: argparse.Namespace) -> None:
    if options.study == "benchmarks":
        from morphobench.runs.plan import load_plan
        from morphobench.studies.benchmarks import tabulate

        out = load_plan(options.config, project).run.studies
        tabulate(out / "benchmarks.json", out)
        return
    if options.framework is None:
        raise UserError(f"study {options.study}: --framework is missing; expected torch or jax")
    from morphobench.studies.supervision import run_study

    run_study(project, options.config, options.study, options.framework, _threads())


def _threads() -> int:
    return int(os.environ.get("MORPHOBENCH_THREADS") or os.cpu_count() or 1)


def _collect_study(project: Project, options: argparse.Namespace) -> None:
    from morphobench.studies.supervision import collect_study

    collect_study(project, options.config, options.study)


def _cell(project: Project, options: argparse.Namespace) -> int:
    import pandas as pd

    from morphobench.studies.supervision import run_cell

    record = run_cell(project, options.config, options.study, options.framework, options.name, _threads())
    for row in record.rows:
        print(pd.Series({key: value for key, value in row.items() if value not in (None, "")}).to_string(), end="\n\n")
    return 0 if record.status == "ok" else 1


def _statistics(project: Project, options: argparse.Namespace) -> None:
    from morphobench.runs.plan import load_plan
    from morphobench.statistics import references
    from morphobench.statistics.comparisons import compare_methods
    from morphobench.statistics.counterparts import read_counterparts

    plan = load_plan(options.config, project)
    configuration, run = plan.configuration, plan.run
    if options.step == "methods":
        runs = [run, *(project.run(name) for name in configuration.report.include)]
        counterparts = read_counterparts(part.results / "plugins" for part in runs)
        compare_methods(run.tables, run.statistics, configuration.model_dump(), counterparts)
    elif options.step == "published":
        references.check_published(run.tables, project.datasets, run.statistics)
    elif options.step == "reference":
        expected = project.reference / f"{configuration.run}.csv"
        references.compare_reference(run.tables, expected, run.statistics, configuration.reference.tolerances)
    else:
        raise UserError(f"statistics: found {options.step!r}, expected methods, published or reference")


def _figures(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.drawing import draw_figures
    from morphobench.runs.plan import load_plan

    run = load_plan(options.config, project).run
    draw_figures(run, run.report / "figures", processes=options.processes)


def _report(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.page import write_report
    from morphobench.runs.plan import load_plan

    run = load_plan(options.config, project).run
    write_report(run, run.report)
    print(f"the report is {run.report / 'index.html'}")


def _expect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import tried_learning_rates
    from morphobench.project.files import atomic
    from morphobench.report.results import read_run_results
    from morphobench.report.sections import expected_tables
    from morphobench.runs.plan import load_plan
    from morphobench.statistics.references import expected_numbers

    plan = load_plan(options.config, project)
    name, run = plan.configuration.run, plan.run
    tables = {f"{name}_{end}": table for end, table in expected_tables(read_run_results(run)).items()}
    if plan.configuration.tuning.mode == "grid":
        tables["learning_rates"] = tried_learning_rates(run)
    else:
        tables[name] = expected_numbers(run.tables)
    for stem, table in tables.items():
        if table.empty:
            continue
        path = project.reference / f"{stem}.csv"
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"wrote {path}")


def _verify(project: Project, options: argparse.Namespace) -> int:
    import pandas as pd

    from morphobench.runs.plan import load_plan

    run = load_plan(options.config, project).run
    table = pd.read_csv(run.statistics / "reference.csv")
    if table.empty:
        print(f"results/reference holds no expected numbers for the run {run.results.name!r}: nothing was compared")
        return 0
    print(table.to_string(index=False))
    drifted = int(table["drift"].sum())
    print(f"{drifted} of {len(table)} scores lie outside their tolerance")
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main())
