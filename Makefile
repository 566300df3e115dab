# One target for each job. A bare `make` lists them. Needs make, a POSIX shell and CPython 3.11 or later; nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PARTS := schemas producers aggregates consumers
DECLARED := pyproject.toml $(PARTS:%=%/pyproject.toml) constraints.txt

# Somebody's own settings for pip and Python must not decide what lands in the environment.
unexport PYTHONHOME PYTHONPATH PIP_PREFIX PIP_TARGET PIP_USER
# pyright runs on the pinned node of the environment, and does not ask the network whether there is a newer one.
export PYRIGHT_PYTHON_GLOBAL_NODE := 0
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Stamps are written last: an interrupted step is done again.
MADE := $(VENV)/made.stamp
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp

# Built with the pinned back end that is already in the environment: installed once, not again for each of the five.
# A build constraint from outside is taken away: newer versions of pip refuse it where nothing is built in isolation.
unexport PIP_BUILD_CONSTRAINT
PIP := PIP_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCAL := $(PARTS:%=-e ./%)

# A name on the path is not yet a Python (version managers leave stubs that only fail), and some come without the
# modules needed, so each candidate has to run.
CANDIDATES := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python)
USABLE := import ensurepip, sqlite3, ssl, sys, venv; \
	sys.exit(sys.implementation.name != "cpython" or sys.version_info < (3, 11))
define FIND_PYTHON
python=; \
for candidate in $(CANDIDATES); do \
	if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo 'quietcount needs CPython 3.11 or later with venv, ensurepip, sqlite3 and ssl.' >&2; \
	echo 'Tried: '$(CANDIDATES) >&2; \
	echo 'Install one (on Debian and Ubuntu: apt install python3 python3-venv),' >&2; \
	echo 'or name one: make PYTHON=/path/to/python3' >&2; \
	exit 1; \
fi
endef

# The Python beneath an environment can be upgraded or removed, or PYTHON can name another: then it is made again.
SOUND := $(shell $(BIN)/python -c 'import pip._internal.cli.main; $(USABLE)' >/dev/null 2>&1 && echo yes)
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat $(MADE) 2>/dev/null))
SOUND := no
endif
endif
ifneq ($(SOUND),yes)
.PHONY: $(MADE)
endif

.PHONY: help
help:
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(RUNTIME)  ## the whole job in seconds: synthetic cases in, safe published statistics out
	@$(BIN)/quietcount demo --dir quietcount-demo

# On more processes than most machines have to spare: many tests wait for a broker or a clock.
SPREAD := $(BIN)/pytest -n 4 --dist loadgroup --maxschedchunk 1

.PHONY: test
test: $(DEV)  ## at least one test of every promise, in minutes (ARGS="..." goes to pytest)
	@$(SPREAD) -m quick $(ARGS)

.PHONY: check
check: $(DEV)  ## these, and the rest of what a change can break: brokers, clients, browsers, installations
	@$(SPREAD) -m "quick or check" $(ARGS)

.PHONY: lint
lint: $(DEV)  ## formatting, ruff's rules, and the directions of imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

.PHONY: types
types: mypy pyright  ## mypy --strict and pyright

.PHONY: mypy pyright
mypy pyright: $(DEV)
	@$(BIN)/$@

.PHONY: bench
bench: $(DEV)  ## measurements, printed as ratios
	@$(BIN)/pytest -n 0 -s -m bench $(ARGS) tests/benchmarks

.PHONY: soak
soak: $(DEV)  ## the trials that take minutes: kills, mutations, statistics of the guarantee
	@$(BIN)/pytest -n 0 -s -m soak $(ARGS)

.PHONY: audit
audit: $(DEV)  ## the guarantee, measured; and rules broken on purpose, each of them found
	@$(BIN)/quietcount audit
	@$(BIN)/pytest -n 0 -s -m soak $(ARGS) tests/privacy/test_audit_mutants.py

.PHONY: format
format: $(DEV)  ## put the code into the house's form, with ruff's safe fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

.PHONY: clean
clean:  ## remove caches, builds and the demo's folder; .venv stays
	@rm -rf quietcount-demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@rm -rf build dist $(PARTS:%=%/build) $(PARTS:%=%/dist)
	@find $(PARTS) tests -type d -name __pycache__ -prune -exec rm -rf {} +

# Prints the Python that the environment is or would be made with.
.PHONY: python
python:
	@$(FIND_PYTHON); echo "$$python"

# What it was made with is written into the stamp; an environment that was made by hand is taken as it is.
$(MADE):
	@if [ "$(SOUND)" = yes ]; then touch $@; else \
		$(FIND_PYTHON); \
		echo "Making $(VENV) with $$python"; \
		"$$python" -m venv --clear $(VENV) && echo "$$python" > $@; \
	fi

$(RUNTIME): $(MADE) $(DECLARED)
	@echo 'Installing quietcount into $(VENV)'
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation $(LOCAL) -e .
	@touch $@

$(DEV): $(RUNTIME)
	@echo 'Installing the development tools into $(VENV)'
	@$(PIP) --no-build-isolation $(LOCAL) -e '.[dev]'
	@touch $@
