"""The workflows under .github: what runs in CI is what runs here, and as little as possible is allowed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from summarybench.commands.docs import FILES
from summarybench.commands.registry import COMMANDS, Group
from summarybench.core.invocation import MAKE_TARGETS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yml"))}
JOBS = {(name, job): found for name, workflow in WORKFLOWS.items() for job, found in workflow["jobs"].items()}
STEPS = [(name, job, step) for (name, job), found in JOBS.items() for step in found["steps"]]
NIGHTLY = WORKFLOWS["nightly"]["jobs"]
ON = True  # what YAML 1.1 reads a bare `on` as


def commands_of(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def step_that_runs(job, command):
    (found,) = (step for step in job["steps"] if step.get("run") == command)
    return found


def dry_run(*arguments, **environment):
    """The commands that make would run, set-up left out."""
    command = ["make", "--dry-run", "--always-make", "INSTALLED=pytest.ini", "PY=python", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "GITHUB_", "ARGS"))}
    done = subprocess.run(
        command, cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_both_workflows_are_there():
    assert WORKFLOWS.keys() == {"ci", "nightly"}


@pytest.mark.parametrize(
    ("name", "job", "command"), [(name, job, step["run"]) for name, job, step in STEPS if "run" in step]
)
def test_every_script_step_is_one_make_target_that_exists(name, job, command):
    made = re.fullmatch(r'make ([a-z-]+)((?: [A-Z]+=(?:\w+|"[\w .-]+"))*)', command)
    assert made, command
    assert made[1] in TARGETS


@pytest.mark.parametrize("action", sorted({step["uses"] for _, _, step in STEPS if "uses" in step}))
def test_actions_are_pinned_to_a_commit(action):
    assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)


def test_one_action_has_one_pin():
    pins = {step["uses"] for _, _, step in STEPS if "uses" in step}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


def test_only_the_job_that_runs_nothing_of_this_repository_may_write():
    assert [workflow["permissions"] for workflow in WORKFLOWS.values()] == [{}, {}]
    assert {key: job["permissions"] for key, job in JOBS.items() if job["permissions"] != {"contents": "read"}} == {
        ("nightly", "propose"): {"contents": "write", "pull-requests": "write"}
    }
    assert commands_of(NIGHTLY["propose"]) == []


def test_checkouts_leave_no_credentials_behind():
    found = [step for _, _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in found] == [False] * len(JOBS)


def test_every_job_ends_by_itself_and_runs_once_at_a_time():
    assert all(isinstance(job["timeout-minutes"], int) for job in JOBS.values())
    assert NIGHTLY["gpu"]["concurrency"] == {"group": "nightly-${{ matrix.family }}", "cancel-in-progress": False}


def test_secret_goes_to_the_benchmarks_alone():
    with_secret = [step for _, _, step in STEPS if "secrets." in str(step)]
    assert with_secret == [step_that_runs(NIGHTLY["gpu"], "make nightly")]
    assert with_secret[0]["env"]["HF_TOKEN"] == "${{ secrets.HF_TOKEN }}"


def test_self_hosted_runners_are_picked_by_family_and_never_run_a_pull_request():
    assert NIGHTLY["gpu"]["strategy"]["matrix"] == {"family": ["t4", "a100", "h100"]}
    assert NIGHTLY["gpu"]["runs-on"] == ["self-hosted", "${{ matrix.family }}"]
    assert WORKFLOWS["nightly"][ON].keys() == {"schedule", "workflow_dispatch"}
    hosted = {key for key, job in JOBS.items() if job["runs-on"] == "ubuntu-24.04"}
    assert hosted == JOBS.keys() - {("nightly", "gpu")}


def test_labels_known_to_actionlint_are_the_matrix():
    labels = yaml.safe_load((ROOT / ".github" / "actionlint.yaml").read_text())["self-hosted-runner"]["labels"]
    assert labels == NIGHTLY["gpu"]["strategy"]["matrix"]["family"]


@pytest.mark.parametrize("target", ["bench", "nightly"])
def test_suspects_are_confirmed_at_the_desk_and_at_night(target):
    assert "python -m summarybench bench " in dry_run(target)


@pytest.mark.parametrize("family", ["t4", "a100", "h100"])
def test_gpu_s_night_requires_a_baseline(family):
    assert NIGHTLY["gpu"]["steps"][2]["env"]["FAMILY"] == "${{ matrix.family }}"
    assert (
        f"summarybench bench -m {family} --require-baseline --benchmark-json=results/nightly-{family}.json --seed 1"
        in (dry_run("nightly", "ARGS=--seed 1", FAMILY=family))
    )


def test_hosted_cpu_s_night_requires_none():
    assert step_that_runs(NIGHTLY["cpu"], "make nightly")["env"] == {"FAMILY": "cpu"}
    assert "--require-baseline" not in dry_run("nightly", FAMILY="cpu")
    assert "summarybench bench -m cpu  --benchmark-json=results/nightly-cpu.json" in dry_run("nightly", FAMILY="cpu")


@pytest.mark.parametrize("job", ["gpu", "cpu"])
def test_summary_and_results_are_published_also_when_the_night_failed(job):
    steps = NIGHTLY[job]["steps"]
    assert step_that_runs(NIGHTLY[job], "make summary")["if"] == "${{ always() }}"
    upload = next(step for step in steps if step.get("name") == "Upload the results")
    assert upload["if"] == "${{ always() }}"
    assert upload["with"]["path"].split() == ["results", "!results/latest"]
    assert not any("continue-on-error" in step for step in steps)


def test_summary_goes_to_the_job_s_page_where_there_is_one():
    assert "--output '/a/page.md'" in dry_run("summary", GITHUB_STEP_SUMMARY="/a/page.md")
    assert "--output" not in dry_run("summary")


@pytest.mark.parametrize("family", ["cpu", "h100"])
def test_night_ends_with_the_history_of_its_run_and_its_exit_code(family):
    *_, bench, history = dry_run("nightly", FAMILY=family).splitlines()
    assert "summarybench bench " in bench
    assert history == "python -m summarybench history --run results/latest"  # neither `-` before it nor `|| true`


def test_clean_runs_of_a_scheduled_night_of_main_are_proposed_and_never_pushed():
    scheduled = "!cancelled() && github.event_name == 'schedule' && github.ref == 'refs/heads/main'"
    propose = NIGHTLY["propose"]
    assert propose["needs"] == ["gpu", "cpu", "readme"]
    assert propose["if"] == "${{ " + scheduled.replace("()", "() && needs.readme.result == 'success'", 1) + " }}"
    adopt = step_that_runs(NIGHTLY["gpu"], "make adopt NAME=nightly")
    assert adopt["if"] == "${{ " + scheduled + " }}"  # also where only the history failed: `adopt` refuses unclean runs
    request = propose["steps"][-1]
    assert request["uses"].startswith("peter-evans/create-pull-request@")
    assert (request["with"]["base"], request["with"]["branch"]) == ("main", "nightly-baselines")
    assert request["with"]["add-paths"].split() == ["baselines", "README.md", "docs/results"]
    assert "git push" not in "".join(path.read_text() for path in (*FOLDER.glob("*.yml"), ROOT / "Makefile"))


def test_adopted_runs_travel_to_the_pull_request_in_the_folder_they_were_adopted_in():
    upload = next(step for step in NIGHTLY["gpu"]["steps"] if step.get("with", {}).get("name", "").startswith("base"))
    assert upload["if"] == "${{ !cancelled() && steps.adopt.outcome == 'success' }}"
    download = NIGHTLY["propose"]["steps"][1]
    assert upload["with"]["path"] == "baselines/*/*_nightly.json"
    assert download["with"] == {"pattern": "baseline-*", "path": "baselines", "merge-multiple": True}


def test_readme_of_the_pull_request_is_made_from_the_adopted_runs():
    job, propose = NIGHTLY["readme"], NIGHTLY["propose"]
    assert job["needs"] == ["gpu", "cpu"]
    assert job["if"] == propose["if"].replace(" && needs.readme.result == 'success'", "")
    assert job["steps"][1] == propose["steps"][1]  # the adopted runs, into baselines/
    assert commands_of(job) == ["make readme"]
    upload = job["steps"][-1]["with"]
    assert (upload["name"], upload["path"].split()) == ("readme", ["README.md", "docs/results"])
    made_of_the_code = ("docs/reference", "docs/explanation")
    from_baselines = [str(name) for name in FILES if not any(map(name.is_relative_to, made_of_the_code))]
    assert all(name == "README.md" or name.startswith("docs/results/") for name in from_baselines)
    assert propose["steps"][2]["with"] == {"name": "readme"}


def test_ci_runs_what_the_ci_script_runs():
    script = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    extra = {"make setup", "make actionlint", "make summary"}
    assert [command for command in commands_of(WORKFLOWS["ci"]["jobs"]["cpu"]) if command not in extra] == script
    assert WORKFLOWS["ci"][ON].keys() == {"pull_request", "push"}


def test_make_help_has_every_target_below_one_of_four_headings():
    # `make test` starts this make: without the option, it would print the folder that it enters.
    command = ["make", "--no-print-directory", "help"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    groups = [line for line in lines if not line.startswith(" ")]
    assert groups == [group.value for group in Group]
    named = [found for line in lines if line.startswith(" ") for found in re.findall(r"make ([a-z-]+)", line)]
    assert sorted(named) == sorted(TARGETS - {"help"})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_one_target_that_runs_it(command):
    target = MAKE_TARGETS[command.name].name
    assert f"python -m summarybench {command.name}" in dry_run(target)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare",), "summarybench compare 'results/latest'"),
        (("compare", "AGAINST=0001"), "summarybench compare 'results/latest' '0001'"),
        (("adopt", "RUN=results/a run", "NAME=main"), "summarybench adopt 'results/a run' 'main'"),
        (("adopt",), "summarybench adopt 'results/latest'"),
        (("report", "RUNS=a b", "OUTPUT=both.html"), "summarybench report a b --output 'both.html'"),
        (("report",), "summarybench report 'results/latest'"),
        (("noise", "RUNS=3", "ARGS=-k 4-bit"), "summarybench noise --runs 3 -k 4-bit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_variables_of_a_target_are_the_command_s_arguments(arguments, said):
    assert " ".join(dry_run(*arguments).split()).endswith(said)


def test_check_follows_the_links_of_the_documentation():
    assert "python -m tests.check_links\n" in dry_run("check")
