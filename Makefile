# `make help` lists the targets. Each makes .venv first where it is missing or out of date.
DATASET ?= digits iris
VENV ?= .venv
export PYTHON GPU VENV

BIN := $(VENV)/bin
SOURCES := blocks deployments flows infra tasks tests

.DEFAULT_GOAL := help
.PHONY: help env run up down status logs test check format lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env:  ## Make or update the Python environment in .venv
	@sh infra/environment/create.sh

run: env  ## Take data to a served model: make run, or make run DATASET=fashion-mnist
	@$(BIN)/trainyard run $(DATASET)

up: env  ## Start the local stack: Prefect, MLflow, pages, worker
	@$(BIN)/trainyard up

down: env  ## Stop the local stack
	@$(BIN)/trainyard down

status: env  ## Show what runs and where
	@$(BIN)/trainyard status

logs: env  ## Show the stack's logs
	@$(BIN)/trainyard logs

test: env  ## Run the tests: unit, contracts, flows, integration
	$(BIN)/python -m pytest tests/unit tests/contracts tests/flows tests/integration $(PYTEST)

check: env  ## Format, lint, types, import contracts, unit and contract tests
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit tests/contracts

format:  env  ## Format the sources, and mend what the linter can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: env  ## Write requirements.lock from pyproject.toml (UPGRADE=1: newest versions that fit)
	$(BIN)/python -m infra.environment.lock $(if $(UPGRADE),--upgrade)

clean:  ## Remove the environment and caches; the stack's data folder stays
	@test ! -x $(BIN)/trainyard || $(BIN)/trainyard down
	rm -rf $(VENV) $(VENV).lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
