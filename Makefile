# make reproduce   set up, run the default tier, say where the report is        make smoke   the same with the smoke tier
# make test        set up, run every test                                       make env     the set-up alone
# make gpu-check   set up, then check and time the programs for CUDA where there is a GPU, within ten minutes
# make check       what continuous integration runs: format, lint, types, tests, smoke tier
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
CORES ?= all
# Programs are called as modules: the scripts that pip writes do not start in a folder whose name has $ or ".
BIN := $(VENV)/bin
PYTHON_FILES := varmorph workflows/morphobench methods datasets tests

.PHONY: reproduce smoke test gpu-check check env format lint types clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: found $$($(PYTHON) --version), expected Python 3.11 or newer (make PYTHON=...)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m varmorph.torch.backend.precompile
	@touch $@

reproduce: env
	$(BIN)/python -m snakemake --cores $(CORES)
	@echo; echo "The report is $$PWD/reports/default/index.html"

smoke: env
	$(BIN)/python -m snakemake --cores $(CORES) --configfile workflows/config/smoke.yaml
	@echo; echo "The report is $$PWD/reports/smoke/index.html"

test: env
	$(BIN)/python -m pytest -n 2 --dist worksteal

gpu-check: env
	PYTHONPATH=workflows $(BIN)/python -m morphobench gpu-check

format: env
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/python -m snakefmt --check Snakefile workflows/rules

lint: env
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/python -m snakemake --lint

types: env
	$(BIN)/python -m mypy

check: format lint types test smoke

clean:
	rm -rf $(VENV) .snakemake .mypy_cache .ruff_cache .pytest_cache .hypothesis
