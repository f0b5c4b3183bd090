"""Documents that are read in several calls: what is timed and counted, by which engine ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from summarybench.documents.document import Document
from summarybench.documents.strategy import Strategy
from summarybench.engines.server.answers import Completion
from summarybench.kinds.continuous import prompts_at_once
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure.generation import GenerationRecord, Instruments, build_prompts, measure
from summarybench.measure.long_documents import EarlierCalls, conversations_of, run_at_once
from summarybench.measure.metrics import speed_of, time_to_first_token_seconds
from summarybench.measure.record import LONG_DOCUMENTS, _long_documents
from summarybench.measure.sample import Sample
from summarybench.measure.serving import ReadByServer, _read, record_of
from summarybench.measure.spot_check import _Rounds as Rounds
from tests.fakes import FakeCpu, FakeModel, FakeTime

INSTRUCTION = "Sum up."
NEW_TOKENS = 4
LONG = " ".join(f"s{number} w w end." for number in range(20))
SHORT = "One short text."


def document(text):
    return Document(url=text[:9], section="s", text=text, reference="")


def prompts_for(model, *texts, strategy=Strategy.MAP_REDUCE):
    return build_prompts(model, [document(each) for each in texts], 34, NEW_TOKENS, INSTRUCTION, strategy)


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def model(time):
    return FakeModel(SimpleNamespace(name="fake"), time, seconds_per_token=1.0)


class Watched:
    """A model that notes the batch size and the clock of each call."""

    def __init__(self, model, time):
        self.calls = []
        self._model, self._time = model, time
        self.prepare, self.decode = model.prepare, model.decode
        self.generated_ids, self.ends_by_itself = model.generated_ids, model.ends_by_itself

    def generate(self, prepared, max_new_tokens, on_first_token):
        self.calls.append((len(prepared), self._time.seconds))
        return self._model.generate(prepared, max_new_tokens, on_first_token)


def measured_records(model, time, prompts, batch_size=1):
    instruments = Instruments(device=FakeCpu(), clock=time.clock, monitor=NullMonitor())
    found = measure(
        Rounds(),
        model,
        prompts,
        max_new_tokens=NEW_TOKENS,
        instruments=instruments,
        on_record=lambda _: None,
        batch_size=batch_size,
    )
    return found.records


# A model of this process -----------------------------------------------------------------------------------------


def test_all_calls_of_a_document_are_timed_as_its_round(model, time):
    prompts = prompts_for(model, LONG)
    watched = Watched(model, time)
    (record,) = measured_records(watched, time, prompts)
    (_, *timed) = watched.calls  # the first one warms up
    assert [rows for rows, _ in timed] == [1, 1, 1, 1]
    assert record.start_seconds == timed[0][1]
    assert record.end_seconds == time.seconds
    assert record.earlier_calls == 3


def test_the_first_token_is_that_of_the_last_call_counted_from_the_start_of_the_document(model, time):
    watched = Watched(model, time)
    (record,) = measured_records(watched, time, prompts_for(model, LONG))
    last_call = watched.calls[-1][1]
    assert last_call < record.first_token_seconds < record.end_seconds
    assert time_to_first_token_seconds(record) == record.first_token_seconds - watched.calls[1][1]


def test_tokens_of_earlier_calls_are_counted_apart_from_those_of_the_summary(model, time):
    prompts = prompts_for(model, LONG)
    (record,) = measured_records(model, time, prompts)
    assert record.generated_tokens == NEW_TOKENS
    assert record.earlier_generated_tokens == 3 * NEW_TOKENS
    assert record.earlier_prompt_tokens == sum(len(call.token_ids) for call in prompts[0].first_calls)
    assert record.prompt_tokens == len(INSTRUCTION.split()) + 3 * NEW_TOKENS
    assert (record.document_tokens, record.unread_tokens, record.truncated) == (80, 0, False)


def test_a_document_that_fits_has_one_call_beside_a_long_one(model, time):
    plain = prompts_for(model, SHORT, strategy=Strategy.TRUNCATE)
    (_, short) = measured_records(model, time, prompts_for(model, LONG, SHORT))
    (alone,) = measured_records(model, time, plain)
    assert (short.earlier_calls, short.prompt_tokens, short.summary) == (0, alone.prompt_tokens, alone.summary)


def test_the_calls_of_a_batch_are_made_together_in_batches_of_its_size(model, time):
    watched = Watched(model, time)
    records = measured_records(watched, time, prompts_for(model, LONG, SHORT), batch_size=2)
    assert [rows for rows, _ in watched.calls[1:]] == [2, 2, 1]
    assert [each.earlier_calls for each in records] == [3, 0]
    assert {each.end_seconds for each in records} == {time.seconds}
    assert {each.first_token_seconds > watched.calls[-1][1] for each in records} == {True}


def test_refine_reads_part_after_part(model, time):
    watched = Watched(model, time)
    (record,) = measured_records(watched, time, prompts_for(model, LONG, strategy=Strategy.REFINE))
    assert [rows for rows, _ in watched.calls] == [1] * (record.earlier_calls + 2)
    assert record.earlier_calls > 1


def test_truncated_documents_state_their_unread_tokens(model, time):
    prompts = prompts_for(model, LONG, SHORT, strategy=Strategy.TRUNCATE)
    records = measured_records(model, time, prompts)
    assert [each.unread_tokens for each in records] == [80 - 32, 0]
    assert _long_documents(records)["long_documents"]["unread_tokens"] == [48, 0]


def test_run_files_of_documents_that_all_fit_say_nothing_about_long_ones(model, time):
    assert _long_documents(measured_records(model, time, prompts_for(model, SHORT))) == {"truncated_documents": 0}


def test_the_decode_speed_is_that_of_the_last_call():
    record = GenerationRecord(
        document_id="d",
        document_tokens=500,
        prompt_tokens=50,
        generated_tokens=11,
        truncated=False,
        hit_cap=False,
        start_seconds=0.0,
        first_token_seconds=8.0,
        end_seconds=10.0,
        summary="A summary.",
        earlier_calls=6,
        earlier_prompt_tokens=600,
        earlier_generated_tokens=60,
    )
    speed = speed_of([record])
    assert speed.decode_tokens_per_second == 5.0
    assert speed.generated_tokens_per_second == 1.1


def test_the_longest_sequence_counts_prompts_that_are_not_known_yet(model):
    prompts = prompts_for(model, LONG)
    sample = Sample(source="file", revision="r", documents=(), prompts=prompts, max_new_tokens=NEW_TOKENS)
    assert sample.longest_sequence == 34 + NEW_TOKENS


def test_every_count_of_a_record_is_in_the_run_file(model, time):
    found = _long_documents(measured_records(model, time, prompts_for(model, LONG)))
    assert tuple(found["long_documents"]) == LONG_DOCUMENTS
    assert set(EarlierCalls().as_record()) < set(LONG_DOCUMENTS)


# Continuous batching ---------------------------------------------------------------------------------------------


class Engine:
    """Answers each prompt with its last words."""

    def __init__(self):
        self.passes = []

    def run(self, prompts, max_new_tokens):
        self.passes.append(len(prompts))
        return [SimpleNamespace(generated_tokens=each[-max_new_tokens:]) for each in prompts]


def test_an_engine_gets_all_calls_that_can_be_made_at_once(model):
    engine = Engine()
    prompts = prompts_for(model, LONG, SHORT)
    found = run_at_once(engine, conversations_of(prompts), NEW_TOKENS, model.decode)
    assert engine.passes == [4, 1]
    assert [(each.earlier.calls, each.prompt_tokens) for each in found] == [(3, 14), (0, 5)]
    assert [len(each.requests) for each in found] == [4, 1]


def test_an_engine_has_room_for_prompts_that_are_not_known_yet(model):
    lengths = [len(prompt.token_ids) for prompt in prompts_at_once(prompts_for(model, LONG, SHORT))]
    assert lengths == [34, 34, 18, 5, 34]
    assert len(prompts_at_once(prompts_for(model, SHORT))) == 1


# Servers ---------------------------------------------------------------------------------------------------------


def test_a_server_gets_one_call_of_a_document_after_the_other(model):
    (prompt,) = prompts_for(model, LONG)
    asked = []

    async def ask(call):
        asked.append(call)
        start = 10.0 * len(asked)
        return Completion(
            text=" partial summary ",
            finish_reason="stop",
            prompt_tokens=len(call.token_ids),
            cached_tokens=1,
            generated_tokens=2,
            start_seconds=start,
            token_seconds=(start + 1, start + 2),
            end_seconds=start + 3,
        )

    found = asyncio.run(_read(prompt, ask))
    assert isinstance(found, ReadByServer)
    assert asked[-1].message == f"{INSTRUCTION}\n\n" + "\n".join(["partial summary"] * 3)
    assert (found.start_seconds, found.first_token_seconds, found.end_seconds) == (10.0, 41.0, 43.0)
    assert (found.cached_tokens, found.generated_tokens, found.earlier.calls) == (4, 2, 3)
    record = record_of(prompt, found, None)
    assert (record.document_tokens, record.earlier_generated_tokens) == (80, 6)
