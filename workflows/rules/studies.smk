# Gradient accuracy, solver cost, operator recovery, nonsmooth differentiation. Jobs that measure time take every core, so that
# nothing runs beside them; each runs the cells of one study in one framework, and every cell leaves a record.


# Runs the cells of a study in one framework: gradients against the float64 reference, times of operators and solvers,
# or what operators learn from pairs of images.
rule study:
    output:
        f"{RESULTS}/studies/cells/{{study}}/{{framework}}.json",
    log:
        f"{RESULTS}/logs/study/{{study}}--{{framework}}.log",
    conda:
        "../../environment.yml"
    threads: TIMING_CORES
    resources:
        gpu=min(1, GPU_LIMIT),
    params:
        config=CONFIG,
        settings=lambda wildcards: json.dumps(STUDIES[wildcards.study], sort_keys=True),
        code=lambda wildcards: code_of_study(wildcards.study, wildcards.framework),
    shell:
        "MORPHOBENCH_THREADS={threads} MORPHOBENCH_GPUS={resources.gpu} python -m morphobench study {wildcards.study:q}"
        " --framework {wildcards.framework:q} --config {params.config:q} 2>&1 | tee {log:q}"


# Gathers the records of a study into its table and what the study tells besides. One rule a study, since each has outputs of
# its own.
for study in study_names():

    rule:
        name:
            f"collect_{study}"
        input:
            expand(
                f"{RESULTS}/studies/cells/{study}/{{framework}}.json",
                framework=STUDIES.get(study, {}).get("frameworks", []),
            ),
        output:
            f"{RESULTS}/studies/{study}.parquet",
            report(
                f"{RESULTS}/studies/{study}.csv",
                caption=f"../report/{study}.rst",
                category="Studies",
            ),
            [f"{RESULTS}/studies/{name}" for name in study_module(study).OUTPUTS],
        log:
            f"{RESULTS}/logs/collect_{study}.log",
        conda:
            "../../environment.yml"
        params:
            config=CONFIG,
            study=study,
            code=code_of_collected(study),
        shell:
            "python -m morphobench collect-study {params.study:q} --config {params.config:q} 2>&1 | tee {log:q}"


# Times the operators beside their peers with pytest-benchmark.
rule benchmark_operators:
    output:
        multiext(f"{RESULTS}/studies/benchmarks", ".csv", ".parquet"),
        multiext(f"{RESULTS}/studies/ratios", ".csv", ".parquet"),
        json=f"{RESULTS}/studies/benchmarks.json",
    log:
        f"{RESULTS}/logs/benchmark_operators.log",
    conda:
        "../../environment.yml"
    threads: TIMING_CORES
    params:
        config=CONFIG,
        seconds=STUDIES.get("benchmarks", {}).get("seconds"),
        only=STUDIES.get("benchmarks", {}).get("only"),
        code=code_of_benchmarks(),
    shell:
        "(OMP_NUM_THREADS={threads} python -m pytest tests/benchmarks -q -p no:cacheprovider"
        " --benchmark-only -k {params.only:q} --benchmark-max-time={params.seconds} --benchmark-json={output.json:q}"
        " && python -m morphobench study benchmarks --config {params.config:q}) 2>&1 | tee {log:q}"
