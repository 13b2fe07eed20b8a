# Every target creates the project's own environment, or reuses it: nothing else has to be done first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= portraits
PYTEST_ARGS ?= -n 2
PHOTOS ?= build/photos
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Idle OpenMP threads that spin make small models up to ten times slower when processes share cores.
export OMP_WAIT_POLICY := passive
export DVC_NO_ANALYTICS := 1
# Without byte code every process compiles torch and diffusers for itself, some twenty seconds each.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo demo-photos test test-all check fix generate lock bench bench-claims embedded-assets

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: $(STAMP) ## Create or refresh .venv from constraints.txt.

# The packages first, the project last and the stamp after both: an interrupted set-up starts again.
# PyPI's torch for Linux is a CUDA build, whose libraries the lock leaves out: they are fetched only where
# the import shows that they are needed.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo 'error: Likeness needs Python 3.11; say where it is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	@echo "Installing the pinned packages into $(VENV): a few minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --no-deps -r constraints.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --force-reinstall -c constraints.txt torch
	@touch $@

demo: $(STAMP) ## The whole graph on the embedded portraits, then the gate's decision.
	@$(BIN)/likeness run-pipeline --driver dvc --profile $(PROFILE)

demo-photos: $(STAMP) ## Build the photograph pack and curate openly licensed photographs.
	@$(BIN)/likeness faces build
	@$(BIN)/likeness faces photos $(PHOTOS)
	@$(BIN)/likeness curate $(PHOTOS) build/curated

test: $(STAMP) ## The fast tests.
	@$(BIN)/python -m pytest -m 'not slow and not photos' $(PYTEST_ARGS)

test-all: $(STAMP) ## Every test, those of minutes too.
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP) ## Linters, types, import layers, generated files.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/likeness generate --check

fix: $(STAMP) ## Format, and mend what the linter can.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: $(STAMP) ## Rewrite dvc.yaml, the components and the compiled pipelines.
	@$(BIN)/likeness generate

lock: ## Rewrite constraints.txt from what is installed in .venv.
	@$(BIN)/python scripts/lock.py

bench: $(STAMP) ## Wall time, CPU time and peak memory of each step.
	@$(BIN)/python benchmarks/steps.py --profile $(PROFILE) --out build/benchmarks/$(PROFILE).json

bench-claims: $(STAMP) ## Every claim of a paper, on five seeds or more; CLAIMS="D3 D11" for some (hours for all).
	@$(BIN)/python benchmarks/claims.py $(CLAIMS)

embedded-assets: $(STAMP) ## Train the embedded models from nothing and put them into assets/embedded (hours).
	@$(BIN)/likeness run-pipeline --driver dvc --profile embedded
	@mkdir -p assets && rm -rf assets/embedded.incomplete
	@cp -r build/embedded/export_embedded/assets assets/embedded.incomplete
	@rm -rf assets/embedded && mv assets/embedded.incomplete assets/embedded
