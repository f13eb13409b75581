# Gradient accuracy and solver cost. Jobs that measure time take every core, so that nothing runs beside them.
# Compares the gradients of every mode with the float64 reference.
rule study_gradients:
    input:
        LIBRARY,
        STUDY_SOURCES,
    output:
        f"{RESULTS}/studies/gradients.parquet",
        report(
            f"{RESULTS}/studies/gradients.csv",
            caption="../report/gradients.rst",
            category="Studies",
        ),
        f"{RESULTS}/studies/gradients_summary.csv",
    log:
        f"{RESULTS}/logs/study_gradients.log",
    conda:
        "../../environment.yml"
    threads: EVERY_CORE
    params:
        config=CONFIG,
        study=json.dumps(STUDIES.get("gradients"), sort_keys=True),
    shell:
        "MORPHOBENCH_THREADS={threads} python -m morphobench study gradients --config {params.config:q} 2>&1 | tee {log:q}"


# Times the operators over image size, forward and backward apart.
rule study_solver_cost:
    input:
        LIBRARY,
        STUDY_SOURCES,
    output:
        multiext(f"{RESULTS}/studies/solvers", ".parquet", ".json"),
        report(
            f"{RESULTS}/studies/solvers.csv",
            caption="../report/solvers.rst",
            category="Studies",
        ),
    log:
        f"{RESULTS}/logs/study_solver_cost.log",
    conda:
        "../../environment.yml"
    threads: EVERY_CORE
    params:
        config=CONFIG,
        study=json.dumps(STUDIES.get("solvers"), sort_keys=True),
    shell:
        "MORPHOBENCH_THREADS={threads} python -m morphobench study solvers --config {params.config:q} 2>&1 | tee {log:q}"


# Times the operators beside their peers with pytest-benchmark.
rule benchmark_operators:
    input:
        LIBRARY,
        STUDY_SOURCES,
        relative(sorted((HOUSE.root / "tests" / "benchmarks").glob("*.py"))),
    output:
        multiext(f"{RESULTS}/studies/benchmarks", ".csv", ".parquet"),
        multiext(f"{RESULTS}/studies/ratios", ".csv", ".parquet"),
        json=f"{RESULTS}/studies/benchmarks.json",
    log:
        f"{RESULTS}/logs/benchmark_operators.log",
    conda:
        "../../environment.yml"
    threads: EVERY_CORE
    params:
        config=CONFIG,
        seconds=STUDIES.get("benchmarks", {}).get("seconds"),
    shell:
        "(OMP_NUM_THREADS={threads} python -m pytest tests/benchmarks -q -p no:cacheprovider"
        " --benchmark-only --benchmark-max-time={params.seconds} --benchmark-json={output.json:q}"
        " && python -m morphobench study benchmarks --config {params.config:q}) 2>&1 | tee {log:q}"
