# make quickstart | test | test-slow | check | install; see CONTRIBUTING.md

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# The first interpreter that runs and is new enough; a version manager's shim may do neither.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# How many processes test at a time. Each file's tests stay in one, beside what they share.
TEST_PROCESSES ?= 2

# URL of an index with PyTorch's CPU builds, for a machine without a GPU: 0.2 GB instead of several.
TORCH_INDEX ?=

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help install quickstart test test-slow check clean

help:
	@echo 'make quickstart   install, then search, compress and bundle on a simulated click log'
	@echo 'make test         install, then run the tests'
	@echo 'make test-slow    the tests that take longer'
	@echo 'make check        formatting, lint, types, import order of the packages'
	@echo 'make install      make .venv and install into it'
	@echo 'make clean        remove .venv and caches'

install: $(INSTALLED)

# torch comes first, so that what comes after takes the build that is there.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'ClickTune needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3.11' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV) (2 GB; a few minutes the first time)'
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) -e '.[dev,serve,ray-serve]'
	@touch $@

quickstart: install
	$(BIN)/clicktune quickstart

test: install
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

# pytest ends with 5 where no test was selected.
test-slow: install
	$(BIN)/python -m pytest -m 'slow and not gpu' || test $$? -eq 5

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
