# make demo: install and train on drawn faces.  make test: the tests, in minutes.
# make test-all: the long campaigns too.  make lint: linters, types, docs.  make docs, gallery, wheel: what is published.
PYTHON ?= python3
# pinned: what constraints.txt has; oldest: the lower bounds of pyproject.toml; newest: whatever there is
DEPENDENCIES ?= pinned
CONSTRAINTS := $(if $(filter pinned,$(DEPENDENCIES)),constraints.txt,.venv/$(DEPENDENCIES).txt)
BIN := .venv/bin
# modules are compiled when first imported: most of what is installed never is
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

# $(call step,what is done,command): one line with the seconds it took; the command's own output only where it fails
define step
@printf '%s' '$(1)'; start=$$(date +%s); output=$$($(2) 2>&1) || { printf ': failed\n%s\n' "$$output" >&2; exit 1; }; \
printf ' (%s s)\n' $$(($$(date +%s) - start))
endef

.PHONY: demo test test-all lint bench docs gallery wheel clean

# torch alone and first: asked for through another package, pip may choose a build of several gigabytes
.venv/core: constraints.txt pyproject.toml
	$(if $(wildcard $(BIN)/python),,$(call step,Creating .venv,$(PYTHON) -m venv .venv))
	$(if $(filter pinned,$(DEPENDENCIES)),,@$(BIN)/python tests/bounds.py $(DEPENDENCIES) > $(CONSTRAINTS))
	$(call step,Installing torch,$(PIP) $$(grep '^torch[=>]' $(CONSTRAINTS)))
	$(call step,Installing vaelab,$(PIP) -c $(CONSTRAINTS) -e .)
	@touch $@

.venv/dev: .venv/core
	$(call step,Installing what tests and linters need,$(PIP) -c $(CONSTRAINTS) -e '.[dev]')
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
	$(BIN)/sphinx-build -W --keep-going -q -b dummy docs docs/_build/lint

docs: .venv/dev
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

gallery: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python docs/gallery/make.py

.venv/release: .venv/core
	$(call step,Installing what packages need,$(PIP) -c $(CONSTRAINTS) -e '.[release]')
	@touch $@

# builds the package, and uses it where nothing but its dependencies are
wheel: .venv/release .venv/dev
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pytest -m campaign tests/test_package.py

.venv/bench: .venv/core
	$(call step,Installing what benchmarks need,$(PIP) -c $(CONSTRAINTS) -e '.[bench]')
	@touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage
