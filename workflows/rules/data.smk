# Prepares every data set once and reads what every method says of itself.


# Finds or downloads a data set, checks it, and writes its manifest; one that is not to be had is a row, not a failure.
rule prepare_dataset:
    output:
        f"{RESULTS}/data/{{dataset}}.json",
    log:
        f"{RESULTS}/logs/prepare_dataset/{{dataset}}.log",
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: DATASET_CODE[wildcards.dataset],
    shell:
        "python -m morphobench prepare --dataset {wildcards.dataset:q} --output {output:q} --code-hash {params.code}"
        " 2>&1 | tee {log:q}"


# Reads one method's YAML and parses its code without running it; a broken plugin becomes a visible row.
rule check_plugins:
    output:
        f"{RESULTS}/plugins/{{method}}.json",
    log:
        f"{RESULTS}/logs/check_plugins/{{method}}.log",
    conda:
        "../../environment.yml"
    params:
        code=lambda wildcards: digest(
            code_of(PLAN.methods[wildcards.method].folder),
            code_of_harness("plugins", "settings"),
        ),
    shell:
        "python -m morphobench check-plugin --method {wildcards.method:q} --output {output:q} 2>&1 | tee {log:q}"
