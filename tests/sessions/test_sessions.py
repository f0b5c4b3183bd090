"""Whole sessions with fake models: baselines' life cycle, outcomes, exit codes, and what survives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import FAKE_MODELS, Project, Session, newest_results

EMBEDDED = ("smollm2-135m-instruct-default", "smollm2-135m-instruct-8-bit", "smollm2-135m-instruct-4-bit")

SLOWER_MODELS = FAKE_MODELS.replace(
    "FakeModel(experiment, TIME)", "FakeModel(experiment, TIME, seconds_per_token=0.02)"
)

FAILING_FIRST_MODEL = (
    FAKE_MODELS.replace(
        "FakeModel(experiment, TIME)",
        "FakeModel(experiment, TIME, fail={CALL: ERROR} if experiment.loader == 'default' else None)",
    )
    + "    from summarybench.core.outcomes import DeviceInvalidError, InputError\n"
)

A_T4 = """
    from summarybench.machine.cpu_device import CpuDevice
    from summarybench.machine.device import GIB

    def pytest_benchmarked_device():
        return CpuDevice(
            kind="cpu", name="Tesla T4", slug="tesla-t4", family="t4", memory_bytes=int(14.6 * GIB), compute_dtype="float16"
        )
"""


def failing(call: int, error: str) -> str:
    """Fake models of which the first fails in the given call (1 is the warm-up)."""
    return FAILING_FIRST_MODEL.replace("CALL", str(call)).replace("ERROR", error)


def test_bare_session_measures_the_embedded_experiments(project):
    session = project.bench()
    assert session.exit_code == 0
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert [info["verdict"] for info in session.infos.values()] == ["NO BASELINE"] * 3
    assert (session.folder / "results" / "latest" / "exit_code").read_text() == "0\n"


def test_run_file_holds_raw_facts_in_document_order(project):
    benchmark = project.bench("--documents", "4", "-k", "4-bit").run["benchmarks"][0]
    info = benchmark["extra_info"]
    lists = ("document_ids", "document_tokens", "prompt_tokens", "generated_tokens", "summary_sha256", "rouge1_scores")
    assert [len(info[name]) for name in lists] == [4] * 6
    assert info["generated_tokens_per_second"] == pytest.approx(4 * 48 / sum(benchmark["stats"]["data"]))
    assert info["time_to_first_token_seconds"] == pytest.approx(
        [seconds / 48 for seconds in benchmark["stats"]["data"]]
    )


def test_smaller_sample_is_a_prefix_of_a_larger_one(project):
    two, four = (project.bench("--documents", count, "-k", "4-bit").infos["4-bit"]["document_ids"] for count in "24")
    assert two == four[:2]


def test_saved_run_becomes_the_baseline_and_pytest_benchmark_reads_it(project):
    assert [path.name for path in project.bench("--benchmark-save=main").stored] == ["0001_main.json"]
    session = project.bench()
    assert session.exit_code == 0
    assert session.infos["4-bit"]["baseline"]["file"] == "0001_main.json"
    assert session.infos["4-bit"]["change"]["ratio"] == pytest.approx(1.0)
    folder = session.stored[0].parent
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", str(folder), "compare", "0001"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "test_summarize[smollm2-135m-instruct-4-bit]" in listed.stdout + listed.stderr


def test_halved_seconds_in_the_baseline_are_a_regression(project):
    stored = project.bench_once("--benchmark-save=main").stored[0]
    run = json.loads(stored.read_text())
    for benchmark in run["benchmarks"]:
        benchmark["stats"]["data"] = [seconds / 2 for seconds in benchmark["stats"]["data"]]
    stored.write_text(json.dumps(run))
    session = project.bench("--benchmark-save=worse")
    assert session.exit_code == 1
    assert {info["verdict"] for info in session.infos.values()} == {"REGRESSED"}
    assert session.infos["4-bit"]["change"]["ratio"] == pytest.approx(0.5)
    assert "Traceback" not in session.output
    assert "only a clean run becomes one" in session.output
    assert len(session.stored) == 1


@pytest.mark.parametrize(("before", "now", "verdict"), [("0.01", "0.02", "REGRESSED"), ("0.02", "0.01", "IMPROVED")])
def test_changed_model_speed_changes_the_verdict(project, before, now, verdict):
    models = SLOWER_MODELS.replace("0.02", "{}")
    project.use(models.format(before))
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    project.use(models.format(now))
    session = project.bench("-k", "4-bit")
    assert session.infos["4-bit"]["verdict"] == verdict
    assert session.exit_code == (1 if verdict == "REGRESSED" else 0)


def test_other_workload_is_incomparable_and_named(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    session = project.bench("-k", "4-bit", "--max-new-tokens", "32")
    assert session.infos["4-bit"]["verdict"] == "INCOMPARABLE"
    assert "--max-new-tokens 32 here, 48 there" in session.output
    assert session.exit_code == 0


def test_seven_common_documents_are_too_few(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    session = project.bench("-k", "4-bit", "--documents", "7")
    assert session.infos["4-bit"]["verdict"] == "INCOMPARABLE"
    assert "7 documents in common" in session.output


def test_saved_run_of_few_documents_has_one_note_and_is_passed_over(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    few = project.bench_once("--benchmark-save=main", "-k", "4-bit", "--documents", "2")
    assert few.output.count("2 documents: no run will ever be compared with it; measure at least 8") == 1
    assert "a baseline needs at least 8 documents" not in few.output
    found = project.bench("-k", "4-bit").infos["4-bit"]
    assert found["baseline"]["file"] == "0001_main.json"
    assert found["verdict"] != "INCOMPARABLE"


@pytest.mark.parametrize("options", [(), ("--max-new-tokens", "32")])
def test_required_baseline_fails_where_none_is_comparable(project, options):
    if options:
        project.bench_once("--benchmark-save=main", "-k", "4-bit")
    assert project.bench("-k", "4-bit", "--require-baseline", *options).exit_code == 1


def test_named_run_is_compared_with_and_an_unknown_one_refused(project, one_error_line):
    project.bench("--benchmark-save=first", "-k", "4-bit")
    project.use(SLOWER_MODELS)
    project.bench("--benchmark-save=second", "-k", "4-bit", "--benchmark-compare=0001")
    assert project.bench("-k", "4-bit", "--benchmark-compare=0001").infos["4-bit"]["verdict"] == "REGRESSED"
    assert "0007" in one_error_line(project.bench("--benchmark-compare=0007"))


def test_comparison_of_pytest_benchmark_itself_goes_on_working(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    options = ("-k", "4-bit", "--benchmark-compare", "--benchmark-compare-fail=mean:10%")
    assert "Performance has regressed" not in project.bench(*options).output
    stored = next((project.folder / "baselines").glob("*/*.json"))
    run = json.loads(stored.read_text())
    run["benchmarks"][0]["stats"]["mean"] = 1e-9
    stored.write_text(json.dumps(run))
    assert "Performance has regressed" in project.bench(*options).output


def test_anchor_is_never_the_newest_baseline(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    project.bench("--benchmark-save=anchor", "-k", "4-bit")
    assert project.bench("-k", "4-bit").infos["4-bit"]["baseline"]["file"] == "0001_main.json"


# Outcomes and exit codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 3])
def test_unexpected_out_of_memory_fails_and_the_next_experiments_run(project, call):
    project.use(failing(call, 'RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")'))
    session = project.bench()
    assert session.exit_code == 1
    assert session.outcomes == {EMBEDDED[0]: "failed", EMBEDDED[1]: "passed", EMBEDDED[2]: "passed"}
    assert "it should have fitted" in session.output
    assert "Traceback" not in session.output


def test_expected_out_of_memory_passes_and_too_good_news_fails(project):
    project.use(A_T4 + failing(2, 'MemoryError("CUDA out of memory. Tried to allocate 1 GiB")'))
    session = project.bench("-m", "t4 and llama2", "--document-source", "embedded")
    assert session.outcomes["llama2-7b-chat-default"] == "out_of_memory"
    assert session.outcomes["llama2-7b-chat-4-bit"] == "passed"
    assert session.exit_code == 0
    project.use(A_T4 + FAKE_MODELS)
    session = project.bench("-m", "t4 and llama2", "-k", "default", "--document-source", "embedded")
    assert session.outcomes == {"llama2-7b-chat-default": "failed"}
    assert "it ran, and was predicted to run out of memory (2" in session.output
    assert "correct the prediction in summarybench/engines/memory_model.py" in session.output


UNAVAILABLE_MODELS = FAKE_MODELS.replace(
    "FakeModel(experiment, TIME)", 'NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail="no licence")'
).replace(
    "import pytest",
    "import pytest\n    from summarybench.engines.loading import NotLoaded\n    from summarybench.core.outcomes import Outcome",
)


@pytest.mark.parametrize(("options", "in_pytest"), [((), "3 skipped"), (("-m", "embedded and cpu"), "3 failed")])
def test_unavailable_model_fails_only_when_named(project, options, in_pytest):
    project.use(UNAVAILABLE_MODELS)
    session = project.bench(*options)
    assert session.exit_code == 11
    assert [session.outcomes[experiment] for experiment in EMBEDDED] == ["unavailable"] * 3
    assert in_pytest in session.output
    assert "no licence" in session.output


def test_invalid_device_fails_without_a_verdict(project):
    project.use(failing(3, 'DeviceInvalidError("throttled for 40% of the time")'))
    session = project.bench()
    assert (session.exit_code, session.outcomes[EMBEDDED[0]]) == (11, "invalid")


FLOOR_OF_NINETY_PERCENT = """
    from summarybench.documents.document import DocumentSource
    from summarybench.catalogue.floors import FLOORS, Floor

    FLOORS[("smollm2-135m-instruct", "4-bit", DocumentSource.EMBEDDED, 48)] = Floor(rouge1=0.9, origin="a test")
"""


def test_missed_rouge_floor_alone_has_its_own_exit_code(project):
    project.use(FAKE_MODELS + FLOOR_OF_NINETY_PERCENT)
    session = project.bench("--benchmark-save=main")
    assert session.exit_code == 10
    assert session.outcomes[EMBEDDED[2]] == "failed"
    assert "is below its floor" in session.output
    assert session.stored == []


WORTHLESS_MODELS = FAKE_MODELS.replace("experiment, TIME)", "experiment, TIME, summary='zzz')")
HALF_EMPTY_MODELS = (
    FAKE_MODELS
    + """
    class HalfEmpty(FakeModel):
        def decode(self, token_ids):
            return "" if self._calls % 2 else "zzz"

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: HalfEmpty(experiment, TIME)
"""
)
WORSE_4_BIT = FAKE_MODELS.replace(
    "FakeModel(experiment, TIME)",
    "FakeModel(experiment, TIME, summary='zzz' if experiment.loader == '4-bit' else None)",
)
NO_FLOOR = ("--max-new-tokens", "40")


def lines_with(session: Session, text: str) -> list[str]:
    return [line for line in session.output.splitlines() if text in line]


def test_worse_summaries_than_the_baseline_s_fail_with_the_quality_exit_code_and_one_line(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit", *NO_FLOOR)
    project.use(WORSE_4_BIT)
    session = project.bench("--benchmark-save=worse", "-k", "4-bit", *NO_FLOOR)
    assert (session.exit_code, session.outcomes[EMBEDDED[2]]) == (10, "failed")
    assert (session.folder / "results" / "latest" / "exit_code").read_text() == "10\n"
    assert "Traceback" not in session.output
    (noted,) = lines_with(session, f"{EMBEDDED[2]}: quality INFERIOR to 0001_main.json: ROUGE-1 -")
    assert noted.endswith("8 documents, 8 summaries changed")
    assert [path.name for path in session.stored] == ["0001_main.json"]
    change = session.infos["4-bit"]["quality_change"]
    assert (change["verdict"], change["baseline"], change["documents"]) == ("INFERIOR", "0001_main.json", 8)
    assert change["changed_summaries"] == 8
    assert change["high"] < 0


def test_quality_of_an_unchanged_model_is_non_inferior(project):
    project.bench_once("--benchmark-save=main")
    session = project.bench()
    assert session.exit_code == 0
    said = "quality NON-INFERIOR to 0001_main.json: ROUGE-1 +0.0 points [+0.0, +0.0], margin 1.5, 8 documents, 0 summaries changed"
    assert all(f"{experiment}: {said}" in session.output for experiment in EMBEDDED)


def test_outputs_that_became_empty_fail_even_where_rouge_cannot_tell(project):
    sixteen = ("--documents", "16", "-k", "4-bit", *NO_FLOOR)
    project.use(WORTHLESS_MODELS)
    project.bench_once("--benchmark-save=main", *sixteen)
    project.use(HALF_EMPTY_MODELS)
    session = project.bench(*sixteen)
    assert session.exit_code == 10
    assert len(session.infos["4-bit"]["degenerate_document_ids"]["empty"]) == 8
    assert session.infos["4-bit"]["quality_change"]["mcnemar"]["empty"]["more"] == 8
    assert f"{EMBEDDED[2]}: failed: more empty outputs than 0001_main.json: confirmed once " in session.output


def test_regression_outranks_lost_quality_and_both_are_told(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit", *NO_FLOOR)
    project.use(WORSE_4_BIT.replace("TIME, ", "TIME, seconds_per_token=0.02, "))
    session = project.bench("-k", "4-bit", *NO_FLOOR)
    assert session.exit_code == 1
    assert lines_with(session, f"{EMBEDDED[2]}: REGRESSED: ")
    assert lines_with(session, f"{EMBEDDED[2]}: quality INFERIOR to 0001_main.json")


def test_quantized_loader_is_shown_beside_the_default_of_its_session_and_never_fails(project):
    project.use(WORSE_4_BIT)
    session = project.bench("--benchmark-save=main", *NO_FLOOR)
    assert session.exit_code == 0
    assert len(lines_with(session, f"{EMBEDDED[2]}: quality INFERIOR to default of this run: ROUGE-1 -")) == 1
    assert len(lines_with(session, f"{EMBEDDED[1]}: quality NON-INFERIOR to default of this run: ROUGE-1 +0.0")) == 1
    assert [path.name for path in session.stored] == ["0001_main.json"]


def test_baseline_stored_before_quality_was_told_by_document_is_compared_without_mcnemar(project):
    stored = project.bench_once("--benchmark-save=main", "-k", "4-bit").stored[0]
    run = json.loads(stored.read_text())
    for benchmark in run["benchmarks"]:
        del benchmark["extra_info"]["degenerate_document_ids"], benchmark["extra_info"]["quality_change"]
        benchmark["extra_info"]["degenerate"]["repeating"] = 1  # of which document, the run does not say
    stored.write_text(json.dumps(run))
    session = project.bench("-k", "4-bit")
    assert session.exit_code == 0
    assert session.infos["4-bit"]["quality_change"]["mcnemar"] is None
    assert "does not record them by document" in session.output


def test_other_failure_outranks_a_missed_floor(project):
    project.use(failing(2, 'ValueError("boom")') + FLOOR_OF_NINETY_PERCENT)
    assert project.bench().exit_code == 1


def test_tests_for_another_device_are_skipped_naming_both(project):
    session = project.bench("-m", "t4")
    assert session.exit_code == 12
    assert set(session.outcomes.values()) == {"skipped"}
    assert "this device is cpu" in session.output
    assert "t4" in session.run["outcomes"][0]["detail"]
    assert "generating" not in session.output  # where no time went


def test_keyword_leaves_out_what_is_for_other_devices_unless_there_is_nothing_else(project):
    session = project.bench("-k", "8-bit")
    assert session.exit_code == 0
    assert session.outcomes == {EMBEDDED[1]: "passed"}
    assert project.bench("-k", "8-bit and llama2").outcomes == {"llama2-7b-chat-8-bit": "skipped"}


def test_only_the_own_family_marker_counts(project):
    project.use(A_T4 + FAKE_MODELS)
    session = project.bench("-m", "not a100", "-k", "4-bit and llama2", "--document-source", "embedded")
    assert session.outcomes == {"llama2-7b-chat-4-bit": "passed"}


def test_device_standing_in_for_another_never_makes_a_baseline(project, one_error_line):
    session = project.bench("--gpu-family", "t4", "-m", "t4", "-k", "4-bit and llama2", "--document-source", "embedded")
    assert session.outcomes == {"llama2-7b-chat-4-bit": "passed"}
    assert "emulates t4" in session.output
    assert "never become baselines" in one_error_line(project.bench("--gpu-family", "t4", "--benchmark-save=main"))


# What survives ------------------------------------------------------------------------------------------------------

SLEEPING_SECOND_MODEL = """
    import time
    from pathlib import Path

    class Sleeping(FakeModel):
        def generate(self, *arguments):
            if self._calls == 3:
                Path("asleep").touch()
                time.sleep(60)
            return super().generate(*arguments)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: (Sleeping if experiment.loader == "8-bit" else FakeModel)(experiment, TIME)
"""


def heed_interrupts() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and this test may be run by such a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(project: Project, what: signal.Signals) -> tuple[int, str]:
    """A session that gets a signal in the third timed round of its second experiment; exit code and output."""
    project.use(FAKE_MODELS + SLEEPING_SECOND_MODEL)
    process = project.start(
        "--benchmark-save=main", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 600
    while not (project.folder / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(what)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def finished_documents(project: Project) -> list[str]:
    journal = (newest_results(project.folder) / "journal.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in journal.splitlines()]
    return [record["experiment"] for record in records if record["kind"] == "document"]


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGKILL])
def test_finished_documents_survive(project, what):
    exit_code, output = interrupted(project, what)
    assert exit_code == (2 if what is signal.SIGINT else -signal.SIGKILL)
    assert finished_documents(project) == [EMBEDDED[0]] * 8 + [EMBEDDED[1]] * 2
    run = json.loads((newest_results(project.folder) / "run.json").read_text())
    assert [each["extra_info"]["experiment"] for each in run["benchmarks"]] == [EMBEDDED[0]]
    assert not list(project.folder.glob("baselines/*/*.json"))
    if what is signal.SIGINT:
        assert [each["outcome"] for each in run["outcomes"]] == ["passed", "failed", "failed"]
        assert "only a clean run becomes one" in output


def test_full_disk_ends_the_session_in_one_line_and_loses_nothing(project):
    limit = "\n    import resource\n    resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, 14_000))\n"
    project.use(FAKE_MODELS + limit)
    session = project.bench()
    assert session.exit_code == 2
    assert "Traceback" not in session.output
    assert "cannot write" in session.output
    assert "free some space" in session.output
    assert len(finished_documents(project)) >= 8


MODELS_THAT_ARE_WATCHED = """
    import weakref

    @pytest.fixture(scope="session")
    def load_model():
        models = []

        def load(experiment):
            alive = [name for name, model in models if model() is not None]
            with open("loads", "a") as file:
                print(experiment.loader, "while alive:", *alive, file=file)
            fail = {3: ValueError("boom")} if experiment.loader == "default" else None
            model = FakeModel(experiment, TIME, fail=fail)
            models.append((experiment.loader, weakref.ref(model)))
            return model

        return load
"""


def test_models_are_loaded_once_and_freed_before_the_next_even_after_a_failure(project):
    project.use(FAKE_MODELS + MODELS_THAT_ARE_WATCHED)
    session = project.bench()
    assert session.outcomes[EMBEDDED[0]] == "failed"
    loads = (session.folder / "loads").read_text().splitlines()
    assert loads == ["default while alive:", "8-bit while alive:", "4-bit while alive:"]


def test_copy_of_the_run_goes_where_it_is_asked_for(project):
    session = project.bench("--benchmark-json=new/folder/copy.json", "-k", "4-bit")
    copy = session.folder / "new" / "folder" / "copy.json"
    assert json.loads(copy.read_text()) == session.run


def test_documents_table_has_the_timed_summaries(project):
    from pyarrow import parquet

    session = project.bench("--documents", "3", "-k", "4-bit")
    table = parquet.read_table(Path(session.folder, "results", "latest", "documents.parquet")).to_pylist()
    assert [row["document_id"] for row in table] == session.infos["4-bit"]["document_ids"]
    assert all(row["summary"] and row["reference"] for row in table)


# The harness's own cost -----------------------------------------------------------------------------------------------

HARNESS_THAT_COSTS = (
    FAKE_MODELS
    + """
    class Costly(FakeModel):
        def generate(self, prepared, max_new_tokens, on_first_token):
            TIME.pass_by(COST)
            return super().generate(prepared, max_new_tokens, on_first_token)

        def generate_bare(self, prepared, max_new_tokens):
            return FakeModel.generate(self, prepared, max_new_tokens, lambda: None)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Costly(experiment, TIME)
"""
)


@pytest.mark.parametrize(("cost", "exit_code"), [("0.001", 0), ("0.02", 1)])
def test_harness_that_costs_more_than_a_hundredth_fails(project, cost, exit_code):
    project.use(HARNESS_THAT_COSTS.replace("COST", cost))
    session = project.bench("-m", "overhead and cpu", "-k", "4-bit")
    assert session.exit_code == exit_code
    (benchmark,) = session.run["benchmarks"]
    assert benchmark["name"] == "test_overhead[smollm2-135m-instruct-4-bit]"
    seconds = sum(benchmark["stats"]["data"])
    expected = (seconds - 8 * float(cost)) / seconds
    assert benchmark["extra_info"]["overhead"]["ratio"] == pytest.approx(expected)
