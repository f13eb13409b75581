# Checks the configuration before any work starts, and says where everything lies.
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

# The code of this checkout runs, here and in the jobs, also where the package is installed as a copy.
CODE = [str(Path(workflow.basedir) / "workflows"), str(workflow.basedir)]
sys.path[:0] = CODE
os.environ["PYTHONPATH"] = os.pathsep.join([*CODE, os.environ.get("PYTHONPATH", "")])

from morphobench.runs.plan import make_plan
from morphobench.project.files import digest
from morphobench.runs.interruption import claim_folder
from morphobench.project.paths import find_project
from morphobench.project.provenance import gpus
from morphobench.plugins.code_hash import dataset_sources, method_sources
from morphobench.project.errors import UserError
from morphobench.settings.reading import read_yaml
from morphobench.studies.cells import study_module, study_names

PROJECT = find_project(Path(workflow.basedir))
try:
    for place in (PROJECT.root, Path(sys.executable)):
        if set("{}:") & set(str(place)):
            raise UserError(
                f"{place}: found {{, }} or : in the path, which Snakemake or PATH takes for something else; rename the folder"
            )
    if Path.cwd() != PROJECT.root:
        raise UserError(
            f"--directory: found {Path.cwd()}, expected {PROJECT.root}: a run lies in the checkout that it is of"
        )
    for name in workflow.configfiles:
        read_yaml(Path(name))  # Snakemake takes the last of two equal keys in silence
    PLAN = make_plan(
        dict(config), PROJECT, ", ".join(str(name) for name in workflow.configfiles)
    )
except UserError as error:
    print(f"morphobench: {error}", file=sys.stderr)
    sys.exit(2)

if (
    workflow.is_main_process
    and not workflow.dryrun
    and claim_folder(Path(".snakemake"))
):
    print("The run before this one was killed: its lock is removed.", file=sys.stderr)

# Snakemake ignores a resource that has no limit: without this, jobs would share a GPU. --resources gpu=N overrides it.
# On a machine without a GPU no job asks for one: jobs that did would wait for each other.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", len(gpus()))
GPU_LIMIT = int(workflow.global_resources["gpu"].value)


CONFIGURATION = PLAN.configuration

# For jobs that measure time: nothing runs beside them. Without --cores (on a cluster, for --report) Snakemake knows no number.
EVERY_CORE = workflow.global_resources["_cores"].value or 4
TIMING_CORES = EVERY_CORE if CONFIGURATION.quiet else 1

DATASETS_TRIED = list(dict.fromkeys(dataset for dataset, _, _ in PLAN.cells))
RUN = CONFIGURATION.run
RESULTS = f"results/{RUN}"
REPORT = f"reports/{RUN}"
# Every default filled in, written when jobs start. It is no input of a job, since an edited key would then hide from Snakemake
# which jobs it touches: each job names the part that it depends on among its params, SETTINGS being all of it.
CONFIG = f"{RESULTS}/config.yaml"
SETTINGS = digest(json.dumps(PLAN.written_out(), sort_keys=True))
CELL = f"{RESULTS}/trials/{{dataset}}/{{method}}/{{variant}}"
STUDIES = CONFIGURATION.settings_of_studies()
# Jobs find the Python that runs Snakemake, whether or not its environment has been activated. A prefix replaces Snakemake's
# own, which makes a failure ahead of `| tee` fail the job: it is repeated here.
BIN = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(f'set -euo pipefail; export PATH={BIN}:"$PATH"; ')


def relative(paths):
    return [str(path.relative_to(PROJECT.root)) for path in paths]


def packages(*names):
    """Packages of the harness that a step depends on: an edit in one re-runs the step."""
    return relative(
        path
        for name in names
        for path in sorted((PROJECT.harness / name).rglob("*.py"))
    )


LIBRARY = relative(sorted(PROJECT.library.rglob("*.py")))


def sources_of_dataset(wildcards):
    return relative(dataset_sources(PLAN.datasets[wildcards.dataset]))


def resources_of(wildcards):
    return getattr(PLAN.methods[wildcards.method], "resources", None)


def gpus_of(wildcards):
    return min(getattr(resources_of(wildcards), "gpu", 0), GPU_LIMIT)


def budget_of(wildcards):
    """The budget as parameters of the job: changing it re-runs the trials it touches and no others."""
    budget = CONFIGURATION.budget_for(wildcards.dataset, resources_of(wildcards))
    return json.dumps(asdict(budget), sort_keys=True)


def records_of(wildcards):
    return expand(
        f"{CELL}/seed-{{seed}}/record.json",
        seed=CONFIGURATION.seeds,
        allow_missing=True,
    )


def records_on_dataset(wildcards):
    return [
        record
        for d, m, v in PLAN.cells
        if d == wildcards.dataset
        for record in expand(records_of(wildcards), dataset=d, method=m, variant=v)
    ]


def study_tables():
    """Tables of the studies that the configuration asks for, and of the operator benchmarks."""
    return [f"{RESULTS}/studies/{name}.csv" for name in STUDIES]


def modules_of_study(name):
    """A study is its package and what it shares with others, so that an edit of one re-runs that one."""
    shared = sorted((PROJECT.harness / "studies").glob("*.py"))
    return packages(f"studies/{name}") + relative(
        path for path in shared if path.stem != "benchmarks"
    )


def plugins_of_study(wildcards):
    folders = study_module(wildcards.study).plugin_folders(
        STUDIES[wildcards.study], wildcards.framework, PLAN.plugins
    )
    return relative(path for folder in folders for path in sorted(folder.rglob("*.py")))


wildcard_constraints:
    study="|".join(study_names()),
    framework=r"torch|jax",
    dataset=r"[a-z0-9][a-z0-9.-]*",
    method=r"[a-z0-9][a-z0-9-]*",
    variant=r"[a-z0-9][a-z0-9-]*",


onstart:
    PLAN.write()


localrules:
    all,
    retry_failed,
    verify,
