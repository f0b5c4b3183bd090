"""Baselines, names and slugs as a pull request may bring them: nothing is read or written outside the folder of baselines."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from summarybench.commands.docs import tables_of
from summarybench.core.outcomes import InputError
from tests.command import command
from tests.run_files import A100, benchmark, outcome, run_of

NAME = "llama2-7b-chat-4-bit"
CLEAN = {**run_of(benchmark(), outcomes=(outcome(NAME, "passed"),)), "device": asdict(A100)}
COMMANDS = {
    "adopt": ("results/a run", "nightly"),
    "report": ("results/a run",),
    "compare": ("results/a run",),
    "summary": ("results/a run",),
    "noise": ("--from", "results/a run", "results/a run"),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def store(path, run):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))


def write_run(folder, run):
    store(folder / "results" / "a run" / "run.json", run)
    (folder / "results" / "a run" / "exit_code").write_text("0\n")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "slug", ["../../outside", "{outside}", "", ".", "..", "a/b", "a\nb", "\x1b[31m", "-x", None, 3]
)
def test_slug_that_leads_out_of_the_baselines_is_refused_by_every_command(project, tmp_path, capsys, name, slug):
    outside = tmp_path / "outside"
    outside.mkdir()
    store(outside / "0001_main.json", CLEAN)
    slug = str(outside) if slug == "{outside}" else slug
    write_run(project, {**CLEAN, "device": {**asdict(A100), "slug": slug}})
    before = sorted(tmp_path.rglob("*"))
    assert command(name)(COMMANDS[name]) == 4
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "device.slug is " in shown.err
    assert "and must " in shown.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("link", ["folder", "run", "spread.json", "history.json"])
def test_link_that_leads_out_of_the_baselines_is_refused(project, tmp_path, capsys, link):
    outside, baselines = tmp_path / "outside", project / "baselines" / A100.slug
    run = {**CLEAN, "datetime": "2026-01-01T00:00:00+00:00"}
    store(outside / "0001_main.json", run)
    (outside / "spread.json").write_text('{"standard_deviation": 0.01, "degrees_of_freedom": 7}')
    (outside / "history.json").write_text('{"schema": 1, "accepted": []}')
    if link == "folder":
        baselines.parent.mkdir()
        baselines.symlink_to(outside)
    else:
        store(baselines / "0002_main.json", run)
        target = "0001_main.json" if link == "run" else link
        (baselines / target).symlink_to(outside / target)
    write_run(project, {**CLEAN, "datetime": "2026-02-01T00:00:00+00:00"})
    before = sorted(tmp_path.rglob("*"))
    name, arguments = ("history", ()) if link == "history.json" else ("compare", COMMANDS["compare"])
    assert command(name)(arguments) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"leads to {outside}" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_link_within_the_baselines_is_followed(project):
    store(project / "baselines" / A100.slug / "0001_main.json", {**CLEAN, "datetime": "2026-01-01T00:00:00+00:00"})
    write_run(project, {**CLEAN, "datetime": "2026-02-01T00:00:00+00:00"})
    (project / "results" / "latest").symlink_to("a run")
    assert command("compare")(["results/latest"]) == 0


def test_hostile_baseline_of_a_pull_request_is_refused_by_what_builds_the_pages(project):
    store(project / "baselines" / A100.slug / "0001_main.json", {**CLEAN, "benchmarks": [benchmark(cap_hits=-1)]})
    with pytest.raises(InputError, match=r"0001_main\.json is not a run of this suite: .*cap_hits is -1"):
        tables_of(project / "baselines")
