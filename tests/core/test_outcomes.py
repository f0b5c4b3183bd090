import pytest

from summarybench.core.device_errors import is_out_of_memory, out_of_memory_figures
from summarybench.core.outcomes import (
    DeviceInvalidError,
    DeviceMemoryError,
    ExitCode,
    InputError,
    OffloadedError,
    Outcome,
    QualityError,
    RegressionError,
    TestOutcome,
    UnavailableError,
    outcome_of_test,
    session_exit_code,
    with_what_came_later,
)


def outcome(name):
    """'quality' is a failure of quality alone, 'wrong' one of wrong input."""
    failed_quality, wrong_input = name == "quality", name == "wrong"
    return TestOutcome(
        nodeid="t",
        experiment="e",
        outcome=Outcome.FAILED if failed_quality or wrong_input else Outcome(name),
        quality_only=failed_quality,
        wrong_input=wrong_input,
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["passed"], 0),
        (["passed", "skipped"], 0),
        (["out_of_memory"], 0),
        (["out_of_memory", "skipped"], 0),
        (["failed"], 1),
        (["passed", "failed"], 1),
        (["passed", "wrong"], 1),
        (["wrong"], 4),
        (["wrong", "wrong", "skipped"], 4),
        (["wrong", "out_of_memory"], 4),
        (["quality"], 10),
        (["unavailable"], 11),
        (["invalid", "passed"], 11),
        (["skipped"], 12),
        ([], 12),
    ],
)
def test_each_exit_code_has_its_outcomes(names, expected):
    assert session_exit_code(map(outcome, names)) == ExitCode(expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["skipped", "invalid", "quality", "failed"], 1),
        (["wrong", "failed"], 1),
        (["wrong", "quality"], 1),
        (["wrong", "invalid"], 1),
        (["skipped", "unavailable", "wrong"], 4),
        (["skipped", "unavailable", "quality", "passed"], 10),
        (["skipped", "unavailable", "passed"], 11),
        (["skipped", "unavailable"], 11),
    ],
)
def test_the_lowest_exit_code_that_applies_wins(names, expected):
    assert session_exit_code(map(outcome, names)) == expected
    assert session_exit_code(map(outcome, reversed(names))) == expected


@pytest.mark.parametrize(
    ("error", "when_it_fits", "when_it_does_not"),
    [
        (None, Outcome.PASSED, Outcome.FAILED),
        (DeviceMemoryError("full"), Outcome.FAILED, Outcome.OUT_OF_MEMORY),
        (UnavailableError("gated"), Outcome.UNAVAILABLE, Outcome.UNAVAILABLE),
        (DeviceInvalidError("hot"), Outcome.INVALID, Outcome.INVALID),
        (InputError("wrong"), Outcome.FAILED, Outcome.FAILED),
        (OffloadedError("elsewhere"), Outcome.FAILED, Outcome.FAILED),
        (QualityError("poor"), Outcome.FAILED, Outcome.FAILED),
        (RegressionError("slow"), Outcome.FAILED, Outcome.FAILED),
        (KeyError("x"), Outcome.FAILED, Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Outcome) else value.value,
)
def test_what_a_test_raised_decides_its_outcome(error, when_it_fits, when_it_does_not):
    assert outcome_of_test("t", "e", error, fits=True).outcome is when_it_fits
    assert outcome_of_test("t", "e", error, fits=False).outcome is when_it_does_not


@pytest.mark.parametrize(
    ("error", "fits", "detail"),
    [
        (None, True, ""),
        (DeviceMemoryError("full\nlong story"), True, "full (it should have fitted)"),
        (DeviceMemoryError("full"), False, "full (as expected on this device)"),
        (UnavailableError("gated\nlong story"), True, "gated"),
        (ZeroDivisionError("division by zero"), True, "ZeroDivisionError: division by zero"),
        (ZeroDivisionError(), True, "ZeroDivisionError: ZeroDivisionError"),
    ],
)
def test_the_detail_is_one_line_for_the_user(error, fits, detail):
    assert outcome_of_test("t", "e", error, fits=fits).detail == detail


def test_what_ran_against_the_prediction_shows_it_and_says_what_to_correct():
    assert outcome_of_test("t", "e", None, fits=False, forecast="28.06 GiB needed of 14.60 GiB").detail == (
        "it ran, and was predicted to run out of memory (28.06 GiB needed of 14.60 GiB): correct the prediction in "
        "summarybench/engines/memory_model.py"
    )


@pytest.mark.parametrize(("error", "expected"), [(InputError("wrong"), True), (UnavailableError("gated"), False)])
def test_only_an_input_error_is_wrong_input(error, expected):
    assert outcome_of_test("t", "e", error, fits=True).wrong_input is expected


@pytest.mark.parametrize(("error", "expected"), [(QualityError("poor"), True), (RegressionError("slow"), False)])
def test_only_a_quality_error_fails_for_quality_alone(error, expected):
    assert outcome_of_test("t", "e", error, fits=True).quality_only is expected


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def caused_by(cause, depth=1):
    error = RuntimeError("generation failed")
    error.__cause__ = cause if depth == 1 else caused_by(cause, depth - 1)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(OutOfMemoryError("tried to allocate 2 GiB"), True, id="torch"),
        pytest.param(MemoryError(), True, id="python"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, id="cpu"),
        pytest.param(RuntimeError("CUDA out of memory. Tried to allocate"), True, id="cuda-allocator"),
        pytest.param(RuntimeError("CUDA error: out of memory"), True, id="cuda-driver"),
        pytest.param(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), True, id="cublas"),
        pytest.param(caused_by(OutOfMemoryError("x")), True, id="as-cause"),
        pytest.param(caused_by(MemoryError(), depth=3), True, id="as-cause-of-causes"),
        pytest.param(caused_by(ValueError("x")), False, id="other-cause"),
        pytest.param(ValueError("out of range"), False, id="value-error"),
        pytest.param(RuntimeError("CUDA error: device-side assert triggered"), False, id="device-assert"),
    ],
)
def test_memory_that_ran_out_is_recognized_and_nothing_else(error, expected):
    assert is_out_of_memory(error) is expected


OF_TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB of which 64.81 GiB is free. "
    "Including non-PyTorch memory, this process has 14.37 GiB memory in use. 14.60 GiB allowed; Of the allocated memory "
    "13.11 GiB is allocated by PyTorch, and 756.20 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
    "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
FIGURES = "asked for 2.00 GiB, 13.11 GiB in use, 756.20 MiB reserved beside it, 64.81 GiB free, 79.18 GiB in all, 14.60 GiB allowed"


@pytest.mark.parametrize(
    ("error", "figures"),
    [
        pytest.param(OutOfMemoryError(OF_TORCH), FIGURES, id="torch"),
        pytest.param(caused_by(OutOfMemoryError(OF_TORCH)), FIGURES, id="as-cause"),
        pytest.param(
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
                "allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "asked for 4.00 GiB",
            id="cpu",
        ),
        pytest.param(
            RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
            "CUDA error: out of memory",
            id="cuda-driver",
        ),
        pytest.param(MemoryError(), "MemoryError", id="python"),
    ],
)
def test_out_of_memory_says_what_was_asked_for_and_what_there_was(error, figures):
    assert out_of_memory_figures(error) == figures


@pytest.mark.parametrize(("earlier", "detail"), [("", "leaked"), ("slower", "slower; leaked")])
def test_fault_found_in_the_teardown_is_told_beside_what_the_test_said(earlier, detail):
    said = TestOutcome(nodeid="t", experiment="e", outcome=Outcome.INVALID, detail=earlier)
    leaked = TestOutcome(nodeid="t", experiment="e", outcome=Outcome.FAILED, detail="leaked")
    assert with_what_came_later(said, leaked) == TestOutcome(
        nodeid="t", experiment="e", outcome=Outcome.FAILED, detail=detail
    )
