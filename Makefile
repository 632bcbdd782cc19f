# Nothing is needed but python3 (3.11 or newer) and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
VLLM := .venv-vllm

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-vllm chaos check format docs clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is no Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps are newer than pyproject.toml as long as what is installed is what it asks for.
$(BASE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $(BASE) $@

install: $(DEV) ## Make .venv with everything that development needs.

quickstart: $(BASE) ## Train a tiny model on videos on this machine and show that it learns.
	$(BIN)/evr1 quickstart

test: $(DEV) ## Run the tests that need neither a GPU nor much time.
	$(BIN)/python -m pytest -m "not gpu and not slow" -n auto --maxprocesses 4 --dist loadfile

test-vllm: ## Run the tests of engines on vLLM's CPU build, in an environment of its own.
	PYTHON=$(PYTHON) VENV=$(VLLM) scripts/test_vllm.sh

chaos: $(DEV) ## Break tiny runs at random, start them again and compare (ROUNDS=80, SEED=the clock's).
	$(BIN)/python -m benchmarks.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

check: $(DEV) ## Check style, types, layers, generated documents and the site.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/evr1 config docs --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(DEV) ## Put the code in project style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV) ## Write the generated pages and build the site into site/.
	$(BIN)/evr1 config docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean: ## Remove what was built; data, caches of frames and runs stay.
	rm -rf $(VENV) $(VLLM) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info
