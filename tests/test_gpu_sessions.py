"""Whole sessions on a fake GPU: its memory, and what it can do to a session."""

from __future__ import annotations

import pytest

from tests.conftest import FAKE_MODELS

MIB = 1024**2
LLAMA = ("llama2-7b-chat-default", "llama2-7b-chat-8-bit", "llama2-7b-chat-4-bit")

FAKE_GPU = (
    FAKE_MODELS
    + """
    from fixtures.models import Experiment
    from tests.fakes import FakeGpu

    MIB = 1024**2
    GPU = FakeGpu(allocated_bytes=7 * MIB)
    GPU.install()
    Experiment.fits = lambda self, device: True
    KEPT = []

    class OnGpu(FakeModel):
        predicted_memory_bytes = PREDICTED * MIB

        def __init__(self, experiment, time, **options):
            super().__init__(experiment, time, **options)
            GPU.take(self, 93 * MIB)

    def behave(model):
        return model

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: behave(OnGpu(experiment, TIME))
"""
)
LEAK_OF_THE_FIRST = """
    def behave(model):
        if model.experiment.loader == "default":
            GPU.take(behave, LEAK)
        return model
"""


def fake_gpu(*, predicted_mib: int = 100, more: str = "") -> str:
    """Models of 93 MiB on a GPU on which 7 MiB are allocated already: a peak of 100 MiB."""
    return FAKE_GPU.replace("PREDICTED", str(predicted_mib)) + more


LLAMA_ON_A_T4 = ("-m", "t4 and llama2", "--document-source", "embedded", "--documents", "2")
MEMORY_OF_LLAMA = ("-m", "t4 and llama2 and memory", "--document-source", "embedded")


@pytest.mark.parametrize("predicted_mib", [96, 104])
def test_prediction_within_a_twentieth_of_the_peak_passes_and_both_are_shown(project, predicted_mib):
    project.use(fake_gpu(predicted_mib=predicted_mib))
    session = project.bench(*MEMORY_OF_LLAMA)
    assert session.exit_code == 0
    info = session.infos["4-bit"]
    assert (info["predicted_memory_bytes"], info["peak_memory_bytes"]) == (predicted_mib * MIB, 100 * MIB)
    assert len(info["document_ids"]) == 3


@pytest.mark.parametrize(("predicted_mib", "error"), [(94, "-6.0%"), (106, "+6.0%")])
def test_prediction_further_off_fails_and_says_by_how_much(project, predicted_mib, error):
    project.use(fake_gpu(predicted_mib=predicted_mib))
    session = project.bench(*MEMORY_OF_LLAMA, "-k", "4-bit")
    assert session.exit_code == 1
    (outcome,) = session.run["outcomes"]
    assert outcome["detail"].startswith(
        f"predicted {predicted_mib / 1024:.2f} GiB, measured 0.10 GiB at the peak: {error}"
    )
    assert "Traceback" not in session.output


def test_longest_prompt_is_among_the_few_that_are_measured(project):
    project.use(fake_gpu())
    sample = project.bench(*LLAMA_ON_A_T4[:-1], "12", "-k", "4-bit").infos["4-bit"]["prompt_tokens"]
    few = project.bench(*MEMORY_OF_LLAMA, "--documents", "12", "-k", "4-bit").infos["4-bit"]["prompt_tokens"]
    assert max(few) == max(sample)
    assert max(sample) not in sample[:2], "the first documents would have held it anyhow"


def test_memory_is_not_measured_on_a_cpu_and_says_why(project):
    session = project.bench("-m", "memory and cpu")
    assert session.exit_code == 12
    assert set(session.outcomes.values()) == {"skipped"}
    assert "on a CPU the peak is the whole process's" in session.output


def test_memory_benchmark_is_run_only_when_named(project):
    project.use(fake_gpu())
    names = [benchmark["name"] for benchmark in project.bench(*LLAMA_ON_A_T4, "-k", "4-bit").run["benchmarks"]]
    assert names == ["test_summarize[llama2-7b-chat-4-bit]"]


@pytest.mark.parametrize("options", [LLAMA_ON_A_T4, MEMORY_OF_LLAMA], ids=["summaries", "memory"])
def test_model_that_leaves_memory_behind_fails_and_the_others_do_not(project, options):
    project.use(fake_gpu(more=LEAK_OF_THE_FIRST.replace("LEAK", "2 * MIB")))
    session = project.bench(*options)
    assert session.exit_code == 1
    first, *others = session.outcomes
    assert (first, session.outcomes[first]) == (LLAMA[0], "failed")
    assert {session.outcomes[other] for other in others} == {"passed"}
    assert len(session.run["outcomes"]) == len(session.outcomes)
    assert "0.002 GiB of the 0.09 GiB that the model took stay allocated" in session.output
    assert "Traceback" not in session.output


def test_leak_of_the_last_model_is_found_too(project):
    project.use(fake_gpu(more=LEAK_OF_THE_FIRST.replace("LEAK", "2 * MIB")))
    session = project.bench(*LLAMA_ON_A_T4, "-k", "default")
    assert session.outcomes == {LLAMA[0]: "failed"}


def test_few_bytes_that_libraries_keep_are_no_leak(project):
    project.use(fake_gpu(more=LEAK_OF_THE_FIRST.replace("LEAK", "MIB")))
    assert project.bench(*LLAMA_ON_A_T4).exit_code == 0
