"""How a command ends: one exit code and at most one line for each way, whichever command it is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from summarybench.core import outcomes
from summarybench.core.exit_codes import INTERRUPTED, OUTPUT_CLOSED, exit_code_of, run_to_exit_code
from summarybench.core.outcomes import ExitCode, InputError, SuiteError
from tests.forked import ENVIRONMENT, ROOT


def ended_by(error):
    def command():
        raise error

    return run_to_exit_code(command)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("InputError", 4),
        ("UnavailableError", 11),
        ("ContradictedLoaderError", 11),
        ("DeviceInvalidError", 11),
        ("DeviceLostError", 11),
        ("MachineSlowerError", 11),
        ("QualityError", 10),
        ("RegressionError", 1),
        ("JudgementError", 1),
        ("CheckpointError", 1),
        ("DeviceMemoryError", 1),
        ("ProcessLostError", 1),
    ],
)
def test_each_error_has_one_exit_code_and_one_line(error, code, capsys):
    assert ended_by(getattr(outcomes, error)("what is wrong")) == code
    assert capsys.readouterr() == ("", "ERROR: what is wrong\n")


def test_command_that_ends_by_itself_has_its_own_code(capsys):
    assert run_to_exit_code(lambda: ExitCode.QUALITY) == 10
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("given", "line"), [((), "interrupted"), (("go on with --resume",), "go on with --resume")])
def test_ctrl_c_is_130_and_one_line(given, line, capsys):
    assert ended_by(KeyboardInterrupt(*given)) == 130
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (143, 143)])
def test_exit_that_was_asked_for_keeps_its_code(code, expected, capsys):
    assert ended_by(SystemExit(code)) == expected
    assert capsys.readouterr().err == ""


def test_process_that_does_not_report_says_nothing(capsys):
    def command():
        raise InputError("what is wrong")

    assert run_to_exit_code(command, reports=False) == 4
    assert capsys.readouterr().err == ""


def test_fault_of_the_program_keeps_its_traceback_without_secrets(capsys):
    def command():
        raise ZeroDivisionError("at https://me:correct-horse@hub.example\x1b[2J")

    assert run_to_exit_code(command) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("ZeroDivisionError: at https://***@hub.example\\x1b[2J\n")
    assert "correct-horse" not in shown


def test_error_line_is_one_line_whatever_it_quotes(capsys):
    def command():
        raise InputError("no file a\nb\x1b[31m, asked of https://me:correct-horse@hub.example")

    assert run_to_exit_code(command) == 4
    assert capsys.readouterr().err == "ERROR: no file a\\nb\\x1b[31m, asked of https://***@hub.example\n"


CLOSED = """
import sys
from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.outcomes import InputError

def long():
    for number in range(200_000):
        print(number)
    return 0

def short():
    print("one line")
    return 0

def wrong():
    raise InputError("what is wrong")

input()  # until the reader has gone
sys.exit(run_to_exit_code({command}))
"""


@pytest.mark.parametrize("command", ["long", "short", "wrong"])
def test_output_that_nobody_reads_any_more_ends_quietly(command):
    with subprocess.Popen(
        [sys.executable, "-c", CLOSED.format(command=command)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        if command == "wrong":
            process.stderr.close()
        process.stdin.write("\n")
        process.stdin.flush()
        said = "" if command == "wrong" else process.stderr.read()
    assert (process.returncode, said) == (141, "")


def test_without_standard_output_a_command_ends_as_ever():
    script = (
        "import sys; from summarybench.core.exit_codes import run_to_exit_code; sys.exit(run_to_exit_code(lambda: 10))"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, script], env=ENVIRONMENT, check=False
    )
    assert done.returncode == 10


def test_every_exit_code_is_on_the_reference_page():
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    codes = {0, INTERRUPTED, OUTPUT_CLOSED, *(exit_code_of(error("x")) for error in _every_error(SuiteError))}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)} == codes


def _every_error(error):
    yield error
    for kind in error.__subclasses__():
        yield from _every_error(kind)
