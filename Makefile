# The commands of this checkout. `make` lists them. Settings: PYTHON=python3.12, TORCH=cpu|cuda, ARGS="...".
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
PYTHON ?=
TORCH ?=
ARGS ?=
export PYTHON TORCH
# No test, demo or benchmark asks a model hub for anything: what they need is in the package.
OFFLINE := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: help setup demo test check docs bench clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Leave a ready .venv (once; about 2 GB)
	@scripts/setup

demo: setup ## Curate, train, evaluate, serve and ask, on the packaged samples (at most 5 minutes)
	@$(OFFLINE) ATTUNE_HOME="$(CURDIR)/demo/home" $(BIN)/attune demo --out demo $(ARGS)

# Two processes of one thread: more threads make the tests' tiny models slower, and what a file's tests share is made once.
test: setup ## Run all tests; fails under 90 % line coverage
	@$(OFFLINE) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --cov -n $${TEST_PROCESSES:-2} --dist loadfile $(ARGS)

check: ## Lint and check types (adds ruff and mypy to .venv)
	@scripts/setup --dev
	@scripts/check

docs: setup ## Write the generated reference again (docs/configuration.md, docs/cli.md, docs/api.md)
	@$(BIN)/python scripts/docs

bench: setup ## Measure curation on ../shared/data; the figures go to benchmarks/results
	@$(OFFLINE) $(BIN)/python benchmarks/curation.py $(or $(ARGS),speed)

clean: ## Remove .venv, caches and build leftovers; keeps demo/, runs/ and out/
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* src/*.egg-info lightning_logs
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
