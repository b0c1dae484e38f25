# make demo: install and train on drawn faces.  make test: the tests, in minutes.
# make test-all: the long campaigns too.  make lint: linters, types, docs.
PYTHON ?= python3
BIN := .venv/bin
# modules are compiled when first imported: most of what is installed never is
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

# $(call step,what is done,command): one line with the seconds it took; the command's own output only where it fails
define step
@printf '%s' '$(1)'; start=$$(date +%s); output=$$($(2) 2>&1) || { printf ': failed\n%s\n' "$$output" >&2; exit 1; }; \
printf ' (%s s)\n' $$(($$(date +%s) - start))
endef

.PHONY: demo test test-all lint bench docs clean

# torch alone and first: asked for through another package, pip may choose a build of several gigabytes
.venv/core: constraints.txt pyproject.toml
	$(if $(wildcard $(BIN)/python),,$(call step,Creating .venv,$(PYTHON) -m venv .venv))
	$(call step,Installing torch,$(PIP) $$(grep '^torch==' constraints.txt))
	$(call step,Installing vaelab,$(PIP) -c constraints.txt -e .)
	@touch $@

.venv/dev: .venv/core
	$(call step,Installing what tests and linters need,$(PIP) -c constraints.txt -e '.[dev]')
	@touch $@

demo: .venv/core
	$(BIN)/vaelab train faces --latent-dim 16 --network mlp --epochs 80 --plain

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term

# campaigns, and the faults planted in a copy of the source, each of which a test that has just passed must notice
test-all: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m '' --cov --cov-report=term
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.planting

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

docs: .venv/dev
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

.venv/bench: .venv/core
	$(call step,Installing what benchmarks need,$(PIP) -c constraints.txt -e '.[bench]')
	@touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage
