# Draws the figures and writes the page that people read.
STATISTICS = expand(
    f"{RESULTS}/statistics/{{table}}.parquet",
    table=[
        *("means", "differences", "ranking", "friedman"),
        *("counterparts", "published", "reference"),
    ],
)
REPORT_CODE = digest(
    STATISTICS_CODE,
    code_of_harness("report"),
    *(code_of_collected(study) for study in study_names()),
    code_of_benchmarks(),
)
MANIFESTS = expand(f"{RESULTS}/data/{{dataset}}.json", dataset=PLAN.datasets)


# Every figure as SVG, PDF and PNG, and a manifest of them with captions made from the numbers.
rule draw_figures:
    input:
        TABLES,
        STATISTICS,
        PLUGINS,
        MANIFESTS,
        study_tables(),
        rules.collect_robustness.output,
        rules.collect_certified.output,
    output:
        f"{REPORT}/figures/figures.json",
    log:
        f"{RESULTS}/logs/draw_figures.log",
    conda:
        "../../environment.yml"
    threads: 4
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=REPORT_CODE,
    shell:
        "python -m morphobench figures --config {params.config:q} --processes {threads} 2>&1 | tee {log:q}"


# One self-contained page that opens offline.
rule write_report:
    input:
        rules.draw_figures.output,
    output:
        report(
            f"{REPORT}/index.html", caption="../report/report.rst", category="Report"
        ),
    log:
        f"{RESULTS}/logs/write_report.log",
    conda:
        "../../environment.yml"
    params:
        config=CONFIG,
        settings=SETTINGS,
        code=REPORT_CODE,
    shell:
        "python -m morphobench report --config {params.config:q} 2>&1 | tee {log:q}"
