# Checks the configuration before any work starts, and says where everything lies.
import json
import sys
from dataclasses import asdict
from pathlib import Path

from morphobench.runs.configuration import (
    corrupted_cells,
    make_plan,
    name_methods,
    resolve_configuration,
    write_configuration,
)
from morphobench.project.files import digest
from morphobench.runs.interruption import claim_folder
from morphobench.project.paths import find_project
from morphobench.project.provenance import gpus
from morphobench.plugins.code_hash import dataset_sources, method_sources
from morphobench.project.validation import UserError

PROJECT = find_project(Path(workflow.basedir))
try:
    CONFIGURATION = resolve_configuration(
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


# For jobs that measure time: nothing runs beside them. Without --cores (on a cluster, for --report) Snakemake knows no number.
EVERY_CORE = workflow.global_resources["_cores"].value or 4
TIMING_CORES = EVERY_CORE if CONFIGURATION["quiet"] else 1

PLAN = make_plan(CONFIGURATION, PROJECT)
DATASETS_TRIED = list(dict.fromkeys(dataset for dataset, _, _ in PLAN.cells))
RUN = CONFIGURATION["run"]
RESULTS = f"results/{RUN}"
REPORT = f"reports/{RUN}"
# Every default filled in, written when jobs start. It is no input of a job, since an edited key would then hide from Snakemake
# which jobs it touches: each job names the part that it depends on among its params, SETTINGS being all of it.
CONFIG = f"{RESULTS}/config.yaml"
SETTINGS = digest(json.dumps(name_methods(CONFIGURATION, PROJECT), sort_keys=True))
CELL = f"{RESULTS}/trials/{{dataset}}/{{method}}/{{variant}}"
STUDIES = CONFIGURATION["studies"]
# Jobs find the Python that runs Snakemake, whether or not its environment has been activated. A prefix replaces Snakemake's
# own, which makes a failure ahead of `| tee` fail the job: it is repeated here.
shell.prefix(f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; ')


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
    return getattr(PLAN.methods[wildcards.method], "resources", {})


def gpus_of(wildcards):
    return min(resources_of(wildcards).get("gpu", 0), GPU_LIMIT)


def budget_of(wildcards):
    """The budget as parameters of the job: changing it re-runs the trials it touches and no others."""
    budget = CONFIGURATION.budget(wildcards.dataset, resources_of(wildcards))
    return json.dumps(asdict(budget), sort_keys=True)


def records_of(wildcards):
    return expand(
        f"{CELL}/seed-{{seed}}/record.json",
        seed=CONFIGURATION["seeds"],
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
    """Tables of the studies that the configuration asks for."""
    known = ("gradients", "solvers", "recovery", "nonsmooth", "benchmarks")
    names = [name for name in known if name in STUDIES]
    return [f"{RESULTS}/studies/{name}.csv" for name in names]


def plugins_of_study(wildcards):
    """Plugins whose own operators take part in a study, and the data sets that it learns from."""
    from morphobench.studies.recovery.study import identifiers
    from morphobench.studies.plugin_operators import (
        INSTANCES,
        RECOVERY,
        methods_with_operators,
    )

    if wildcards.study == "nonsmooth":
        return []
    recovery = wildcards.study == "recovery"
    found = methods_with_operators(
        wildcards.framework, RECOVERY if recovery else INSTANCES
    )
    folders = [PROJECT.methods / name for name in found]
    if recovery:
        names = identifiers(STUDIES["recovery"]["datasets"])
        folders += [PROJECT.datasets / name.partition(".")[0] for name in names]
    return relative(
        path
        for folder in dict.fromkeys(folders)
        for path in sorted(folder.rglob("*.py"))
    )


def cells_of(study):
    """Lists of the cells of a study, one a framework; nothing where the run has no such study."""
    return expand(
        f"{RESULTS}/studies/cells/{study}/{{framework}}.json",
        framework=STUDIES[study]["frameworks"] if study in STUDIES else [],
    )


wildcard_constraints:
    study=r"gradients|solvers|recovery|nonsmooth",
    framework=r"torch|jax",
    dataset=r"[a-z0-9][a-z0-9.-]*",
    method=r"[a-z0-9][a-z0-9-]*",
    variant=r"[a-z0-9][a-z0-9-]*",


onstart:
    write_configuration(CONFIGURATION, PROJECT)


localrules:
    all,
    retry_failed,
    verify,
