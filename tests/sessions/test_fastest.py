"""The fastest way of each precision, ways side by side, and where a session's time goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from summarybench.catalogue.models import GPUS_THAT_COMPILE
from summarybench.core import session_seconds
from summarybench.core.session_seconds import SessionSeconds, session_line
from summarybench.engines.inductor import inductor_options
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.kinds.fastest import FastestKind, in_words
from summarybench.kinds.registry import KINDS
from summarybench.machine.device import GIB
from summarybench.machine.families import GPU_FAMILIES
from summarybench.measure.batching import BATCH_SIZES, even_batch_size
from summarybench.report.experiment import ExperimentView, Source, experiments_of
from summarybench.report.tables import side_by_side
from summarybench.report.terminal import final_report
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import Entry, entries_of, read_run
from tests.conftest import FAKE_MODELS
from tests.fakes import FakeCpu, FakeGpu
from tests.run_files import A100, benchmark, run_of
from tests.sessions.test_gpu_sessions import fake_gpu

ON_AN_H100 = """
    from dataclasses import replace
    GPU = replace(GPU, family="h100", slug="h100", memory_bytes=80 * 1024**3)
"""
SIDE_BY_SIDE = (
    "-m",
    "h100 and llama2 and (h100 or compiled or batching or continuous or fastest)",
    "-k",
    "4-bit and (batch8 or batch32 or not batch)",
)


# Which experiments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*GPU_FAMILIES, "cpu"])
def test_each_precision_has_one_fastest_way_on_a_device_and_it_is_compiled_where_that_can_be(family):
    ways = [each for each in FastestKind().experiments() if family in each.families | each.on_request]
    precisions = [(way.model, way.loader.removesuffix("-compiled")) for way in ways]
    assert len(set(precisions)) == len(precisions)
    compiled = {way.loader for way in ways if way.loader.endswith("-compiled")}
    every = {f"{loader}-compiled" for loader in ("default", "fp16", "8-bit", "4-bit")}
    assert compiled == (every if family in GPUS_THAT_COMPILE else set())


class Fitting:
    """Each row takes a GiB."""

    def resize(self, rows):
        pass

    def memory_for(self, sequence_tokens, batch_size):
        return MemoryPrediction(weights_bytes=GIB, cache_bytes=GIB * batch_size, workspace_bytes=0)


@pytest.mark.parametrize(
    ("documents", "free_gib", "made", "rows"),
    [
        (100, 80, FakeGpu, 25),
        (100, 24, FakeGpu, 20),
        (33, 80, FakeGpu, 17),
        (3, 80, FakeGpu, 3),
        (10, 0, FakeGpu, 1),
        (100, 80, FakeCpu, 8),
    ],
)
def test_batches_are_as_few_and_as_even_as_memory_allows(documents, free_gib, made, rows):
    device = made(memory_bytes=free_gib * GIB)
    assert even_batch_size(Fitting(), 100, documents, device) == rows


def test_products_of_one_row_alone_are_tuned_and_their_kernels_never_cross_processes():
    tuned, *others = map(inductor_options, BATCH_SIZES)
    kept = {"coordinate_descent_tuning": True, "compile_threads": 1, "dynamic_scale_rblock": False}
    assert tuned.items() >= kept.items()
    assert not any(kept.keys() & options.keys() for options in others)


@pytest.mark.parametrize("overlaps", [False, True])
def test_nothing_is_tuned_beside_own_products(overlaps):
    options = inductor_options(1, has_own_products=True, overlaps=overlaps)
    assert options["deterministic"] is True
    assert options["triton.autotune_pointwise"] is False
    assert options["triton.enable_pdl"] is overlaps
    assert "coordinate_descent_tuning" not in options


# Sessions -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_an_h100(project):
    project.use(fake_gpu(more=ON_AN_H100))
    return project


def collected(project, *options):
    output = project.bench("--collect-only", "-q", *options).output
    return {line.partition("[")[2].rstrip("]") for line in output.splitlines() if "::" in line}


def test_fastest_stands_in_place_of_single_documents(on_an_h100):
    assert collected(on_an_h100, "-m", "h100 and llama2", "--fastest") == {
        "llama2-7b-chat-bf16-fastest",
        *(f"llama2-7b-chat-{loader}-compiled-fastest" for loader in ("default", "fp16", "8-bit", "4-bit")),
    }
    assert "fastest" not in " ".join(collected(on_an_h100, "-m", "h100 and llama2"))


def test_readmes_expression_has_all_ways_of_one_precision_in_one_session(on_an_h100):
    loaders = ("4-bit", "4-bit-compiled")
    assert collected(on_an_h100, *SIDE_BY_SIDE) == {
        *(f"llama2-7b-chat-{loader}" for loader in loaders),
        *(f"llama2-7b-chat-{loader}-batch{rows}" for loader in loaders for rows in (8, 32)),
        *(f"llama2-7b-chat-{loader}-continuous" for loader in loaders),
        "llama2-7b-chat-4-bit-compiled-fastest",
    }


FAKE_FASTEST = """
    from summarybench.core import session_seconds
    from summarybench.kinds.fastest import FastestKind
    from summarybench.kinds.registry import register
    from tests.fake_engine import FakeEngine, FakeManager

    session_seconds.now = lambda: TIME.seconds

    class FakeFastest(FastestKind):
        def start_engine(self, toolbox, loaded, sample):
            return FakeEngine(FakeManager(TIME, seconds_per_step=SECONDS))

    register(FakeFastest())
"""


def fake_fastest(seconds_per_step):
    """A trial in which a step of all documents at once takes so long."""
    return FAKE_FASTEST.replace("SECONDS", str(seconds_per_step))


def test_all_documents_are_measured_at_once_where_a_trial_finds_that_faster(project):
    project.use(FAKE_MODELS + fake_fastest(0.001))
    session = project.bench("--fastest", "-m", "cpu and embedded", "-k", "4-bit", "--documents", "10")
    assert session.exit_code == 0, session.output
    info = session.by_experiment["smollm2-135m-instruct-4-bit-fastest"]
    assert info["kind"]["unit"] == "round"
    assert "Batches" not in session.output
    (entry,) = entries_of(read_run(session.folder / "results" / "latest" / "run.json"))
    assert entry.is_at_once
    assert info["workload_settings"]["loader_settings"]["batching"] == "continuous"
    trial = info["trial"]
    assert trial["at_once_documents_per_second"] > trial["batches_documents_per_second"]
    assert "smollm2-135m-instruct-4-bit-fastest: measured with all documents at once; in a trial, " in session.output
    assert Path(session.folder, "closed").read_text(encoding="utf-8").splitlines() == ["closed"]


PROBES_THAT_DO_NOT_FIT = """
    class Probes:
        copy_bandwidth = None

        def host_sample(self):
            return None

        def measure(self, dtype):
            raise MemoryError("nothing left")

    @pytest.fixture(scope="session")
    def probes():
        return Probes()
"""


def test_engine_of_the_trial_is_closed_if_the_machine_cannot_be_probed(project):
    project.use(FAKE_MODELS + fake_fastest(0.001) + PROBES_THAT_DO_NOT_FIT)
    session = project.bench("--fastest", "-m", "cpu and embedded", "-k", "4-bit", "--documents", "10")
    assert "measured with all documents at once" in session.output
    assert "out of memory" in session.run["outcomes"][0]["detail"]
    assert Path(session.folder, "closed").read_text(encoding="utf-8").splitlines() == ["closed"]


def test_workload_tells_loader_and_rows_and_the_session_where_its_time_went(project):
    project.use(FAKE_MODELS + fake_fastest(60))
    session = project.bench("--fastest", "-m", "cpu and embedded", "-k", "4-bit", "--documents", "10")
    assert session.exit_code == 0, session.output
    assert "measured with batches of 5; in a trial, " in session.output
    info = session.by_experiment["smollm2-135m-instruct-4-bit-fastest"]
    settings = info["workload_settings"]
    assert (settings["loader"], settings["batch_size"]) == ("4-bit", 5)
    assert [len(ids) for ids in info["batch_document_ids"]] == [5, 5]
    spent = session.run["session"]
    (found,) = session.run["benchmarks"]
    assert spent["generating_seconds"] > sum(found["stats"]["data"])
    assert spent["generating_seconds"] == pytest.approx(spent["seconds"])
    assert f"{session_line(spent)}\n" in session.output
    journal = (session.folder / "results" / "latest" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in journal][-1] == "session_seconds"


def trial(batches=None, singles=None, at_once=None):
    speeds = {"batches": batches, "singles": singles, "at_once": at_once}
    return {"batch_size": 8} | {f"{way}_documents_per_second": speed for way, speed in speeds.items() if speed}


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        (trial(), "measured with batches of 8, the only way that this loader supports"),
        (
            trial(1.0, at_once=2.5),
            "measured with all documents at once; in a trial, batches of 8 gave 1.00 documents/s, and all documents at once 2.50",
        ),
        (
            trial(0.5, 0.75),
            "measured with single documents; in a trial, batches of 8 gave 0.50 documents/s, and single documents 0.75",
        ),
        (
            trial(1.0, 0.5, 1.0),
            "measured with batches of 8; in a trial, batches of 8 gave 1.00 documents/s, single documents 0.50, and all documents "
            "at once 1.00",
        ),
    ],
)
def test_line_says_what_is_measured_and_how_fast_each_way_was(tried, words):
    assert in_words(tried) == words


SLOWER_BATCHES = """
    class SlowInBatches(FakeModel):
        def generate(self, prepared, max_new_tokens, on_first_token):
            TIME.pass_by(60 if len(prepared) > 1 else 0)
            return super().generate(prepared, max_new_tokens, on_first_token)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: SlowInBatches(experiment, TIME)
"""


def test_single_documents_are_measured_on_a_cpu_where_batches_are_slower(project):
    project.use(FAKE_MODELS + SLOWER_BATCHES + fake_fastest(60))
    session = project.bench("--fastest", "-m", "cpu and embedded", "-k", "default", "--documents", "10")
    assert session.exit_code == 0, session.output
    assert "smollm2-135m-instruct-default-fastest: measured with single documents; in a trial, " in session.output
    info = session.by_experiment["smollm2-135m-instruct-default-fastest"]
    assert [len(ids) for ids in info["batch_document_ids"]] == [1] * 10
    assert info["trial"].keys() == {
        "batch_size",
        "batches_documents_per_second",
        "singles_documents_per_second",
    }


# Where time goes ------------------------------------------------------------------------------------------------------


def test_compiling_is_taken_out_of_generating(monkeypatch):
    time = [0.0]
    monkeypatch.setattr(session_seconds, "now", lambda: time[0])
    spent = SessionSeconds()
    for _ in range(2):
        with spent.loading():
            time[0] += 10
        time[0] += 25
        spent.add_generating(10.0, 4.0)
        spent.add_generating(10.0)
    assert spent.as_record() == {
        "seconds": 70.0,
        "loading_seconds": 20.0,
        "compile_seconds": 8.0,
        "generating_seconds": 32.0,
        "other_seconds": 10.0,
        "other_share": 1 / 7,
    }


def test_test_states_what_was_compiled_for_it_and_not_for_earlier_ones(project):
    compiling = """
    class Compiling(FakeModel):
        \"""Compiles for 10 s whenever the batch size changes.\"""
        compile_seconds, batch_size = 0.0, 0

        def generate(self, prepared, *arguments):
            if len(prepared) != self.batch_size:
                TIME.pass_by(10)
                self.compile_seconds, self.batch_size = self.compile_seconds + 10.0, len(prepared)
            return super().generate(prepared, *arguments)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Compiling(experiment, TIME)
"""
    project.use(FAKE_MODELS + compiling)
    session = project.bench("-m", "cpu and batching", "-k", "default and (batch1 or batch2)", "--documents", "4")
    assert session.exit_code == 0, session.output
    spent = {
        each["extra_info"]["batch_size"]: each["extra_info"]["compile_seconds"] for each in session.run["benchmarks"]
    }
    assert spent == {1: 10, 2: 10}


def test_line_has_shares_of_the_whole():
    parts = {"generating": 150.0, "loading": 20.0, "compile": 20.0, "other": 10.0}
    session = {"seconds": 200.0, **{f"{part}_seconds": seconds for part, seconds in parts.items()}}
    assert session_line(session) == (
        "session: 3 min 20 s: 75.0% generating, 10.0% loading, 10.0% compiling, 5.0% other"
    )


# Side by side ---------------------------------------------------------------------------------------------------------

IN_FOURS = [[f"document {first + more}" for more in range(4)] for first in (1, 5)]


def experiments_in(*benchmarks):
    return experiments_of([Source(stored=StoredRun(path=Path("run.json"), run=run_of(*benchmarks)))])


def test_ways_have_names_and_speed_is_beside_eager():
    eager = benchmark()
    compiled = benchmark("llama2-7b-chat-4-bit-compiled", seconds=(0.5,) * 8)
    batched = benchmark(
        "llama2-7b-chat-4-bit-compiled",
        batch_document_ids=IN_FOURS,
        generated_tokens_per_second=400.0,
        kind=KINDS["batching"].facts.as_record(),
    )
    batched["stats"]["data"] = [1.0, 1.0]
    alone = benchmark("llama2-7b-chat-8-bit")
    assert [each.way for each in experiments_in(eager, compiled, batched)] == [
        "eager",
        "compiled",
        "compiled, batch 4",
    ]
    report = final_report(run_of(eager, compiled, batched, alone), A100, width=200, color=False)
    table = report.partition("Side by side")[2].partition("\n\n")[0]
    cells = [line.split() for line in table.splitlines() if "llama2" in line]
    assert [(row[0], row[-4]) for row in cells] == [
        ("llama2-7b-chat-4-bit", "1.00"),
        ("llama2-7b-chat-4-bit-compiled", "4.00"),
        ("llama2-7b-chat-4-bit-compiled", "8.00"),
    ]
    assert "Side by side" not in final_report(run_of(eager, alone), A100, width=200, color=False)


def test_ways_stand_from_the_plainest_to_the_fastest_whatever_ran_first():
    eights, fours = ([[f"document {n}" for n in range(1, 9)]], IN_FOURS)
    ways = [
        ("", "summarize", {}),
        ("-compiled", "summarize", {}),
        ("", "distributed", {"processes": 2}),
        ("-batch4", "batching", {"batch_document_ids": fours}),
        ("-compiled-batch4", "batching", {"batch_document_ids": fours}),
        ("-batch8", "batching", {"batch_document_ids": eights}),
        ("-largest-batch", "largest_safe_batch", {"batch_document_ids": fours}),
        ("-compiled-largest-batch", "largest_safe_batch", {"batch_document_ids": eights}),
        ("-continuous", "continuous", {"continuous": {"rounds": [{"generated_tokens": 800}]}}),
        ("-compiled-fastest", "fastest", {"batch_document_ids": fours}),
    ]
    made = []
    for ending, kind, more in ways:
        loader = "4-bit-compiled" if ending.startswith("-compiled") else "4-bit"
        one = benchmark(f"llama2-7b-chat-{loader}", kind=KINDS[kind].facts.as_record(), **more)
        one["extra_info"]["experiment"] = f"llama2-7b-chat-4-bit{ending}"
        rounds = more["continuous"]["rounds"] if "continuous" in more else more.get("batch_document_ids", range(8))
        one["stats"]["data"] = [2.0] * len(rounds)
        made.append(one)
    names = [one["extra_info"]["experiment"] for one in made]
    for order in (made, made[::-1], made[3:] + made[:3]):
        table = side_by_side(experiments_in(*order))
        assert [row.experiment.name for row in table.rows] == names


def test_page_gives_each_document_its_share_of_its_batch():
    info = benchmark(batch_document_ids=IN_FOURS)["extra_info"]
    entry = Entry(name="test_batching[a]", extra_info=info, seconds=(4.0, 8.0))
    experiment = ExperimentView(number=0, source=None, entry=entry, label="a")
    assert list(experiment.document_seconds.values()) == [1.0] * 4 + [2.0] * 4
