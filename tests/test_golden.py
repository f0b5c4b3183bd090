"""The twelve stored runs say today what they said when tests/golden/expected was written: `python -m tests.golden.make`."""

import json
import subprocess
import sys
from difflib import unified_diff

import pytest

from tests.forked import ENVIRONMENT
from tests.golden.make import EXPECTED, SLUG, cases, copy_stored_runs
from tests.golden.page_text import page_text

CASES = cases()
WHAT_TO_DO = "if this is meant, run `python -m tests.golden.make` and read `git diff`"
ELSEWHERE = {
    "COLUMNS": "40",
    "LINES": "5",
    "TERM": "xterm-256color",
    "FORCE_COLOR": "1",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "1",
    "PYTHONUTF8": "1",
}
"""A terminal, a time zone and a locale that are not this process's."""
IN_A_PROCESS_OF_ITS_OWN = """
import json, sys
from pathlib import Path
from tests.golden.make import EXPECTED, cases

made = {name: cases()[name](Path(sys.argv[1])) for name in sys.argv[2:]}
changed = [name for name, text in made.items() if text != (EXPECTED / name).read_text(encoding="utf-8")]
packages = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"changed": changed, "packages": packages}))
"""
EACH_KIND = (
    "runs/0007_matrix.json",
    "compare/0007_matrix.txt",
    "compare/0005_embedded-made-worse.txt",
    "summary/0007_matrix.md",
    "terminal/0007_matrix.txt",
    "html/0007_matrix.txt",
    "readme/measured.md",
    "readme/documents.md",
    "baselines.json",
    "spread.json",
)


@pytest.fixture(scope="module")
def baselines(tmp_path_factory):
    return copy_stored_runs(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", CASES)
def test_stored_runs_say_what_they_said(name, baselines):
    expected = (EXPECTED / name).read_text(encoding="utf-8")
    found = CASES[name](baselines)
    difference = "\n".join(unified_diff(expected.splitlines(), found.splitlines(), "golden", "now", n=1, lineterm=""))
    if difference:
        pytest.fail(f"{name}: {WHAT_TO_DO}\n{difference}", pytrace=False)
    assert found == expected


def test_every_golden_file_is_compared_with_something():
    files = {path.relative_to(EXPECTED).as_posix() for path in EXPECTED.rglob("*") if path.is_file()}
    assert files == set(CASES)


def test_text_of_a_page_has_its_table_rows_and_chart_labels_and_no_script_or_style():
    html = """<head><style>p { color: red }</style></head><body><h2>Speed</h2>
    <table><tr><th>model</th><th>tok/s</th></tr><tr><th>fp16<span aria-hidden="true">*</span></th><td>37.2 <i>&lt;</i></td></tr></table>
    <svg role="img" aria-label="Speed: fp16 37; 4-bit 30"><g><title>fp16</title><path d=""/></g><text>10</text><text>20</text></svg>
    <svg role="img" aria-label="Speed: fp16 37; 4-bit 30"><g><title>fp16</title></g><text>15</text></svg>
    <p>Up is <b>better</b>.</p><div popover>Speed is a rate.</div><script>let a = "<p>no</p>"</script></body>"""
    read = page_text(html)
    assert read.lines == [
        "## Speed",
        "| model | tok/s |",
        "| fp16 | 37.2 < |",
        *("[chart] Speed: fp16 37", "[chart]   4-bit 30", "[labels] 10 / 20", "[tip] fp16"),
        *("[labels] 15", "[tips] the same 1"),
        "Up is better.",
    ]
    assert read.definitions == ["Speed is a rate."]


# A process of its own --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(baselines, tmp_path_factory):
    """What a Python that has imported nothing yet makes of one run, in another folder and terminal."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, str(baselines), *EACH_KIND],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**ENVIRONMENT, **ELSEWHERE},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_golden_texts_do_not_depend_on_folder_terminal_time_zone_or_hash_seed(elsewhere):
    assert elsewhere["changed"] == []


def test_reading_comparing_and_reporting_a_stored_run_imports_nothing_that_loads_models(elsewhere):
    loading_models = {"torch", "transformers", "accelerate", "bitsandbytes", "datasets", "gguf"}
    assert loading_models.isdisjoint(elsewhere["packages"])


def test_reading_comparing_and_reporting_a_stored_run_does_not_import_pytest(elsewhere):
    assert "pytest" not in elsewhere["packages"]


# Sensitivity -----------------------------------------------------------------------------------------------------


def slow_one_round(run):
    run["benchmarks"][3]["stats"]["data"][0] *= 1.5


def raise_a_rate(run):
    run["benchmarks"][0]["extra_info"]["generated_tokens_per_second"] += 1


def lower_one_score(run):
    run["benchmarks"][1]["extra_info"]["rouge1_scores"][0] -= 0.01


def change_a_workload(run):
    run["benchmarks"][0]["extra_info"]["workload"] = "0" * 64


def change_a_verdict(run):
    run["benchmarks"][0]["extra_info"]["verdict"] = "UNCHANGED"


def raise_the_noise(spread):
    spread["standard_deviation"] += 0.001
    spread["replicates"][3]["generated_tokens_per_second"][0] *= 1.1


@pytest.mark.parametrize(
    ("change", "stored", "affected"),
    [
        (slow_one_round, "0006_compiled", ["runs/0006_compiled.json", "compare/0011_compiled-by-layer.txt"]),
        (
            raise_a_rate,
            "0004_main-8-bit",
            [
                *("runs/0004_main-8-bit.json", "summary/0004_main-8-bit.md", "terminal/0004_main-8-bit.txt"),
                "html/0004_main-8-bit.txt",
            ],
        ),
        (raise_a_rate, "0012_fastest", ["readme/measured.md"]),
        (lower_one_score, "0005_embedded", ["runs/0005_embedded.json", "html/0005_embedded.txt"]),
        (change_a_workload, "0004_main-8-bit", ["baselines.json", "compare/0007_matrix.txt"]),
        (
            change_a_verdict,
            "0007_matrix",
            ["runs/0007_matrix.json", "summary/0007_matrix.md", "terminal/0007_matrix.txt"],
        ),
        (raise_the_noise, "spread", ["spread.json", "compare/0007_matrix.txt", "baselines.json"]),
    ],
)
def test_one_figure_that_is_changed_in_a_stored_run_is_seen(change, stored, affected, tmp_path):
    baselines = copy_stored_runs(tmp_path)
    path = baselines / SLUG / f"{stored}.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    change(contents)
    path.write_text(json.dumps(contents), encoding="utf-8")
    unseen = [name for name in affected if CASES[name](baselines) == (EXPECTED / name).read_text(encoding="utf-8")]
    assert unseen == []
