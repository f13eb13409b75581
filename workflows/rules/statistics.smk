# Compares methods with each other, with published values and with the committed reference.
TABLES = expand(f"{RESULTS}/tables/{{table}}.parquet", table=["trials", "scores"])
# Tables of the runs (from other machines, say) that this report takes in; they are copied here, never made here.
INCLUDED = expand(
    "results/{run}/tables/{table}.parquet",
    run=CONFIGURATION.report.include,
    table=["trials", "scores"],
)
PLUGINS = expand(f"{RESULTS}/plugins/{{method}}.json", method=PLAN.methods)
STATISTICS_CODE = digest(TABLES_CODE, code_of_harness("statistics"))


# Means with intervals, paired differences to the baseline, ranking, the same networks in two frameworks.
rule compare_methods:
    input:
        TABLES,
        INCLUDED,
        PLUGINS,
    output:
        f"{RESULTS}/statistics/means.parquet",
        report(
            f"{RESULTS}/statistics/means.csv",
            caption="../report/means.rst",
            category="Comparison",
        ),
        f"{RESULTS}/statistics/differences.parquet",
        report(
            f"{RESULTS}/statistics/differences.csv",
            caption="../report/differences.rst",
            category="Comparison",
        ),
        f"{RESULTS}/statistics/ranking.parquet",
        report(
            f"{RESULTS}/statistics/ranking.csv",
            caption="../report/ranking.rst",
            category="Comparison",
        ),
        multiext(f"{RESULTS}/statistics/friedman", ".csv", ".parquet"),
        multiext(f"{RESULTS}/statistics/counterparts", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/compare_methods.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=STATISTICS_CODE,
    shell:
        "python -m morphobench statistics methods --config {params.config:q} 2>&1 | tee {log:q}"


# Differences to the published values that datasets/*/published.csv hold.
rule check_published:
    input:
        TABLES,
    output:
        multiext(f"{RESULTS}/statistics/published", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/check_published.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=STATISTICS_CODE,
        numbers=digest_files(PROJECT.datasets.glob("*/published.csv"), PROJECT.root),
    shell:
        "python -m morphobench statistics published --config {params.config:q} 2>&1 | tee {log:q}"


# Differences to the committed numbers of this run's name in results/reference.
rule compare_reference:
    input:
        TABLES,
    output:
        multiext(f"{RESULTS}/statistics/reference", ".csv", ".parquet"),
    log:
        f"{RESULTS}/logs/compare_reference.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=STATISTICS_CODE,
        numbers=digest_files(PROJECT.reference.glob(f"{RUN}.csv"), PROJECT.root),
    shell:
        "python -m morphobench statistics reference --config {params.config:q} 2>&1 | tee {log:q}"


# Prints the comparison with the reference and fails on drift; asked for by name (snakemake verify).
rule verify:
    input:
        rules.compare_reference.output,
    log:
        f"{RESULTS}/logs/verify.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
    shell:
        "python -m morphobench verify --config {params.config:q} 2>&1 | tee {log:q}"
