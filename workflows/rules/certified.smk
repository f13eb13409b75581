# Saved models that prove their predictions, and attacks on them. Nothing is trained here.
CERTIFIED = json.dumps(CONFIGURATION.certified.model_dump(), sort_keys=True)


# Proves and attacks what the saved models of one cell predict.
rule score_certified:
    input:
        records_of,
        manifest=f"{RESULTS}/data/{{dataset}}.json",
    output:
        f"{CELL}/certified.csv",
        f"{CELL}/certified.parquet",
    log:
        f"{RESULTS}/logs/score_certified/{{dataset}}--{{method}}--{{variant}}.log",
    conda:
        "../../environment.yml"
    threads: CONFIGURATION.threads
    params:
        config=CONFIG,
        certified=CERTIFIED,
        asked=lambda wildcards: asked_of(wildcards.dataset, wildcards.method),
        code=code_of_harness("evaluation"),
    shell:
        "OMP_NUM_THREADS={threads} python -m morphobench certified --config {params.config:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --variant {wildcards.variant:q} 2>&1 | tee {log:q}"


# Gathers proofs and attacks into one tidy table.
rule collect_certified:
    input:
        [
            expand(f"{CELL}/certified.parquet", dataset=d, method=m, variant=v)[0]
            for d, m, v in PLAN.certified_cells
        ],
    output:
        multiext(f"{RESULTS}/tables/certified", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/collect_certified.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        certified=CERTIFIED,
        code=digest(asked_of_cells(PLAN.certified_cells), code_of_harness("evaluation")),
    shell:
        "python -m morphobench collect-certified --config {params.config:q} 2>&1 | tee {log:q}"
