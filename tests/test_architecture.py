import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module imports only modules to its left.
ORDER = (
    "outcomes",
    "processes",
    "interrupts",
    "statistics",
    "journal",
    "session_seconds",
    "cache",
    "device",
    "release",
    "device_lock",
    "environment",
    "distributed",
    "telemetry",
    "controls",
    "models",
    "embedded",
    "shapes",
    "synthetic",
    "weights",
    "chat",
    "memory",
    "compiled",
    "weight_only",
    "loading",
    "documents",
    "generation",
    "continuous",
    "batching",
    "metrics",
    "quality",
    "overhead",
    "scaling",
    "documents_table",
    "workload",
    "carry",
    "runfile",
    "results",
    "spread",
    "attribution",
    "quality_change",
    "fidelity",
    "students",
    "baseline",
    "comparison",
    "first_pass",
    "settings",
    "next_steps",
    "report",
    "report_page",
    "charts",
    "report_html",
    "progress",
    "sampling",
    "plan",
    "selection",
    "suite",
    "compare",
    "passes",
    "replicate",
    "simulation",
    "spot_check",
    "detection",
    "adopt",
    "summary",
    "readme",
    "doctor_finding",
    "doctor_gpu",
    "doctor_bitsandbytes",
    "doctor_hub",
    "doctor",
    "benchmark_fixtures",
    "shown_warnings",
    "plugin",
)
IMPORTED_WITH_A_MODEL = {"weight_only"}  # a layer of its own: nobody but loading imports it, in a function
HEAVY = {"torch", "transformers", "datasets", "bitsandbytes", "scipy", "rouge_score", "matplotlib", "jinja2"}


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node):
    """The absolute names that one statement imports; empty for any other statement."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        if node.module == "fixtures":
            return {f"fixtures.{alias.name}" for alias in node.names}
        return {node.module}
    return set()


def outside_functions(node):
    """Every node that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


def imports_of(nodes):
    return set().union(*map(imported, nodes))


def test_every_module_has_its_place():
    found = {path.stem for path in (ROOT / "fixtures").glob("*.py")} - {"__init__"}
    assert found == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_modules_to_its_left(module):
    names = imports_of(ast.walk(parsed(ROOT / "fixtures" / f"{module}.py")))
    siblings = {name.split(".")[1] for name in names if name.startswith("fixtures.")}
    assert siblings <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize("module", [module for module in ORDER if module not in IMPORTED_WITH_A_MODEL])
def test_importing_a_module_imports_nothing_heavy(module):
    names = imports_of(outside_functions(parsed(ROOT / "fixtures" / f"{module}.py")))
    assert {name.split(".")[0] for name in names} & HEAVY == set()


def test_conftest_imports_nothing():
    assert imports_of(ast.walk(parsed(ROOT / "conftest.py"))) == set()
