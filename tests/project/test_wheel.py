"""The wheel holds every file that its packages open, and works outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from summarybench.catalogue.published import published_rows
from summarybench.documents.sources import embedded_documents
from tests.forked import ROOT

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
"""What pip asks setuptools for, in a process of its own because it changes the current one."""

READ_IN_THE_WHEEL = """
import json
import fixtures
from summarybench.documents.sources import embedded_documents
from summarybench.catalogue.published import published_rows
from summarybench.report.html import TEMPLATES

print(json.dumps({
    "package": fixtures.__file__,
    "documents": [document.id for document in embedded_documents().documents],
    "published": list(map(repr, published_rows())),
    "templates": sorted(path.name for path in TEMPLATES.iterdir()),
}))
"""


def packages() -> list[str]:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"][
        "find"
    ]
    return [pattern.removesuffix("*") for pattern in find["include"]]


def files_of_packages() -> set[str]:
    """Every file of the packages that git tracks or would track, relative to the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *packages()]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def copy_of_the_checkout(folder: Path) -> Path:
    """What a build needs: it leaves files beside its sources, which must not be the checkout's."""
    for name in ("pyproject.toml", "README.md", "LICENSE", *files_of_packages()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return folder


def build_wheel(sources: Path, into: Path) -> Path:
    into.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", BUILD, str(into)]
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_of_the_checkout(folder / "sources"), folder / "built")


def test_wheel_holds_every_file_of_its_packages(wheel):
    files = files_of_packages()
    assert {
        "summarybench/catalogue/published.toml",
        "summarybench/documents/articles.jsonl",
        "summarybench/report/templates/report.css",
    } <= files
    assert files - names_in(wheel) == set(), "name them in [tool.setuptools.package-data] of pyproject.toml"


def test_wheel_holds_nothing_but_its_packages(wheel):
    folders = {name.partition("/")[0] for name in names_in(wheel)}
    (metadata,) = (folder for folder in folders if folder.endswith(".dist-info"))
    assert folders == {*packages(), metadata}


def test_data_file_that_was_forgotten_is_seen(tmp_path):
    sources = copy_of_the_checkout(tmp_path / "sources")
    (sources / "summarybench" / "report" / "forgotten.data").write_text("figures", encoding="utf-8")
    assert "summarybench/report/forgotten.data" not in names_in(build_wheel(sources, tmp_path / "built"))


def test_unpacked_wheel_reads_its_articles_its_published_table_and_its_templates(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-c", READ_IN_THE_WHEEL]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "package": str(tmp_path / "site" / "fixtures" / "__init__.py"),
        "documents": [document.id for document in embedded_documents().documents],
        "published": list(map(repr, published_rows())),
        "templates": ["report.css", "report.html.j2", "report.js"],
    }
