# Slipway's tasks. `make` alone lists them; CONTRIBUTING.md says what each proves.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

KUBERNETES ?= 1.37
LAB ?= lab
INVENTORY := .lab/$(LAB)/inventory.yml
BIN := .venv/bin
SLIPWAY := $(BIN)/slipway
# Ansible writes its own state below the project, and finds the tools of this environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export COVERAGE_FILE := $(CURDIR)/.cache/coverage
REPORTS := .cache/reports

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what the operating system must have (apt, root)
	@scripts/deps

.PHONY: venv
venv: ## Make .venv with the project and its tools
	@scripts/venv

.PHONY: bundle
bundle: deps venv ## Build the bundle of KUBERNETES (1.37) from source; does nothing when it is complete
	@$(SLIPWAY) bundle build --kubernetes $(KUBERNETES)

# --- a cluster to look at ---------------------------------------------------------------------------------------------
.PHONY: lab
lab: deps venv bundle ## Start three hosts on this machine and make a cluster of them
	@$(SLIPWAY) lab up --name $(LAB)
	@$(SLIPWAY) apply -i $(INVENTORY)
	@$(SLIPWAY) verify -i $(INVENTORY)
	@$(SLIPWAY) kubeconfig -i $(INVENTORY) --output .lab/$(LAB)/kubeconfig
	@scripts/lab-hints $(LAB)

.PHONY: lab-down
lab-down: venv ## Remove the lab's hosts and everything that belongs to them
	@$(SLIPWAY) lab down --name $(LAB)

# --- checks, in seconds to minutes ------------------------------------------------------------------------------------
.PHONY: unit
unit: venv ## Unit tests
	@mkdir -p $(REPORTS)
	@$(BIN)/pytest -q -n 2 tests/unit 2>&1 | tee $(REPORTS)/unit.log

.PHONY: coverage
coverage: venv ## Unit tests with branch coverage of the pure core (95 % or more)
	@mkdir -p $(REPORTS)
	@$(BIN)/pytest -q -n 2 --cov --cov-report=term tests/unit 2>&1 | tee $(REPORTS)/unit.log

.PHONY: lint
lint: ruff mypy yamllint ansible-lint sanity ## All static checks

.PHONY: ruff
ruff: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: mypy
mypy: venv ## Types: the controller's side at Python 3.12, what travels to hosts at 3.10
	@scripts/mypy

.PHONY: yamllint
yamllint: venv
	@$(BIN)/yamllint --strict .

.PHONY: ansible-lint
ansible-lint: venv
	@scripts/ansible-lint

.PHONY: sanity
sanity: venv ## ansible-test sanity, nothing ignored
	@scripts/sanity

.PHONY: wheel
wheel: venv ## Build the wheel and try it in a fresh virtual environment
	@scripts/wheel

.PHONY: docs
docs: venv ## Write docs/spec.md and the JSON Schema from the spec's definitions
	@scripts/docs

# --- checks on real clusters ------------------------------------------------------------------------------------------
.PHONY: cluster
cluster: bundle ## Cluster tests on lab hosts
	@mkdir -p $(REPORTS)
	@$(BIN)/pytest -v --tb=short tests/cluster 2>&1 | tee $(REPORTS)/cluster.log

.PHONY: molecule
molecule: bundle ## The Molecule scenarios: check, converge, idempotence, verify
	@mkdir -p $(REPORTS)
	@MOLECULE_GLOB='molecule/*/molecule.yml' $(BIN)/molecule test --all --no-command-borders 2>&1 | tee $(REPORTS)/molecule.log

.PHONY: checks
checks: lint coverage wheel

.PHONY: test
test: deps venv ## Everything but the drills; what CI runs
	@$(MAKE) -j2 --output-sync=target checks bundle
	@$(MAKE) cluster
	@$(MAKE) molecule

.PHONY: drills
drills: bundle ## The long tests: cut everywhere, other systems, other versions
	@mkdir -p $(REPORTS)
	@$(BIN)/pytest -v --tb=short tests/drills 2>&1 | tee $(REPORTS)/drills.log

.PHONY: bench
bench: bundle ## Measure apply, plan and verify on labs of 1+2 and 3+3 hosts, and kubeadm beside them
	@$(BIN)/python -m scripts.bench $(BENCH)

.PHONY: bench-http
bench-http: bundle ## Measure requests per second through Traefik, beside the same backend by NodePort
	@$(BIN)/python -m scripts.bench_http $(BENCH)

.PHONY: clean
clean: ## Remove caches and build output; keeps .venv, .lab, .bundle and what bundles are made of
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .ansible
	@find .cache -mindepth 1 -maxdepth 1 -not -name bundle -exec rm -rf {} + 2>/dev/null || true
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
