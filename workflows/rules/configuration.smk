# Checks the configuration before any work starts, and says where everything lies.
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

# The code of this checkout runs, here and in the jobs, also where the package is installed as a copy.
CODE = [str(Path(workflow.basedir) / "workflows"), str(workflow.basedir)]
sys.path[:0] = CODE

from morphobench.project.checkout import lead_jobs_to
from morphobench.runs.plan import make_plan
from morphobench.project.files import digest, digest_files
from morphobench.runs.interruption import claim_folder, undo_future_dates
from morphobench.project.paths import find_project
from morphobench.project.provenance import gpus
from morphobench.plugins.code_hash import code_hash, plugin_files
from morphobench.project.errors import UserError
from morphobench.settings.reading import read_yaml
from morphobench.studies.cells import study_module, study_names

lead_jobs_to(CODE)
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

RUN = PLAN.configuration.run
RESULTS = f"results/{RUN}"
REPORT = f"reports/{RUN}"
if workflow.is_main_process and not workflow.dryrun:
    if claim_folder(Path(".snakemake")):
        print(
            "The run before this one was killed: its lock is removed.", file=sys.stderr
        )
    if ahead := undo_future_dates(Path(RESULTS), Path(REPORT)):
        print(
            f"{RESULTS}, {REPORT}: {ahead} files dated ahead of the clock are dated now.",
            file=sys.stderr,
        )

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


# Code is no input of a job, since its dates do not tell what lies in it: a file may come back with an older one, results may be
# dated ahead. Each job names among its params the digest of all code that it and the jobs before it depend on.
def code_of(*folders):
    return digest_files(plugin_files(*folders), PROJECT.root)


def code_of_harness(*names):
    """Packages of the harness that a step depends on: an edit in one re-runs the step."""
    return code_of(*(PROJECT.harness / name for name in names))


DATASET_CODE = {name: code_hash(PROJECT, info) for name, info in PLAN.datasets.items()}
METHOD_CODE = {name: code_hash(PROJECT, info) for name, info in PLAN.methods.items()}
LIBRARY_CODE = code_of(PROJECT.library)


def resources_of(wildcards):
    return getattr(PLAN.methods[wildcards.method], "resources", None)


def gpus_of(wildcards):
    return min(getattr(resources_of(wildcards), "gpu", 0), GPU_LIMIT)


def asked_of(dataset, method):
    """What the trials of a method on a data set are asked, and their code: an edit re-runs the trials it touches and no others."""
    resources = getattr(PLAN.methods[method], "resources", None)
    return json.dumps(
        {
            "budget": asdict(CONFIGURATION.budget_for(dataset, resources)),
            "tuning": CONFIGURATION.tuning.model_dump(),
            "threads": CONFIGURATION.threads,
            "code": [DATASET_CODE[dataset], METHOD_CODE[method]],
        },
        sort_keys=True,
    )


def asked_of_cells(cells):
    asked = {(d, m): asked_of(d, m) for d, m, _ in cells}
    return digest(json.dumps([[*cell, asked[cell[:2]]] for cell in cells]))


ASKED_OF_TRIALS = asked_of_cells(PLAN.cells)
TABLES_CODE = digest(ASKED_OF_TRIALS, code_of_harness("evaluation"))


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


def code_of_study(name, framework):
    """A study is its package and what it shares with others, so that an edit of one re-runs that one."""
    harness = PROJECT.harness / "studies"
    shared = [path for path in harness.glob("*.py") if path.stem != "benchmarks"]
    plugins = study_module(name).plugin_folders(STUDIES[name], framework, PLAN.plugins)
    return digest(
        LIBRARY_CODE,
        code_of(harness / name, *plugins),
        digest_files(shared, PROJECT.root),
    )


def code_of_collected(name):
    frameworks = STUDIES.get(name, {}).get("frameworks", [])
    return digest(*(code_of_study(name, framework) for framework in frameworks))


def code_of_benchmarks():
    own = PROJECT.harness / "studies" / "benchmarks.py"
    return digest(
        LIBRARY_CODE,
        code_of(PROJECT.root / "tests" / "benchmarks"),
        digest_files([own], PROJECT.root),
    )


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
