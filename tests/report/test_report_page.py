"""The HTML page: its content, and its behaviour in a browser (Debian's Chromium; skipped without it)."""

import copy
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from summarybench.machine.device import GIB
from summarybench.machine.probes import MATRIX_PRODUCT
from summarybench.report import html as report_html
from summarybench.report.charts.tradeoff import tradeoff_chart
from summarybench.report.documents import Segment, word_changes
from summarybench.report.environment import EnvironmentFact
from summarybench.report.experiment import Source
from summarybench.report.headline import Headline
from summarybench.report.probes import Probe, probes_of
from summarybench.report.tables import STUDENTS
from summarybench.report.view import view_of
from summarybench.runs.baselines import Baselines, StoredRun
from tests.command import command
from tests.conftest import FAKE_MODELS
from tests.forked import forked_python
from tests.report.test_report_terminal import QUALITY_CHANGE, WIDEST_FIGURES
from tests.run_files import A100, benchmark, faithfulness_of_documents, outcome, run_of

ROOT = Path(__file__).parents[2]
HOSTILE = (
    '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">"\'></p></script>'
    "<svg onload='window.hacked = 1'>{{ 7 * 7 }} &lt;b&gt;"
)
FP16, EIGHT, FOUR = "llama2-7b-chat-fp16", "llama2-7b-chat-8-bit", "llama2-7b-chat-4-bit"
CHANGE = {"ratio": 0.9, "low": 0.85, "high": 0.95, "confidence": 0.95, "documents": 8}


def whole(run, date="2026-11-23T10:00:00+00:00"):
    return {**run, "device": asdict(A100), "datetime": date, "commit_info": {"id": "0123456789abcdef"}}


def source(*benchmarks, outcomes=(), documents=(), baselines=None, path="results/a-run/run.json", **keys):
    run = whole(run_of(*benchmarks, outcomes=tuple(outcomes)), **keys)
    by_document = {(each["experiment"], each["document_id"]): each for each in documents}
    return Source(stored=StoredRun(path=Path(path), run=run), documents=by_document, baselines=baselines)


def stored(*benchmarks, name="0001_main.json", date="2026-11-20T10:00:00+00:00"):
    return StoredRun(path=Path("baselines/a100") / name, run=whole(run_of(*benchmarks), date=date))


def baselines(*runs):
    return Baselines(folder=Path("baselines/a100"), runs=runs)


def records(experiment, *summaries, **facts):
    return [
        {
            "experiment": experiment,
            "document_id": f"document {number}",
            "url": f"https://example.org/Boil-Water-{number}",
            "section": "Steps",
            "text": f"Fill the kettle number {number}.",
            "reference": "Boil it.",
            "summary": summary,
            "hit_cap": False,
            "truncated": False,
            **facts,
        }
        for number, summary in enumerate(summaries, start=1)
    ]


# What it says --------------------------------------------------------------------------------------------------------


def test_changed_words_are_distinguished_from_unchanged_ones():
    assert word_changes("heat the water slowly", "heat cold water") == (
        Segment(kind="same", text="heat "),
        Segment(kind="removed", text="the "),
        Segment(kind="added", text="cold "),
        Segment(kind="same", text="water"),
        Segment(kind="removed", text=" slowly "),
    )


def test_changed_characters_are_distinguished_where_words_have_no_spaces():
    assert word_changes("打开灯。", "关上灯。") == (
        Segment(kind="removed", text="打开 "),
        Segment(kind="added", text="关上"),
        Segment(kind="same", text="灯。"),
    )


def test_the_text_without_what_was_removed_is_the_summary():
    now = "One.\n Two  three"
    assert "".join(each.text for each in word_changes("Zero two three four", now) if each.kind != "removed") == now


def test_a_regression_is_the_verdict_whatever_else_there_is():
    slow = benchmark(
        EIGHT, verdict="REGRESSED", change=CHANGE, attribution={"cause": "CODE", "detail": "controls held"}
    )
    page = view_of([source(benchmark(FP16, verdict="IMPROVED", change=CHANGE | {"ratio": 1.1}), slow)])
    assert page.headline == Headline(
        word="REGRESSED",
        sentence="1 of 2 experiments regressed: 8-bit is 10.0% slower [5.0%, 15.0%], attributed to CODE.",
    )


def test_failed_quality_is_the_headline_of_a_run_without_regression():
    lost = [outcome(name, "failed", "quality INFERIOR to fp16: ROUGE-1 -9.0 points") for name in (EIGHT, FOUR)]
    held = benchmark(FP16, verdict="UNCHANGED", change=CHANGE | {"ratio": 1.0})
    page = view_of([source(held, benchmark(EIGHT), benchmark(FOUR), outcomes=lost)])
    assert page.headline == Headline(
        word="FAILED",
        sentence="2 of 3 experiments failed: 8-bit: quality INFERIOR to fp16, and 1 more; no regression of speed.",
    )
    slow = benchmark(FP16, verdict="REGRESSED", change=CHANGE)
    regressed = view_of([source(slow, benchmark(EIGHT), outcomes=lost[:1])]).headline
    assert regressed.word == "REGRESSED"
    assert regressed.sentence.endswith("; 1 failed for another reason.")


def test_what_ran_out_of_memory_is_in_the_sentence_the_table_and_the_chart():
    lost = outcome("llama2-7b-chat-default", "out_of_memory", "predicted not to fit (as expected on this device)")
    one = source(benchmark(FP16, verdict="UNCHANGED", change=CHANGE | {"ratio": 1.0}), outcomes=[lost])
    page = view_of([one])
    assert page.headline == Headline(
        word="UNCHANGED", sentence="No regression found: 1 experiment unchanged; 1 out of memory."
    )
    chart = tradeoff_chart(page)
    assert "✕ llama2-7b-chat-default: out of memory" in chart.wide
    assert "✕ llama2-7b-chat-default: out of memory" in chart.narrow
    assert "predicted not to fit (as expected on this device)" in report_html.report_html([one])


def test_the_frontier_leaves_out_what_another_beats_in_both():
    page = view_of(
        [
            source(
                benchmark(FP16, generated_tokens_per_second=30.0, rouge1=0.30),
                benchmark(EIGHT, generated_tokens_per_second=10.0, rouge1=0.25),
                benchmark(FOUR, generated_tokens_per_second=40.0, rouge1=0.28),
            )
        ]
    )
    assert [each.label for each in page.frontier] == ["fp16", "4-bit"]


def test_without_scores_the_frontier_is_of_speed_and_memory():
    def unscored(name, speed, gib):
        nothing = dict.fromkeys(("rouge1", "rouge2", "rougeLsum", "rouge1_interval", "degenerate"))
        return benchmark(
            name,
            weights="synthetic",
            generated_tokens_per_second=speed,
            peak_memory_bytes=gib * GIB,
            degenerate_document_ids=None,
            **nothing,
            **{f"{each}_scores": [] for each in ("rouge1", "rouge2", "rougeLsum")},
        )

    one = source(unscored(FP16, 30.0, 13), unscored(EIGHT, 10.0, 7), unscored(FOUR, 28.0, 5))
    assert [each.label for each in view_of([one]).frontier] == ["4-bit", "fp16"]
    assert "The weights are synthetic, so there is no ROUGE" in report_html.report_html([one])


def test_a_run_that_was_stored_is_one_measurement_of_the_history():
    now = benchmark(FP16, seconds=(2.5,) * 8, verdict="REGRESSED")
    before = stored(benchmark(FP16))
    copy_of_now = stored(now, name="0002_main.json", date="2026-11-23T10:00:00+00:00")
    other_workload = stored(benchmark(FP16, workload="another"), name="0003_main.json")
    page = view_of([source(now, baselines=baselines(before, copy_of_now, other_workload))])
    (history,) = page.histories
    assert [(each.date, each.speed, each.verdict, each.is_shown) for each in history.measurements] == [
        ("2026-11-20 10:00", 50.0, "NO BASELINE", False),
        ("2026-11-23 10:00", 40.0, "REGRESSED", True),
    ]


def nights_of(count, *, slower_from=99):
    """Stored runs of successive nights, 5% slower from one of them on, that vary by half a percent."""
    return [
        stored(
            benchmark(FP16, seconds=(2.0 * (1 + 0.005 * (-1) ** n) / (0.95 if n >= slower_from else 1),) * 8),
            name=f"{n:04}_nightly.json",
            date=f"2026-10-{n:02}T03:00:00+00:00",
        )
        for n in range(1, count + 1)
    ]


def test_slowed_series_is_drawn_with_band_alarm_and_change_point_and_said_in_words():
    *before, now = nights_of(26, slower_from=21)
    one = Source(stored=now, baselines=baselines(*before))
    page = report_html.report_html([one])
    for mark in ("band", "since", "alarm"):
        assert page.count(f'id="history-wide-history-0-{mark}"') == 1
    assert "<li><strong>fp16</strong>: SLOWED to 0.950 since 2026-10-21, within commit 01234567</li>" in page
    assert "this run</title>" in page
    (history,) = view_of([one]).histories
    assert history.places_of(history.series.first_changed) == [20]


def test_steady_series_has_a_band_and_no_alarm():
    *before, now = nights_of(26)
    page = report_html.report_html([Source(stored=now, baselines=baselines(*before))])
    assert 'id="history-wide-history-0-band"' in page
    assert 'id="history-wide-history-0-alarm"' not in page
    assert "<strong>fp16</strong>: STEADY at " in page


def test_runs_of_another_host_are_not_in_the_panel():
    *before, now = nights_of(4)
    before[0].run["machine_info"] = {**before[0].run["machine_info"], "host_id": "another"}
    (history,) = view_of([Source(stored=now, baselines=baselines(*before))]).histories
    assert len(history.measurements) == 3


def test_runs_that_name_the_device_by_its_slug_are_in_the_same_panel():
    *before, first, second = nights_of(4)
    second.run["machine_info"] = {**second.run["machine_info"], "device": A100.slug}
    stored_runs = baselines(*before, first, second)
    both = [Source(stored=each, baselines=stored_runs) for each in (first, second)]
    (history,) = view_of(both).histories
    assert [each.is_shown for each in history.measurements] == [False, False, True, True]


def test_flags_say_what_each_summary_is():
    before = stored(benchmark(FP16, summary_sha256=["0" * 64] * 7 + ["1" * 64]))
    now = benchmark(
        FP16,
        baseline={"file": "0001_main.json"},
        degenerate_document_ids={"empty": ["document 2"], "repeating": ["document 1"]},
        generated_tokens=[99] * 7 + [100],
    )
    page = view_of([source(now, baselines=baselines(before))])
    assert [document.flags for document in page.documents] == [
        ["repeating"],
        ["empty"],
        *[[]] * 5,
        ["cut-off", "changed"],
    ]


def test_a_summary_is_compared_with_its_own_of_an_earlier_run_first():
    entries = benchmark(FP16), benchmark(FOUR)
    old = source(*entries, documents=records(FP16, "a") + records(FOUR, "b c"))
    new = source(*entries, documents=records(FP16, "a") + records(FOUR, "b d"), path="results/b-run/run.json")
    cells = {each.experiment.label: each for each in view_of([old, new]).documents[0].summaries}
    assert {label: cell.against for label, cell in cells.items()} == {
        "fp16 · A": "",
        "4-bit · A": "fp16 · A",
        "fp16 · B": "fp16 · A",
        "4-bit · B": "4-bit · A",
    }
    assert [each.text for each in cells["4-bit · B"].changes] == ["b ", "c ", "d"]


def test_what_differs_in_the_environment_is_marked():
    before = stored(benchmark(FP16))
    before.run["machine_info"]["torch"] = "2.12.0"
    page = view_of([source(benchmark(FP16, baseline={"file": "0001_main.json"}), baselines=baselines(before))])
    assert page.environments.runs == ("a-run", "0001_main.json")
    assert [each for each in page.environments.facts if each.differs] == [
        EnvironmentFact(name="torch", values=("2.13.0", "2.12.0"))
    ]


def test_environment_leaves_out_what_no_run_states():
    one = source(benchmark(FP16))
    one.stored.run["machine_info"] |= {"driver": None, "cuda": "13.0"}
    names = [each.name for each in view_of([one]).environments.facts]
    assert ("driver" in names, "CUDA" in names) == (False, True)


def test_notes_on_a_verdict_are_listed_below_it():
    named = {"verdict": "INCONCLUSIVE", "verdict_detail": "`make noise` <decides>"}
    changes = {"environment_differences": ["torch 2.13.0 here, 2.12.0 there"]}
    html = report_html.report_html([source(benchmark(FP16, **named, **changes), benchmark(FOUR))])
    verdict = f"{FP16}: <strong>INCONCLUSIVE</strong>: <code>make noise</code> &lt;decides&gt;"
    assert f"<li>{verdict}<ul><li>environment: torch 2.13.0 here, 2.12.0 there</li></ul></li>" in html


def test_text_of_models_and_documents_is_escaped_everywhere():
    one = source(
        benchmark(FP16, verdict_detail=HOSTILE),
        outcomes=[outcome(HOSTILE, "out_of_memory", HOSTILE)],
        documents=records(FP16, HOSTILE, url=HOSTILE, section=HOSTILE, text=HOSTILE, reference=HOSTILE),
    )
    page = report_html.report_html([one])
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "<svg onload" not in page
    assert "{{ 7 * 7 }}" in page


def test_texts_run_in_the_direction_of_their_script():
    settings = {"loader_settings": {}, "language": "ar"}
    documents = records(FP16, "مدينة", text="تخطط المدينة.", reference="خطة.", section="قسم")
    page = report_html.report_html([source(benchmark(FP16, workload_settings=settings), documents=documents)])
    assert '<p class="text" dir="auto" lang="ar">خطة.</p>' in page
    assert '<p class="text long" dir="auto" lang="ar" ' in page
    assert '<p class="text" dir="auto">مدينة</p>' in page  # whatever language the model answered in
    assert "<bdi>قسم</bdi>" in page


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*/[0-9]*.json")), ids=lambda path: path.name)
def test_every_stored_run_has_a_page(path, tmp_path):
    output = tmp_path / "page.html"
    assert command("report")([str(path), "--baselines", str(ROOT / "baselines"), "--output", str(output)]) == 0
    experiments = [each["extra_info"]["experiment"] for each in json.loads(path.read_text())["benchmarks"]]
    page = output.read_text(encoding="utf-8")
    assert [each for each in experiments if each not in page] == []


def test_a_run_older_than_its_newer_keys_has_a_page():
    old = benchmark(FP16)
    for key in ("attribution", "anchor", "first_pass", "quality_change", "controls", "degenerate_document_ids"):
        del old["extra_info"][key]
    assert FP16 in report_html.report_html([source(old)])


@pytest.mark.parametrize(("work", "change"), [({"work": 10}, -0.5), ({"work": 20}, None), ({}, None)])
def test_a_probe_is_compared_with_the_baseline_s_if_both_did_the_same_work(work, change):
    now, before = (
        benchmark(
            FP16,
            baseline={"file": "0001_main.json"},
            controls={MATRIX_PRODUCT: {"before": rate, "after": rate, "standard_deviation": 0.01} | amount},
        )
        for rate, amount in ((1e12, {"work": 10}), (2e12, work))
    )
    (experiment,) = view_of([source(now, baselines=baselines(stored(before)))]).experiments
    assert probes_of(experiment) == (
        Probe(name="matrix product", rate=pytest.approx(1e12), unit="FLOP/s", change=change),
    )


def test_a_run_in_which_nothing_was_measured_has_a_page():
    page = report_html.report_html([source(outcomes=[outcome(FP16, "out_of_memory", "13.5 GiB needed")])])
    assert "Nothing was measured; 1 out of memory." in page


def folder_of(tmp_path, *benchmarks, rows=(), outcomes=(), name="a-run"):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(whole(run_of(*benchmarks, outcomes=tuple(outcomes)))))
    if rows:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), folder / "documents.parquet")
    return folder


def test_a_hundred_documents_of_eight_experiments_take_at_most_five_megabytes(tmp_path):
    models, loaders = ("llama2-7b-chat", "mistral-7b-instruct"), ("default", "fp16", "8-bit", "4-bit")
    names = [f"{model}-{loader}" for model in models for loader in loaders]
    summaries = {
        name: [" ".join(f"{name[:9]}{n * word % 97}" for word in range(60)) for n in range(100)] for name in names
    }
    rows = [
        row
        for name in names
        for row in records(name, *summaries[name], text="A word of it. " * 300, reference="So. " * 60)
    ]
    entries = (benchmark(name, seconds=(2.0,) * 100) for name in names)
    written = report_html.write_report(folder_of(tmp_path, *entries, rows=rows), None)
    assert 1_500_000 < written.stat().st_size <= 5_000_000


def test_several_runs_become_one_page_and_its_place_is_said(tmp_path, capsys):
    folders = [folder_of(tmp_path, benchmark(name), name=name) for name in (FP16, FOUR)]
    output = tmp_path / "deep" / "page.html"
    assert command("report")([*map(str, folders), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"report: {output}\n"
    page = output.read_text(encoding="utf-8")
    assert FP16 in page
    assert FOUR in page


@pytest.mark.parametrize("spoil", ["no run", "not whole", "not parquet"])
def test_a_run_that_cannot_be_shown_is_one_line(tmp_path, capsys, spoil):
    broken = benchmark(FP16)
    if spoil == "not whole":
        del broken["extra_info"]["load_seconds"]
    folder = folder_of(tmp_path, broken)
    if spoil == "no run":
        (folder / "run.json").unlink()
    if spoil == "not parquet":
        (folder / "documents.parquet").write_text("no table")
    assert command("report")([str(folder)]) == 4
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert error.count("\n") == 1
    assert str(folder) in error


def test_a_session_leaves_its_report(project):
    project.use(FAKE_MODELS.replace("    leave_out_pages()\n", ""))
    session = project.bench("--documents", "8")
    page = (project.folder / "results" / "latest" / "report.html").read_text(encoding="utf-8")
    assert session.exit_code == 0
    assert re.search(r"^report: results/.*/report.html$", session.output, re.MULTILINE)
    assert "smollm2-135m-instruct-4-bit" in page
    assert page.count('<article class="card') == 24


def test_terminal_and_pages_ask_for_a_baseline_until_the_run_is_one(project):
    project.use(FAKE_MODELS.replace("    leave_out_pages()\n", ""))
    asked = "save one with --benchmark-save=NAME"
    latest = project.folder / "results" / "latest"

    def said(session):
        page, markdown = ((latest / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
        return [asked in text for text in (session.output, page, markdown)]

    assert said(project.bench("-k", "4-bit", "--documents", "8")) == [True, True, True]
    assert said(project.bench("-k", "4-bit", "--documents", "8", "--benchmark-save=main")) == [False, False, False]
    stored = ("--baselines", str(project.folder / "baselines"))
    assert command("report")([str(latest), *stored]) == 0
    assert asked not in (latest / "report.html").read_text(encoding="utf-8")


BROKEN_REPORT = """
    from summarybench.session import closing as under_test

    def fail(folder, baselines, is_saved):
        raise RuntimeError("no room for a picture\\nand more")

    under_test.write_report = fail
"""


def test_a_report_that_fails_is_one_line_and_loses_nothing(project):
    project.use(FAKE_MODELS + BROKEN_REPORT)
    session = project.bench("--documents", "8", "--benchmark-save=main")
    assert session.exit_code == 0
    again = f"`{forked_python()} -m summarybench report results/"
    assert session.output.count(f"no report.html: RuntimeError: no room for a picture; {again}") == 1
    assert "Traceback" not in session.output
    assert len(session.stored) == 1


# What a browser makes of it ------------------------------------------------------------------------------------------

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """Three experiments, one without memory, a baseline and an anchor, and a hostile summary."""
    summaries = {
        FP16: [HOSTILE, *(f"Fill kettle {n} with water." for n in range(2, 9))],
        FOUR: [HOSTILE.upper(), *(f"Fill pot {n} with cold water." for n in range(2, 9))],
    }
    entries = [
        benchmark(
            name,
            seconds=tuple(base + 0.1 * n for n in range(8)),
            rouge1_scores=[0.4 - 0.04 * n for n in range(8)],
            verdict=verdict,
            change=CHANGE,
            anchor=CHANGE | {"file": "0001_anchor.json", "verdict": verdict},
            attribution={"cause": "CODE", "detail": "controls held"},
            baseline={"file": "0002_main.json"},
            controls={"copy_bandwidth_bytes_per_second": {"before": 1e12, "after": 1e12, "standard_deviation": 0.01}},
        )
        for name, base, verdict in ((FP16, 2.0, "REGRESSED"), (FOUR, 1.0, "IMPROVED"))
    ]
    rows = [row for name in summaries for row in records(name, *summaries[name])]
    lost = outcome("llama2-7b-chat-default", "out_of_memory", "25.1 GiB needed")
    before = [
        stored(*copy.deepcopy(entries), name="0001_anchor.json"),
        stored(benchmark(FP16), benchmark(FOUR), name="0002_main.json", date="2026-11-21T10:00:00+00:00"),
    ]
    one = source(*entries, outcomes=[lost], documents=rows, baselines=baselines(*before))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html.report_html([one]), encoding="utf-8")
    return path


class Opened:
    """The page in the browser, what it asked of the network, and what it complained of."""

    def __init__(self, browser, path, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.requests, self.complaints = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.route("**/*", self._answer)
        self.page.goto(path.as_uri())

    def _answer(self, route):
        if route.request.is_navigation_request() and route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def shown(self):
        return self.page.locator("#list > li:visible").evaluate_all(
            "items => items.map(item => Number(item.dataset.number))"
        )


@pytest.fixture
def open_page(browser, page_file):
    opened = []

    def open_it(**context):
        opened.append(Opened(browser, page_file, **context))
        return opened[-1]

    yield open_it
    for each in opened:
        each.context.close()


def test_it_loads_without_network_and_without_complaint(open_page):
    opened = open_page()
    opened.page.locator("#expand").click()
    assert opened.page.locator("#list details[open]").count() == 8
    assert (opened.requests, opened.complaints) == ([], [])


def test_a_hostile_summary_shows_as_text_and_does_nothing(open_page):
    opened = open_page()
    opened.page.locator("#expand").click()
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("#list .card .text").first.inner_text() == HOSTILE
    assert opened.page.locator("#list img, #list script, #list svg").count() == 0


def test_the_policy_stops_what_would_get_in(open_page):
    """The second line of defence: an inline script that is not ours does not run, and nothing is fetched."""
    opened = open_page()
    opened.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/x.png\" onerror=\"window.hacked = 1\">')"
    )
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.hacked") is None
    assert opened.requests == []


def test_documents_are_sorted(open_page):
    opened = open_page()
    opened.page.locator("#sort").select_option("rouge")
    assert opened.shown() == [8, 7, 6, 5, 4, 3, 2, 1]
    opened.page.locator("#sort").select_option("seconds")
    assert opened.shown() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_documents_are_found_by_text_and_by_flag(open_page):
    opened = open_page()
    opened.page.locator("#find").fill("POT 3")
    assert opened.shown() == [3]
    assert opened.page.locator("#count").inner_text() == "1 of 8 documents"
    opened.page.locator("#find").fill("")
    opened.page.locator("#flag").select_option("repeating")
    assert opened.shown() == [1]


def test_a_document_expands_by_keyboard(open_page):
    opened = open_page()
    opened.page.locator("#list summary").nth(1).focus()
    opened.page.keyboard.press("Enter")
    assert opened.page.get_by_text("Fill the kettle number 2.").is_visible()


def test_changes_are_highlighted_until_they_are_switched_off(open_page):
    opened = open_page()
    opened.page.locator("#list summary").nth(1).click()
    card = opened.page.locator("#list > li").nth(1).locator(".card").nth(1)
    assert card.locator("del").all_inner_texts() == ["kettle "]
    assert card.locator("ins").all_inner_texts() == ["pot ", "cold "]
    opened.page.locator("#show-changes").uncheck()
    assert card.locator("del").first.is_visible() is False
    assert card.locator(".text").inner_text() == "Fill pot 2 with cold water."


@pytest.mark.parametrize("by", ["hover", "focus"])
def test_a_figure_says_what_it_means(open_page, by):
    opened = open_page()
    getattr(opened.page.locator("button.term[popovertarget=term-generated]").first, by)()
    assert opened.page.locator("#term-generated").is_visible()
    assert "Σ generated tokens ÷ Σ seconds" in opened.page.locator("#term-generated").inner_text()


def test_all_that_matters_is_there_without_script(open_page):
    opened = open_page(java_script_enabled=False)
    opened.page.locator("#list summary").nth(1).click()
    assert opened.page.get_by_text("Fill the kettle number 2.").is_visible()
    opened.page.locator("button.term[popovertarget=term-verdict]").first.click()
    assert opened.page.locator("#term-verdict").is_visible()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_the_page_never_scrolls_sideways(open_page, width):
    opened = open_page(viewport={"width": width, "height": 844})
    opened.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_all_figures_of_students_fit_1200_pixels(browser, tmp_path):
    """With the widest verdicts, a price and a long name."""
    counted = {"verdict": "NON-INFERIOR", "before": 0, "more": 0, "fewer": 0, "documents": 8, "mean": 0.0}
    counted |= {"low": 0.0, "high": 0.0, "p_value": 1.0}
    faithfulness = {"verdict": "NON-INFERIOR", "baseline": FP16, "changed_summaries": 8, "confidence": 0.95}
    faithfulness |= {"margin": 0.05, "level": 0.01, "counted": {"novel_names": counted}, "shares": {}}
    change = {
        "generated_tokens_per_second": {"ratio": 12.0, "low": 11.4, "high": 12.6},
        "seconds_ratio": 0.08,
        "weights_ratio": 0.6,
        "peak_memory_ratio": 0.7,
        "rouge1_ratio": 0.9,
        "margin": 0.02,
        "length_ratio": 0.8,
        "quality_change": QUALITY_CHANGE | {"verdict": "NON-INFERIOR", "baseline": FP16},
        "faithfulness_change": faithfulness,
    }
    name = "llama2-7b-chat-with-24-of-32-layers"
    student = benchmark(experiment=f"{name}-4-bit", model=name, teacher="llama2-7b-chat", teacher_change=change)
    path = tmp_path / "report.html"
    priced = replace(source(benchmark(FP16), student), gpu_hour_price=1.80)
    path.write_text(report_html.report_html([priced]), encoding="utf-8")
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900})
    table = opened.page.locator(".scroll", has_text=STUDENTS.title)
    assert table.locator("thead th").count() == 1 + len(STUDENTS.columns)
    visible, whole_table = table.evaluate("each => [each.clientWidth, each.scrollWidth]")
    opened.context.close()
    assert whole_table <= visible


def test_figures_of_any_run_fit_1200_pixels(browser, tmp_path):
    """With the widest figures, the longest verdicts, and columns that only some runs have."""
    lists = {name: [2] * 8 for name in ("numbers", "novel_numbers", "dates", "novel_dates", "names", "novel_names")}
    widest = benchmark(
        FP16,
        **{key: value for key, value in WIDEST_FIGURES.items() if key not in ("change", "time_to_first_token_seconds")},
        change=CHANGE,
        anchor=CHANGE | {"file": "0001_anchor.json", "verdict": "REGRESSED"},
        rouge1_scores=[0.4] * 7 + [None],
        quality_change=QUALITY_CHANGE | {"verdict": "NON-INFERIOR"},
        faithfulness=faithfulness_of_documents(**lists),
    )
    path = tmp_path / "report.html"
    path.write_text(report_html.report_html([source(widest)]), encoding="utf-8")
    opened = Opened(browser, path, viewport={"width": 1200, "height": 900})
    opened.page.locator("details.more").evaluate_all("all => all.forEach(each => { each.open = true; })")
    widths = dict(
        opened.page.locator(".scroll:has(caption)").evaluate_all(
            "all => all.map(each => [each.querySelector('caption').innerText, [each.scrollWidth, each.clientWidth]])"
        )
    )
    opened.context.close()
    assert {"Further figures: quality", "Further figures: speed, memory and energy"} <= widths.keys()
    assert {title: width for title, width in widths.items() if width[0] > width[1]} == {}


def test_the_theme_is_switched_and_seen(open_page):
    opened = open_page(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = opened.page.evaluate(background)
    for _ in range(2):
        opened.page.locator("#theme").click()
    assert opened.page.locator("#theme").inner_text() == "Theme: dark"
    assert opened.page.evaluate(background) != light


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_serious(open_page, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    opened = open_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    opened.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
    found = Axe().run(opened.page).response["violations"]
    named = [(each["id"], each["impact"], each["nodes"][0]["target"]) for each in found]
    assert [each for each in named if each[1] in ("serious", "critical")] == []
