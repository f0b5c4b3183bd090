"""The kinds of benchmark: what each of them declares, and that pytest asks nobody else."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest

from summarybench.core.outcomes import InputError
from summarybench.core.processes import Process
from summarybench.kinds.kind import Kind, RunContext, cases_of
from summarybench.kinds.registry import KINDS, kind_named, marker_lines, markers_to_name, register
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.runs.kind_facts import KindFacts
from tests.forked import ROOT

CPU = CpuDevice(kind="cpu", name="a CPU", slug="cpu", family="cpu", memory_bytes=16 * GIB, compute_dtype="float32")
H100 = CudaDevice(kind="cuda", name="H100", slug="h100", family="h100", memory_bytes=80 * GIB, compute_dtype="bfloat16")

IMPORT = re.compile(r"^from (\S+) import", re.MULTILINE)


@pytest.fixture
def kinds(monkeypatch):
    """The registry, as it was after the test."""
    for name in list(KINDS):
        monkeypatch.setitem(KINDS, name, KINDS[name])
    return KINDS


def named(kind_name, **attributes):
    made = {"facts": KindFacts(name=kind_name), "cases": lambda self: [], "measure": lambda self, toolbox: None}
    return type("Made", (Kind,), {**made, **attributes})()


def test_every_kind_is_registered_under_its_name():
    assert all(name == kind.name for name, kind in KINDS.items())


def test_every_kind_has_a_file_of_its_own():
    modules = [type(kind).__module__ for kind in KINDS.values()]
    assert len(set(modules)) == len(modules)
    files = {path.stem for path in (ROOT / "summarybench" / "kinds").glob("*.py")}
    assert {module.rpartition(".")[2] for module in modules} == files - {"__init__", "kind", "registry", "toolbox"}


@pytest.mark.parametrize("folder", ["summarybench", "fixtures", "benchmarks"])
def test_only_the_registry_imports_kinds_by_name(folder):
    """Everything else knows what a kind is, and not which kinds there are."""
    kinds = {type(kind).__module__ for kind in KINDS.values()}
    modules = [path for path in (ROOT / folder).rglob("*.py") if path.parent.name != "kinds"]
    found = {path.name: kinds & set(IMPORT.findall(path.read_text(encoding="utf-8"))) for path in modules}
    assert {name: names for name, names in found.items() if names} == {}


def test_only_summaries_of_single_documents_run_unasked():
    assert [kind.name for kind in KINDS.values() if kind.runs_unasked] == ["summarize"]


def test_pytest_ini_repeats_no_marker_of_a_kind():
    ini = ConfigParser()
    ini.read(ROOT / "pytest.ini", encoding="utf-8")
    written = {line.partition(":")[0] for line in ini["pytest"]["markers"].strip().splitlines()}
    assert written & {line.partition(":")[0] for line in marker_lines()} == set()


def test_pytest_knows_the_markers_of_all_kinds(project):
    listed = project.bench("--markers").output
    assert [line for line in marker_lines() if f"@pytest.mark.{line}" not in listed] == []


def test_markers_that_must_be_named_are_those_of_the_kinds_that_do_not_run_unasked():
    assert markers_to_name() == {
        "batching",
        "continuous",
        "draft",
        "fastest",
        "distributed",
        "fidelity",
        "lookup",
        "memory",
        "overhead",
        "server",
    }


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_no_two_experiments_of_a_kind_and_device_have_one_name(kind):
    names = [(each.name, family) for each in kind.experiments() for family in each.families | each.on_request]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_flag_is_one_of_the_kinds_own_options(kind):
    assert not kind.flag or kind.flag in [option.key for option in kind.options]


def test_unknown_kind_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="there is no kind of benchmark 'quantum'; choose from summarize, batching, "):
        kind_named("quantum")


def test_kind_that_nothing_could_run_is_refused(kinds):
    with pytest.raises(ValueError, match="'orphan' has no marker and does not run unasked"):
        register(named("orphan"))


def test_kind_registered_under_a_known_name_takes_its_place(kinds):
    other = named("memory", runs_unasked=True)
    register(other)
    assert KINDS["memory"] is other


def test_test_of_an_unknown_kind_is_one_line_and_nothing_runs(project):
    path = project.folder / "benchmarks" / "test_quantum.py"
    path.write_text('import pytest\n\n@pytest.mark.kind("quantum")\ndef test_quantum(loaded_model): ...\n')
    session = project.bench()
    assert session.exit_code == 2
    assert "there is no kind of benchmark 'quantum'" in session.output
    assert "Traceback" not in session.output


# When a kind cannot run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "context", "why"),
    [
        ("memory", RunContext(device=CPU), "on a CPU the peak memory includes Python and torch"),
        ("memory", RunContext(device=H100), ""),
        ("fidelity", RunContext(device=H100, synthetic_weights=True), "leave out --weights synthetic"),
        ("fidelity", RunContext(device=H100), ""),
        (
            "distributed",
            RunContext(device=H100, arguments=("benchmarks", "-m", "h100 and distributed")),
            "-m pytest benchmarks -m 'h100 and distributed'",
        ),
        ("distributed", RunContext(device=CPU), " -m torch.distributed.run --standalone --nproc-per-node 2 -m pytest"),
        ("distributed", RunContext(device=H100, process=Process(count=2)), ""),
        ("summarize", RunContext(device=CPU, synthetic_weights=True), ""),
        ("student_draft", RunContext(device=CPU), "there is no student to draft tokens; add --student FOLDER"),
        ("student_draft", RunContext(device=CPU, synthetic_weights=True), "leave out --weights synthetic"),
    ],
)
def test_kind_says_why_it_cannot_run(kind, context, why):
    found = KINDS[kind].skip_reason(context)
    assert why in found
    assert bool(found) == bool(why)


# Options ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "device", "rounds"), [(None, H100, 8), (None, CPU, 1), (3, H100, 3), (3, CPU, 3)])
def test_rounds_of_continuous_batching_are_as_many_as_a_verdict_needs_unless_told(given, device, rounds):
    assert KINDS["continuous"].resolved_options({"rounds": given}, device) == {"rounds": rounds}


def test_cases_of_one_loader_share_its_experiment_object():
    loaded = [case.loaded for case in KINDS["batching"].cases()]
    assert len({id(each) for each in loaded}) == len(set(loaded))


def test_a_case_is_measured_with_the_model_that_it_names_unless_told_otherwise():
    (case,) = cases_of(KINDS["memory"].experiments()[:1])
    assert case.loaded is case.measured
