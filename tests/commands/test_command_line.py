"""The one command line: its help, its lazy imports, and how every command ends where it cannot do what was asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

import summarybench
from summarybench.commands import bench, noise
from summarybench.commands.command_line import main
from summarybench.commands.registry import COMMANDS, Group, ToPytest
from summarybench.core.invocation import MAKE_TARGETS, STARTED_BY
from tests.command import command
from tests.forked import ENVIRONMENT, ROOT
from tests.golden.make import SLUG
from tests.sessions.test_sessions import heed_interrupts

NAMES = [each.name for each in COMMANDS]
PARSED = [each.name for each in COMMANDS if each.to_pytest is ToPytest.NOTHING]
STORED = ROOT / "baselines" / SLUG
COMPARED = ["compare", str(STORED / "0007_matrix.json"), str(STORED / "0001_main.json")]
INCOMPARABLE = ["compare", str(STORED / "0012_fastest.json"), str(STORED / "0001_main.json")]
LOADING_MODELS = {"torch", "transformers", "accelerate", "bitsandbytes", "datasets", "gguf"}


@pytest.fixture(autouse=True)
def typed_by_hand(monkeypatch):
    monkeypatch.delenv(STARTED_BY, raising=False)


# Help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_help_has_every_command_once_below_its_group(words, capsys):
    assert main(words) == 0
    groups = dict(part.split("\n", 1) for part in capsys.readouterr().out.rstrip("\n").split("\n\n")[1:])
    assert list(groups) == [group.value for group in Group] == ["use", "baselines", "maintaining", "distillation"]
    found = {group: [line.split()[0] for line in lines.splitlines()] for group, lines in groups.items()}
    del found["distillation"]  # programs of their own
    assert found == {
        group.value: [each.name for each in COMMANDS if each.group is group]
        for group in Group
        if group is not Group.DISTILLATION
    }


def test_help_names_the_programs_of_distillation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([])
    lines = capsys.readouterr().out.splitlines()
    programs = [line.split("  ")[1].strip() for line in lines[lines.index("distillation") + 1 :]]
    assert programs == [f"{sys.executable} -m {name}" for name in ("distillation", "distillation.judge")]


def test_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"summarybench {summarybench.__version__}\n"


@pytest.mark.parametrize("name", PARSED)
def test_each_command_describes_itself_in_its_own_words(name, capsys):
    assert main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    (help_text,) = (each.help for each in COMMANDS if each.name == name)
    assert f"usage: summarybench {name} [-h]" in shown
    assert f"{help_text[0].upper()}{help_text[1:]}." in shown


def test_every_command_has_a_make_target():
    assert MAKE_TARGETS.keys() == set(NAMES)


# Wrong input -----------------------------------------------------------------------------------------------------


def one_error_line(capsys):
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("ERROR: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("name", "hint"),
    [("compre", "did you mean compare?"), ("xyz", "choose from bench, compare, "), ("", "choose from")],
)
def test_command_that_is_none_is_4_and_one_line(name, hint, capsys):
    assert main([name]) == 4
    assert f"there is no command '{name}'; {hint}" in one_error_line(capsys)


@pytest.mark.parametrize("name", PARSED)
def test_option_that_is_none_is_4_and_one_line_for_every_command(name, capsys):
    required = {"compare": ["a"], "report": ["a"], "summary": ["a"], "metrics-check": ["a"], "adopt": ["a", "b"]}
    assert main([name, *required.get(name, []), "--no-such-option"]) == 4
    assert f"summarybench {name}: unrecognized arguments: --no-such-option; `" in one_error_line(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "nowhere/run.json", "nowhere"),
        ("report", "nowhere"),
        ("summary", "nowhere"),
        ("adopt", "nowhere", "main"),
        ("docs", "--root", "nowhere"),
        ("noise", "--from", "nowhere"),
        ("detection", "--baselines", "nowhere", "--simulation-only"),
        ("detection", "--trials", "many"),
        ("spot-check", "--device", "tpu"),
    ],
    ids=lambda words: words[0],
)
def test_input_that_cannot_be_used_is_4_and_one_line_for_every_command(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 4
    one_error_line(capsys)


@pytest.mark.parametrize(("option", "whole"), [("--tol", "--tolerance"), ("--base", "--baselines")])
def test_options_are_not_abbreviated(option, whole, capsys):
    assert main(["compare", "a", option, "3%"]) == 4
    assert option in one_error_line(capsys)


def test_missing_argument_names_what_to_type_for_help_as_it_was_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["adopt", "results/latest"]) == 4
    said = "ERROR: summarybench adopt: the following arguments are required: NAME; "
    assert one_error_line(capsys) == f"{said}`{sys.executable} -m summarybench adopt --help` describes its arguments\n"
    monkeypatch.setenv(STARTED_BY, "make")
    assert main(["adopt", "results/latest"]) == 4
    assert one_error_line(capsys) == f"{said}`make adopt ARGS=--help` describes its arguments\n"


# What goes to pytest ---------------------------------------------------------------------------------------------


WORDS = ["-k", "4-bit or 8-bit", "--documents=8", "--", "-x", "--help", "--version", "--runs", "9", ""]


def test_bench_hands_on_every_argument_as_it_is(monkeypatch, capsys):
    handed_on = []
    monkeypatch.setattr(bench, "run_benchmarks", lambda arguments, _: handed_on.append(list(arguments)) or 5)
    assert command("bench")(WORDS) == 5
    assert handed_on == [WORDS]


def test_noise_keeps_its_own_options_and_hands_on_the_others(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    handed_on = []
    monkeypatch.setattr(noise, "run_benchmarks", lambda arguments: handed_on.append(arguments[:-2]) or 5)
    assert command("noise")(["--runs", "2", "-k", "4-bit or 8-bit", "--run", "-m", "cpu", "--documents=8"]) == 4
    assert handed_on == [["-k", "4-bit or 8-bit", "--run", "-m", "cpu", "--documents=8"]]


# Imports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def imported_after(tmp_path):
    def imported(statement):
        script = f"import json, sys\n{statement}\njson.dump(list(sys.modules), open('modules.json', 'w'))"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        modules = json.loads((tmp_path / "modules.json").read_text())
        return SimpleNamespace(modules=set(modules), packages={name.partition(".")[0] for name in modules})

    return imported


RUN = "from summarybench.commands.command_line import main; main({words!r})"


def test_help_imports_no_command(imported_after):
    found = imported_after(RUN.format(words=[]))
    assert not {f"summarybench.commands.{each.module}" for each in COMMANDS} & found.modules


@pytest.mark.parametrize("module", [each.module for each in COMMANDS])
def test_importing_a_command_imports_nothing_that_loads_models_or_draws(module, imported_after):
    found = imported_after(f"import summarybench.commands.{module}")
    assert not found.packages & {*LOADING_MODELS, "scipy", "matplotlib", "jinja2", "rouge_score", "pytest"}


def test_importing_compare_imports_no_library_but_the_one_that_checks_run_files(imported_after):
    found = imported_after("import summarybench.commands.compare")
    libraries = (
        found.packages - sys.stdlib_module_names - {"__main__", "summarybench", "_distutils_hack", "sitecustomize"}
    )
    # Python itself imports __editable__…: make setup
    assert {name for name in libraries if not name.startswith("__editable__")} == {"msgspec", "typing_extensions"}


def test_comparing_imports_nothing_that_loads_models(imported_after):
    found = imported_after(RUN.format(words=COMPARED))
    assert "scipy" in found.packages  # an interval needs it
    assert not found.packages & {*LOADING_MODELS, "matplotlib", "pytest"}


def test_comparing_what_has_no_figure_imports_no_scipy(imported_after):
    assert "scipy" not in imported_after(RUN.format(words=INCOMPARABLE)).packages


# Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_is_one_line_and_130(tmp_path):
    waited_for = tmp_path / "run.json"
    os.mkfifo(waited_for)
    process = subprocess.Popen(
        [sys.executable, "-m", "summarybench", "summary", str(waited_for)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    with waited_for.open("w"):  # opens when the command does, which then waits for the first byte
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "interrupted\n")
