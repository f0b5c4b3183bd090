"""Whole sessions on a fake GPU: its memory, and what it can do to a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FAKE_MODELS
from tests.sessions.test_warnings import beside

MIB = 1024**2
LLAMA = ("llama2-7b-chat-default", "llama2-7b-chat-8-bit", "llama2-7b-chat-4-bit")

FAKE_GPU = (
    FAKE_MODELS
    + """
    from tests.fakes import FakeGpu, FakeMemory

    MIB = 1024**2
    GPU = FakeGpu(memory=FakeMemory(7 * MIB), memory_bytes=80_000 * MIB)
    KEPT = []

    def pytest_benchmarked_device():
        return GPU

    class OnGpu(FakeModel):
        predicted_memory_bytes = PREDICTED * MIB

        def __init__(self, experiment, time, **options):
            super().__init__(experiment, time, **options)
            GPU.memory.take(self, 93 * MIB)

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
            GPU.memory.take(behave, LEAK)
        return model
"""


def fake_gpu(*, predicted_mib: int = 100, more: str = "") -> str:
    """Models of 93 MiB on a GPU on which 7 MiB are allocated already: a peak of 100 MiB."""
    return FAKE_GPU.replace("PREDICTED", str(predicted_mib)) + more


def test_loader_that_an_unknown_gpu_is_too_old_for_is_skipped_and_the_reason_says_so(project):
    turing = 'GPU = replace(GPU, family="gpu", slug="a-gpu", name="A GPU", capability=(7, 5))'
    project.use(fake_gpu(more=f"\n    from dataclasses import replace\n    {turing}\n"))
    session = project.bench("-m", "compiled and embedded", "-k", "fp8 or 4-bit", "--document-source", "embedded")
    outcomes = {name.removeprefix("smollm2-135m-instruct-"): outcome for name, outcome in session.outcomes.items()}
    assert outcomes == {"4-bit-compiled": "passed", "fp8-compiled": "skipped"}, session.output
    assert (
        "the loader fp8-compiled needs a GPU of compute capability 8.9 or newer, and this one (A GPU) has 7.5: "
        "measure smollm2-135m-instruct with another loader" in " ".join(session.output.split())
    )


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
    assert "on a CPU the peak memory includes Python and torch" in session.output


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


# How many documents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [("--weights", "synthetic"), ("--document-source", "embedded")])
def test_session_that_names_no_number_takes_the_documents_that_are_there_and_says_so(project, source):
    project.use(fake_gpu())
    session = project.bench("-m", "t4 and llama2", *source, "-k", "4-bit or 8-bit")
    assert session.exit_code == 0
    assert [len(info["document_ids"]) for info in session.infos.values()] == [49, 49]
    told = "only 49 documents instead of the default 100: the embedded source has no more\n"
    assert session.output.count(told) == 1


def test_session_that_names_more_documents_than_there_are_is_refused(project):
    project.use(fake_gpu())
    session = project.bench(*LLAMA_ON_A_T4[:-1], "50")
    assert session.exit_code == 4
    assert "--documents 50 is more than the 49 that embedded documents offer; ask for 49 or fewer" in session.output


# Out of memory ----------------------------------------------------------------------------------------------------------

OF_TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.56 GiB of which 1.31 GiB is free. "
    "Including non-PyTorch memory, this process has 13.25 GiB memory in use. Of the allocated memory 12.50 GiB is allocated "
    "by PyTorch, and 256.00 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
    "setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
FIGURES = "asked for 2.00 GiB, 12.50 GiB in use, 256.00 MiB reserved beside it, 1.31 GiB free, 14.56 GiB in all"
LOST = "CUDA error: unspecified launch failure\\nSearch for `cudaErrorLaunchFailure' in NVIDIA's documentation."

RAISED_BY_THE_FIRST = """
    import torch
    from summarybench.engines import loading

    class Raising(OnGpu):
        def generate(self, *arguments):
            if self._calls + 1 == CALL:
                self.half_done = Tensor(500 * MIB)
                held = Tensor(700 * MIB)
                raise ERROR
            return super().generate(*arguments)

    class Tensor:
        def __init__(self, size):
            GPU.memory.take(self, size)

    def load_half(experiment, *_, **__):
        if experiment.loader != "default":
            return OnGpu(experiment, TIME)
        half = Tensor(900 * MIB)
        if CALL == 0:
            raise ERROR
        return Raising(experiment, TIME)

    loading.open_chat = lambda _: ()
    loading._load = load_half

    class OnLoading(FakeGpu):
        def release_memory(self):
            RELEASE

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: loading.load(
            experiment, lambda: None, OnLoading(memory=GPU.memory), TIME.clock, longest_sequence=len, predict=False
        )
"""


def raised_by_the_first(call: int, error: str, release: str = "super().release_memory()") -> str:
    """Models of which the first raises while it is loaded (call 0), in the warm-up (1) or in a round (2 and on)."""
    more = RAISED_BY_THE_FIRST.replace("CALL", str(call)).replace("ERROR", error).replace("RELEASE", release)
    return fake_gpu(more=more)


@pytest.mark.parametrize(("call", "doing"), [(0, "loading"), (1, "generating"), (3, "generating")])
def test_out_of_memory_is_told_with_its_figures_and_freed_wherever_it_is_raised(project, call, doing):
    project.use(raised_by_the_first(call, f'torch.OutOfMemoryError("{OF_TORCH}")'))
    session = project.bench(*LLAMA_ON_A_T4, "--no-memory-prediction")
    first, *others = session.run["outcomes"]
    assert first["detail"] == f"out of memory while {doing}: {FIGURES} (it should have fitted)"
    assert [each["outcome"] for each in others] == ["passed"] * 3
    assert "stay allocated" not in session.output
    assert session.infos["4-bit"]["peak_memory_bytes"] == 100 * MIB


@pytest.mark.parametrize("call", [0, 1, 3])
def test_lost_gpu_is_recorded_and_the_rest_skipped_without_touching_it(project, call):
    touched = "print('a lost GPU was touched')"
    project.use(raised_by_the_first(call, f'torch.AcceleratorError("{LOST}")', touched))
    session = project.bench(*LLAMA_ON_A_T4)
    assert session.exit_code == 11
    first, *others = session.run["outcomes"]
    assert (first["experiment"], first["outcome"]) == (LLAMA[0], "invalid")
    assert first["detail"].startswith("the GPU was lost: CUDA error: unspecified launch failure")
    assert [each["outcome"] for each in others] == ["skipped"] * 3
    assert {each["detail"] for each in others} == {f"not run: the GPU was lost in {LLAMA[0]}"}
    assert "Traceback" not in session.output
    assert "touched" not in session.output


def test_report_says_which_of_two_gpus_was_measured(project):
    two = """
    from dataclasses import replace
    GPU = replace(GPU, index=1, gpus_in_machine=2)
    """
    project.use(fake_gpu(more=two))
    session = project.bench(*LLAMA_ON_A_T4, "-k", "4-bit")
    assert "measured on GPU 1 of 2: Tesla T4 (GPU-1111)" in session.output


# The machine's GPUs ----------------------------------------------------------------------------------------------

GB10_BESIDE_A_LOST_GPU = """

def nvmlInit(): ...
def nvmlShutdown(): ...
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetName(handle): return "NVIDIA GB10"
def nvmlDeviceGetUUID(handle): return "GPU-2222-bbbb"
def nvmlDeviceGetCudaComputeCapability(handle): return 12, 1

def nvmlDeviceGetHandleByIndex(index):
    if index == 0:
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return index

def _not_supported(*arguments):
    raise NVMLError(NVML_ERROR_NOT_SUPPORTED)

nvmlDeviceGetMemoryInfo = nvmlDeviceGetEnforcedPowerLimit = nvmlDeviceGetComputeMode = _not_supported
nvmlDeviceGetMaxPcieLinkGeneration = nvmlDeviceGetMaxPcieLinkWidth = _not_supported
"""
TORCH_THAT_STATES_MEMORY = """
    import sys
    from types import SimpleNamespace

    properties = SimpleNamespace(total_memory=120 * 1024**3)
    sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda index: properties))
"""
TORCH_THAT_DOES_NOT = """
    import sys
    from types import SimpleNamespace

    def get_device_properties(index):
        raise RuntimeError("no CUDA")

    sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=get_device_properties))
"""


@pytest.fixture
def gb10_beside_a_lost_gpu(project):
    """The variables of a machine whose first GPU is lost, and whose second one shares the host's memory."""
    import pynvml

    source = Path(pynvml.__file__).read_text(encoding="utf-8")
    return {
        "PYTHONPATH": beside(project, "pynvml", source + GB10_BESIDE_A_LOST_GPU),
        "CUDA_VISIBLE_DEVICES": "GPU-2222",
    }


def test_memory_that_nvml_does_not_state_is_torchs_and_a_lost_gpu_is_passed_over(project, gb10_beside_a_lost_gpu):
    project.use(TORCH_THAT_STATES_MEMORY)
    session = project.bench("-m", "llama2", "--dry-run", **gb10_beside_a_lost_gpu)
    assert session.exit_code == 0, session.output
    assert "this device has 120.00 GiB" in session.output
    assert "llama2-7b-chat-4-bit" in session.output


def test_memory_that_neither_nvml_nor_torch_states_is_one_line(project, gb10_beside_a_lost_gpu, one_error_line):
    project.use(TORCH_THAT_DOES_NOT)
    session = project.bench("-m", "llama2", "--dry-run", **gb10_beside_a_lost_gpu)
    assert session.exit_code == 4
    line = one_error_line(session)
    assert "neither NVML nor torch states the memory of the NVIDIA GB10 (no CUDA)" in line
    assert "CUDA_VISIBLE_DEVICES= (empty) measures on the CPU" in line
