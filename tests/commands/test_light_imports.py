"""Reading, comparing, storing and reporting runs needs nothing that loads models, and so starts fast and runs anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.forked import ENVIRONMENT, ROOT

H100 = ROOT / "baselines" / "nvidia-h100-80gb-hbm3"
IMPORTED = """
import json, sys
from summarybench.commands.command_line import main

exit_code = main(sys.argv[2:])
packages = {".".join(name.split(".")[:2]) if name.startswith("summarybench.") else name.split(".")[0] for name in sys.modules}
open(sys.argv[1], "w").write(json.dumps([int(exit_code), sorted(packages)]))
"""
HEAVY = {"torch", "transformers", "accelerate", "bitsandbytes", "datasets"}
ENGINES = {"summarybench.engines"}


@pytest.fixture
def folder(tmp_path):
    """A results folder with a stored run that ended well."""
    (tmp_path / "run").mkdir()
    shutil.copy(H100 / "0012_fastest.json", tmp_path / "run" / "run.json")
    (tmp_path / "run" / "exit_code").write_text("0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["compare", "run", str(H100 / "0012_fastest.json")], HEAVY | ENGINES),
        (["adopt", "run", "main", "--baselines", "baselines"], HEAVY | ENGINES),
        (["report", "run", "--baselines", "baselines", "--output", "report.html"], HEAVY | ENGINES),
        (["summary", "run"], HEAVY | ENGINES),
        (["docs", "--root", "."], HEAVY),  # lists the options that kinds declare, and kinds name engines
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_command_about_stored_runs_imports_nothing_that_loads_models(folder, words, unwanted):
    if words[0] == "docs":
        for name in ("README.md", "docs", "baselines"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, "imported.json", *words],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    exit_code, packages = json.loads((folder / "imported.json").read_text(encoding="utf-8"))
    assert exit_code == 0
    assert unwanted.isdisjoint(packages)
