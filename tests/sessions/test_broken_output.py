"""Most summaries empty or repeating: the experiment fails in every kind of benchmark, and no such run is a baseline."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from summarybench.runs.baselines import StoredRun, find_anchor, find_baseline, why_unfit
from summarybench.runs.facts import describe_broken_output
from summarybench.runs.run_file import Entry, entries_of
from tests.command import command
from tests.conftest import FAKE_MODELS, REAL_MODELS
from tests.distillation.test_distillation import student_folder
from tests.machine.test_peers import MODELS_BY_RANK
from tests.measure.test_continuous import ONE, with_engine
from tests.run_files import A100, benchmark, outcome, run_of
from tests.sessions.test_fastest import fake_fastest
from tests.sessions.test_gpu_sessions import MEMORY_OF_LLAMA, fake_gpu
from tests.sessions.test_sessions import HALF_EMPTY_MODELS

NAME = "llama2-7b-chat-4-bit"
EIGHT = ("--documents", "8")
CIRCLES = " ".join(["round and round it goes"] * 6)
REPEATING = {"empty": 0, "repeating": 5}


def models_saying(summary: str) -> str:
    return FAKE_MODELS.replace("experiment, TIME)", f"experiment, TIME, summary={summary!r})")


# What most is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("empty", "repeating", "documents", "is_broken"),
    [
        pytest.param(0, 0, 8, False, id="none"),
        pytest.param(4, 0, 8, False, id="exactly-half"),
        pytest.param(5, 0, 8, True, id="more-than-half-empty"),
        pytest.param(0, 5, 8, True, id="more-than-half-repeating"),
        pytest.param(3, 2, 8, True, id="both-together"),
        pytest.param(1, 0, 1, True, id="the-only-one"),
        pytest.param(1, 0, 2, False, id="one-of-two"),
    ],
)
def test_most_is_more_than_half_of_the_scored_documents(empty, repeating, documents, is_broken):
    described = describe_broken_output({"empty": empty, "repeating": repeating}, documents)
    assert bool(described) is is_broken
    if is_broken:
        assert described.startswith(
            f"{empty + repeating} of {documents} summaries are empty or repeating ({empty} empty, {repeating} repeating)"
        )


def test_output_of_random_weights_is_not_scored_and_so_not_broken():
    (entry,) = entries_of(run_of(benchmark(degenerate=None, degenerate_document_ids=None, rouge1_scores=[])))
    assert entry.broken_output == ""


# Sessions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("summary", "kind"), [("", "8 empty, 0 repeating"), (CIRCLES, "0 empty, 8 repeating")])
def test_broken_output_fails_without_a_baseline_and_is_not_saved(project, summary, kind):
    project.use(models_saying(summary))
    session = project.bench(*EIGHT, "-k", "smollm2 and 4-bit", "--benchmark-save=main")
    assert (session.exit_code, session.left_behind, session.stored) == (1, "1", []), session.output
    (found,) = session.run["outcomes"]
    assert (found["outcome"], found["quality_only"], found["is_final"]) == ("failed", False, True)
    assert f"8 of 8 summaries are empty or repeating ({kind})" in found["detail"]
    assert found["detail"] in session.output
    assert "make adopt" not in session.output
    assert "Traceback" not in session.output
    assert session.infos["4-bit"]["verdict"] == "NO BASELINE"  # what was measured is kept


def test_broken_output_fails_beside_a_baseline(project):
    project.bench(*EIGHT, "-k", "smollm2 and 4-bit", "--benchmark-save=main")
    project.use(models_saying(""))
    session = project.bench(*EIGHT, "-k", "smollm2 and 4-bit", "--benchmark-save=worse")
    assert (session.exit_code, len(session.stored)) == (1, 1), session.output
    assert session.infos["4-bit"]["change"]["ratio"] == 1.0


def test_synthetic_weights_may_say_anything(project):
    synthetic = """
    from summarybench.engines.weights import Weights

    class Synthetic(FakeModel):
        def __init__(self, experiment, time):
            super().__init__(experiment, time, summary="")
            self.weights = Weights(kind="synthetic", revision="fake", location="nowhere")

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Synthetic(experiment, TIME)
    """
    project.use(FAKE_MODELS + synthetic)
    session = project.bench(*EIGHT, "-k", "smollm2 and 4-bit")
    assert session.exit_code == 0, session.output


@pytest.mark.parametrize(
    ("models", "options"),
    [
        pytest.param(models_saying(""), ("-m", "batching and cpu", "-k", "4-bit-batch2"), id="batching"),
        pytest.param(models_saying(""), ("-m", "batching and cpu", "-k", "4-bit-largest"), id="largest-batch"),
        pytest.param(models_saying("") + fake_fastest(seconds_per_step=60), ("--fastest", "-k", "4-bit"), id="fastest"),
        pytest.param(with_engine().replace("experiment, TIME)", "experiment, TIME, summary='')"), ONE, id="continuous"),
        pytest.param(models_saying(""), ("-m", "overhead and cpu", "-k", "4-bit"), id="overhead"),
        pytest.param(
            fake_gpu(more="\n    def behave(model):\n        model._summary = ''\n        return model\n"),
            (*MEMORY_OF_LLAMA, "-k", "4-bit"),
            id="memory",
        ),
    ],
)
def test_broken_output_fails_in_every_kind_that_scores_text(project, models, options):
    project.use(models)
    session = project.bench(*options, *EIGHT)
    assert session.exit_code == 1, session.output
    measured = [each for each in session.run["outcomes"] if each["outcome"] != "skipped"]
    assert measured
    assert all("summaries are empty or repeating" in each["detail"] for each in measured)


def test_broken_output_of_several_processes_fails(project):
    models = """
    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: FakeModel(experiment, TIME, tokens=10, summary="")
    """
    project.use(MODELS_BY_RANK + models)
    session = project.launch("-m", "cpu and distributed", "-k", "4-bit", *EIGHT)
    assert (session.left_behind, set(session.outcomes.values())) == ("1", {"failed"}), session.output
    assert "8 of 8 summaries are empty or repeating" in session.run["outcomes"][-1]["detail"]


def test_broken_output_of_a_student_fails_the_student_alone(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    project.use(FAKE_MODELS.replace("TIME)", "TIME, summary='' if experiment.model == 'small' else None)"))
    session = project.bench("--student", str(folder), "-m", "student", "-k", "default", *EIGHT)
    assert session.exit_code == 1, session.output
    assert session.outcomes == {"smollm2-135m-instruct-default": "passed", "small-default": "failed"}


def test_half_of_the_outputs_empty_is_not_most_of_them(project):
    project.use(HALF_EMPTY_MODELS)
    session = project.bench(*EIGHT, "-k", "smollm2 and 4-bit", "--max-new-tokens", "40", "--benchmark-save=main")
    assert (session.exit_code, len(session.stored)) == (0, 1), session.output
    assert session.infos["4-bit"]["degenerate"] == {"empty": 4, "repeating": 0}


def test_weights_that_are_no_numbers_fail_in_a_real_session(project, tiny_llama, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_llama, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    nothing = {name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()}
    save_file(nothing, folder / "model.safetensors", metadata={"format": "pt"})
    project.use(REAL_MODELS)
    session = project.bench(
        *("--model-path", f"smollm2-135m-instruct={folder}", "-k", "smollm2 and default"),
        *("--documents", "3", "--max-new-tokens", "8", "--benchmark-save=main"),
    )
    assert (session.exit_code, session.stored) == (1, []), session.output
    assert "3 of 3 summaries are empty or repeating (3 empty, 0 repeating)" in session.run["outcomes"][0]["detail"]


# Baselines -----------------------------------------------------------------------------------------------------------


def stored(run, name="0001_main.json"):
    return StoredRun(path=Path(name), run=run)


def broken(**facts):
    return run_of(benchmark(degenerate=REPEATING, **facts), outcomes=(outcome(NAME, "passed"),))


def entry(run) -> Entry:
    return entries_of(run)[0]


def test_run_with_broken_output_is_unfit_even_where_it_passed():
    assert why_unfit(broken()) == f"most summaries are empty or repeating: {NAME}"
    whole = run_of(benchmark(), outcomes=(outcome(NAME, "passed"),))
    assert why_unfit(whole) is None


def test_run_with_broken_output_that_passed_once_is_not_adopted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**broken(), "device": asdict(A100)}))
    (tmp_path / "exit_code").write_text("0\n")
    assert command("adopt")(["run.json", "nightly"]) == 4
    assert f"(most summaries are empty or repeating: {NAME}); only a clean run does" in capsys.readouterr().err
    assert not (tmp_path / "baselines").exists()


def test_stored_run_with_broken_output_is_passed_over_for_an_older_whole_one():
    whole, later = stored(run_of(benchmark())), stored(broken(), "0002_main.json")
    assert find_baseline(entry(whole.run), [whole, later], 3, whole.environment) == (whole,)
    assert find_baseline(entry(whole.run), [later], 3, whole.environment) == ()


def test_anchor_with_broken_output_is_none():
    whole, anchor = run_of(benchmark()), stored(broken(), "0001_anchor.json")
    assert find_anchor(entry(whole), [anchor]) is None


def test_named_run_with_broken_output_is_incomparable_and_says_why(tmp_path, capsys):
    (tmp_path / "now.json").write_text(json.dumps(run_of(benchmark())))
    (tmp_path / "before.json").write_text(json.dumps(broken()))
    assert command("compare")([str(tmp_path / "now.json"), str(tmp_path / "before.json")]) == 0
    assert capsys.readouterr().out.startswith(
        f"{NAME}: INCOMPARABLE: before.json is no baseline: 5 of 8 summaries are empty or repeating"
    )


def test_compared_run_with_broken_output_fails(tmp_path, capsys):
    (tmp_path / "now.json").write_text(json.dumps(broken()))
    (tmp_path / "before.json").write_text(json.dumps(run_of(benchmark())))
    assert command("compare")([str(tmp_path / "now.json"), str(tmp_path / "before.json")]) == 1
    assert "  5 of 8 summaries are empty or repeating" in capsys.readouterr().out
