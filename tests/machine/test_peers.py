"""Several processes of one run: who has which documents and GPU, what is made of it, and what becomes of it when one dies."""

from __future__ import annotations

import json
import shlex
import sys
from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import InputError, JudgementError
from summarybench.core.processes import ALONE, Process, this_process
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.detection import leave_one_gpu_visible
from summarybench.measure.scaling import ProcessSpeed, Scaling, assert_scales, in_even_shards
from tests.conftest import FAKE_MODELS, REAL_MODELS
from tests.machine.test_device import H100, T4, fake_nvml

GPU = CudaDevice(kind="cuda", name="A GPU", slug="a-gpu", family="gpu", memory_bytes=1, compute_dtype="bfloat16")
CPU = CpuDevice(kind="cpu", name="A CPU", slug="a-cpu", family="cpu", memory_bytes=1, compute_dtype="float32")

MODELS_BY_RANK = """
    import os, signal, time
    import pytest
    from tests.fakes import FakeModel, FakeTime, probes

    RANK, TIME = int(os.environ["RANK"]), FakeTime()

    @pytest.fixture(scope="session")
    def clock():
        return TIME.clock
"""
WELL_AND_FAILING = (
    MODELS_BY_RANK
    + """
    @pytest.fixture(scope="session")
    def load_model():
        def load(experiment):
            is_failing = RANK == 1 and experiment.loader == "8-bit"
            fail = {4: RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")} if is_failing else None
            return FakeModel(experiment, TIME, seconds_per_token=0.01 * (1 + RANK), tokens=10, fail=fail)
        return load
"""
)
DYING = (
    MODELS_BY_RANK
    + """
    class Model(FakeModel):
        def generate(self, *arguments):
            if self._calls == 4 and RANK == 1:
                {of_what}
            if self._calls == 4 + {waiting} and RANK == 0:
                time.sleep(60)
            return super().generate(*arguments)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Model(experiment, TIME, tokens=10)
"""
)


def prompts(*lengths):
    return [SimpleNamespace(token_ids=range(length)) for length in lengths]


def lengths(prompts_in_shards):
    return [len(prompt.token_ids) for prompt in prompts_in_shards]


def speed(process, tokens, seconds):
    return ProcessSpeed(process=process, device="A GPU", documents=1, generated_tokens=tokens, seconds=seconds)


def test_documents_are_dealt_from_the_longest_on_to_and_fro():
    assert lengths(in_even_shards(prompts(3, 8, 1, 6, 5, 4, 7, 2), 2)) == [8, 5, 4, 1, 7, 6, 3, 2]


def test_documents_that_make_no_whole_deal_are_left_out_and_are_the_last_of_the_sample():
    assert lengths(in_even_shards(prompts(1, 2, 3, 4, 9), 2)) == [4, 1, 3, 2]


def test_fewer_documents_than_processes_are_refused():
    with pytest.raises(InputError, match="2 documents for 3 processes: ask for at least --documents 3"):
        in_even_shards(prompts(1, 2), 3)


def test_a_process_that_lags_behind_counts_for_all():
    together = (speed(0, 100, 4.0), speed(1, 100, 5.0))
    scaling = Scaling(together=together, alone=(speed(0, 100, 3.0), speed(0, 100, 5.0)))
    assert (scaling.tokens_per_second, scaling.tokens_per_second_alone, scaling.efficiency) == (40.0, 25.0, 0.8)


def test_gpus_have_to_scale_and_processes_on_one_cpu_do_not():
    scaling = Scaling(together=(speed(0, 100, 4.0), speed(1, 100, 4.3)), alone=(speed(0, 100, 4.0),))
    assert_scales(scaling, CPU)
    with pytest.raises(JudgementError, match=r"scaling efficiency 0\.930"):
        assert_scales(scaling, GPU)


def test_launcher_variables_say_which_process_this_is_on_this_machine_and_among_all():
    found = this_process({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"})
    assert found == Process(rank=9, count=16, local_rank=1, local_count=8)
    assert not found.reports
    assert this_process({}) == this_process({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) == ALONE


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, "GPU-2222-bbbb"),
        ("1,0", "GPU-1111-aaaa"),
        ("GPU-2222-bbbb, GPU-1111-aaaa", "GPU-1111-aaaa"),
        ("", ""),
    ],
)
def test_second_process_sees_the_second_visible_gpu_alone(monkeypatch, visible, seen):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([T4, H100], []))
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    leave_one_gpu_visible(1, environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == seen


def test_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([T4, H100], []))
    with pytest.raises(InputError, match="process 1 of this machine has no GPU: 1 are visible"):
        leave_one_gpu_visible(1, {"CUDA_VISIBLE_DEVICES": "0"})


def test_one_process_skips_them_and_prints_the_command_for_two(project):
    session = project.bench("-m", "cpu and distributed", "-k", "4-bit", "--documents", "4")
    assert session.exit_code == 12
    assert set(session.outcomes.values()) == {"skipped"}
    _, _, command = session.run["outcomes"][-1]["detail"].partition("; start two: ")
    words = shlex.split(command)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pytest", "benchmarks"]
    assert words[1:9] == launcher
    assert words[-6:] == ["-m", "cpu and distributed", "-k", "4-bit", "--documents", "4"]
    launched = project.launch(*words[9:])
    assert set(launched.outcomes.values()) == {"passed"}, launched.output


@pytest.mark.parametrize(("rank", "says"), [("0", "ERROR: test_summarize"), ("1", "ERROR: process 1 of 2: test_summ")])
def test_benchmarks_of_one_process_are_refused_under_several(project, one_error_line, rank, says):
    launched = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
    session = project.bench(**launched)
    assert session.exit_code == 4
    line = one_error_line(session)
    assert line.startswith(says)
    assert line.endswith(
        "is for one process, and 2 were started: select tests for several processes with -m distributed, or leave out the launcher"
    )
    assert not (project.folder / "results").exists()


def test_two_processes_share_the_documents_and_one_that_fails_fails_the_test_for_both(project):
    project.use(WELL_AND_FAILING)
    session = project.launch("-m", "cpu and distributed", "--documents", "9", "--max-new-tokens", "12")
    assert session.outcomes == {
        "smollm2-135m-instruct-default": "passed",
        "smollm2-135m-instruct-8-bit": "failed",
        "smollm2-135m-instruct-4-bit": "passed",
    }, session.output
    failed = next(each for each in session.run["outcomes"] if each["outcome"] == "failed")
    assert failed["detail"] == (
        "process 1 of 2: out of memory while generating: asked for 2.00 GiB (it should have fitted)"
    )
    assert session.left_behind == "1"
    info = session.infos["default"]
    assert (info["processes"], info["workload_settings"]["processes"], len(info["document_ids"])) == (2, 2, 8)
    first, second = info["scaling"]["per_process"]
    assert (first["documents"], second["documents"]) == (4, 4)
    assert info["scaling"]["tokens_per_second_alone"] == pytest.approx(first["tokens_per_second"])
    # Process 1 takes twice as long for each token: both together are about as fast as process 0 alone.
    assert info["scaling_efficiency"] == pytest.approx(80 / second["seconds"] / (2 * 40 / first["seconds"]))
    assert session.output.count("test session starts") == 1
    assert len(list((project.folder / "results").iterdir())) == 2  # one session's folder, and latest
    journal = (project.folder / "results" / "latest" / "journal.jsonl").read_text(encoding="utf-8")
    documents = [json.loads(line) for line in journal.splitlines() if json.loads(line)["kind"] == "document"]
    assert len({each["document_id"] for each in documents if each["experiment"].endswith("default")}) == 8


def test_session_counts_what_its_own_process_compiles_and_generates(project):
    project.use(
        FAKE_MODELS
        + """
    class Compiling(FakeModel):
        compile_seconds = 0.0

        def generate(self, *arguments):
            if not self.compile_seconds:
                TIME.pass_by(100)
                self.compile_seconds = 100.0
            return super().generate(*arguments)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Compiling(experiment, TIME)
"""
    )
    session = project.launch("-m", "cpu and distributed", "-k", "4-bit", "--documents", "4", "--max-new-tokens", "8")
    assert session.exit_code == 0, session.output
    spent = session.run["session"]
    assert spent["compile_seconds"] == pytest.approx(100)
    (info,) = (each["extra_info"] for each in session.run["benchmarks"])
    seconds_of_a_document = info["scaling"]["per_process"][0]["seconds"] / 2
    # Two documents and up to three warm-ups: the seconds of a warm-up in which the model compiled do not count.
    assert 2 * seconds_of_a_document < spent["generating_seconds"] < 6 * seconds_of_a_document


@pytest.mark.parametrize(
    ("of_what", "waiting", "patience", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 4, None, "process 1 of 2 died"),  # process 0 is in a round
        ("os._exit(3)", 100, None, "process 1"),  # process 0 waits for it
        ("time.sleep(60)", 100, 3, "process 1 was silent for 3 s"),
    ],
    ids=["killed", "exited", "hung"],
)
def test_process_that_dies_or_hangs_ends_the_run_with_one_line(project, of_what, waiting, patience, says):
    impatient = f"\n    from summarybench.measure import scaling\n    scaling.TIMEOUT_SECONDS, scaling.SLOWER_AT_MOST = {patience}, 0\n"
    project.use(DYING.format(of_what=of_what, waiting=waiting) + (impatient if patience else ""))
    session = project.launch("-m", "cpu and distributed", "-k", "default or 4-bit", "--documents", "8")
    outcomes = {each["experiment"]: each for each in session.run["outcomes"]}
    lost = outcomes["smollm2-135m-instruct-default"]
    assert lost["outcome"] == "failed", session.output
    assert says in lost["detail"]
    assert not lost["is_final"]
    assert outcomes["smollm2-135m-instruct-4-bit"]["detail"] == "not run: another process was lost"
    assert session.left_behind == "1"
    assert session.exit_code != 0


@pytest.mark.slow
def test_two_processes_with_the_embedded_model(project):
    project.use(REAL_MODELS)
    session = project.launch(
        "-m", "cpu and distributed", "-k", "smollm2 and default", "--documents", "2", "--max-new-tokens", "4"
    )
    assert session.exit_code == 0, session.output
    info = session.infos["default"]
    assert info["workload_settings"]["loader_settings"]["threads"] == 1
    assert info["scaling_efficiency"] > 0
    assert "\nDistributed\n" in session.output
