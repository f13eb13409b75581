# One workflow, three tiers: a tier is a file of workflows/config, chosen with --configfile; default.yaml without one.


# Paths of the workflow are those of the checkout, wherever snakemake was called.
workdir: workflow.basedir


# --config alone changes the default tier.
if not workflow.configfiles:

    configfile: f"{workflow.basedir}/workflows/config/default.yaml"


include: "workflows/rules/configuration.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/trials.smk"
include: "workflows/rules/robustness.smk"
include: "workflows/rules/certified.smk"
include: "workflows/rules/studies.smk"
include: "workflows/rules/statistics.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{REPORT}/index.html",
        f"{RESULTS}/statistics/published.csv",
        f"{RESULTS}/statistics/reference.csv",
