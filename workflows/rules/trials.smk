# Trains, predicts and scores. Training and scoring are different processes: only the second reads test labels.
# One rule a chunk of seeds, since every seed is an output of its own. The supervisor inside enforces the time limit.
for chunk, seeds in enumerate(CONFIGURATION.seed_chunks()):

    rule:
        name:
            f"run_trials_{chunk}"
        input:
            f"{RESULTS}/data/{{dataset}}.json",
            f"{RESULTS}/plugins/{{method}}.json",
        output:
            expand(f"{CELL}/seed-{{seed}}/record.json", seed=seeds, allow_missing=True),
        log:
            f"{RESULTS}/logs/run_trials/{{dataset}}--{{method}}--{{variant}}--{chunk}.log",
        conda:
            "../../environment.yml"
        threads: CONFIGURATION.threads
        resources:
            mem_mb=lambda wildcards: CONFIGURATION.budget_for(
                wildcards.dataset, resources_of(wildcards)
            ).memory_mb,
            gpu=gpus_of,
        params:
            config=CONFIG,
            seeds=seeds,
            asked=lambda wildcards: asked_of(wildcards.dataset, wildcards.method),
            code=lambda wildcards: METHOD_CODE[wildcards.method],
        shell:
            "MORPHOBENCH_GPUS={resources.gpu} python -m morphobench run-trials --config {params.config:q}"
            " --dataset {wildcards.dataset:q} --method {wildcards.method:q} --variant {wildcards.variant:q}"
            " --seeds {params.seeds} --code-hash {params.code} 2>&1 | tee {log:q}"


# Reads predictions and test labels, writes every metric of the task. One process for all trials of a data set: scoring takes
# milliseconds, starting seconds.
rule score_trials:
    input:
        records_on_dataset,
        manifest=f"{RESULTS}/data/{{dataset}}.json",
    output:
        f"{RESULTS}/trials/{{dataset}}/scores.csv",
        f"{RESULTS}/trials/{{dataset}}/scores.parquet",
    log:
        f"{RESULTS}/logs/score_trials/{{dataset}}.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        asked=lambda wildcards: asked_of_cells(
            [cell for cell in PLAN.cells if cell[0] == wildcards.dataset]
        ),
        code=code_of_harness("evaluation"),
    shell:
        "python -m morphobench score --config {params.config:q} --dataset {wildcards.dataset:q} 2>&1 | tee {log:q}"


# Gathers records and scores into two tidy tables.
rule collect:
    input:
        expand(f"{RESULTS}/trials/{{dataset}}/scores.parquet", dataset=DATASETS_TRIED),
    output:
        multiext(f"{RESULTS}/tables/trials", ".csv", ".parquet"),
        multiext(f"{RESULTS}/tables/scores", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/collect.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=TABLES_CODE,
    shell:
        "python -m morphobench collect --config {params.config:q} 2>&1 | tee {log:q}"


# Runs the trials again that have no score; asked for by name (snakemake retry_failed).
rule retry_failed:
    log:
        f"{RESULTS}/logs/retry_failed.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench retry-failed --config {params.config:q} 2>&1 | tee {log:q}"
