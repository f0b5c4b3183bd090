"""The generated tables are what the stored runs say, and nothing outside the markers is touched."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from summarybench.catalogue.published import PUBLISHED_FILE, published_rows
from summarybench.commands.docs import FILES, rewritten, simulated_tables, tables_of
from summarybench.commands.docs_tables import newest_of, stored_experiments
from summarybench.core.outcomes import InputError
from summarybench.documents.sources import documents_of_file
from summarybench.runs.kind_facts import KindFacts
from summarybench.session.options import all_options
from tests.command import command
from tests.run_files import A100, benchmark, run_of

main = command("docs")

ROOT = Path(__file__).parents[2]


def newest_rows(baselines):
    """The newest row of each experiment and workload, over all devices."""
    return newest_of([row for folder in sorted(baselines.iterdir()) for row in stored_experiments(folder)])


@pytest.fixture
def store(tmp_path):
    """Stores a run in a folder of baselines, and returns that folder."""

    def stored(*benchmarks, number=1, date="2026-11-23", device=A100, **machine):
        folder = tmp_path / "baselines" / device.slug
        folder.mkdir(parents=True, exist_ok=True)
        run = {
            **run_of(*benchmarks, device=device.name, **machine),
            "device": asdict(device),
            "datetime": f"{date}T17:41:24+00:00",
        }
        (folder / f"{number:04}_main.json").write_text(json.dumps(run))
        return tmp_path / "baselines"

    return stored


def copy_of_the_project(folder):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for path in (ROOT / "docs" / "explanation").glob("*.json"):
        shutil.copy(path, folder / path.relative_to(ROOT))
    shutil.copytree(ROOT / "baselines", folder / "baselines", dirs_exist_ok=True)


@pytest.fixture(scope="module")
def tables():
    return tables_of(ROOT / "baselines") | simulated_tables(ROOT / "docs" / "explanation")


@pytest.mark.parametrize("name", FILES, ids=str)
def test_tables_are_not_stale(name, tables):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert rewritten(text, tables, name) == text, "stale: run `make readme`"


def test_new_run_makes_pages_stale_and_make_readme_rewrites_them_once(tmp_path, store, capsys):
    copy_of_the_project(tmp_path)
    store(benchmark())
    before = {name: (tmp_path / name).read_text() for name in FILES}
    assert main(["--root", str(tmp_path)]) == 0
    rewritten_files = ("docs/results/gpus.md", "docs/results/first-table.md")
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {'rewritten' if str(name) in rewritten_files else 'unchanged'}" for name in FILES
    ]
    after = {name: (tmp_path / name).read_text() for name in FILES}
    added = {line for name in FILES for line in set(after[name].splitlines()) - set(before[name].splitlines())}
    assert (
        "| llama2-7b-chat-4-bit | NVIDIA A100-SXM4-40GB | 250.0 | 50.0 | 8 | 2.00 | 0.250 | 2026-11-23, hub weights |"
        in added
    )
    assert "| llama2-7b-chat-4-bit | 8 | 50.0 | 250.0 | 0.250 | 5.00 | 6.00 | 0.500 | 4.00 |" in added
    assert all(set(before[name].splitlines()) <= set(after[name].splitlines()) for name in FILES)
    assert main(["--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: unchanged" for name in FILES]


def test_ways_of_one_run_are_side_by_side_and_those_of_two_runs_are_not(store):
    eager, compiled = benchmark("llama2-7b-chat-fp16"), benchmark("llama2-7b-chat-fp16-compiled", seconds=(0.5,) * 8)
    ways = tables_of(store(eager, compiled | {"name": "test_summarize[compiled]"}))["ways"]
    assert ways.splitlines()[2:] == [
        "| way | generated tok/s | × eager | documents/s | bandwidth utilization | peak GiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| fp16, eager | 50.0 | 1.00 | 0.50 | 0.500 | 5.00 |",
        "| fp16, compiled | 200.0 | 4.00 | 2.00 | 0.500 | 5.00 |",
    ]
    apart = store(benchmark("llama2-7b-chat-bf16"), number=2)
    (apart / A100.slug / "0001_main.json").unlink()
    assert tables_of(apart)["ways"] == tables_of(apart)["headline"] == "No run of several ways is stored.\n"


def test_precisions_of_one_run_share_a_table(store):
    eager, compiled = benchmark("llama2-7b-chat-fp16"), benchmark("llama2-7b-chat-fp16-compiled", seconds=(0.5,) * 8)
    alone = benchmark("llama2-7b-chat-4-bit") | {"name": "test_summarize[alone]"}
    ways = tables_of(store(eager, compiled | {"name": "test_summarize[compiled]"}, alone))["ways"]
    assert [line.split(" | ")[:3] for line in ways.splitlines()[4:]] == [
        ["| fp16, eager", "50.0", "1.00"],
        ["| fp16, compiled", "200.0", "4.00"],
        ["| 4-bit, eager", "50.0", "1.00"],
    ]


def test_headline_is_the_run_with_the_most_ways(store):
    eager, compiled = benchmark("llama2-7b-chat-fp16"), benchmark("llama2-7b-chat-fp16-compiled", seconds=(0.5,) * 8)
    two = (eager, compiled | {"name": "test_summarize[compiled]"})
    batches = {"batch_document_ids": [[f"document {number}" for number in range(1, 9)]], "batch_size": 8}
    three = benchmark("llama2-7b-chat-fp16", **batches) | {"name": "test_batching[x]", "stats": {"data": [16.0]}}
    store(*two, three, number=1)
    headline = tables_of(store(*two, number=2, date="2026-11-24"))["headline"]
    assert [line.split(" | ")[0] for line in headline.splitlines()[4:]] == ["| eager", "| compiled", "| batch 8"]
    assert "2026-11-23" in headline


def test_server_whose_label_is_the_precision_is_one_of_its_ways():
    rows = tables_of(ROOT / "baselines")["headline"].splitlines()
    ways = {row.split(" | ")[0].removeprefix("| "): float(row.split(" | ")[1]) for row in rows[4:]}
    assert next(iter(ways)) == "eager"
    assert list(ways)[-1] == "vllm 0.24.0, all at once"
    assert ways["vllm 0.24.0, all at once"] > ways["compiled, continuous"] > ways["compiled"] > ways["eager"]


def test_fastest_is_held_against_the_newest_eager_run_of_single_documents(store):
    store(benchmark("llama2-7b-chat-4-bit", seconds=(4.0,) * 8), number=1, date="2026-11-22")
    store(benchmark("llama2-7b-chat-4-bit", workload="another"), number=2)
    fastest = benchmark("llama2-7b-chat-4-bit-compiled", seconds=(0.5,) * 8) | {"name": "test_fastest[x]"}
    table = tables_of(store(fastest, number=3))["fastest"]
    assert " | 200.0 | 2.00 | 4.0 (0002_main.json) | " in table.splitlines()[-1]


def test_any_kind_that_says_so_is_beside_the_eager_run(store):
    store(benchmark("llama2-7b-chat-4-bit", seconds=(4.0,) * 8), number=1)
    kind = KindFacts(name="toy", title="toy", is_beside_eager=True).as_record()
    toy = benchmark("llama2-7b-chat-4-bit-compiled", seconds=(0.5,) * 8, kind=kind) | {"name": "test_toy[x]"}
    table = tables_of(store(toy, number=2))["fastest"]
    assert " | 200.0 | 2.00 | 8.0 (0001_main.json) | " in table.splitlines()[-1]


def test_published_rows_are_on_the_scale_of_the_measured_ones_and_keep_their_own_beside_it(store):
    published = tables_of(store(benchmark()))["published"].splitlines()
    assert "| ROUGE-1 (stemmed) |" in published[0]
    assert published[3].endswith("| 9.838 | 0.290 (0.281) | as published; unstemmed 0.262 (0.251) |")
    assert published[4].endswith("| 3.187 | – (0.309) | as published; unstemmed – (0.280) |")


def test_every_table_of_scores_names_their_scale(store):
    tables = tables_of(store(benchmark()))
    headings = [line for name in ("published", "measured") for line in tables[name].splitlines() if "ROUGE" in line]
    assert len(headings) == 2
    assert all("| ROUGE-1 (stemmed) |" in line for line in headings)


def test_published_figures_name_their_scale():
    said = PUBLISHED_FILE.read_text(encoding="utf-8")
    assert "as published: F1 of rouge_score without stemming" in said
    assert "F1 with stemming, one sentence a line" in said
    for row in published_rows():
        assert (row.rouge1 is None) == (row.rouge1_stemmed is None)
        assert row.rouge1_common_documents < row.rouge1_common_documents_stemmed


def test_newest_run_of_an_experiment_and_workload_wins(store):
    store(benchmark(), benchmark("llama2-7b-chat-fp16"), number=1, date="2026-11-01")
    store(benchmark(workload="another"), number=2, date="2026-11-02")
    rows = newest_rows(store(benchmark(), number=10, date="2026-11-10"))
    assert [(row.entry.experiment, row.info["workload"], row.source.date[:10]) for row in rows] == [
        ("llama2-7b-chat-fp16", "a workload", "2026-11-01"),
        ("llama2-7b-chat-4-bit", "a workload", "2026-11-10"),
        ("llama2-7b-chat-4-bit", "another", "2026-11-02"),
    ]


def test_rows_of_other_versions_dates_or_weights_are_a_table_of_their_own(store):
    store(benchmark(), benchmark("llama2-7b-chat-fp16", weights="synthetic"))
    store(benchmark("llama2-7b-chat-8-bit"), number=2, torch="2.14.0")
    store(benchmark("llama2-7b-chat-bf16"), number=3, date="2026-11-24")
    measured = tables_of(store(benchmark("mistral-7b-instruct-bf16"), number=4))["measured"]
    titles = [line for line in measured.splitlines() if line.startswith("**")]
    assert len(titles) == 4
    assert titles[1].startswith("**NVIDIA A100-SXM4-40GB, 2026-11-24: driver 580.95.05, cuda 13.0, ")
    assert titles[3].endswith("; hub weights, prompts of at most 2,048 tokens, 100 new tokens at most**")


def test_runs_of_cpus_and_tests_of_memory_are_left_out(store):
    store(benchmark() | {"name": "test_memory[llama2-7b-chat-4-bit]"})
    baselines = store(benchmark(), device=replace(A100, kind="cpu", slug="a-cpu"))
    assert list(newest_rows(baselines)) == []
    tables = tables_of(baselines)
    assert tables["measured"] == "No run of a GPU is stored.\n"
    assert tables["scaling"] == "No run of several GPUs is stored.\n"


def test_run_with_the_slug_of_a_stored_gpu_is_in_the_tables_under_its_name(store):
    remote = replace(A100, kind="cpu", name=A100.slug, is_remote=True)
    store(benchmark("llama2-7b-chat-fp16"), device=remote, driver=None)
    baselines = store(benchmark(), number=2)
    assert [(row.name, row.source.device_name) for row in newest_rows(baselines)] == [
        ("llama2-7b-chat-fp16", A100.name),
        ("llama2-7b-chat-4-bit", A100.name),
    ]


def test_several_gpus_have_a_table_of_their_own_and_batches_are_not_beside_single_documents(store):
    scaling = {"tokens_per_second": 98.0, "tokens_per_second_alone": 50.0, "per_process": []}
    spread = benchmark(processes=2, scaling_efficiency=0.98, scaling=scaling) | {"name": "test_distributed[x]"}
    batched = benchmark(experiment="llama2-7b-chat-4-bit-batch8", batch_size=8) | {"name": "test_batching[x]"}
    tables = tables_of(store(spread, batched))
    assert tables["scaling"].splitlines()[-1] == (
        "| llama2-7b-chat-4-bit | NVIDIA A100-SXM4-40GB | 2 | 8 | 50.0 | 98.0 | 0.980 | 2026-11-23, hub weights |"
    )
    assert "NVIDIA A100" not in tables["published"]
    assert [line.split(" ")[1] for line in tables["measured"].splitlines()[4:]] == ["llama2-7b-chat-4-bit-batch8"]


def test_figures_that_an_older_run_lacks_are_dashes_and_new_ones_are_no_obstacle(store):
    old = benchmark(joules_per_token=None, rouge1=None, unheard_of={"2": 0.9})
    del old["extra_info"]["model_bandwidth_utilization"], old["extra_info"]["predicted_memory_bytes"]
    assert tables_of(store(old))["measured"].splitlines()[-1] == (
        "| llama2-7b-chat-4-bit | 8 | 50.0 | 250.0 | – | 5.00 | – | – | – |"
    )


def test_experiment_of_no_known_loader_comes_after_those_known(store):
    batched = benchmark(experiment="llama2-7b-chat-4-bit-batch8", batch_size=8) | {"name": "test_batching[x]"}
    unknown = benchmark(experiment="llama2-7b-chat-6-bit", loader="6-bit") | {"name": "test_summarize[y]"}
    names = [row.entry.experiment for row in newest_rows(store(unknown, batched, benchmark()))]
    assert names == ["llama2-7b-chat-4-bit", "llama2-7b-chat-4-bit-batch8", "llama2-7b-chat-6-bit"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no markers", "no pairs of markers"),
        ("<!-- begin measured: x -->\n", "no pairs of markers"),
        ("<!-- begin measured: x -->\n<!-- end documents -->\n", "no pairs of markers"),
        ("<!-- begin unheard-of: x -->\n<!-- end unheard-of -->\n", "markers for no table: unheard-of"),
    ],
)
def test_markers_that_cannot_be_used_are_refused(text, said):
    with pytest.raises(InputError, match=said):
        rewritten(text, {"measured": "", "documents": ""}, Path("README.md"))


def test_stored_run_that_is_corrupt_is_named_in_one_line_and_nothing_is_written(tmp_path, capsys):
    copy_of_the_project(tmp_path)
    corrupt = tmp_path / "baselines" / "a-gpu" / "0001_main.json"
    corrupt.parent.mkdir()
    corrupt.write_text("{half")
    assert main(["--root", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith(f"ERROR: {corrupt} is not JSON")
    assert all((tmp_path / name).read_text() == (ROOT / name).read_text() for name in FILES)


def test_every_option_has_an_example_of_itself():
    assert [option.name for option in all_options() if not option.example.startswith(option.name)] == []


def test_twelve_options_are_for_every_day():
    assert sum(option.is_everyday for option in all_options()) == 12


def test_option_s_default_is_stated_once():
    by_name = {option.name: option for option in all_options()}
    documents, tolerance, plan = (by_name[name] for name in ("--documents", "--tolerance", "--plan"))
    assert (documents.stated_default, "default" in documents.meaning) == ("100 on a GPU, 8 on a CPU", False)
    assert (tolerance.placeholder, tolerance.stated_default) == ("SHARE", "5%")
    assert (plan.placeholder, plan.stated_default) == ("", "off")
    assert tolerance.help == "a change within this counts as none (default: 5%%)"


def test_articles_that_the_readme_shows_are_read_as_documents(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "articles.jsonl"
    path.write_text(example)
    (document,) = documents_of_file(path).documents
    assert (document.text[:4], document.reference[:4]) == ("Boil", "Warm")
