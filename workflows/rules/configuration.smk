# Checks the configuration before any work starts, and says where everything lies.
import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from morphobench.configuration import make_plan, resolve_configuration
from morphobench.layout import find_house
from morphobench.provenance import gpus
from morphobench.registry import dataset_sources, method_sources
from morphobench.schemas import Mistake

HOUSE = find_house(Path(workflow.basedir))
try:
    CONFIGURATION = resolve_configuration(
        dict(config), HOUSE, ", ".join(str(name) for name in workflow.configfiles)
    )
except Mistake as mistake:
    print(f"morphobench: {mistake}", file=sys.stderr)
    sys.exit(2)

# Snakemake ignores a resource that has no limit: without this, jobs would share a GPU. --resources gpu=N overrides it.
if "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", max(1, len(gpus())))

PLAN = make_plan(CONFIGURATION, HOUSE)
RUN = CONFIGURATION["run"]
RESULTS = f"results/{RUN}"
REPORT = f"reports/{RUN}"
CONFIG = f"{RESULTS}/config.yaml"
PYTHON = f"{sys.executable} -m morphobench"


def sources(*names):
    """Harness modules that a step depends on: an edit of one re-runs the step."""
    return [f"workflows/morphobench/{name}.py" for name in names]


def relative(paths):
    return [str(path.relative_to(HOUSE.root)) for path in paths]


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9.-]*",
    method=r"[a-z0-9][a-z0-9-]*",
    variant=r"[a-z0-9][a-z0-9-]*",


localrules:
    all,
    resolve_configuration,
    retry_failed,
    verify,


# Writes the configuration with every default filled in, and the versions, commit and hardware of this run.
rule resolve_configuration:
    input:
        sources("configuration", "schemas"),
        "workflows/schemas/config.schema.yaml",
    output:
        CONFIG,
    log:
        f"{RESULTS}/logs/resolve_configuration.log",
    conda:
        "../../environment.yml"
    params:
        values=json.dumps(config, sort_keys=True),
        methods=sorted(PLAN.methods),  # a folder added since is written out too
    shell:
        "printf '%s' {params.values:q} | {PYTHON} resolve-config --output {output:q} 2>&1 | tee {log:q}"
