# Gradient accuracy and solver cost. Jobs that measure time take every core, so that nothing runs beside them.
STUDIES = CONFIGURATION["studies"]
LIBRARY = relative(sorted(HOUSE.library.rglob("*.py")))
STUDY_SOURCES = relative(sorted((HOUSE.harness / "studies").glob("*.py")))


def study_tables(wildcards=None):
    """Tables of the studies that the configuration asks for."""
    names = [
        name for name in ("gradients", "solvers", "benchmarks") if STUDIES.get(name)
    ]
    return [f"{RESULTS}/studies/{name}.csv" for name in names]


# Compares the gradients of every mode with the float64 reference.
rule study_gradients:
    input:
        LIBRARY,
        STUDY_SOURCES,
        config=ancient(CONFIG),
    output:
        multiext(f"{RESULTS}/studies/gradients", ".csv", ".parquet"),
        f"{RESULTS}/studies/gradients_summary.csv",
    log:
        f"{RESULTS}/logs/study_gradients.log",
    conda:
        "../../environment.yml"
    threads: workflow.cores
    params:
        study=json.dumps(STUDIES.get("gradients"), sort_keys=True),
    shell:
        "MORPHOBENCH_THREADS={threads} {PYTHON} study gradients --config {input.config:q} 2>&1 | tee {log:q}"


# Times the operators over image size, forward and backward apart.
rule study_solver_cost:
    input:
        LIBRARY,
        STUDY_SOURCES,
        config=ancient(CONFIG),
    output:
        multiext(f"{RESULTS}/studies/solvers", ".csv", ".parquet", ".json"),
    log:
        f"{RESULTS}/logs/study_solver_cost.log",
    conda:
        "../../environment.yml"
    threads: workflow.cores
    params:
        study=json.dumps(STUDIES.get("solvers"), sort_keys=True),
    shell:
        "MORPHOBENCH_THREADS={threads} {PYTHON} study solvers --config {input.config:q} 2>&1 | tee {log:q}"


# Times the operators beside their peers with pytest-benchmark.
rule benchmark_operators:
    input:
        LIBRARY,
        STUDY_SOURCES,
        relative(sorted((HOUSE.root / "tests" / "benchmarks").glob("*.py"))),
        config=ancient(CONFIG),
    output:
        multiext(f"{RESULTS}/studies/benchmarks", ".csv", ".parquet", ".json"),
    log:
        f"{RESULTS}/logs/benchmark_operators.log",
    conda:
        "../../environment.yml"
    threads: workflow.cores
    shell:
        "(OMP_NUM_THREADS={threads} {sys.executable} -m pytest tests/benchmarks -q -p no:cacheprovider"
        " --benchmark-only --benchmark-json={RESULTS}/studies/benchmarks.json"
        " && {PYTHON} study benchmarks --config {input.config:q}) 2>&1 | tee {log:q}"
