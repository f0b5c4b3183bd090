"""`summarybench adopt`: which finished runs become baselines, and what is said of the others."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from tests.analysis.test_history import noisy
from tests.command import command
from tests.run_files import A100, benchmark, outcome, run_of
from tests.sessions.test_sessions import failing

main = command("adopt")

NAME = "llama2-7b-chat-4-bit"
CLEAN = {**run_of(benchmark(), outcomes=(outcome(NAME, "passed"),)), "device": asdict(A100)}
SLOWER = {**CLEAN, "benchmarks": [benchmark(seconds=(2.5,) * 8)]}


@pytest.fixture
def adopt(tmp_path, monkeypatch):
    """Adopt a hand-made run that ended with this exit code (None: it did not end); its exit code and the files stored."""
    monkeypatch.chdir(tmp_path)

    def adopted(run, exit_code=0, name="nightly"):
        folder = tmp_path / "results" / "a run"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(run))
        if exit_code is not None:
            (folder / "exit_code").write_text(f"{exit_code}\n")
        code = main(["results/a run", name])
        return code, sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("baselines/*/*.json"))

    return adopted


def test_clean_run_is_stored_whole_under_the_next_number_of_its_device(adopt, capsys, tmp_path):
    assert adopt(CLEAN) == (0, ["baselines/nvidia-a100-sxm4-40gb/0001_nightly.json"])
    assert json.loads((tmp_path / "baselines/nvidia-a100-sxm4-40gb/0001_nightly.json").read_text()) == CLEAN
    assert capsys.readouterr().out == "baseline saved: baselines/nvidia-a100-sxm4-40gb/0001_nightly.json\n"
    assert adopt(SLOWER)[1][-1] == "baselines/nvidia-a100-sxm4-40gb/0002_nightly.json"


def test_run_that_is_stored_already_is_refused_and_one_with_anything_new_is_not(adopt, capsys):
    first = ["baselines/nvidia-a100-sxm4-40gb/0001_nightly.json"]
    adopt(CLEAN)
    assert adopt(CLEAN) == (4, first)
    assert "0001_nightly.json already has all of its measurements, and each must count once" in capsys.readouterr().err
    assert adopt(CLEAN, name="anchor")[0] == 0
    more = {**CLEAN, "benchmarks": [*CLEAN["benchmarks"], benchmark("llama2-7b-chat-fp16")]}
    assert adopt(more)[0] == 0


@pytest.mark.parametrize(
    ("few", "more", "said"),
    [
        ((2,), (), "it; measure at least 8, and remove this baseline"),
        ((2,), (8,), "it; measure at least 8"),
        ((2, 2), (8,), "them; measure at least 8"),
    ],
)
def test_run_of_few_documents_is_stored_with_a_note(adopt, capsys, few, more, said):
    names = (NAME, "llama2-7b-chat-fp16", "llama2-7b-chat-8-bit")
    measured = [benchmark(name, seconds=(2.0,) * count) for name, count in zip(names, (*few, *more), strict=False)]
    assert adopt({**CLEAN, "benchmarks": measured})[0] == 0
    notes = capsys.readouterr().out.splitlines()[1:]
    assert notes == [f"note: {', '.join(names[: len(few)])}: 2 documents: no run will ever be compared with {said}"]


def test_anchor_is_adopted_once_and_a_second_one_is_refused_in_one_line(adopt, capsys):
    anchor = "baselines/nvidia-a100-sxm4-40gb/0001_anchor.json"
    assert adopt(CLEAN, name="anchor") == (0, [anchor])
    assert adopt(CLEAN, name="anchor") == (4, [anchor])
    shown = capsys.readouterr()
    assert shown.out == f"baseline saved: {anchor}\n"
    assert shown.err.startswith(f"ERROR: {anchor} is the anchor, and an anchor is never replaced; ")
    assert shown.err.count("\n") == 1


def with_outcome(what):
    return {**CLEAN, "outcomes": [outcome(NAME, "passed"), outcome("another", what)]}


@pytest.mark.parametrize("what", ["skipped", "out_of_memory"])
def test_outcomes_that_are_expected_do_not_spoil_a_run(adopt, what):
    assert adopt(with_outcome(what))[0] == 0


@pytest.mark.parametrize(
    ("run", "exit_code", "said"),
    [
        pytest.param(CLEAN, 1, "the session ended with exit code 1", id="failed"),
        pytest.param(CLEAN, 11, "the session ended with exit code 11", id="unavailable"),
        pytest.param(CLEAN, 2, "the session ended with exit code 2", id="interrupted"),
        pytest.param(CLEAN, None, "there is no exit_code beside it", id="killed"),
        pytest.param(with_outcome("failed"), 0, "failed or invalid: another", id="failed-inside"),
        pytest.param(with_outcome("invalid"), 0, "failed or invalid: another", id="invalid-inside"),
        pytest.param({**CLEAN, "benchmarks": []}, 0, "nothing was measured", id="empty"),
        pytest.param(
            {**CLEAN, "device": {**asdict(A100), "stands_in": True}},
            0,
            "was measured with --gpu-family or --memory-limit",
            id="stand-in",
        ),
        pytest.param(
            {**CLEAN, "device": {**asdict(A100), "is_limited": True}},
            0,
            "was measured with --gpu-family or --memory-limit",
            id="limited",
        ),
        pytest.param({**CLEAN, "device": None}, 0, "does not say on which device", id="no-device"),
        pytest.param({"benchmarks": {}}, 0, "is not a run of this suite", id="foreign"),
    ],
)
def test_any_other_run_is_refused_in_one_line_and_nothing_is_stored(adopt, capsys, run, exit_code, said):
    assert adopt(run, exit_code) == (4, [])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("ERROR: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err


@pytest.mark.parametrize("name", ["", "a/b", "../up", "two words"])
def test_name_that_is_no_part_of_a_file_s_name_is_refused(adopt, capsys, name):
    assert adopt(CLEAN, name=name) == (4, [])
    assert f"NAME={name}: use only letters" in capsys.readouterr().err


def test_adopted_run_is_the_next_session_s_baseline(project, monkeypatch):
    project.bench_once("-k", "4-bit")
    monkeypatch.chdir(project.folder)
    assert main(["results/latest", "nightly"]) == 0
    assert project.bench("-k", "4-bit").infos["4-bit"]["baseline"]["file"] == "0001_nightly.json"


def test_failed_session_s_run_is_refused(project, monkeypatch, capsys):
    project.use(failing(2, 'ValueError("boom")'))
    project.bench()
    monkeypatch.chdir(project.folder)
    assert main(["results/latest", "nightly"]) == 4
    assert "exit code 1" in capsys.readouterr().err


def test_run_that_continues_a_slow_slide_is_stored_with_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "baselines" / "nvidia-a100-sxm4-40gb"
    folder.mkdir(parents=True)
    *stored, newest = [*noisy(20), *noisy(8, ratio=0.95, start=20)]
    for number, run in enumerate(stored, start=1):
        (folder / f"{number:04}_nightly.json").write_text(json.dumps(run))
    results = tmp_path / "results"
    results.mkdir()
    (results / "run.json").write_text(json.dumps({**newest, "device": asdict(A100)}))
    (results / "exit_code").write_text("0\n")
    assert main(["results", "nightly"]) == 0
    saved, note = capsys.readouterr().out.splitlines()
    assert saved == "baseline saved: baselines/nvidia-a100-sxm4-40gb/0028_nightly.json"
    assert note.startswith(f"note: {NAME} on host-012345: SLOWED to 0.94")
    assert " since 2026-10-21, between commits " in note
