"""Prompt lookup beside plain decoding: figures, ties, and a session of the kind."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import (
    LOADERS,
    experiments,
    lookup_experiments,
    student_draft_experiments,
)
from summarybench.core.outcomes import JudgementError
from summarybench.engines.lookup import LookupCounts
from summarybench.measure.generation import GenerationRecord
from summarybench.measure.lookup import (
    PlainSummary,
    assert_decodes_greedily,
    compare_with_plain,
    dtype_of,
    plain_summaries,
    tie_spacings,
)
from tests.conftest import FAKE_MODELS
from tests.fakes import FakeModel, FakeTime

PROMPT = SimpleNamespace(token_ids=(5, 6))
MODEL = SimpleNamespace(weights_read_bytes=1_000, cache_bytes_per_token=2)


def record(document_id, generated, *, start=10.0, first=11.0, end=15.0):
    return GenerationRecord(
        document_id=document_id,
        document_tokens=80,
        prompt_tokens=100,
        generated_tokens=generated,
        truncated=False,
        hit_cap=False,
        start_seconds=start,
        first_token_seconds=first,
        end_seconds=end,
        summary="a b",
    )


def plain(tokens, seconds=10.0, decode_seconds=8.0):
    return PlainSummary(tokens=tuple(tokens), seconds=seconds, decode_seconds=decode_seconds)


def two_documents(spacings=()):
    """21 and 11 tokens in 4 steps of 1 s and 2 of 2 s; plain decoding takes 10 s each, 8 s of them to decode."""
    counts = [
        LookupCounts(first_tokens=1, steps=4, drafted=40),
        LookupCounts(first_tokens=3, steps=2, drafted=10),
    ]
    return compare_with_plain(
        10,
        [record("a", 21), record("b", 11)],
        [range(21), [*range(5), *range(50, 56)]],
        counts,
        [plain(range(21)), plain(range(11))],
        spacings,
    )


def test_figures_follow_from_counts_and_times():
    found = two_documents(spacings=[2.5]).as_extra_info()
    assert found["tokens_per_step"] == 28 / 6  # 20 + 8 tokens after the first groups
    assert found["accepted_share"] == 22 / 50
    assert found["plain_tokens_per_second"] == 32 / 20
    assert found["ratio"] == (32 / 10) / (32 / 20)
    assert found["step_cost"] == (8 / 6) / (16 / 30)
    assert found["agreement"] == {"documents": 2, "equal_summaries": 1, "equal_tokens": 26, "tokens": 32}
    assert found["largest_tie"] == 2.5
    assert (found["first_tokens"], found["steps"], found["drafted_tokens"]) == ([1, 3], [4, 2], [40, 10])


def test_speed_of_decoding_leaves_out_the_whole_first_group_and_weights_are_read_once_a_step():
    replaced = two_documents().replaced_figures(MODEL, copy_bandwidth=10_000.0)
    assert replaced["decode_tokens_per_second"] == 28 / 8
    cached = 4 * (100 + 21 / 2) + 2 * (100 + 11 / 2)
    assert replaced["model_bandwidth_utilization"] == (6 * 1_000 + 2 * cached) / 8 / 10_000


def test_a_student_reads_its_weights_and_cache_once_for_each_draft():
    student = SimpleNamespace(weights_read_bytes=100, cache_bytes_per_token=1)
    replaced = two_documents().replaced_figures(MODEL, 10_000.0, student)
    alone = two_documents().replaced_figures(MODEL, 10_000.0)
    read_bytes = 50 * 100 + 40 * (100 + 21 / 2) + 10 * (100 + 11 / 2)
    added = replaced["model_bandwidth_utilization"] - alone["model_bandwidth_utilization"]
    assert added == pytest.approx(read_bytes / 8 / 10_000)
    assert replaced["decode_tokens_per_second"] == alone["decode_tokens_per_second"]


def test_without_a_step_there_are_no_figures_of_steps():
    once = LookupCounts(first_tokens=1, steps=0, drafted=0)
    found = compare_with_plain(10, [record("a", 1, end=11.0)], [[7]], [once], [plain([7], decode_seconds=0.0)], [])
    figures = found.as_extra_info()
    assert (figures["tokens_per_step"], figures["accepted_share"], figures["step_cost"]) == (None, None, None)
    assert set(found.replaced_figures(MODEL, None).values()) == {None}


def test_plain_pass_times_each_document_and_not_the_first_pass():
    time = FakeTime()
    model = FakeModel(next(iter(experiments())), time, seconds_per_token=1.0, tokens=3)
    model.words = [str(number) for number in range(20)]
    prompts = [SimpleNamespace(token_ids=range(10)), SimpleNamespace(token_ids=range(20))]
    found = plain_summaries(model, prompts, 5, time.clock)
    assert [each.tokens for each in found] == [(7, 8, 9), (17, 18, 19)]
    assert [(each.seconds, each.decode_seconds) for each in found] == [(3.0, 2.0), (3.0, 2.0)]
    assert time.seconds - 3 * 3.0 == 0


class Logits:
    """Tells the same logits for the last token of whatever summary is given, and notes which were."""

    def __init__(self, logits):
        import torch

        self.given = []
        self._logits = torch.tensor([logits])

    def forced_logits(self, prompt, summary):
        self.given.append((tuple(prompt), tuple(summary)))
        return self._logits


def test_first_difference_is_measured_in_spacings_of_the_dtype():
    model = Logits([-8.0, 3.0, 7.0, 8.0 - 2.0**-7])
    found = tie_spacings(model, [PROMPT], [[9, 9, 3, 5]], [[9, 9, 2, 6]], "float16")
    assert found == [(1.0 - 2.0**-7) / (8.0 * 2.0**-10)]
    assert model.given == [((5, 6), (9, 9, 2))]


def test_equal_summaries_need_no_logits_and_one_that_ends_early_is_no_tie():
    model = Logits([0.0])
    assert tie_spacings(model, [PROMPT, PROMPT], [[1, 2], [1]], [[1, 2], [1, 2]], "float32") == [inf]
    assert model.given == []


@pytest.mark.parametrize("spacings", [[], [0.0, 16.0]])
def test_ties_are_greedy_decoding(spacings):
    assert_decodes_greedily(two_documents(spacings))


@pytest.mark.parametrize(("spacings", "said"), [([3.0, 16.5], "16.5"), ([inf], "inf")])
def test_difference_beyond_a_tie_fails_and_says_how_large_it_is(spacings, said):
    with pytest.raises(
        JudgementError, match=rf"1 summary of 2 differs .* two logits are {said} spacings of the dtype apart"
    ):
        assert_decodes_greedily(two_documents(spacings))


def test_loaders_that_compute_in_another_dtype_than_they_store_say_so():
    assert dtype_of({"dtype": "float16", "compute_dtype": "bfloat16"}) == "bfloat16"
    assert dtype_of({"dtype": "float16"}) == "float16"


def test_no_other_kind_measures_loaders_with_prompt_lookup():
    names = {each.loader for each in lookup_experiments()}
    assert names == {"default-lookup", "fp16-lookup", "4-bit-lookup", "fp16-compiled-lookup"}
    of_students = {each.loader for each in student_draft_experiments()}
    assert of_students == {"default-draft", "fp16-draft", "4-bit-draft"}
    assert (names | of_students).isdisjoint(each.loader for each in experiments())
    assert all(LOADERS[name].draft_tokens > 0 for name in names | of_students)


FAKE_DECODING_WITH_DRAFTS = (
    FAKE_MODELS
    + """
    from summarybench.engines.lookup import LookupCounts

    class FakeDecodingWithDrafts:
        counts_of_a_summary = None  # a subclass has them

        def __init__(self, loaded):
            self.summaries, self.counts = [], []
            self.prepare, self.decode, self.ends_by_itself = loaded.prepare, loaded.decode, loaded.ends_by_itself

        def generate(self, prepared, max_new_tokens, on_first_token):
            TIME.pass_by(0.01)
            on_first_token()
            TIME.pass_by(0.05)
            return [row[-max_new_tokens:] for row in prepared]

        def generated_ids(self, output, prepared):
            found = [[*row[:-1], WORD(row[-1])] for row in output]
            self.summaries += found
            self.counts.append(self.counts_of_a_summary)
            return found

    def forced_logits(self, prompt, summary):
        import torch
        logits = torch.zeros(1, 1 + max(FakeModel.words.__len__(), *summary))
        logits[0, summary[-1]] = 1.0
        return logits

    WORD = lambda word: word
    FakeModel.forced_logits = forced_logits
"""
)
FAKE_LOOKUP = (
    FAKE_DECODING_WITH_DRAFTS
    + """
    from summarybench.kinds import prompt_lookup

    class FakeLookup(FakeDecodingWithDrafts):
        counts_of_a_summary = LookupCounts(first_tokens=1, steps=4, drafted=40)

        def __init__(self, loaded, draft_tokens, longest_sequence):
            super().__init__(loaded)

    prompt_lookup.open_lookup = FakeLookup
"""
)
LOOKUP = ("-m", "lookup", "-k", "default-lookup", "--documents", "8", "--max-new-tokens", "20")


def test_session_shows_prompt_lookup_beside_plain_decoding(project):
    project.use(FAKE_LOOKUP)
    session = project.bench(*LOOKUP)
    assert session.exit_code == 0, session.output
    facts = session.infos["default-lookup"]["lookup"]
    assert facts["tokens_per_step"] == 19 / 4
    assert facts["agreement"]["equal_summaries"] == 8
    assert facts["ratio"] == pytest.approx(20 / 0.06 / facts["plain_tokens_per_second"])
    assert session.infos["default-lookup"]["decode_tokens_per_second"] == pytest.approx(19 / 0.05)
    table = session.output.partition("\nPrompt lookup\n")[2].partition("\n\n")[0]
    assert "4.75" in table


def test_compiling_the_lookup_counts_as_compiling_and_not_as_generating(project):
    compiling = "super().__init__(loaded)\n            TIME.pass_by(100)\n            loaded.compile_seconds = 100"
    project.use(FAKE_LOOKUP.replace("super().__init__(loaded)", compiling))
    session = project.bench(*LOOKUP)
    assert session.exit_code == 0, session.output
    spent = session.run["session"]
    assert spent["compile_seconds"] == pytest.approx(100)
    assert 8 * 0.06 < spent["generating_seconds"] < 10


def test_session_fails_where_lookup_writes_other_words(project):
    project.use(FAKE_LOOKUP.replace("WORD = lambda word: word", "WORD = lambda word: word - 1"))
    session = project.bench(*LOOKUP)
    assert session.exit_code == 1
    assert session.outcomes["smollm2-135m-instruct-default-lookup"] == "failed"
    assert "8 summaries of 8 differ from those of plain decoding by more than ties" in session.output
    assert "Traceback" not in session.output


def test_prompt_lookup_runs_only_when_named(project):
    session = project.bench("-k", "lookup", "--documents", "2")
    assert "nothing is selected" in session.output
