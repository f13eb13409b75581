# Gradient accuracy, solver cost, operator recovery, nonsmooth differentiation. Jobs that measure time take every core, so that nothing runs beside them; each runs the
# cells of one study in one framework, and every cell leaves a record.


# Runs the cells of a study in one framework: gradients against the float64 reference, times of operators and solvers,
# or what operators learn from pairs of images.
rule study:
    input:
        LIBRARY,
        packages("studies"),
        plugins_of_study,
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
    shell:
        "MORPHOBENCH_THREADS={threads} MORPHOBENCH_GPUS={resources.gpu} python -m morphobench study {wildcards.study:q}"
        " --framework {wildcards.framework:q} --config {params.config:q} 2>&1 | tee {log:q}"


# Gathers the records of the gradient study.
rule collect_gradients:
    input:
        cells_of("gradients"),
        packages("studies"),
    output:
        f"{RESULTS}/studies/gradients.parquet",
        report(
            f"{RESULTS}/studies/gradients.csv",
            caption="../report/gradients.rst",
            category="Studies",
        ),
        f"{RESULTS}/studies/gradients_summary.csv",
    log:
        f"{RESULTS}/logs/collect_gradients.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench collect-study gradients --config {params.config:q} 2>&1 | tee {log:q}"


# Gathers the records of the solver study.
rule collect_solvers:
    input:
        cells_of("solvers"),
        packages("studies"),
    output:
        multiext(f"{RESULTS}/studies/solvers", ".parquet", ".json"),
        report(
            f"{RESULTS}/studies/solvers.csv",
            caption="../report/solvers.rst",
            category="Studies",
        ),
    log:
        f"{RESULTS}/logs/collect_solvers.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench collect-study solvers --config {params.config:q} 2>&1 | tee {log:q}"


# Gathers the records of operator recovery.
rule collect_recovery:
    input:
        cells_of("recovery"),
        packages("studies"),
    output:
        multiext(f"{RESULTS}/studies/recovery", ".parquet", ".json"),
        f"{RESULTS}/studies/recovery_functions.npz",
        report(
            f"{RESULTS}/studies/recovery.csv",
            caption="../report/recovery.rst",
            category="Studies",
        ),
    log:
        f"{RESULTS}/logs/collect_recovery.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench collect-study recovery --config {params.config:q} 2>&1 | tee {log:q}"


# Gathers the records of nonsmooth differentiation.
rule collect_nonsmooth:
    input:
        cells_of("nonsmooth"),
        packages("studies"),
    output:
        multiext(f"{RESULTS}/studies/nonsmooth", ".parquet", ".json"),
        report(
            f"{RESULTS}/studies/nonsmooth.csv",
            caption="../report/nonsmooth.rst",
            category="Studies",
        ),
    log:
        f"{RESULTS}/logs/collect_nonsmooth.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench collect-study nonsmooth --config {params.config:q} 2>&1 | tee {log:q}"


# Times the operators beside their peers with pytest-benchmark.
rule benchmark_operators:
    input:
        LIBRARY,
        packages("studies"),
        relative(sorted((PROJECT.root / "tests" / "benchmarks").glob("*.py"))),
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
    shell:
        "(OMP_NUM_THREADS={threads} python -m pytest tests/benchmarks -q -p no:cacheprovider"
        " --benchmark-only -k {params.only:q} --benchmark-max-time={params.seconds} --benchmark-json={output.json:q}"
        " && python -m morphobench study benchmarks --config {params.config:q}) 2>&1 | tee {log:q}"
