# Saved models on corrupted test images. Nothing is trained here.
ROBUSTNESS = json.dumps(CONFIGURATION.robustness.model_dump(), sort_keys=True)


# Scores the saved models of one cell.
rule score_corrupted:
    input:
        records_of,
        manifest=f"{RESULTS}/data/{{dataset}}.json",
    output:
        f"{CELL}/robustness.csv",
        f"{CELL}/robustness.parquet",
    log:
        f"{RESULTS}/logs/score_corrupted/{{dataset}}--{{method}}--{{variant}}.log",
    conda:
        "../../environment.yml"
    threads: CONFIGURATION.threads
    params:
        config=CONFIG,
        robustness=ROBUSTNESS,
        asked=lambda wildcards: asked_of(wildcards.dataset, wildcards.method),
        code=code_of_harness("evaluation"),
    shell:
        "OMP_NUM_THREADS={threads} python -m morphobench robustness --config {params.config:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --variant {wildcards.variant:q} 2>&1 | tee {log:q}"


# Gathers the scores on corrupted images into one tidy table.
rule collect_robustness:
    input:
        [
            expand(f"{CELL}/robustness.parquet", dataset=d, method=m, variant=v)[0]
            for d, m, v in PLAN.corrupted_cells
        ],
    output:
        multiext(f"{RESULTS}/tables/robustness", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/collect_robustness.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        robustness=ROBUSTNESS,
        code=digest(asked_of_cells(PLAN.corrupted_cells), code_of_harness("evaluation")),
    shell:
        "python -m morphobench collect-robustness --config {params.config:q} 2>&1 | tee {log:q}"
