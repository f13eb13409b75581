"""Command line of the harness: ``python -m morphobench COMMAND``.

Commands for people: list, check, new-method, new-dataset. The others are the steps that the Snakemake rules call, and
can be called by hand to repeat one step. Heavy imports happen inside the commands that need them.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from morphobench.project.checkout import run_code_of
from morphobench.project.errors import UserError
from morphobench.project.paths import Project, find_project

if TYPE_CHECKING:
    from morphobench.runs.plan import Plan

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (2 for a mistake of the user's, with one message)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles and messages may hold letters that a locale lacks
    options = _parser().parse_args(arguments)
    try:
        project = find_project(options.root)
        if arguments is None:
            run_code_of(project)
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
    planned = "refuse to run code other than that of this digest, with which the run was planned"
    data = command("prepare", _prepare, "prepare a data set and write its manifest", "dataset", "output")
    data.add_argument("--code-hash", help=planned)
    command("check-plugin", _check_plugin, "write what is known of a method without importing it", "method", "output")
    cell = ("dataset", "method", "variant")
    trials = command("run-trials", _run_trials, "run a chunk of seeds", "config", *cell, "seeds")
    trials.add_argument("--code-hash", help=planned)
    command("retry-failed", _retry_failed, "run the failed trials of a run again", "config")
    command("score", _score, "score the trials of a data set", "config", "dataset")
    command("collect", _collect, "collect records and scores into tables", "config")
    command("robustness", _robustness, "score the saved models of a cell on corrupted images", "config", *cell)
    command("collect-robustness", _collect_robustness, "collect the scores on corrupted images into a table", "config")
    command("certified", _certified, "prove and attack the predictions of the saved models of a cell", "config", *cell)
    command("collect-certified", _collect_certified, "collect proofs and attacks into a table", "config")
    study = "run a study in one framework, or tabulate the operator benchmarks (benchmarks)"
    command("study", _study, study, "study", "config").add_argument("--framework", choices=("torch", "jax"))
    command("collect-study", _collect_study, "collect the cells of a study into its tables", "study", "config")
    command("cell", _cell, "run one cell of a study again and print its rows", "study", "name", "framework", "config")
    command("statistics", _statistics, "compare: methods, published or reference", "step", "config")
    command("figures", _figures, "draw the figures", "config").add_argument("--processes", type=int, default=1)
    command("report", _report, "write the report", "config")
    command("expect", _expect, "write the scores of a run, or the rates it tried, to results/reference", "config")
    command("gpu-check", _gpu_check, "check and time the programs for CUDA, within ten minutes")
    command("verify", _verify, "print the comparison with the reference; exit 1 on drift", "config")
    return parser


def _plan(project: Project, options: argparse.Namespace) -> Plan:
    from morphobench.runs.plan import load_plan

    return load_plan(options.config, project)


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


def _gpu_check(project: Project, options: argparse.Namespace) -> int:
    from morphobench.runs.gpu_check import check_gpu

    return check_gpu(project)


def _prepare(project: Project, options: argparse.Namespace) -> None:
    from morphobench.data.preparation import prepare_dataset, write_manifest

    manifest = prepare_dataset(project, options.dataset, options.code_hash)
    if manifest.status != "ok":
        print(f"{options.dataset}: {manifest.message}", file=sys.stderr)
    write_manifest(manifest, options.output)


def _check_plugin(project: Project, options: argparse.Namespace) -> None:
    from morphobench.plugins.listing import write_description

    write_description(project, options.method, options.output)


def _run_trials(project: Project, options: argparse.Namespace) -> None:
    from morphobench.trials.supervisor import supervise

    cell = (options.dataset, options.method, options.variant)
    supervise(_plan(project, options), cell, options.seeds, options.code_hash)


def _retry_failed(project: Project, options: argparse.Namespace) -> None:
    from morphobench.trials.retry import retry_failed

    retry_failed(_plan(project, options))


def _score(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import score_dataset

    score_dataset(_plan(project, options), options.dataset)


def _collect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.scoring import collect_tables

    collect_tables(_plan(project, options))


def _robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import score_corrupted

    score_corrupted(_plan(project, options), (options.dataset, options.method, options.variant))


def _collect_robustness(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.robustness import collect_robustness

    collect_robustness(_plan(project, options))


def _certified(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.certification import score_certified

    score_certified(_plan(project, options), (options.dataset, options.method, options.variant))


def _collect_certified(project: Project, options: argparse.Namespace) -> None:
    from morphobench.evaluation.certification import collect_certified

    collect_certified(_plan(project, options))


def _study(project: Project, options: argparse.Namespace) -> None:
    if options.study == "benchmarks":
        from morphobench.studies.benchmarks import tabulate

        out = _plan(project, options).run.studies
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
    from morphobench.studies.supervision import print_cell

    return print_cell(project, options.config, options.study, options.framework, options.name, _threads())


def _statistics(project: Project, options: argparse.Namespace) -> None:
    from morphobench.statistics.steps import compare

    compare(options.step, project, _plan(project, options).configuration)


def _figures(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.drawing import draw_figures

    run = _plan(project, options).run
    draw_figures(run, run.report / "figures", processes=options.processes)


def _report(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.page import write_report

    run = _plan(project, options).run
    write_report(run, run.report)
    print(f"the report is {run.report / 'index.html'}")


def _expect(project: Project, options: argparse.Namespace) -> None:
    from morphobench.report.expectations import write_expected

    write_expected(_plan(project, options))


def _verify(project: Project, options: argparse.Namespace) -> int:
    from morphobench.statistics.steps import print_drift

    return print_drift(_plan(project, options).run)


if __name__ == "__main__":
    sys.exit(main())
