"""Outcomes of tests and sessions, and the exceptions that lead to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum, StrEnum
from typing import Any

from summarybench.core.inert_text import inert


class Outcome(StrEnum):
    """The outcome of one selected test, as the run file stores it."""

    PASSED = "passed"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    """The experiment ran out of memory, and its memory prediction says that it must. An unexpected one is FAILED."""
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """The result of comparing generated tokens per second with the baseline."""

    REGRESSED = "REGRESSED"
    IMPROVED = "IMPROVED"
    UNCHANGED = "UNCHANGED"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNCALIBRATED = "UNCALIBRATED"
    """The noise that was measured would decide it, and what is assumed for the rest does not."""
    NO_BASELINE = "NO BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"


class Cause(StrEnum):
    """What a change of speed is attributed to.

    It affects only the exit code of a regression, never the verdict.
    """

    GPU = "GPU"
    """The GPU's memory or arithmetic slowed down too: clock, power, another tenant."""
    HOST = "HOST"
    """Kernel launches (on a CPU: any probe) slowed down too: CPU, driver, neighbours."""
    CODE = "CODE"
    """The machine did not change: torch, transformers, bitsandbytes or this project's code did."""
    WORKLOAD = "WORKLOAD"
    """The summaries changed their length. Only older runs name it: speed is now compared at the baseline's lengths."""
    UNKNOWN = "UNKNOWN"

    @property
    def is_machine(self) -> bool:
        return self in (Cause.GPU, Cause.HOST)


class QualityVerdict(StrEnum):
    """The result of a paired comparison of ROUGE-1."""

    NON_INFERIOR = "NON-INFERIOR"
    INFERIOR = "INFERIOR"
    INCONCLUSIVE = "INCONCLUSIVE"


class ExitCode(IntEnum):
    """The suite's exit codes; 2 to 5 are pytest's.

    If several apply, the lowest is used.
    """

    CLEAN = 0
    FAILED = 1
    WRONG_INPUT = 4
    """As in pytest: the arguments, a file or a stored run cannot be used, and nothing was measured."""
    QUALITY = 10
    NO_VERDICT = 11
    """A model could not be downloaded, the device was throttled or shared, or the machine itself is slower."""
    NOTHING_MEASURED = 12


class SuiteError(Exception):
    """The base of all errors that the suite raises on purpose.

    Its message is one line for the user.

    SuiteError
    ├── InputError             an option, a file or a baseline cannot be used; the session ends before measuring,
    │                         or only the model fails whose loading shows it
    ├── UnavailableError       a model or its documents could not be downloaded or used here
    │   └── ContradictedLoaderError  the checkpoint is already quantized, differently from the loader
    ├── CheckpointError        a checkpoint's tensors do not match its configuration
    ├── DeviceMemoryError      the device ran out of memory
    │   └── BatchTooLargeError     it was predicted to, for a batch of this size
    ├── ProcessLostError       another process of this run died or stopped responding; the run cannot continue
    ├── DeviceInvalidError     the device was throttled or shared; there is no verdict
    │   └── DeviceLostError    the device failed; the session cannot continue
    └── JudgementError         a measurement did not meet its requirement
        ├── OffloadedError     weights are not on the device
        ├── PrecisionError     layers have another type or dtype than the loader's name says
        ├── NotFreedError      memory stays allocated after the model was released
        ├── PredictionError    the memory prediction is wrong
        ├── RequestsFailedError  continuous batching did not summarize all documents
        ├── BrokenOutputError    most summaries are empty or repetitive, so that the figures mean nothing
        ├── QualityError       ROUGE is below its floor or worse than the baseline's, or more outputs are broken
        └── RegressionError    slower than the baseline, or a required baseline is missing
            └── MachineSlowerError    slower, and so is the machine
    """


class InputError(SuiteError):
    """An option, a file or a baseline cannot be used."""


class UnavailableError(SuiteError):
    """A model or its documents could not be downloaded or used here."""


class ContradictedLoaderError(UnavailableError):
    """The checkpoint is already quantized, differently from the loader."""


class CheckpointError(SuiteError):
    """A checkpoint's tensors do not match its configuration."""


class DeviceMemoryError(SuiteError):
    """The device ran out of memory."""


class BatchTooLargeError(DeviceMemoryError):
    """The device ran out of memory for a batch of this size, as predicted."""


class ProcessLostError(SuiteError):
    """Another process of this run died or stopped responding."""


class DeviceInvalidError(SuiteError):
    """The device was throttled or shared."""


class DeviceLostError(DeviceInvalidError):
    """The device failed, and the session cannot continue."""


class JudgementError(SuiteError):
    """A measurement did not meet its requirement."""


class OffloadedError(JudgementError):
    """Weights are not on the device."""


class PrecisionError(JudgementError):
    """Layers have another type or dtype than the loader's name says."""


class NotFreedError(JudgementError):
    """Memory stays allocated after the model was released."""


class PredictionError(JudgementError):
    """The memory prediction is wrong."""


class RequestsFailedError(JudgementError):
    """Continuous batching did not summarize all documents."""


class BrokenOutputError(JudgementError):
    """Most summaries are empty or repetitive.

    The experiment failed, rather than lost quality: the time taken to generate nothing useful is not the model's speed.
    """


class QualityError(JudgementError):
    """ROUGE is too low, or more outputs are empty or repetitive.

    Too low means below its floor or worse than the baseline's.
    """


class RegressionError(JudgementError):
    """Slower than the baseline, or a required baseline is missing."""


class MachineSlowerError(RegressionError):
    """Slower than the baseline, and so is the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestOutcome:
    """The end of one selected test. `detail` is one line for the user.

    `quality_only` means exit code 10 instead of 1, and `machine_only` means 11: the machine caused the regression.
    `wrong_input` means 4 if the session measured nothing: an option or a file cannot be used with this model.
    `is_final` is False if the test was interrupted (Ctrl-C, a full disk); a resumed run repeats it.
    """

    __test__ = False  # its name makes pytest take it for a test class

    nodeid: str
    experiment: str
    outcome: Outcome
    detail: str = ""
    quality_only: bool = False
    machine_only: bool = False
    wrong_input: bool = False
    is_final: bool = True


def outcome_of_test(
    nodeid: str, experiment: str, error: BaseException | None, *, fits: bool, forecast: str = ""
) -> TestOutcome:
    """The outcome of a finished test that ended with `error`, or with None.

    `fits` is whether the device's memory was predicted to suffice; `forecast` holds the figures for the message.
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
        wrong_input=isinstance(error, InputError),
        is_final=not isinstance(error, (InputError, ProcessLostError)),
    )


def with_what_came_later(earlier: TestOutcome | None, later: TestOutcome) -> TestOutcome:
    """The outcome of a test whose teardown found another fault.

    The test's own message is kept.
    """
    if earlier is None or not earlier.detail:
        return later
    return replace(later, detail=f"{earlier.detail}; {later.detail}")


NOT_RUN = "not run: the session was cut short"


def outcome_not_run(nodeid: str, experiment: str) -> TestOutcome:
    """The outcome of a selected test that was never finished."""
    return TestOutcome(nodeid=nodeid, experiment=experiment, outcome=Outcome.FAILED, detail=NOT_RUN, is_final=False)


def outcome_as_record(outcome: TestOutcome) -> dict[str, Any]:
    """The outcome as the journal and the run file store it."""
    return {**asdict(outcome), "outcome": outcome.outcome.value}


def outcome_of_record(record: Mapping[str, Any]) -> TestOutcome:
    """Read an outcome from a journal or a run file, of this version or an older one."""
    known = {field.name for field in fields(TestOutcome)} & record.keys()
    return TestOutcome(**{name: record[name] for name in known} | {"outcome": Outcome(record["outcome"])})


def session_exit_code(outcomes: Iterable[TestOutcome]) -> ExitCode:
    """The exit code of a session with these outcomes."""
    seen = list(outcomes)
    failed = [outcome for outcome in seen if outcome.outcome is Outcome.FAILED]
    if any(outcome.wrong_input for outcome in failed) and not any(map(_has_measured, seen)):
        return ExitCode.WRONG_INPUT
    if any(not outcome.quality_only and not outcome.machine_only for outcome in failed):
        return ExitCode.FAILED
    if any(outcome.quality_only for outcome in failed):
        return ExitCode.QUALITY
    if failed or any(outcome.outcome in (Outcome.UNAVAILABLE, Outcome.INVALID) for outcome in seen):
        return ExitCode.NO_VERDICT
    if all(outcome.outcome is Outcome.SKIPPED for outcome in seen):
        return ExitCode.NOTHING_MEASURED
    return ExitCode.CLEAN


def _has_measured(outcome: TestOutcome) -> bool:
    """Whether a test measured something, or failed for another reason than wrong input."""
    return outcome.outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.INVALID) and not outcome.wrong_input


def with_confirmed_slowdown(outcome: TestOutcome, detail: str, *, is_of_machine: bool) -> TestOutcome:
    """A test's outcome after its slowdown is confirmed.

    Its earlier message is kept, and the more serious outcome wins.
    """
    is_passed = outcome.outcome is Outcome.PASSED
    return replace(
        outcome,
        outcome=Outcome.FAILED,
        detail=detail if is_passed else f"{outcome.detail}; {detail}",
        quality_only=outcome.quality_only and is_of_machine,
        machine_only=is_passed and is_of_machine,
    )


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, inert, or its type's name if it has none."""
    return inert((str(error).strip().splitlines() or [type(error).__name__])[0])
