"""Command line of the harness: ``python -m morphobench COMMAND``.

Commands for people: list, check, new-method, new-dataset. The others are the steps that the Snakemake rules call, and
can be called by hand to repeat one step. Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, MethodInfo, discover_datasets, discover_methods
from morphobench.project.paths import Project, find_project
from morphobench.project.validation import UserError

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
    command("prepare", _prepare, "prepare a data set and write its manifest", "dataset", "output")
    command("check-plugin", _check_plugin, "write what is known of a method without importing it", "method", "output")
    cell = ("dataset", "method", "variant")
    command("run-trials", _run_trials, "run a chunk of seeds", "config", *cell, "seeds")
    command("retry-failed", _retry_failed, "run the failed trials of a run again", "config")
    command("score", _score, "score the trials of a data set", "config", "dataset")
    command("collect", _collect, "collect records and scores into tables", "config")
    study = "run a study in one framework (gradients, solvers, recovery, nonsmooth), or tabulate the operator benchmarks (benchmarks)"
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
    print("methods")
    for name, info in discover_methods(project.methods).items():
        print(f"  {name:20s} {_one_line(info)}")
    print("datasets")
    for name, data in discover_datasets(project.datasets).items():
        print(f"  {name:20s} {_one_line(data)}")


def _one_line(info: MethodInfo | DatasetInfo | BrokenPlugin) -> str:
    if isinstance(info, BrokenPlugin):
        return f"invalid: {info.why}"
    variants = "" if list(info.variants) == ["default"] else f"  [{' '.join(info.variants)}]"
    if isinstance(info, MethodInfo):
        return f"{info.family:12s} {info.framework:6s} {info.title}{variants}"
    return f"{info.task:19s} {info.title}{variants}"


def _check(project: Project, options: argparse.Namespace) -> int:
    known = {**discover_methods(project.methods), **discover_datasets(project.datasets)}
    if options.name not in known:
        raise UserError(f"no method or data set is called {options.name!r}; known: {', '.join(known)}")
    info = known[options.name]
    if isinstance(info, BrokenPlugin):
        raise UserError(f"{options.name} is invalid: {info.why}")
    tests = project.root / "tests" / "contract"
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), "--plugin", options.name]
    return subprocess.run(arguments, cwd=project.root, check=False).returncode


def _new_method(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.scaffold import new_method

    _say_written(new_method(project, options.name, options.framework), options.name)


def _new_dataset(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.scaffold import new_dataset

    _say_written(new_dataset(project, options.name), options.name)


def _say_written(folder: Path, name: str) -> None:
    for path in sorted(folder.iterdir()):
        print(f"wrote {path}")
    print(f"next: edit it, then run  python -m morphobench check {name}")


def _prepare(project: Project, options: argparse.Namespace) -> None:
    from morphobench.data.preparation import prepare_dataset, write_manifest

    manifest = prepare_dataset(project, options.dataset)
    if manifest.status != "ok":
        print(f"{options.dataset}: {manifest.message}", file=sys.stderr)
    write_manifest(manifest, options.output)


def _check_plugin(project: Project, options: argparse.Namespace) -> None:
    from morphobench.project.files import write_json

    info = discover_methods(project.methods)[options.method]
    if isinstance(info, BrokenPlugin):
        print(f"{info.name}: invalid: {info.why}", file=sys.stderr)
        write_json(options.output, {"name": info.name, "title": info.name, "status": "invalid", "message": info.why})
        return
    described = {key: value for key, value in asdict(info).items() if key != "folder"}
    write_json(options.output, described | {"status": "ok", "message": ""})


def _run_trials(project: Project, options: argparse.Namespace) -> None:
    from morphobench.trials.supervisor import supervise

    supervise(project, options.config, options.dataset, options.method, options.variant, options.seeds)


def _retry_failed(project: Project, options: argparse.Namespace) -> None:
    from morphobench.data.preparation import prepare_dataset, read_manifest, write_manifest
    from morphobench.runs.configuration import load_configuration, make_plan
    from morphobench.trials.records import read_record
    from morphobench.trials.supervisor import supervise

    configuration = load_configuration(options.config, project)
    run = project.run(configuration["run"])
    for identifier in configuration.dataset_ids:
        path = run.results / "data" / f"{identifier}.json"
        if path.exists() and read_manifest(path).status != "ok":
            write_manifest(prepare_dataset(project, identifier), path)
    retried = 0
    for dataset, method, variant in make_plan(configuration, project).cells:
        records = {seed: run.trial(dataset, method, variant, seed) / "record.json" for seed in configuration["seeds"]}
        failed = [seed for seed, path in records.items() if path.exists() and read_record(path).status != "ok"]
        if failed:
            supervise(project, options.config, dataset, method, variant, failed)
            retried += len(failed)
    print(f"{retried} failed trials ran again; run snakemake once more to bring tables and report up to date")


def _score(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import score_dataset
    from morphobench.runs.configuration import load_configuration, make_plan

    configuration = load_configuration(options.config, project)
    run, cells = project.run(configuration["run"]), make_plan(configuration, project).cells
    score_dataset(project, run, options.dataset, cells, configuration["seeds"])


def _collect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import collect_tables
    from morphobench.runs.configuration import load_configuration, make_plan

    configuration = load_configuration(options.config, project)
    collect_tables(project.run(configuration["run"]), make_plan(configuration, project).cells, configuration["seeds"])


def _robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import score_corrupted
    from morphobench.runs.configuration import load_configuration

    configuration = load_configuration(options.config, project)
    wanted = configuration["robustness"]
    cell = (options.dataset, options.method, options.variant)
    seeds = configuration["seeds"][: wanted["seeds"]]
    levels = wanted["noise_levels"] if options.dataset in wanted["noise_datasets"] else 0
    run = project.run(configuration["run"])
    score_corrupted(project, run, cell, seeds, wanted["severities"], levels, configuration["threads"])


def _collect_robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import collect_robustness
    from morphobench.runs.configuration import corrupted_cells, load_configuration, make_plan

    configuration = load_configuration(options.config, project)
    cells = corrupted_cells(configuration, make_plan(configuration, project))
    collect_robustness(project.run(configuration["run"]), cells)


def _study(project: Project, options: argparse.Namespace) -> None:
    if options.study == "benchmarks":
        from morphobench.runs.configuration import load_configuration
        from morphobench.studies.benchmarks import tabulate

        out = project.run(load_configuration(options.config, project)["run"]).studies
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
    from morphobench.runs.configuration import load_configuration
    from morphobench.statistics import comparisons as statistics
    from morphobench.statistics.counterparts import read_counterparts

    configuration = load_configuration(options.config, project)
    run = project.run(configuration["run"])
    if options.step == "methods":
        runs = [run, *(project.run(name) for name in configuration["report"]["include"])]
        counterparts = read_counterparts(part.results / "plugins" for part in runs)
        statistics.compare_methods(run.tables, run.statistics, configuration.values, counterparts)
    elif options.step == "published":
        statistics.check_published(run.tables, project.datasets, run.statistics)
    elif options.step == "reference":
        expected = project.reference / f"{configuration['run']}.csv"
        statistics.compare_reference(run.tables, expected, run.statistics, configuration["reference"]["tolerances"])
    else:
        raise UserError(f"statistics: found {options.step!r}, expected methods, published or reference")


def _figures(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.drawing import draw_figures
    from morphobench.runs.configuration import load_configuration

    run = project.run(load_configuration(options.config, project)["run"])
    draw_figures(run, run.report / "figures", processes=options.processes)


def _report(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.page import write_report
    from morphobench.runs.configuration import load_configuration

    run = project.run(load_configuration(options.config, project)["run"])
    write_report(run, project, run.report)
    print(f"the report is {run.report / 'index.html'}")


def _expect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import tried_learning_rates
    from morphobench.project.files import atomic
    from morphobench.report.recovery.tables import recovered_elements
    from morphobench.report.results import read_run_results
    from morphobench.runs.configuration import load_configuration
    from morphobench.statistics.comparisons import expected_numbers

    configuration = load_configuration(options.config, project)
    name = configuration["run"]
    run = project.run(name)
    tables = {f"{name}_elements": recovered_elements(read_run_results(run))}
    if configuration["tuning"]["mode"] == "grid":
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

    from morphobench.runs.configuration import load_configuration

    run = project.run(load_configuration(options.config, project)["run"])
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
