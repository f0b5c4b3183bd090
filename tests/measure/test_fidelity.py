"""Compiled loaders beside their eager counterparts: hand-made logits, real ones of a tiny Llama, and whole sessions with fakes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import EXPERIMENTS, LOADERS
from summarybench.core.outcomes import JudgementError
from summarybench.documents.document import Document
from summarybench.documents.sources import embedded_documents
from summarybench.engines import graph_decoder
from summarybench.kinds.fidelity import FidelityKind
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.families import GPU_FAMILIES
from summarybench.measure import fidelity
from summarybench.measure.fidelity import (
    Agreement,
    EagerSide,
    Fidelity,
    RecordingModel,
    agreement_of,
    assert_faithful,
    eager_side,
    logit_error,
    make_reference,
    quality_beside,
)
from summarybench.measure.generation import build_prompts
from tests.conftest import FAKE_MODELS
from tests.engines.test_loading import CPU, load_tiny

H100 = CudaDevice(kind="cuda", name="H", slug="h", family="h100", memory_bytes=1, compute_dtype="bfloat16")
HAVE_A_COUNTERPART = [loader for loader in LOADERS.values() if loader.eager_counterpart]


# What is held against what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", HAVE_A_COUNTERPART, ids=lambda each: each.name)
def test_eager_counterpart_has_the_same_numerics_and_compiles_nothing(loader):
    counterpart = LOADERS[loader.eager_counterpart]
    assert not counterpart.is_compiled
    here, there = (each.settings(H100, threads=1) for each in (loader, counterpart))
    assert {key for key in {*here, *there} if here.get(key) != there.get(key)} == {"attention", "compiled"}


def test_every_loader_is_held_against_float32_and_a_compiled_one_against_its_counterpart():
    assert {name for name, loader in LOADERS.items() if loader.is_compiled and not loader.eager_counterpart} == {
        "default-compiled",  # float32 itself is the reference
        "fp16-compiled-lookup",  # its own kind holds it against plain decoding
    }
    compared = {each.name: each for each in FidelityKind().experiments()}
    assert {each.name for each in EXPERIMENTS} - compared.keys() == {
        each.name for each in EXPERIMENTS if each.loader in ("default", "default-compiled")
    }
    assert compared["llama2-7b-chat-4-bit-compiled"].other_loaders == ("4-bit", "default")
    assert compared["llama2-7b-chat-4-bit"].other_loaders == ("default",)
    assert not any(each.loader == "as-stored" for each in compared.values())


# The figures ----------------------------------------------------------------------------------------------------------


class Forced:
    """Answers with the logits that it was made with, one tensor a prompt, and with the prompt as its summary."""

    def __init__(self, *logits):
        import torch

        self._logits = [torch.tensor(each, dtype=torch.float32) for each in logits]
        self._asked = 0

    def prepare(self, rows):
        return rows

    def generate(self, prepared, max_new_tokens, on_first_token):
        on_first_token()
        return prepared

    def generated_ids(self, output, prepared):
        return [list(row) for row in output]

    def summary_with_logits(self, prompt, max_new_tokens):
        return list(prompt), self.forced_logits(prompt, prompt)

    def forced_logits(self, prompt, summary):
        assert list(prompt) == list(summary)
        self._asked += 1
        return self._logits[self._asked - 1]


PROMPTS = [SimpleNamespace(token_ids=(1, 2)), SimpleNamespace(token_ids=(3,))]
FLOAT32 = ([[1.0, 2.0], [2.0, 0.0]], [[4.0, 0.0]])  # squares: 25


def reference_in(folder):
    return make_reference(Forced(*FLOAT32), PROMPTS, 2, folder / "model")


def test_reference_keeps_summaries_and_their_logits(tmp_path):
    reference = reference_in(tmp_path)
    assert (reference.summaries, reference.tokens) == (((1, 2), (3,)), 3)
    assert [reference.logits(index).tolist() for index in range(2)] == list(FLOAT32)


def test_logit_error_is_relative_and_over_all_tokens(tmp_path):
    reference = reference_in(tmp_path)
    assert logit_error(Forced(*FLOAT32), PROMPTS, reference) == 0
    off = ([[1.0, 2.0], [2.0, 0.6]], [[4.8, 0.0]])  # squares of the differences: 0.36 + 0.64
    assert logit_error(Forced(*off), PROMPTS, reference) == pytest.approx(math.sqrt(1 / 25))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_told_as_such(tmp_path, value):
    with pytest.raises(JudgementError, match="the logits are not finite"):
        logit_error(Forced([[1.0, value], [2.0, 0.0]], [[4.0, 0.0]]), PROMPTS, reference_in(tmp_path))


def test_disk_without_room_is_one_line_that_says_what_to_do(tmp_path):
    (tmp_path / "model").write_text("a file where a folder should be")
    with pytest.raises(JudgementError, match=r"cannot be stored in .*: make room there, or set TMPDIR") as raised:
        reference_in(tmp_path)
    assert "\n" not in str(raised.value)


def test_agreement_counts_equal_summaries_and_the_tokens_before_a_difference():
    now = [[1, 2, 3], [1, 2, 3], [9, 2], [1, 2, 3, 4]]
    before = [[1, 2, 3], [1, 5, 3], [8, 2], [1, 2]]
    expected = Agreement(documents=4, equal_summaries=1, equal_tokens=3 + 1 + 0 + 2, tokens=3 + 3 + 2 + 4)
    assert agreement_of(now, before) == agreement_of(before, now) == expected


ALL_ALIKE = Agreement(documents=1, equal_summaries=1, equal_tokens=2, tokens=2)


def beside(error, eager_error, texts=()):
    eager = EagerSide(loader="fp16", logit_error=eager_error, summaries=((1, 2),), texts=texts, again=ALL_ALIKE)
    return Fidelity(eager=eager, logit_error=error, forced_tokens=2, agreement=ALL_ALIKE, quality=None)


@pytest.mark.parametrize(("error", "eager_error"), [(0.0109, 0.01), (0.005, 0.01), (0.0, 0.0)])
def test_error_up_to_a_tenth_more_than_the_counterparts_is_faithful(error, eager_error):
    assert_faithful(beside(error, eager_error))


@pytest.mark.parametrize(("error", "eager_error"), [(0.0111, 0.01), (0.0001, 0.0)])
def test_larger_error_fails_and_both_are_said(error, eager_error):
    with pytest.raises(JudgementError, match=rf"logit error {error:g} .*1.1 times that of fp16"):
        assert_faithful(beside(error, eager_error))


def test_ratio_to_a_counterpart_without_error_is_left_out():
    assert beside(0.0, 0.0).as_extra_info()["ratio"] is None
    assert beside(0.02, 0.01).as_extra_info()["ratio"] == 2


DOCUMENTS = [Document(url=str(each), section="", text="text", reference="one two three four") for each in range(8)]


def test_worse_summaries_than_the_counterparts_are_inferior_and_equal_ones_are_not():
    good, bad = ["one two three four"] * 8, ["one two three five", *["one zwei drei vier"] * 6, ""]
    equal = quality_beside(good, beside(0, 0, good).eager, DOCUMENTS)
    assert (equal.verdict, equal.changed_summaries, equal.faults) == ("NON-INFERIOR", 0, ())
    worse = quality_beside(bad, beside(0, 0, good).eager, DOCUMENTS)
    assert (worse.verdict, worse.changed_summaries) == ("INFERIOR", 8)
    assert (worse.mcnemar["empty"].more, worse.mcnemar["empty"].fewer) == (1, 0)
    assert worse.faults[0].startswith("quality INFERIOR to fp16 of this session")


def test_few_documents_have_no_verdict_on_quality():
    assert quality_beside(["a"] * 7, beside(0, 0, ["a"] * 7).eager, DOCUMENTS[:7]) is None


# Real models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(graph_decoder, "compile_with_inductor", lambda rows, **_: lambda piece: piece)


@pytest.fixture(scope="module")
def default(tiny_llama):
    return load_tiny(tiny_llama)


def test_forced_logits_are_those_of_one_pass_over_prompt_and_summary(default):
    import torch

    prompt, summary = default.chat.chat_ids("Say something."), [30, 31, 32, 33]
    with torch.inference_mode():
        own = default.model(torch.tensor([[*prompt, *summary]])).logits[0, len(prompt) - 1 : -1]
    found = default.forced_logits(prompt, summary)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)


def test_logits_of_a_summary_are_the_same_generated_and_forced(default):
    import torch

    prompt = default.chat.chat_ids("Say something.")
    prepared = default.prepare([prompt])
    (expected,) = default.generated_ids(default.generate(prepared, 12, lambda: None), prepared)
    summary, logits = default.summary_with_logits(prompt, 12)
    assert summary == expected == logits.argmax(dim=-1).tolist()
    torch.testing.assert_close(default.forced_logits(prompt, summary), logits, rtol=1e-5, atol=1e-6)


def test_logits_after_the_end_token_are_left_out(default, monkeypatch):
    prompt = default.chat.chat_ids("Say something.")
    whole, logits = default.summary_with_logits(prompt, 12)
    assert logits.shape == (12, 1_000)
    end = whole[2]
    assert end not in whole[:2]
    monkeypatch.setattr(default.model.generation_config, "eos_token_id", end)
    summary, shorter = default.summary_with_logits(prompt, 12)
    assert summary == whole[:3]
    assert shorter.tolist() == logits[:3].tolist()


def test_compiled_loader_tells_its_decoders_logits_whatever_rows_it_is_compiled_for(tiny_llama, default, uncompiled):
    import torch

    found, counterpart = (load_tiny(tiny_llama, loader) for loader in ("fp16-compiled", "fp16"))
    asked = []
    decoder = found.decoders.for_batch_size(3)
    logits = decoder.logits
    decoder.logits = lambda *arguments: asked.append(True) or logits(*arguments)
    prompt, summary = found.chat.chat_ids("Say something."), [30, 31, 32, 33]
    torch.testing.assert_close(
        found.forced_logits(prompt, summary), counterpart.forced_logits(prompt, summary), rtol=0, atol=2e-3
    )
    assert asked == [True]


def test_tiny_model_is_as_faithful_compiled_as_it_is_eager(tiny_llama, default, uncompiled, tmp_path):
    documents = embedded_documents().sample(8, 0)
    prompts = build_prompts(default.chat, documents, 80, 8)
    reference = make_reference(default, prompts, 8, tmp_path / "model")
    assert logit_error(default, prompts, reference) == 0, "float32 on a CPU repeats itself"
    # In bfloat16 sums of another order decide near ties otherwise.
    in_float32 = replace(CPU, compute_dtype="float32")
    eager = eager_side(load_tiny(tiny_llama, "4-bit", device=in_float32), "4-bit", prompts, 8, reference)
    assert 0.01 < eager.logit_error < 1
    assert eager.again.equal_summaries == 8
    noted = RecordingModel(load_tiny(tiny_llama, "4-bit-compiled", device=in_float32))
    assert tuple(map(tuple, fidelity.summaries_of(noted, prompts, 8))) == eager.summaries
    assert tuple(map(tuple, noted.summaries)) == eager.summaries
    error = logit_error(noted._model, prompts, reference)
    assert error == pytest.approx(eager.logit_error, rel=0.01)


# Whole sessions --------------------------------------------------------------------------------------------------------

FAKE_H100 = (
    FAKE_MODELS
    + """
    from tests.fakes import FakeGpu, FakeMemory

    MIB = 1024**2
    GPU = FakeGpu(
        name="NVIDIA H100", slug="h100", family="h100", memory_bytes=80 * 1024**3, memory=FakeMemory(7 * MIB)
    )
    ERRORS = {"default": 0.0, "fp16": 0.01, "bf16": 0.02, "8-bit": 0.04, "8-bit-threshold-0": 0.05, "4-bit": 0.1} | {
        "fp16-compiled": 0.0102, "8-bit-compiled": 0.05, "4-bit-compiled": FOUR_BIT, "w8a16": 0.02, "w8a16-compiled": 0.02,
        "w4a16": 0.08, "w4a16-compiled": 0.08, "fp8": 0.03, "fp8-compiled": 0.03
    }
    LOADED = []

    def pytest_benchmarked_device():
        return GPU

    class Forced(FakeModel):
        def __init__(self, experiment, time, **options):
            super().__init__(experiment, time, tokens=5, **options)
            self.passes = 0
            assert GPU.memory.allocated == 7 * MIB, "another model is on the device"
            LOADED.append(experiment.name)
            GPU.memory.take(self, 93 * MIB)

        def summary_with_logits(self, prompt, max_new_tokens):
            rows = self.generate([list(prompt)], max_new_tokens, lambda: None)
            return rows[0], self.forced_logits(prompt, rows[0])

        def forced_logits(self, prompt, summary):
            import torch
            return torch.full((len(summary), 3), 1 + ERRORS[self.experiment.loader])

        def generated_ids(self, output, prepared):
            rows = super().generated_ids(output, prepared)
            self.passes += 1
            # The counterpart's second pass differs in its first document, after two tokens.
            return [row[:2] + row[1:4] for row in rows] if self.passes == 9 else rows

    @pytest.fixture(scope="session")
    def load_model():
        yield lambda experiment: Forced(experiment, TIME)
        print("LOADED", *LOADED)
"""
)
ALL_LOADERS = ("-m", "h100 and embedded and fidelity", "--documents", "8", "-s")
FIDELITY = (*ALL_LOADERS, "-k", "compiled")


def test_each_compiled_loader_is_held_against_its_counterpart_and_float32_alone_on_the_device(project):
    project.use(FAKE_H100.replace("FOUR_BIT", "0.109"))
    session = project.bench(*FIDELITY)
    assert session.exit_code == 0, session.output
    loaded = next(line for line in session.output.splitlines() if "LOADED" in line).partition("LOADED ")[2]
    pairs = (
        "fp16 fp16-compiled",
        "8-bit-threshold-0 8-bit-compiled",
        "4-bit 4-bit-compiled",
        "w8a16 w8a16-compiled",
        "w4a16 w4a16-compiled",
        "fp8 fp8-compiled",
    )
    assert [each.removeprefix("smollm2-135m-instruct-") for each in loaded.split()] == [
        "default",
        *" ".join(pairs).split(),
    ]
    facts = session.infos["fp16-compiled"]["fidelity"]
    assert facts["eager_loader"] == "fp16"
    assert (facts["logit_error"], facts["eager_logit_error"]) == pytest.approx((0.0102, 0.01), rel=1e-4)
    assert facts["ratio"] == pytest.approx(1.02, rel=1e-4)
    assert facts["agreement"] == {"documents": 8, "equal_summaries": 8, "equal_tokens": 40, "tokens": 40}
    assert facts["eager_agreement"] == {"documents": 8, "equal_summaries": 7, "equal_tokens": 37, "tokens": 40}
    assert facts["quality_change"]["verdict"] == "NON-INFERIOR"
    name = "smollm2-135m-instruct-fp16-compiled"
    table = session.output.partition("\nFidelity\n")[2].partition("\n\n")[0]
    (row,) = (line.split() for line in table.splitlines() if line.startswith((name, "smollm2 fp16-compiled")))
    assert row[-6:] == ["0.0102", "0.01", "1.020", "40", "8", "7"]
    assert (
        f"{name}: 8 of 8 summaries (100.0% of tokens before a difference) are fp16's, fp16 with itself 7 (92.5%)"
    ) in session.output
    assert f"{name}: quality NON-INFERIOR to fp16 of this session" in session.output


def test_loader_less_faithful_than_its_counterpart_fails_alone_and_its_figures_are_kept(project):
    project.use(FAKE_H100.replace("FOUR_BIT", "0.12"))
    session = project.bench(*FIDELITY)
    assert session.exit_code == 1
    failed = [name for name, outcome in session.outcomes.items() if outcome == "failed"]
    assert failed == ["smollm2-135m-instruct-4-bit-compiled"]
    assert "logit error 0.12 of float32's logits, and at most 0.11 is allowed" in session.output
    assert session.infos["4-bit-compiled"]["fidelity"]["ratio"] == pytest.approx(1.2)
    assert "Traceback" not in session.output


def test_random_weights_are_skipped_with_the_reason(project):
    project.use(FAKE_H100.replace("FOUR_BIT", "0.1"))
    session = project.bench(*FIDELITY, "--weights", "synthetic")
    assert set(session.outcomes.values()) == {"skipped"}
    assert "random weights produce no meaningful summaries to compare" in session.output


def test_model_that_cannot_be_had_is_unavailable_whichever_loader_finds_out(project):
    more = """
    @pytest.fixture(scope="session")
    def load_model():
        from summarybench.engines.not_loaded import NotLoaded
        from summarybench.core.outcomes import Outcome
        return lambda experiment: NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail="no licence")
"""
    project.use(FAKE_H100.replace("FOUR_BIT", "0.1") + more)
    session = project.bench(*FIDELITY)
    assert set(session.outcomes.values()) == {"unavailable"}
    assert session.exit_code == 11


def test_eager_loaders_are_held_against_float32_which_is_loaded_twice_for_all_of_them(project):
    project.use(FAKE_H100.replace("FOUR_BIT", "0.109"))
    session = project.bench(*ALL_LOADERS, "-k", "not compiled")
    assert session.exit_code == 0, session.output
    loaded = next(line for line in session.output.splitlines() if "LOADED" in line).partition("LOADED ")[2]
    loaders = ["fp16", "bf16", "8-bit", "4-bit"]
    assert [each.removeprefix("smollm2-135m-instruct-") for each in loaded.split()] == ["default", "default", *loaders]
    facts = {loader: session.infos[loader]["fidelity"] for loader in loaders}
    errors = [facts[loader]["logit_error"] for loader in loaders]
    assert errors == pytest.approx([0.01, 0.02, 0.04, 0.1], rel=1e-4)
    assert {each["eager_loader"] for each in facts.values()} == {"default"}
    assert {(each["eager_logit_error"], each["ratio"]) for each in facts.values()} == {(0.0, None)}
    assert facts["4-bit"]["agreement"] == {"documents": 8, "equal_summaries": 8, "equal_tokens": 40, "tokens": 40}
    assert "smollm2-135m-instruct-4-bit: quality NON-INFERIOR to default of this session" in session.output


def test_what_a_format_loses_against_float32_fails_nothing(project):
    worthless = "tokens=60, summary='zzz zz' if experiment.loader == '4-bit' else None,"
    project.use(FAKE_H100.replace("FOUR_BIT", "0.1").replace("tokens=5,", worthless))
    session = project.bench(*ALL_LOADERS, "-k", "4-bit and not compiled")
    assert session.infos["4-bit"]["fidelity"]["quality_change"]["verdict"] == "INFERIOR"
    assert session.outcomes == {"smollm2-135m-instruct-4-bit": "passed"}
    assert session.exit_code == 0, session.output


@pytest.mark.parametrize("markers", ["compiled and embedded", "embedded and fidelity"])
def test_compiled_loaders_are_skipped_on_a_cpu_and_the_reason_says_what_they_need(project, markers):
    session = project.bench("-m", markers, "-k", "compiled")
    assert session.exit_code == 12
    assert set(session.outcomes.values()) == {"skipped"}
    output = " ".join(session.output.split())
    for capability, older in ((8.0, {"t4", "v100"}), (7.0, set())):
        families = ", ".join(sorted(set(GPU_FAMILIES) - older))
        assert f"needs a GPU of compute capability {capability} or newer ({families}); this device is cpu" in output


def test_fidelity_runs_only_when_named(project):
    project.use(FAKE_H100.replace("FOUR_BIT", "0.1"))
    session = project.bench(
        "-m", "h100 and mistral", "-k", "4-bit", "--documents", "2", "--document-source", "embedded"
    )
    assert [each["name"] for each in session.run["benchmarks"]] == ["test_summarize[mistral-7b-instruct-4-bit]"]


def test_summaries_worse_than_the_counterparts_end_with_the_exit_code_of_quality(project):
    worthless = "tokens=60, summary='zzz' if experiment.loader == '4-bit-compiled' else None,"
    project.use(FAKE_H100.replace("FOUR_BIT", "0.1").replace("tokens=5,", worthless))
    session = project.bench(*ALL_LOADERS, "-k", "4-bit-compiled")
    assert session.outcomes == {"smollm2-135m-instruct-4-bit-compiled": "failed"}
    assert session.exit_code == 10
    assert session.infos["4-bit-compiled"]["fidelity"]["agreement"]["equal_summaries"] == 8
    assert "quality INFERIOR to 4-bit of this session" in session.output
