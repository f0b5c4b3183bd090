"""What can become of a test and of a session, and the exceptions that say so."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum, StrEnum
from typing import Any


class Outcome(StrEnum):
    """What became of one selected test. The run file keeps one for each of them."""

    PASSED = "passed"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    """Expected: the memory prediction says that the experiment, or a batch of this size, cannot fit this device.
    Unexpected ones are FAILED."""
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What the comparison with the baseline decided about generated tokens per second."""

    REGRESSED = "REGRESSED"
    IMPROVED = "IMPROVED"
    UNCHANGED = "UNCHANGED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NO_BASELINE = "NO BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"


class Cause(StrEnum):
    """Where a change of speed sits. It never changes the verdict, only the exit code of a regression."""

    GPU = "GPU"
    """Its memory or its arithmetic slowed down along: clock, power, another tenant."""
    HOST = "HOST"
    """Launching kernels (on a CPU: anything at all) slowed down along: CPU, driver, neighbours."""
    CODE = "CODE"
    """The machine held: torch, transformers, bitsandbytes, own code."""
    WORKLOAD = "WORKLOAD"
    """The outputs changed length."""
    UNKNOWN = "UNKNOWN"

    @property
    def is_machine(self) -> bool:
        return self in (Cause.GPU, Cause.HOST)


class QualityVerdict(StrEnum):
    """What a paired comparison of ROUGE-1 decided."""

    NON_INFERIOR = "NON-INFERIOR"
    INFERIOR = "INFERIOR"
    INCONCLUSIVE = "INCONCLUSIVE"


class ExitCode(IntEnum):
    """The suite's own exit codes; 2 to 5 are pytest's. The lowest that applies wins."""

    CLEAN = 0
    FAILED = 1
    QUALITY = 10
    NO_VERDICT = 11
    """A model could not be had, the device was not itself, or what regressed is the machine."""
    NOTHING_MEASURED = 12


class SuiteError(Exception):
    """The root of what the suite raises on purpose; its message is one line for the user.

    SuiteError
    ├── InputError             an option, a file or a baseline cannot be used: the session ends before anything is measured
    ├── UnavailableError       a model or its documents cannot be had here
    │   └── ContradictedLoaderError  the checkpoint is quantized already, and not as the loader says
    ├── CheckpointError        a checkpoint's tensors are not those that its configuration describes
    ├── DeviceMemoryError      the device's memory did not suffice
    │   └── BatchTooLargeError     as predicted: a smaller batch is what fits
    ├── ProcessLostError       another process of this run died or fell silent: nothing more can be measured in it
    ├── DeviceInvalidError     the device was throttled or shared: no verdict
    │   └── DeviceLostError    the device is gone: nothing more can be measured in this session
    └── JudgementError         measured, and found wanting
        ├── OffloadedError     weights lie outside the device
        ├── PrecisionError     layers of another type or dtype than the loader's name says
        ├── NotFreedError      memory stays allocated after the model was let go of
        ├── PredictionError    the memory prediction is off
        ├── RequestsFailedError  documents of continuous batching were not summarized
        ├── BrokenOutputError    most summaries are empty or repeating: neither speed nor quality means anything
        ├── QualityError       ROUGE below its floor, or worse than the baseline's
        └── RegressionError    slower than the baseline, or no baseline where one is required
            └── MachineSlowerError    slower, and the machine has slowed down along
    """


class InputError(SuiteError):
    """What the user gave cannot be used."""


class UnavailableError(SuiteError):
    """A model or its documents cannot be had here."""


class ContradictedLoaderError(UnavailableError):
    """The checkpoint is quantized already, and not as the loader says."""


class CheckpointError(SuiteError):
    """A checkpoint's tensors are not those that its configuration describes."""


class DeviceMemoryError(SuiteError):
    """The device's memory did not suffice."""


class BatchTooLargeError(DeviceMemoryError):
    """The device's memory does not suffice for a batch of this size, as predicted."""


class ProcessLostError(SuiteError):
    """Another process of this run died or fell silent."""


class DeviceInvalidError(SuiteError):
    """The device was throttled or shared."""


class DeviceLostError(DeviceInvalidError):
    """The device is gone: nothing more can be measured in this session."""


class JudgementError(SuiteError):
    """Measured, and found wanting."""


class OffloadedError(JudgementError):
    """Weights lie outside the device."""


class PrecisionError(JudgementError):
    """Layers have another type or dtype than the loader's name says."""


class NotFreedError(JudgementError):
    """Memory stays allocated after the model was let go of."""


class PredictionError(JudgementError):
    """The memory prediction is off."""


class RequestsFailedError(JudgementError):
    """Documents of continuous batching were not summarized."""


class BrokenOutputError(JudgementError):
    """Most summaries are empty or repeating.

    This is a failed experiment and not lost quality: the time that a model takes to say nothing is not its speed.
    """


class QualityError(JudgementError):
    """ROUGE below its floor, worse than the baseline's, or more outputs that are none."""


class RegressionError(JudgementError):
    """Slower than the baseline, or no baseline where one is required."""


class MachineSlowerError(RegressionError):
    """Slower than the baseline, and the machine has slowed down along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOutcome:
    """One selected test's end. `detail` is one line for the user; `quality_only` tells exit code 10 from 1, and
    `machine_only` 11: a regression that is the machine's.

    `is_final` is False where the test never came to its own end (cut short, a full disk): a resumed run repeats it.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    nodeid: str
    experiment: str
    outcome: Outcome
    detail: str = ""
    quality_only: bool = False
    machine_only: bool = False
    is_final: bool = True


def outcome_of_test(
    nodeid: str, experiment: str, error: BaseException | None, *, fits: bool, forecast: str = ""
) -> TestOutcome:
    """What a finished test amounts to.

    `fits` says whether the device's memory was predicted to suffice, and `forecast` in which figures.
    """
    outcome, detail = Outcome.FAILED, ""
    match error:
        case None if fits:
            outcome = Outcome.PASSED
        case None:
            detail = (
                f"it ran, and was predicted to run out of memory ({forecast}): correct the prediction in "
                "summarybench/engines/memory_model.py"
            )
        case BatchTooLargeError():
            outcome, detail = Outcome.OUT_OF_MEMORY, first_line(error)
        case DeviceMemoryError():
            outcome = Outcome.FAILED if fits else Outcome.OUT_OF_MEMORY
            detail = f"{first_line(error)} ({'it should have fitted' if fits else 'as expected on this device'})"
        case UnavailableError():
            outcome, detail = Outcome.UNAVAILABLE, first_line(error)
        case DeviceInvalidError():
            outcome, detail = Outcome.INVALID, first_line(error)
        case SuiteError():
            detail = first_line(error)
        case _:
            detail = f"{type(error).__name__}: {first_line(error)}"
    return TestOutcome(
        nodeid=nodeid,
        experiment=experiment,
        outcome=outcome,
        detail=detail,
        quality_only=isinstance(error, QualityError),
        machine_only=isinstance(error, MachineSlowerError),
        is_final=not isinstance(error, (InputError, ProcessLostError)),
    )


def with_what_came_later(earlier: TestOutcome | None, later: TestOutcome) -> TestOutcome:
    """One test's outcome where a fault is found after its end, in its teardown: what the test said is kept beside it."""
    if earlier is None or not earlier.detail:
        return later
    return replace(later, detail=f"{earlier.detail}; {later.detail}")


NOT_RUN = "not run: the session was cut short"


def outcome_not_run(nodeid: str, experiment: str) -> TestOutcome:
    """The outcome of a selected test that never came to an end."""
    return TestOutcome(nodeid=nodeid, experiment=experiment, outcome=Outcome.FAILED, detail=NOT_RUN, is_final=False)


def outcome_as_record(outcome: TestOutcome) -> dict[str, Any]:
    """As the journal and the run file hold it."""
    return {**asdict(outcome), "outcome": outcome.outcome.value}


def outcome_of_record(record: Mapping[str, Any]) -> TestOutcome:
    """The outcome that a journal or a run file holds, of this version or an older one."""
    known = {field.name for field in fields(TestOutcome)} & record.keys()
    return TestOutcome(**{name: record[name] for name in known} | {"outcome": Outcome(record["outcome"])})


def session_exit_code(outcomes: Iterable[TestOutcome]) -> ExitCode:
    """The exit code that a session with these outcomes ends with, the lowest that applies."""
    seen = list(outcomes)
    failed = [outcome for outcome in seen if outcome.outcome is Outcome.FAILED]
    if any(not outcome.quality_only and not outcome.machine_only for outcome in failed):
        return ExitCode.FAILED
    if any(outcome.quality_only for outcome in failed):
        return ExitCode.QUALITY
    if failed or any(outcome.outcome in (Outcome.UNAVAILABLE, Outcome.INVALID) for outcome in seen):
        return ExitCode.NO_VERDICT
    if all(outcome.outcome is Outcome.SKIPPED for outcome in seen):
        return ExitCode.NOTHING_MEASURED
    return ExitCode.CLEAN


def with_confirmed_slowdown(outcome: TestOutcome, detail: str, *, is_of_machine: bool) -> TestOutcome:
    """A test's outcome once its slowdown is beyond doubt: what it said before stands beside it, and what counts more wins."""
    is_passed = outcome.outcome is Outcome.PASSED
    return replace(
        outcome,
        outcome=Outcome.FAILED,
        detail=detail if is_passed else f"{outcome.detail}; {detail}",
        quality_only=outcome.quality_only and is_of_machine,
        machine_only=is_passed and is_of_machine,
    )


OUT_OF_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that caused it, says that memory ran out (torch has no common type for it)."""
    return _memory_error_in(error) is not None


def _memory_error_in(error: BaseException) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return seen
        if any(sign in str(seen) for sign in OUT_OF_MEMORY_SIGNS):
            return seen
        seen = seen.__cause__
    return None


MEMORY_FIGURES = (
    ("asked for {}", re.compile(r"[Tt]ried to allocate ([\d.]+ \w+)")),
    ("{} in use", re.compile(r"([\d.]+ \w+) is allocated by PyTorch")),
    ("{} reserved beside it", re.compile(r"([\d.]+ \w+) is reserved by PyTorch")),
    ("{} free", re.compile(r"of which ([\d.]+ \w+) (?:is|are) free")),
    ("{} in all", re.compile(r"total capac\w+ of ([\d.]+ \w+)")),
    ("{} allowed", re.compile(r"([\d.]+ \w+) allowed")),
)
"""How torch's allocators say what they were asked for and what there is (CUDACachingAllocator.cpp, alloc_cpu.cpp)."""


def out_of_memory_figures(error: BaseException) -> str:
    """What was asked for, in use and free, as far as the error says; its first line where it gives no figure."""
    cause = _memory_error_in(error) or error
    found = [(words, pattern.search(str(cause))) for words, pattern in MEMORY_FIGURES]
    figures = [words.format(_in_gib(match.group(1))) for words, match in found if match]
    return ", ".join(figures) or first_line(cause)


def explain_out_of_memory(error: Exception) -> str:
    """The figures of an out-of-memory error, and its frames let go of the tensors that filled the memory.

    What else is wrong is raised again: to be called while the error is handled.
    """
    if not is_out_of_memory(error):
        raise error
    traceback.clear_frames(error.__traceback__)
    return out_of_memory_figures(error)


def _in_gib(size: str) -> str:
    """Torch's own way of writing a size; a CPU's plain bytes, which can have any number of digits, in GiB."""
    number, unit = size.split()
    return f"{float(number) / 1024**3:.2f} GiB" if unit == "bytes" else size


DEVICE_LOST_SIGNS = ("CUDA error", "GPU is lost", "CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_EXECUTION_FAILED")


def is_device_lost(error: BaseException) -> bool:
    """Whether an exception says that the GPU has failed: after one of these, every call of the process fails."""
    return not is_out_of_memory(error) and any(sign in str(error) for sign in DEVICE_LOST_SIGNS)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
