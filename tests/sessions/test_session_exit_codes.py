"""Each exit code as a whole session has it: the process's own, and results/latest/exit_code for those who call make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from summarybench.report.headline import EXIT_CODES_IN_WORDS
from tests.conftest import FAKE_MODELS, ROOT, newest_results
from tests.forked import forked_python
from tests.sessions.test_sessions import A_T4, FLOOR_OF_NINETY_PERCENT, UNAVAILABLE_MODELS, failing

LLAMA_ON_A_T4 = ("-m", "t4 and llama2", "--document-source", "embedded")
OUT_OF_MEMORY = 'MemoryError("CUDA out of memory. Tried to allocate 1 GiB")'
WRONG_FOR_THE_FIRST = 'InputError("--max-new-tokens 600: the model has a context of 512 tokens")'
THROTTLED = 'DeviceInvalidError("throttled")'
INTERRUPTED = "KeyboardInterrupt()"
INTERNAL_ERROR = (
    FAKE_MODELS
    + """
    def pytest_runtest_logreport(report):
        raise RuntimeError("a plugin's mistake")
"""
)


def left_behind(folder: Path) -> str | None:
    """What the newest results folder says, or None where no session has made one."""
    file = newest_results(folder) / "exit_code"
    return file.read_text() if file.parent.exists() else None


@pytest.mark.parametrize(
    ("models", "options", "expected"),
    [
        pytest.param(FAKE_MODELS, (), 0, id="passed"),
        pytest.param(
            A_T4 + failing(2, OUT_OF_MEMORY), (*LLAMA_ON_A_T4, "-k", "default"), 0, id="expected-out-of-memory"
        ),
        pytest.param(FAKE_MODELS, ("--require-baseline",), 1, id="required-baseline-missing"),
        pytest.param(failing(2, 'ValueError("boom")'), (), 1, id="other-failure"),
        pytest.param(failing(2, OUT_OF_MEMORY), (), 1, id="unexpected-out-of-memory"),
        pytest.param(A_T4 + FAKE_MODELS, (*LLAMA_ON_A_T4, "-k", "default"), 1, id="fitted-against-expectation"),
        pytest.param(failing(1, WRONG_FOR_THE_FIRST), (), 1, id="wrong-input-for-one-of-three-models"),
        pytest.param(failing(1, WRONG_FOR_THE_FIRST), ("-k", "default"), 4, id="wrong-input-for-the-only-model"),
        pytest.param(FAKE_MODELS + FLOOR_OF_NINETY_PERCENT, (), 10, id="floor-missed"),
        pytest.param(UNAVAILABLE_MODELS, (), 11, id="unavailable"),
        pytest.param(UNAVAILABLE_MODELS, ("-m", "cpu"), 11, id="unavailable-and-named"),
        pytest.param(failing(3, THROTTLED), (), 11, id="invalid"),
        pytest.param(FAKE_MODELS, ("-m", "t4"), 12, id="for-another-device"),
        pytest.param(failing(2, 'ValueError("boom")') + FLOOR_OF_NINETY_PERCENT, (), 1, id="1-before-10"),
        pytest.param(failing(2, THROTTLED) + FLOOR_OF_NINETY_PERCENT, (), 10, id="10-before-11"),
        pytest.param(UNAVAILABLE_MODELS, ("-k", "4-bit"), 11, id="11-before-12"),
        pytest.param(failing(3, INTERRUPTED), (), 2, id="interrupted"),
        pytest.param(INTERNAL_ERROR, (), 3, id="internal-error"),
    ],
)
def test_session_exits_with_its_code_and_leaves_it_behind(project, models, options, expected):
    project.use(models)
    session = project.bench(*options)
    assert (session.exit_code, left_behind(project.folder)) == (expected, f"{expected}\n"), session.output


def test_regression_exits_with_1_and_leaves_it_behind(project):
    project.bench_once("--benchmark-save=main", "-k", "4-bit")
    project.use(FAKE_MODELS.replace("(experiment, TIME)", "(experiment, TIME, seconds_per_token=0.02)"))
    assert project.bench("-k", "4-bit").exit_code == 1
    assert left_behind(project.folder) == "1\n"


@pytest.mark.parametrize(("options", "expected"), [(("--documents", "0"), 4), (("-k", "no-such-experiment"), 5)])
def test_session_that_never_began_leaves_no_folder_and_so_no_code(project, options, expected):
    assert project.bench(*options).exit_code == expected
    assert left_behind(project.folder) is None


def test_make_turns_every_failure_into_2_and_the_file_has_the_real_one(project):
    project.use(FAKE_MODELS + FLOOR_OF_NINETY_PERCENT)
    command = ["make", "-f", str(ROOT / "Makefile"), "nightly", f"PY={forked_python()}", "INSTALLED=pytest.ini"]
    environment = {**project.environment, "MAKEFLAGS": "", "FAMILY": "cpu"}
    made = subprocess.run(
        [*command, "--assume-old=pytest.ini"], cwd=project.folder, env=environment, capture_output=True, check=False
    )
    assert (made.returncode, left_behind(project.folder)) == (2, "10\n"), made.stdout
    assert (project.folder / "results" / "nightly-cpu.json").exists()


def test_every_exit_code_is_in_the_readme_s_table():
    rows = [
        line.split("|")[1].strip()
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    assert {str(int(code)) for code in EXIT_CODES_IN_WORDS} <= set(rows)
