"""The layers of the library, and how large a module, a class and a function may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.forked import ROOT

LAYERS = (
    ("core",),
    ("stats", "machine", "documents"),
    ("catalogue", "runs"),
    ("engines", "analysis"),
    ("measure", "report"),
    ("kinds",),
    ("session",),
    ("commands",),
)
"""A package imports only packages of earlier rows: never one beside it, never a later one."""

HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "bitsandbytes",
    "triton",
    "accelerate",
    "scipy",
    "rouge_score",
    "matplotlib",
    "jinja2",
}
"""Libraries that take a second or more to import, or that not every command needs: imported inside functions."""
HEAVY_AT_MODULE_LEVEL = {
    # torch operations alone: loading, or building a compiled step, imports them in a function
    "summarybench/engines/weight_only.py": {"bitsandbytes", "torch"},
    "summarybench/engines/quantize.py": {"torch"},
    "summarybench/engines/row_operators.py": {"torch"},
    "summarybench/engines/row_step.py": {"bitsandbytes", "torch"},
    "summarybench/engines/lookup_decoder.py": {"torch"},
    "summarybench/engines/page_model.py": {"torch"},
    "summarybench/engines/page_operators.py": {"torch"},
    **{
        f"summarybench/engines/kernels/{name}.py": {"torch", "triton"}
        for name in (
            "attention_pages",
            "attention_row",
            "fp8_rows",
            "int4_rows",
            "int8_rows",
            "mantissa",
            "nf4_rows",
            "plain_rows",
            "unpack",
        )
    },
    # training itself: `python -m distillation` imports these in functions, once its input is checked
    "distillation/callbacks.py": {"torch", "transformers"},
    "distillation/losses.py": {"torch"},
    "distillation/trainer.py": {"torch", "transformers"},
    "distillation/training.py": {"transformers"},
    "distillation/training_batches.py": {"torch", "transformers"},
}
WITHOUT_TORCH = {"torch", "transformers", "accelerate", "bitsandbytes"}

MOST_LINES_OF_A_MODULE, MOST_METHODS, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 400, 15, 60, 8

LIBRARY = sorted(path.relative_to(ROOT) for path in (ROOT / "summarybench").rglob("*.py"))
PLUGIN = sorted(path.relative_to(ROOT) for path in (ROOT / "fixtures").glob("*.py"))
DISTILLATION = sorted(path.relative_to(ROOT) for path in (ROOT / "distillation").glob("*.py"))
MODULES = [*LIBRARY, *PLUGIN, *DISTILLATION]


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported(node: ast.AST) -> set[str]:
    """The absolute names that one statement imports; empty for any other statement."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def outside_functions(node: ast.AST):
    """Every node that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


def imports_of(nodes) -> set[str]:
    return set().union(*map(imported, nodes))


def layer_of(package: str) -> int:
    return next(number for number, row in enumerate(LAYERS) if package in row)


def package_of(path: Path) -> str:
    """The package of a module of the library; empty for the modules at its top."""
    return path.parts[1] if len(path.parts) > 2 else ""


def test_every_package_of_the_library_has_a_layer():
    found = {package_of(path) for path in LIBRARY} - {""}
    assert found <= {package for row in LAYERS for package in row}


@pytest.mark.parametrize("path", [path for path in LIBRARY if package_of(path)], ids=str)
def test_a_package_imports_only_itself_and_earlier_layers(path):
    names = {name for name in imports_of(ast.walk(parsed(path))) if name.startswith("summarybench.")}
    others = {name.split(".")[1] for name in names} - {package_of(path)}
    assert sorted(other for other in others if layer_of(other) >= layer_of(package_of(path))) == []


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_the_library_imports_neither_pytest_nor_the_plugin_nor_distillation(path):
    names = {name.split(".")[0] for name in imports_of(ast.walk(parsed(path)))}
    assert names & {"pytest", "_pytest", "fixtures", "distillation", "tests", "benchmarks"} == set()


@pytest.mark.parametrize("path", PLUGIN, ids=str)
def test_the_plugin_does_not_import_distillation(path):
    assert not any(name.split(".")[0] == "distillation" for name in imports_of(ast.walk(parsed(path))))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_importing_a_module_imports_nothing_heavy(path):
    names = {name.split(".")[0] for name in imports_of(outside_functions(parsed(path)))}
    assert names & HEAVY <= HEAVY_AT_MODULE_LEVEL.get(str(path), set())


def test_the_plugin_has_at_most_a_dozen_modules():
    assert len([path for path in PLUGIN if path.name != "__init__.py"]) <= 12


def test_conftest_is_one_line():
    assert len((ROOT / "conftest.py").read_text(encoding="utf-8").splitlines()) == 1


# One place for each decision -----------------------------------------------------------------------------------------

NUMBERS = Path("summarybench/core/numbers.py")
ASKING_WHAT_A_DEVICE_IS = {"machine", "analysis", "report", "commands"}
"""`machine` implements devices, and the others read records of them in run files."""


def formats_a_number(node: ast.AST) -> bool:
    """Whether it is a replacement field of an f-string that ends in f, g, e or %."""
    if not isinstance(node, ast.FormattedValue) or not isinstance(node.format_spec, ast.JoinedStr):
        return False
    last = node.format_spec.values[-1]
    return isinstance(last, ast.Constant) and str(last.value).endswith(("f", "g", "e", "%"))


@pytest.mark.parametrize("path", [path for path in MODULES if path != NUMBERS], ids=str)
def test_numbers_are_formatted_in_one_module_alone(path):
    lines = [node.lineno for node in ast.walk(parsed(path)) if formats_a_number(node)]
    assert lines == [], f"use {NUMBERS}"


@pytest.mark.parametrize("path", [path for path in MODULES if package_of(path) not in ASKING_WHAT_A_DEVICE_IS], ids=str)
def test_devices_are_asked_what_they_do_and_not_whether_they_are_gpus(path):
    nodes = list(ast.walk(parsed(path)))
    # Analysis knows a device by its record: `is_gpu=device.is_gpu` passes on what the record says.
    passed_on = {id(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "is_gpu"}
    asked = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "is_gpu"]
    assert [node.lineno for node in asked if id(node) not in passed_on] == []


# Sizes -----------------------------------------------------------------------------------------------------------

LONGER_MODULES: dict[str, str] = {}
LARGER_CLASSES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}
MORE_PARAMETERS: dict[str, str] = {
    "summarybench/engines/kernels/attention_row.py:attention_row": "a Triton kernel takes seven tensors one by one",
    "summarybench/engines/kernels/int4_rows.py:int4_rows": "a Triton kernel takes five tensors one by one, and its tile",
}
"""Exceptions, each with its reason."""


def definitions(kind):
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, kind):
                yield f"{path}:{node.name}", node


def parameters(function) -> int:
    arguments = function.args
    return len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])


def test_no_module_is_longer_than_its_limit():
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path for path, length in lengths.items() if length > MOST_LINES_OF_A_MODULE} == LONGER_MODULES.keys()


def test_no_class_has_more_methods_than_its_limit():
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    counts = {name: sum(isinstance(each, functions) for each in node.body) for name, node in definitions(ast.ClassDef)}
    assert {name for name, count in counts.items() if count > MOST_METHODS} == LARGER_CLASSES.keys()


def test_no_function_is_longer_than_its_limit():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in definitions(ast.FunctionDef)}
    assert {name for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == LONGER_FUNCTIONS.keys()


def test_no_function_has_more_parameters_than_its_limit():
    counts = {name: parameters(node) for name, node in definitions(ast.FunctionDef)}
    assert {name for name, count in counts.items() if count > MOST_PARAMETERS} == MORE_PARAMETERS.keys()
