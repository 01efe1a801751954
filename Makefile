# diffcf: `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= experiments/pendulum_quick.yaml
SEED ?= 0
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Every seed but 0 in a folder of its own; name any other by RUN=.
RUN ?= runs/$(basename $(notdir $(CONFIG)))$(if $(filter-out 0,$(SEED)),_seed$(SEED))

# glibc gives large buffers back to the system after every operation; keeping them saves page faults.
export MALLOC_TRIM_THRESHOLD_ := 2000000000
export MALLOC_MMAP_THRESHOLD_ := 2000000000

.DEFAULT_GOAL := help
.PHONY: help setup run benchmark bench tables docs docs-version test test-slow lint clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(BIN)/.ready ## Create .venv and install everything, once

$(BIN)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "diffcf needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	@touch $@

run: setup ## Train Pendulum (CPU preset), answer interventions, print the table, draw the pictures
	$(BIN)/diffcf fit --config $(CONFIG) --seed_everything $(SEED) --out $(RUN)
	$(BIN)/diffcf test --config $(CONFIG) --seed_everything $(SEED) --out $(RUN) --ckpt_path $(RUN)/last.ckpt

benchmark: setup ## Train and test every method on Pendulum and Flow, hours; goes on where it was stopped
	$(BIN)/diffcf benchmark experiments/benchmarks/pendulum.yaml experiments/benchmarks/flow.yaml

bench: setup ## Measure speed as ratios in one run, 10 minutes
	$(BIN)/diffcf bench experiments/pendulum.yaml --out runs/bench

tables: setup ## Write every table and figure that compares methods, and fill those of the texts
	$(BIN)/diffcf tables --readme README.md docs/*.md

docs: $(BIN)/.docs ## Build the docs as a site, build/site, that needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python docs/site/offline.py build/site

docs-version: $(BIN)/.docs ## Add the docs of this version to the local branch gh-pages; nothing is pushed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mike deploy --update-aliases $(VERSION) latest
	$(BIN)/mike set-default latest

$(BIN)/.docs: $(BIN)/.ready
	$(BIN)/pip install --disable-pip-version-check -e '.[docs]'
	@touch $@

test: setup ## Run the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-slow: setup ## Run the tests that train for minutes
	$(BIN)/python -m pytest -m slow

lint: setup ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## Remove runs and caches, keep .venv
	rm -rf runs build .pytest_cache .ruff_cache .mypy_cache
