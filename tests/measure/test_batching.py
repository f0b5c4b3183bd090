"""Batches: what a round is, what is compared, and what happens where memory runs out."""

from __future__ import annotations

import json
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from summarybench.analysis.judge import Judge
from summarybench.catalogue.models import EXPERIMENTS, LOADERS, MODELS
from summarybench.core.outcomes import DeviceLostError, DeviceMemoryError, Verdict
from summarybench.engines.memory_model import MemoryPrediction, predict_memory
from summarybench.kinds.batching import in_batches_of
from summarybench.machine.device import GIB
from summarybench.measure.batching import find_largest_batch, largest
from summarybench.measure.generation import GenerationRecord, batches_of
from summarybench.measure.metrics import speed_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import entries_of
from tests.command import command
from tests.conftest import FAKE_MODELS, make_project
from tests.fakes import FakeCpu, FakeGpu, FakeMemory
from tests.known_noise import KnownNoise
from tests.run_files import MACHINE, benchmark, run_of

T4 = FakeGpu()
IN_TWOS = ("-m", "batching and cpu", "-k", "4-bit-batch2", "--documents", "16")
LOADED = """
    from pathlib import Path

    @pytest.fixture(scope="session")
    def load_model():
        def load(experiment):
            with Path("loads").open("a") as loads:
                print(experiment.name, file=loads)
            return FakeModel(experiment, TIME)
        return load
"""


def prompt(tokens):
    return SimpleNamespace(token_ids=[0] * tokens)


# What a batch is ------------------------------------------------------------------------------------------------------


def test_longest_prompts_make_the_first_batch_and_equal_ones_stay_in_order():
    prompts = [prompt(tokens) for tokens in (5, 9, 7, 9, 1)]
    assert batches_of(prompts, 2) == [[1, 3], [2, 0], [4]]


def test_single_prompts_stay_in_document_order():
    assert batches_of([prompt(tokens) for tokens in (5, 9, 7)], 1) == [[0], [1], [2]]


def test_batch_sizes_have_names_of_their_own_and_large_ones_are_not_for_a_cpu():
    embedded = next(each for each in EXPERIMENTS if each.name == "smollm2-135m-instruct-4-bit")
    assert [in_batches_of(size, embedded).name.removeprefix(embedded.name) for size in (1, 8)] == ["-batch1", "-batch8"]
    assert ["cpu" in in_batches_of(size, embedded).families for size in (1, 8, 16)] == [True, True, False]


# A session ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A project whose sessions several tests look at."""
    return make_project(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture(scope="module")
def in_fours(shared):
    return shared.bench("-m", "batching and cpu", "-k", "4-bit-batch4", "--documents", "10", "--results-dir", "fours")


@pytest.fixture(scope="module")
def in_twos(shared):
    return shared.bench(*IN_TWOS, "--benchmark-save=main", "--results-dir", "twos")


def only_benchmark_in(session, results):
    (found,) = json.loads((session.folder / results / "latest" / "run.json").read_text())["benchmarks"]
    return found


def test_round_is_a_batch_and_its_seconds_are_shared_by_its_documents(in_fours):
    found = only_benchmark_in(in_fours, "fours")
    info, data = found["extra_info"], found["stats"]["data"]
    assert found["name"] == "test_batching[smollm2-135m-instruct-4-bit-batch4]"
    assert (info["batch_size"], info["workload_settings"]["batch_size"]) == (4, 4)
    assert [len(ids) for ids in info["batch_document_ids"]] == [4, 4, 2]
    assert sorted(chain.from_iterable(info["batch_document_ids"])) == sorted(info["document_ids"])
    assert len(data) == 3
    assert info["generated_tokens_per_second"] == pytest.approx(sum(info["generated_tokens"]) / sum(data))
    assert info["documents_per_second"] == pytest.approx(10 / sum(data))
    first = dict(zip(info["document_ids"], info["time_to_first_token_seconds"], strict=True))
    for ids, seconds in zip(info["batch_document_ids"], data, strict=True):
        assert [first[each] for each in ids] == pytest.approx(
            [seconds / 48] * len(ids)
        )  # of 48 tokens, alike in length


def test_tokens_of_all_rows_are_decoded_in_the_steps_of_the_longest():
    records = [
        GenerationRecord(
            document_id=str(tokens),
            document_tokens=1,
            prompt_tokens=2,
            generated_tokens=tokens,
            truncated=False,
            hit_cap=False,
            start_seconds=0.0,
            first_token_seconds=2.0,
            end_seconds=6.0,
            summary="",
            batch=0,
            rows=2,
        )
        for tokens in (5, 9)
    ]
    speed = speed_of(records)
    assert [record.seconds for record in records] == [3.0, 3.0]
    assert speed.generated_tokens_per_second == 14 / 6
    assert (speed.decode_tokens_per_second, speed.decode_steps_per_second) == (12 / 4, 8 / 4)
    assert speed.time_to_first_token_p50_seconds == 2.0


def test_documents_keep_the_samples_order_and_batches_go_from_long_to_short(project, in_fours):
    info = only_benchmark_in(in_fours, "fours")["extra_info"]
    alone = project.bench("-k", "4-bit", "--documents", "10").infos["4-bit"]
    for key in ("document_ids", "prompt_tokens", "summary_sha256", "rouge1_scores"):
        assert info[key] == alone[key]
    assert alone["batch_document_ids"] is None
    tokens = dict(zip(info["document_ids"], info["prompt_tokens"], strict=True))
    lengths = [[tokens[each] for each in ids] for ids in info["batch_document_ids"]]
    assert all(min(longer) >= max(shorter) for longer, shorter in pairwise(lengths))
    assert info["prompt_tokens"] != sorted(info["prompt_tokens"], reverse=True), "the sample was sorted by chance"


def test_each_document_is_journalled_with_its_batch(in_fours):
    lines = (in_fours.folder / "fours" / "latest" / "journal.jsonl").read_text().splitlines()
    documents = [record for record in map(json.loads, lines) if record["kind"] == "document"]
    assert [(record["batch"], record["rows"]) for record in documents] == [(0, 4)] * 4 + [(1, 4)] * 4 + [(2, 2)] * 2


def test_table_of_documents_says_the_batch(in_fours):
    from pyarrow import parquet

    rows = parquet.read_table(in_fours.folder / "fours" / "latest" / "documents.parquet").to_pylist()
    assert sorted(row["batch"] for row in rows) == [0] * 4 + [1] * 4 + [2] * 2


def test_all_batch_sizes_of_a_loader_share_one_load(project):
    project.use(FAKE_MODELS + LOADED)
    session = project.bench(
        "-m", "batching and cpu", "-k", "(4-bit or 8-bit) and not batch16 and not batch32", "--documents", "8"
    )
    assert session.exit_code == 0
    assert (session.folder / "loads").read_text().split() == [
        f"smollm2-135m-instruct-{loader}" for loader in ("8-bit", "4-bit")
    ]
    in_order = [each for each in session.run["benchmarks"] if each["name"].startswith("test_batching")]
    assert [each["extra_info"]["batch_size"] for each in in_order] == [1, 2, 4, 8] * 2
    assert "quality NON-INFERIOR to batch size 1 of this run" in session.output
    table = session.output.partition("Largest safe batch\n")[2].partition("\n\n")[0]
    assert table.splitlines()[-1].split()[-2:] == ["8", "8"]
    assert "-4-bit-largest-batch: batch sizes tried: 8 ran" in session.output


def test_batches_run_only_when_named(shared):
    assert "test_batching" not in shared.bench("--collect-only", "-q").output


# Comparing ------------------------------------------------------------------------------------------------------------


def batched(batches, **info):
    """An entry of hand-made batches of two: ids by number, 100 tokens a document, 2 s a batch."""
    ids = [[f"document {number}" for number in batch] for batch in batches]
    documents = list(chain.from_iterable(ids))
    made = benchmark(seconds=(2.0,) * len(documents), **{"batch_document_ids": ids, "batch_size": 2} | info)
    made["extra_info"]["document_ids"] = documents
    made["stats"]["data"] = [2.0] * len(ids)
    return made


def compared(now, before):
    judge = Judge(environment=MACHINE, night="2026-11-29", noise=KnownNoise(), tolerance=0.05, slug="an-a100")
    stored = StoredRun(path=Path("baselines/an-a100/0001_main.json"), run=run_of(before))
    return judge.compare(entries_of(run_of(now)), [stored])


def in_pairs(documents):
    return [(number, number + 1) for number in range(1, documents, 2)]


def test_batch_of_the_same_documents_is_one_pair_in_whatever_order_they_are():
    swapped = [(second, first) for first, second in in_pairs(16)]
    found = compared(batched(in_pairs(16)), batched(swapped))
    assert (found.verdict, found.change.documents, found.change.ratio) == (Verdict.UNCHANGED, 8, 1.0)
    assert ", 8 batches, " in found.detail


def test_fewer_than_eight_batches_are_not_compared_and_say_how_many_documents_are():
    found = compared(batched(in_pairs(14)), batched(in_pairs(14)))
    assert (found.verdict, found.change) == (Verdict.INCOMPARABLE, None)
    assert found.detail == (
        "0001_main.json has 7 batches of the same documents in common with this run, and 8 are needed; "
        "give both the same --documents, 16 or more"
    )


def test_batch_of_other_documents_is_not_common_whatever_they_share():
    moved = [(2, 3), (1, 4), *in_pairs(16)[2:]]
    assert compared(batched(moved), batched(in_pairs(16))).detail.startswith("0001_main.json has 6 batches")


def test_other_lengths_of_batches_are_told_from_slower_ones():
    first = [1.9] * 16  # of 2 s: most of the time does not depend on the length
    now = batched(in_pairs(16), generated_tokens=[50] * 16, time_to_first_token_seconds=first)
    found = compared(now, batched(in_pairs(16), time_to_first_token_seconds=first))
    # At the baseline's lengths, 99 later steps would have taken 99/49 of the 0.1 s that 49 took.
    assert found.change.ratio == pytest.approx(2 / (1.9 + 0.1 * 99 / 49))


@pytest.mark.parametrize(("now", "verdict"), [(8, Verdict.REGRESSED), (9, Verdict.UNCHANGED), (10, Verdict.IMPROVED)])
def test_largest_batch_is_compared_by_its_rows_and_not_by_its_speed(now, verdict):
    found = compared(batched([(1, 2)], largest_safe_batch=now), batched([(1, 2)], largest_safe_batch=9))
    assert (found.verdict, found.change) == (verdict, None)
    assert found.detail == f"largest safe batch {now}, and 9 in 0001_main.json"


def test_stored_batches_are_read_by_the_next_session_and_by_make_compare(shared, in_twos, capsys):
    assert in_twos.exit_code == 0
    session = shared.bench(*IN_TWOS)
    info = session.infos["4-bit"]
    assert (info["verdict"], info["change"]["documents"]) == ("UNCALIBRATED", 8)
    (stored,) = session.stored
    assert command("compare")([str(shared.folder / "results" / "latest"), str(stored)]) == 0
    assert "4-bit-batch2: UNCALIBRATED: 1.000 times the speed of 0001_main.json" in capsys.readouterr().out


def test_plan_counts_batches(shared):
    few = shared.bench(*IN_TWOS[:-1], "12", "--plan").output
    assert "4-bit-batch2: fewer than 8 batches are never compared; ask 16 or more --documents" in few


def test_resumed_run_carries_its_batches(shared, in_twos):
    resumed = shared.bench(*IN_TWOS, "--resume", "twos/latest", "--results-dir", "resumed")
    assert resumed.exit_code == 0
    found = only_benchmark_in(resumed, "resumed")
    assert found["extra_info"]["carried_from"]
    assert found["stats"]["data"] == only_benchmark_in(in_twos, "twos")["stats"]["data"]


# Memory ---------------------------------------------------------------------------------------------------------------


def predicted(loader, sequence_tokens, rows):
    config = transformers.AutoConfig.for_model("llama", **MODELS["llama2-7b-chat"].whole_config)
    return predict_memory(config, LOADERS[loader].settings(T4, 1), sequence_tokens, rows).total_bytes / GIB


def test_eight_documents_of_1024_tokens_fit_a_t4_in_4_bits():
    assert predicted("4-bit", 1_024 + 100, 8) == pytest.approx(9.2, abs=0.1)
    assert predicted("4-bit", 1_024 + 100, 32) > 14.6


def test_weights_that_are_there_are_not_predicted_again():
    config = transformers.AutoConfig.for_model("llama", **MODELS["llama2-7b-chat"].whole_config)
    assert predict_memory(config, LOADERS["fp16"].settings(T4, 1), 100, 2, weights_bytes=7).weights_bytes == 7


@pytest.mark.parametrize(
    ("fits", "tried"),
    [
        (57, [57]),
        (40, [57, 28, 42, 35, 38, 40, 41]),
        (1, [57, 28, 14, 7, 3, 1, 2]),
        (0, [57, 28, 14, 7, 3, 1]),
    ],
)
def test_largest_is_found_by_halving_the_interval(fits, tried):
    asked = []
    assert largest(57, lambda rows: asked.append(rows) or rows <= fits) == fits
    assert asked == tried


class Limited:
    """Predicted to fit as many rows as the memory has 100 MiB; runs `fits` of them, and keeps what it was given."""

    def __init__(self, fits, error=None):
        self.fits, self.error, self.batches = fits, error, []

    def resize(self, rows):
        pass

    def memory_for(self, sequence_tokens, batch_size):
        return MemoryPrediction(weights_bytes=GIB, cache_bytes=100 * 1024**2 * batch_size, workspace_bytes=0)

    def prepare(self, rows):
        return rows

    def generate(self, prepared, max_new_tokens, on_first_token):
        self.batches.append([len(row) for row in prepared])
        if len(prepared) > self.fits:
            raise self.error or RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def three_gib_free():
    return FakeGpu(memory_bytes=15 * GIB, memory=FakeMemory(12 * GIB))


def test_largest_batch_begins_with_what_is_predicted_to_fit_and_each_try_leaves_clean_memory(three_gib_free):
    model = Limited(fits=20)
    found = find_largest_batch(model, [prompt(5), prompt(9)], 12, three_gib_free)
    assert (found.batch_size, found.predicted_batch_size) == (20, 30)
    assert found.as_extra_info()["batch_tries"] == [
        [30, False],
        [15, True],
        [22, False],
        [18, True],
        [20, True],
        [21, False],
    ]
    assert three_gib_free.memory.releases == 1 + len(found.tries)
    assert model.batches[0] == [9, 5] * 15, "the longest prompt comes first, and repeats where documents do not suffice"


@pytest.mark.parametrize(("made", "most"), [(FakeGpu, 256), (FakeCpu, 8)], ids=["cuda", "cpu"])
def test_largest_batch_has_a_bound(made, most):
    device = made(memory_bytes=1_000 * GIB)
    assert find_largest_batch(Limited(fits=most), [prompt(5)], 12, device).batch_size == most


def test_not_even_one_row_is_out_of_memory(three_gib_free):
    with pytest.raises(DeviceMemoryError, match="the longest prompt does not even run alone"):
        find_largest_batch(Limited(fits=0), [prompt(5)], 12, three_gib_free)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(RuntimeError("CUDA error: device-side assert triggered"), DeviceLostError), (ValueError("boom"), ValueError)],
)
def test_what_is_not_out_of_memory_ends_the_search(three_gib_free, error, raised):
    model = Limited(fits=0, error=error)
    with pytest.raises(raised):
        find_largest_batch(model, [prompt(5)], 12, three_gib_free)
    assert len(model.batches) == 1


# A T4 of 14.6 GB (tests/fakes.py), on which weights take 4 GiB and a row 1 GiB: 9 rows fit, 16 do not.
ON_A_T4 = (
    FAKE_MODELS
    + """
    from tests.fakes import FakeGpu

    GIB = 1024**3
    GPU = FakeGpu()

    def pytest_benchmarked_device():
        return GPU

    class Tensor:
        def __init__(self, size):
            GPU.memory.take(self, size)
            if GPU.memory.allocated > GPU.memory_bytes:
                raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    class OnT4(FakeModel):
        weights_bytes = 4 * GIB
        bytes_per_row = PREDICTED * GIB

        def __init__(self, experiment, time):
            super().__init__(experiment, time)
            GPU.memory.take(self, 4 * GIB)

        def generate(self, prepared, *arguments):
            cache = [Tensor(GIB) for _ in prepared]
            return super().generate(prepared, *arguments)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: OnT4(experiment, TIME)
"""
)
BATCHES_ON_A_T4 = (
    "-m",
    "t4 and llama2 and batching",
    "-k",
    "4-bit",
    "--document-source",
    "embedded",
    "--documents",
    "18",
)


def by_rows(session):
    return {name.rpartition("-batch")[2]: what for name, what in session.outcomes.items() if "-batch" in name}


def test_batch_that_is_predicted_not_to_fit_is_not_tried_and_is_no_failure(project):
    project.use(ON_A_T4.replace("PREDICTED", "1"))
    session = project.bench(*BATCHES_ON_A_T4)
    assert session.exit_code == 0
    few = dict.fromkeys(("1", "2", "4", "8", ""), "passed")
    assert by_rows(session) == few | dict.fromkeys(("16", "32"), "out_of_memory")
    assert "out of memory (predicted): 20.00 GiB needed" in session.output
    assert "Traceback" not in session.output
    assert session.by_experiment["llama2-7b-chat-4-bit-largest-batch"]["largest_safe_batch"] == 9


def test_batch_that_runs_out_of_memory_against_the_prediction_fails_and_the_next_has_clean_memory(project):
    project.use(ON_A_T4.replace("PREDICTED", "0.5"))
    session = project.bench(*BATCHES_ON_A_T4)
    assert session.exit_code == 1
    assert by_rows(session) == {
        "1": "passed",
        "2": "passed",
        "4": "passed",
        "8": "passed",
        "16": "failed",
        "32": "failed",
        "": "passed",
    }
    assert "Traceback" not in session.output
    info = session.by_experiment["llama2-7b-chat-4-bit-largest-batch"]
    assert info["largest_safe_batch"] == 9
    assert info["batch_tries"][0] == [info["predicted_largest_batch"], False]


def test_prediction_can_be_overruled_and_what_it_foretold_is_still_no_failure(project):
    project.use(ON_A_T4.replace("PREDICTED", "1"))
    session = project.bench(*BATCHES_ON_A_T4, "--no-memory-prediction", "-k", "4-bit-batch16")
    assert session.exit_code == 0
    assert by_rows(session) == {"16": "out_of_memory"}
    assert "(as predicted: 20.00 GiB needed" in session.output


def test_largest_batch_smaller_than_the_baselines_fails_in_one_line(project):
    project.use(ON_A_T4.replace("PREDICTED", "1"))
    only = (*BATCHES_ON_A_T4, "-k", "4-bit and largest")
    assert project.bench(*only, "--benchmark-save=main").exit_code == 0
    project.use(ON_A_T4.replace("PREDICTED", "2"))
    worse = project.bench(*only)
    assert worse.exit_code == 1
    (outcome,) = worse.run["outcomes"]
    assert outcome["detail"] == "REGRESSED: largest safe batch 4, and 9 in 0001_main.json"
    assert "Traceback" not in worse.output
