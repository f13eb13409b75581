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

from morphobench.layout import House, find_house
from morphobench.registry import BrokenPlugin, DatasetInfo, MethodInfo, discover_datasets, discover_methods
from morphobench.schemas import Mistake

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (2 for a mistake of the user's, with one message)."""
    options = _parser().parse_args(arguments)
    try:
        house = find_house(options.root)
        return options.command(house, options) or 0
    except (Mistake, FileNotFoundError) as error:
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


def _list(house: House, options: argparse.Namespace) -> None:
    print("methods")
    for name, info in discover_methods(house.methods).items():
        print(f"  {name:20s} {_one_line(info)}")
    print("datasets")
    for name, data in discover_datasets(house.datasets).items():
        print(f"  {name:20s} {_one_line(data)}")


def _one_line(info: MethodInfo | DatasetInfo | BrokenPlugin) -> str:
    if isinstance(info, BrokenPlugin):
        return f"invalid: {info.why}"
    variants = "" if list(info.variants) == ["default"] else f"  [{' '.join(info.variants)}]"
    if isinstance(info, MethodInfo):
        return f"{info.family:12s} {info.framework:6s} {info.title}{variants}"
    return f"{info.task:19s} {info.title}{variants}"


def _check(house: House, options: argparse.Namespace) -> int:
    known = {**discover_methods(house.methods), **discover_datasets(house.datasets)}
    if options.name not in known:
        raise Mistake(f"no method or data set is called {options.name!r}; known: {', '.join(known)}")
    info = known[options.name]
    if isinstance(info, BrokenPlugin):
        raise Mistake(f"{options.name} is invalid: {info.why}")
    tests = house.root / "tests" / "contract"
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), "--plugin", options.name]
    return subprocess.run(arguments, cwd=house.root, check=False).returncode


def _new_method(house: House, options: argparse.Namespace) -> None:
    from morphobench.scaffold import new_method

    _say_written(new_method(house, options.name, options.framework), options.name)


def _new_dataset(house: House, options: argparse.Namespace) -> None:
    from morphobench.scaffold import new_dataset

    _say_written(new_dataset(house, options.name), options.name)


def _say_written(folder: Path, name: str) -> None:
    for path in sorted(folder.iterdir()):
        print(f"wrote {path}")
    print(f"next: edit it, then run  python -m morphobench check {name}")


def _prepare(house: House, options: argparse.Namespace) -> None:
    from morphobench.preparation import prepare_dataset, write_manifest

    manifest = prepare_dataset(house, options.dataset)
    if manifest.status != "ok":
        print(f"{options.dataset}: {manifest.message}", file=sys.stderr)
    write_manifest(manifest, options.output)


def _check_plugin(house: House, options: argparse.Namespace) -> None:
    from morphobench.files import write_json

    info = discover_methods(house.methods)[options.method]
    if isinstance(info, BrokenPlugin):
        print(f"{info.name}: invalid: {info.why}", file=sys.stderr)
        write_json(options.output, {"name": info.name, "title": info.name, "status": "invalid", "message": info.why})
        return
    described = {key: value for key, value in asdict(info).items() if key != "folder"}
    write_json(options.output, described | {"status": "ok", "message": ""})


def _run_trials(house: House, options: argparse.Namespace) -> None:
    from morphobench.supervisor import supervise

    supervise(house, options.config, options.dataset, options.method, options.variant, options.seeds)


def _retry_failed(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration, make_plan
    from morphobench.preparation import prepare_dataset, read_manifest, write_manifest
    from morphobench.records import read_record
    from morphobench.supervisor import supervise

    configuration = load_configuration(options.config, house)
    run = house.run(configuration["run"])
    for identifier in configuration.dataset_ids:
        path = run.results / "data" / f"{identifier}.json"
        if path.exists() and read_manifest(path).status != "ok":
            write_manifest(prepare_dataset(house, identifier), path)
    retried = 0
    for dataset, method, variant in make_plan(configuration, house).cells:
        records = {seed: run.trial(dataset, method, variant, seed) / "record.json" for seed in configuration["seeds"]}
        failed = [seed for seed, path in records.items() if path.exists() and read_record(path).status != "ok"]
        if failed:
            supervise(house, options.config, dataset, method, variant, failed)
            retried += len(failed)
    print(f"{retried} failed trials ran again; run snakemake once more to bring tables and report up to date")


def _score(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration, make_plan
    from morphobench.scoring import score_dataset

    configuration = load_configuration(options.config, house)
    run, cells = house.run(configuration["run"]), make_plan(configuration, house).cells
    score_dataset(house, run, options.dataset, cells, configuration["seeds"])


def _collect(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration, make_plan
    from morphobench.scoring import collect_tables

    configuration = load_configuration(options.config, house)
    collect_tables(house.run(configuration["run"]), make_plan(configuration, house).cells, configuration["seeds"])


def _robustness(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration
    from morphobench.robustness import score_corrupted

    configuration = load_configuration(options.config, house)
    wanted = configuration["robustness"]
    cell = (options.dataset, options.method, options.variant)
    seeds = configuration["seeds"][: wanted["seeds"]]
    levels = wanted["noise_levels"] if options.dataset in wanted["noise_datasets"] else 0
    run = house.run(configuration["run"])
    score_corrupted(house, run, cell, seeds, wanted["severities"], levels, configuration["threads"])


def _collect_robustness(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import corrupted_cells, load_configuration, make_plan
    from morphobench.robustness import collect_robustness

    configuration = load_configuration(options.config, house)
    cells = corrupted_cells(configuration, make_plan(configuration, house))
    collect_robustness(house.run(configuration["run"]), cells)


def _study(house: House, options: argparse.Namespace) -> None:
    if options.study == "benchmarks":
        from morphobench.configuration import load_configuration
        from morphobench.studies.benchmarks import tabulate

        out = house.run(load_configuration(options.config, house)["run"]).studies
        tabulate(out / "benchmarks.json", out)
        return
    if options.framework is None:
        raise Mistake(f"study {options.study}: --framework is missing; expected torch or jax")
    from morphobench.studies.supervision import run_study

    run_study(house, options.config, options.study, options.framework, _threads())


def _threads() -> int:
    return int(os.environ.get("MORPHOBENCH_THREADS") or os.cpu_count() or 1)


def _collect_study(house: House, options: argparse.Namespace) -> None:
    from morphobench.studies.supervision import collect_study

    collect_study(house, options.config, options.study)


def _cell(house: House, options: argparse.Namespace) -> int:
    import pandas as pd

    from morphobench.studies.supervision import run_cell

    record = run_cell(house, options.config, options.study, options.framework, options.name, _threads())
    for row in record.rows:
        print(pd.Series({key: value for key, value in row.items() if value not in (None, "")}).to_string(), end="\n\n")
    return 0 if record.status == "ok" else 1


def _statistics(house: House, options: argparse.Namespace) -> None:
    from morphobench import statistics
    from morphobench.configuration import load_configuration
    from morphobench.counterparts import read_counterparts

    configuration = load_configuration(options.config, house)
    run = house.run(configuration["run"])
    if options.step == "methods":
        runs = [run, *(house.run(name) for name in configuration["report"]["include"])]
        counterparts = read_counterparts(part.results / "plugins" for part in runs)
        statistics.compare_methods(run.tables, run.statistics, configuration.values, counterparts)
    elif options.step == "published":
        statistics.check_published(run.tables, house.datasets, run.statistics)
    elif options.step == "reference":
        expected = house.reference / f"{configuration['run']}.csv"
        statistics.compare_reference(run.tables, expected, run.statistics, configuration["reference"]["tolerances"])
    else:
        raise Mistake(f"statistics: found {options.step!r}, expected methods, published or reference")


def _figures(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration
    from morphobench.figures import draw_figures

    run = house.run(load_configuration(options.config, house)["run"])
    draw_figures(run, run.report / "figures", processes=options.processes)


def _report(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration
    from morphobench.report import write_report

    run = house.run(load_configuration(options.config, house)["run"])
    write_report(run, house, run.report)
    print(f"the report is {run.report / 'index.html'}")


def _expect(house: House, options: argparse.Namespace) -> None:
    from morphobench.configuration import load_configuration
    from morphobench.figures.evidence import read_evidence
    from morphobench.files import atomic
    from morphobench.recovery_exhibits import recovered_elements
    from morphobench.scoring import tried_learning_rates
    from morphobench.statistics import expected_numbers

    configuration = load_configuration(options.config, house)
    name = configuration["run"]
    run = house.run(name)
    tables = {f"{name}_elements": recovered_elements(read_evidence(run))}
    if configuration["tuning"]["mode"] == "grid":
        tables["learning_rates"] = tried_learning_rates(run)
    else:
        tables[name] = expected_numbers(run.tables)
    for stem, table in tables.items():
        if table.empty:
            continue
        path = house.reference / f"{stem}.csv"
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"wrote {path}")


def _verify(house: House, options: argparse.Namespace) -> int:
    import pandas as pd

    from morphobench.configuration import load_configuration

    run = house.run(load_configuration(options.config, house)["run"])
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
