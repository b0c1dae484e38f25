# make demo: install and train on bundled digits.  make test: the whole test suite.  make lint: linters, types, docs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint bench docs clean

# torch alone and first: asked for through another package, pip may choose a build of several gigabytes
.venv/core: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) -c constraints.txt -e .
	touch $@

.venv/dev: .venv/core
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/core
	$(BIN)/vaelab train digits --plain

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

docs: .venv/dev
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

.venv/bench: .venv/core
	$(PIP) -c constraints.txt -e '.[bench]'
	touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage
