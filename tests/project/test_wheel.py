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
from tests.forked import ENVIRONMENT, ROOT
from tests.golden.make import EXPECTED, SLUG

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
"""What pip asks setuptools for, in a process of its own because it changes the current one."""

READ_IN_THE_WHEEL = """
import json
from importlib.resources import files
import fixtures
from summarybench.documents.sources import embedded_documents
from summarybench.catalogue.published import published_rows

print(json.dumps({
    "package": fixtures.__file__,
    "documents": [document.id for document in embedded_documents().documents],
    "published": list(map(repr, published_rows())),
    "templates": sorted(each.name for each in files("summarybench.report").joinpath("templates").iterdir()),
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
        "templates": sorted(path.name for path in (ROOT / "summarybench/report/templates").iterdir()),
    }


# Installed -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder into which pip has installed the wheel; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)], check=True)
    return folder


@pytest.fixture
def typed(site, tmp_path):
    """What `summarybench` makes of these arguments in an empty folder, in which nothing of the checkout can be found."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(site / "bin"), os.environ["PATH"]])
        return subprocess.run(
            ["summarybench", *map(str, arguments)],
            cwd=tmp_path,
            env={**ENVIRONMENT, "PYTHONPATH": str(site), "PATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


def test_installed_command_says_its_version(typed, wheel):
    done = typed("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"summarybench {wheel.name.split('-')[1]}\n"


def test_installed_command_lists_its_commands(typed):
    done = typed("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.startswith("  compare  ")]


def test_installed_command_compares_two_stored_runs(typed):
    runs = [ROOT / "baselines" / SLUG / f"{name}.json" for name in ("0007_matrix", "0001_main")]
    done = typed("compare", *runs)
    assert (done.returncode, done.stderr) == (0, "")
    golden = (EXPECTED / "compare" / "0007_matrix.txt").read_text(encoding="utf-8")
    assert f"AGAINST=0001_main.json\n{done.stdout}" in golden


def test_installed_benchmarks_are_collected_with_the_ids_that_they_have_in_a_checkout(typed, tmp_path):
    (tmp_path / "benchmarks").mkdir()  # a stranger's
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "__init__.py").write_text("raise ImportError('a stranger')")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    done = typed("bench", "--collect-only", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [
        f"benchmarks/test_summarize.py::test_summarize[smollm2-135m-instruct-{loader}]"
        for loader in ("default", "8-bit", "4-bit")
    ]
    made_by_pytest_benchmark = tmp_path / "baselines"
    assert {*tmp_path.iterdir()} == {
        made_by_pytest_benchmark,
        *map(tmp_path.joinpath, ("benchmarks", "fixtures", "pytest.ini")),
    }


def test_installed_session_that_is_refused_is_4_and_one_line(typed):
    done = typed("bench", "--documents", "0")
    assert done.returncode == 4
    assert "ERROR: --documents 0: must be at least 1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


FAKES = """
import pytest
from tests.fakes import FakeModel, FakeTime, leave_out_pages, probes

TIME = FakeTime()
leave_out_pages()

@pytest.fixture(scope="session")
def clock():
    return TIME.clock

@pytest.fixture(scope="session")
def load_model():
    return lambda experiment: FakeModel(experiment, TIME)
"""


def test_installed_session_leaves_its_run_in_the_current_folder_and_its_next_command_works(typed, site, tmp_path):
    (tmp_path / "fakes.py").write_text(FAKES)
    path = os.pathsep.join(map(str, (site, tmp_path, ROOT)))
    done = typed("bench", "-p", "fakes", "-k", "4-bit and smollm2", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "results" / "latest" / "run.json").read_text())
    (benchmark,) = run["benchmarks"]
    assert benchmark["fullname"] == "benchmarks/test_summarize.py::test_summarize[smollm2-135m-instruct-4-bit]"
    assert run["machine_info"].keys() >= {"device", "torch", "host"}  # the suite's, not pytest-benchmark's
    (command,) = (line.rpartition(": ")[2] for line in done.stdout.splitlines() if line.startswith("next: "))
    environment = {**ENVIRONMENT, "PYTHONPATH": str(site)}
    adopted = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (adopted.returncode, adopted.stderr) == (0, "")
    assert [path.name for path in tmp_path.glob("baselines/*/*.json")] == ["0001_main.json"]
    again = typed("bench", "-p", "fakes", "-k", "4-bit and smollm2", PYTHONPATH=path)
    assert " of 0001_main.json [" in again.stdout
