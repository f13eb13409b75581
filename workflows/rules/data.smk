# Resolves the configuration, prepares every data set once and reads what every method says of itself.


# Writes the configuration with every default filled in, and the versions, commit and hardware of this run.
rule resolve_configuration:
    input:
        sources("configuration", "schemas"),
        "workflows/schemas/config.schema.yaml",
    output:
        CONFIG,
    log:
        f"{RESULTS}/logs/resolve_configuration.log",
    conda:
        "../../environment.yml"
    params:
        values=json.dumps(config, sort_keys=True),
        cells=["/".join(cell) for cell in PLAN.cells],  # a folder or variant added since is written out too
    shell:
        "printf '%s' {params.values:q} | python -m morphobench resolve-config --output {output:q} 2>&1 | tee {log:q}"


# Finds or downloads a data set, checks it, and writes its manifest; one that is not to be had is a row, not a failure.
rule prepare_dataset:
    input:
        sources_of_dataset,
        sources("preparation", "download", "splits", "synthesis", "contract"),
        ancient(CONFIG),
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/prepare_dataset/{{dataset}}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m morphobench prepare --dataset {wildcards.dataset:q} --output {output:q} 2>&1 | tee {log:q}"


# Reads one method's YAML and parses its code without running it; a broken plugin becomes a visible row.
rule check_plugins:
    input:
        lambda wildcards: relative(dataset_sources(PLAN.methods[wildcards.method])),
        sources("registry", "schemas"),
        "workflows/schemas/method.schema.yaml",
        ancient(CONFIG),
    output:
        f"{RESULTS}/plugins/{{method}}.json",
    log:
        f"{RESULTS}/logs/check_plugins/{{method}}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m morphobench check-plugin --method {wildcards.method:q} --output {output:q} 2>&1 | tee {log:q}"
