"""The report in the terminal: tables that fit, correct notes, and no text read as markup."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from summarybench.catalogue.models import EXPERIMENTS, LOADERS, MODELS
from summarybench.machine.device import GIB
from summarybench.report.notes import quiet_notes
from summarybench.report.terminal import final_report
from summarybench.runs.run_file import device_of, read_run
from tests.run_files import A100, benchmark, faithfulness_of_documents, outcome, run_of

ROOT = Path(__file__).parent.parent.parent
NAME = "llama2-7b-chat-4-bit"
COMPILED_LOADERS = {name for name, loader in LOADERS.items() if loader.is_compiled}
EAGER_LOADERS = {each.loader for each in EXPERIMENTS} - COMPILED_LOADERS
HUNDRED_DOCUMENTS = (2.5,) * 100
WIDEST_FIGURES = {
    "generated_tokens_per_second": 1_234.5,
    "document_tokens_per_second": 12_345.6,
    "time_to_first_token_seconds": [12.3] * 100,
    "peak_memory_bytes": int(139.9 * GIB),
    "weights_bytes": int(127.9 * GIB),
    "predicted_memory_bytes": int(130.1 * GIB),
    "load_seconds": 1_234.5,
    "joules_per_token": 12.345,
    "degenerate": {"empty": 100, "repeating": 100},
    "cap_hits": 100,
    "truncated_documents": 100,
    "verdict": "INCOMPARABLE",
    "change": {"ratio": 1.234},
}
MARKUP = ["[bold]x[/bold]", "[/]", "[red", r"\[bold]", ":boom:", "a path\\"]


def report(run, device=A100, width=100, color=False):
    return final_report(run, device, width=width, color=color)


def tables_of(text):
    """The lines of all tables: each ends with an empty line, and the notes come after the last."""
    return "\n\n".join(text.split("\n\n")[:-1]).splitlines()


def notes_of(text):
    return text.split("\n\n")[-1].splitlines()


def test_hand_made_run_has_the_keys_of_a_real_one(project):
    real, made = project.bench("-k", "4-bit").run, run_of(benchmark(), outcomes=(outcome(NAME, "passed"),))
    assert made["machine_info"].keys() == real["machine_info"].keys()
    assert made["benchmarks"][0]["extra_info"].keys() == real["benchmarks"][0]["extra_info"].keys()
    assert made["outcomes"][0].keys() == real["outcomes"][0].keys()
    assert made.keys() <= real.keys()


def test_each_table_has_a_row_with_the_run_s_figures():
    rows = [line.split() for line in tables_of(report(run_of(benchmark()))) if line.startswith(NAME)]
    assert rows == [
        [NAME, "8", "50.0", "250.0", "0.250", "2.00", "/", "–", "5.00", "NO", "BASELINE"],
        [NAME, "0.250", "0.200–0.300", "0.062", "0.125", "0.250", "0.188", "0", "1", "2", "3"],
        [NAME, "111.1", "1111.1"],
        [NAME, "12.5", "4.00", "6.00", "5.00", "+20.0%", "0.500", "4.00", "250", "60"],
    ]


@pytest.mark.parametrize("width", [100, 80])
def test_tables_fit_with_the_widest_figures_and_nothing_is_cut(width):
    seconds = tuple(100.0 + number for number in range(100))
    run = run_of(*(benchmark(each.name, seconds=seconds, **WIDEST_FIGURES) for each in EXPERIMENTS))
    lines = tables_of(report(run, width=width))
    assert max(len(line) for line in lines) <= width
    assert "…" not in "".join(lines)
    assert sum("149.50 / 194.05" in line for line in lines) == len(EXPERIMENTS)


def test_no_line_ends_in_blanks():
    lines = report(run_of(benchmark(), benchmark("llama2-7b-chat-fp16"))).splitlines()
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize("loaders", [EAGER_LOADERS, COMPILED_LOADERS - {"default-compiled"}])
def test_full_names_are_whole_in_a_hundred_columns(loaders):
    shown = [each.name for each in EXPERIMENTS if each.loader in loaders]
    run = run_of(*(benchmark(name, seconds=HUNDRED_DOCUMENTS) for name in shown))
    lines = tables_of(report(run, width=100))
    for name in shown:
        assert sum(line.startswith(f"{name} ") for line in lines) == 4


def test_each_table_names_the_model_once_where_a_name_is_too_long_for_a_hundred_columns():
    run = run_of(*(benchmark(each.name, seconds=HUNDRED_DOCUMENTS) for each in EXPERIMENTS))
    lines = tables_of(report(run, width=100))
    assert max(len(line) for line in lines) <= 100
    assert not any(line.startswith("smollm2-135m-instruct-") for line in lines)
    assert lines.count("smollm2-135m-instruct") == 5  # "Side by side" among them
    assert sum(line.startswith("default-compiled ") for line in lines) == 5 * len(MODELS)


@pytest.mark.parametrize("width", [90, 80, 40])
def test_models_are_named_once_where_the_screen_is_narrow_and_80_columns_are_the_least(width):
    shown = [each for each in EXPERIMENTS if each.loader in EAGER_LOADERS]
    run = run_of(*(benchmark(each.name, seconds=HUNDRED_DOCUMENTS) for each in shown))
    speed = report(run, width=width).split("\n\n")[0].splitlines()
    names = []
    for model, experiments in groupby(shown, key=lambda each: each.model):
        names += [model, *(each.loader for each in experiments)]
    assert [line.split()[0] for line in speed[4:]] == names  # after the title, two lines of header and a rule


@pytest.mark.parametrize("name", ["0004_vllm-fp16", "0007_continuous-compiled", "0010_ways"])
def test_table_that_is_too_wide_for_80_columns_is_divided_and_its_names_stay_whole(name):
    run = read_run(ROOT / "baselines" / "nvidia-h200" / f"{name}.json")
    tables = final_report(run, device_of(run), width=80, color=False).split("\n\n")
    divided = [table for table in tables if "(continued)" in table]
    assert divided
    assert "…" not in "".join(tables)
    infos = [each["extra_info"] for each in run["benchmarks"]]
    names = {info["experiment"].removeprefix(f"{info['model']}-") for info in infos} | {info["model"] for info in infos}
    for table in divided:
        title, rest = table.split("\n", 1)
        assert len(title) <= 80
        rows = rest.split("─\n")[1].splitlines()
        assert {row.split()[0] for row in rows} <= names
        assert max(map(len, rows)) <= 80
        (whole,) = (each for each in tables if each.startswith(f"{title.removesuffix(' (continued)')}\n"))
        assert [row.split()[0] for row in whole.split("─\n")[1].splitlines()] == [row.split()[0] for row in rows]


def test_title_that_is_wider_than_its_table_stays_on_one_line():
    figures = faithfulness_of_documents(novel_numbers=[1] * 8, numbers=[1] * 8)
    shown = report(run_of(benchmark(faithfulness=figures, generated_tokens_per_second=12_345.6)), width=80).splitlines()
    assert "Faithfulness: what summaries have that their documents do not" in shown


def test_headings_take_one_line_where_the_width_allows_it():
    wide, narrow = (tables_of(report(run_of(benchmark()), width=width)) for width in (200, 100))
    assert "gen. tok/s" in wide[1]
    assert "ROUGE-1 95% interval" in "".join(wide)
    assert "truncated" in "".join(wide)
    assert wide[1].startswith("experiment")
    assert narrow[1].startswith(" ")


@pytest.mark.parametrize("verdict", ["REGRESSED", "IMPROVED", "UNCHANGED", "INCONCLUSIVE", "INVALID"])
def test_colour_is_in_the_codes_and_in_nothing_else(verdict):
    from rich.text import Text

    run = run_of(benchmark(verdict=verdict, verdict_detail="x", change={"ratio": 0.5}))
    plain, coloured = (report(run, color=color) for color in (False, True))
    assert "\x1b[" not in plain
    assert f"m{verdict}\x1b[0m: x" in coloured
    assert Text.from_ansi(coloured).plain.split() == plain.split()


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("de", "German, by word stems"),
        ("pl", "Polish, by words, without stemming"),
        ("th", "Thai, by words, as budoux cuts them"),
        ("zh", "Chinese, by characters"),
    ],
)
def test_language_other_than_english_is_said_with_how_it_is_scored(code, how):
    settings = {"loader_settings": {}, "language": code}
    said = report(run_of(benchmark(workload_settings=settings)))
    assert f"language {code}: summaries are scored as {how}" in notes_of(said)
    assert "language" not in report(run_of(benchmark()))
    assert "language" not in report(run_of(benchmark(workload_settings={**settings, "language": "tlh"})))


@pytest.mark.parametrize(
    ("documents", "shown"), [(1, "– / –"), (2, "1.50 / –"), (19, "10.00 / –"), (20, "10.50 / 19.05")]
)
def test_p95_needs_twenty_documents(documents, shown):
    run = run_of(benchmark(seconds=tuple(float(second) for second in range(1, documents + 1))))
    assert f" {shown} " in report(run)


def test_synthetic_weights_have_no_quality():
    info = dict.fromkeys(("rouge1", "rouge2", "rougeLsum", "rouge1_interval", "rouge1_floor", "degenerate"))
    info |= {"rouge1_scores": [], "degenerate_document_ids": None}
    both = report(run_of(benchmark("llama2-7b-chat-fp16", weights="synthetic", **info), benchmark()))
    assert both.count("llama2-7b-chat-fp16  ") == 3
    assert both.count("llama2-7b-chat-4-bit ") == 4
    alone = report(run_of(benchmark(weights="synthetic", **info)))
    assert "Quality" not in alone
    assert notes_of(alone)[-1].startswith("synthetic weights: ")
    assert "synthetic weights" not in report(run_of(benchmark()))


UNKNOWN = {
    "telemetry": {"power_watts_mean": None, "temperature_celsius_max": None},
    "joules_per_token": None,
    "model_bandwidth_utilization": None,
}


def test_unknown_figures_are_dashes_beside_known_ones():
    run = run_of(benchmark("llama2-7b-chat-fp16"), benchmark(**UNKNOWN))
    assert tables_of(report(run))[-1].split()[-5:] == ["+20.0%", "–", "–", "–", "–"]


def test_columns_without_any_value_are_left_out():
    lines = tables_of(report(run_of(benchmark(**UNKNOWN))))
    assert lines[-1].split()[-2:] == ["5.00", "+20.0%"]
    assert "/token" not in "".join(lines)


def test_device_table_is_left_out_where_the_device_was_not_measured():
    assert "Device" not in report(run_of(benchmark(copy_bandwidth_bytes_per_second=None)))


def test_prediction_is_not_shown_beside_the_peak_of_a_cpu():
    on_cpu = {"loader_settings": {"threads": 8}}
    found, on_gpu = (
        "".join(tables_of(report(run_of(run)))) for run in (benchmark(workload_settings=on_cpu), benchmark())
    )
    assert " 5.00 " in found
    assert " 6.00 " in on_gpu
    assert not any(word in found for word in (" 6.00 ", "predicted", " error "))


@pytest.mark.parametrize(
    ("family", "name", "note"),
    [
        ("a100", NAME, "published for a100: 81.2 document tok/s (100 documents); here 250.0"),
        ("a100", "llama2-7b-chat-default", "published for a100: 109.7 document tok/s (10 documents); here 250.0"),
        ("t4", NAME, "published for t4: 54.2 document tok/s (100 documents); here 250.0"),
    ],
)
def test_published_figure_is_shown_beside_the_measured_one(family, name, note):
    assert f"{name}: {note}" in notes_of(report(run_of(benchmark(name)), replace(A100, family=family)))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("h100", NAME),
        ("t4", "llama2-7b-chat-default"),
        ("a100", "llama2-7b-chat-fp16"),
        ("a100", "mistral-7b-instruct-4-bit"),
    ],
)
def test_nothing_published_is_shown_for_another_family_model_or_loader(family, name):
    assert "published" not in report(run_of(benchmark(name)), replace(A100, family=family))


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("color", [False, True])
def test_markup_in_what_is_reported_is_shown_as_it_is(text, color):
    compared = benchmark(verdict="REGRESSED", verdict_detail=text, environment_differences=[f"torch {text}", text])
    alone = benchmark("llama2-7b-chat-fp16", verdict_detail=text)
    notes = notes_of(report(run_of(compared, alone, outcomes=(outcome("x", "failed", text),)), color=color))
    assert notes[0].endswith(f": {text}")
    assert notes[1] == f"  environment: torch {text}; {text}"
    assert notes[-2] == text
    assert notes[-1] == f"x: failed: {text}"


def test_failure_that_is_the_verdict_is_reported_once():
    regressed = benchmark(verdict="REGRESSED", verdict_detail="0.500 of 0001_main.json")
    failed = outcome(regressed["extra_info"]["experiment"], "failed", "REGRESSED: tokens/s 0.500 of 0001_main.json")
    assert report(run_of(regressed, outcomes=(failed,))).count("0.500 of 0001_main.json") == 1


def test_experiments_that_share_a_reason_share_a_line():
    outcomes = (
        outcome("a", "unavailable", "no licence"),
        outcome("b", "passed", "no licence"),
        outcome("c", "unavailable", "no licence"),
        outcome("d", "failed", "no licence"),
        outcome("e", "unavailable", "no network"),
        outcome("f", "skipped", "for t4"),
        outcome("g", "out_of_memory", "too large"),
    )
    assert report(run_of(outcomes=outcomes)).splitlines() == [
        "a, c: unavailable: no licence",
        "d: failed: no licence",
        "e: unavailable: no network",
        "g: out of memory: too large",
    ]


def test_one_missing_baseline_is_reported_whole_and_several_are_counted():
    one, two = benchmark(verdict_detail="no baseline, save one"), benchmark("llama2-7b-chat-fp16")
    assert "no baseline, save one" in notes_of(report(run_of(one)))
    assert notes_of(report(run_of(one, two)))[-1] == (
        "no baseline for 2 experiments on 'nvidia-a100-sxm4-40gb'; save one with --benchmark-save=NAME"
    )


@pytest.mark.parametrize(("documents", "advice"), [(7, ""), (8, "; save one with --benchmark-save=NAME")])
def test_baseline_is_only_asked_for_where_an_experiment_has_documents_enough(documents, advice):
    few, others = benchmark(seconds=(2.0,) * 7), benchmark("llama2-7b-chat-fp16", seconds=(2.0,) * documents)
    assert notes_of(report(run_of(few, others)))[-1] == (
        f"no baseline for 2 experiments on 'nvidia-a100-sxm4-40gb'{advice}"
    )


def test_overhead_of_a_run_before_the_typical_document_is_reported_with_its_interval():
    run = run_of(benchmark(overhead={"ratio": 0.99876, "low": 0.99, "high": 1.0051, "confidence": 0.95}))
    assert f"{NAME}: the harness keeps 0.9988 [0.9900, 1.0051] of a bare loop's tok/s" in notes_of(report(run))


def test_overhead_is_reported_with_what_it_shows():
    typical = {
        "ratio": 0.99912,
        "low": 0.9961,
        "high": 1.0012,
        "confidence": 0.95,
        "lower_bound": 0.9954,
        "bound_confidence": 0.99,
        "documents": 48,
    }
    overhead = {"ratio": 0.99876, "low": 0.99, "high": 1.0051, "confidence": 0.95, "typical": typical}
    assert (
        f"{NAME}: the harness keeps 0.9988 [0.9900, 1.0051] over all tokens, 0.9991 [0.9961, 1.0012] in the typical document "
        "of a bare loop's tok/s: at least 0.99 shown (one-sided 99%)"
    ) in notes_of(report(run_of(benchmark(overhead=overhead))))


CARRIED = {"carried_from": "the run"}


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (
            (outcome("a", "passed") | CARRIED, outcome("b", "out_of_memory") | CARRIED, outcome(NAME, "passed")),
            f"carried a, b; measured now: {NAME}",
        ),
        ((outcome(NAME, "passed"), outcome("b", "skipped")), f"carried nothing; measured now: {NAME}"),
    ],
)
def test_resumed_run_says_in_one_line_what_was_carried_and_what_measured(outcomes, said):
    run = run_of(benchmark(), benchmark("llama2-7b-chat-fp16", **CARRIED), outcomes=outcomes)
    run["resumed_from"] = {"run": "the run", "commit": "0123456789abcdef"}
    assert f"resumed from the run (commit 0123456789ab): {said}" in notes_of(report(run))


def test_resumed_run_of_which_everything_was_finished_says_so():
    run = run_of(benchmark(**CARRIED), outcomes=(outcome(NAME, "passed") | CARRIED, outcome("b", "skipped")))
    run["resumed_from"] = {"run": "the run", "commit": None}
    assert notes_of(report(run))[-1] == (
        f"resumed from the run (commit None): carried {NAME}; measured now: nothing (everything was finished already)"
    )


@pytest.mark.parametrize(("count", "lines"), [(1, "1 line"), (2, "2 lines")])
def test_cut_off_lines_are_counted(count, lines):
    assert report(run_of() | {"dropped_lines": count}) == f"journal: dropped {lines} that a crash had cut off\n"
    assert report(run_of() | {"dropped_lines": 0}) == ""


SLOWER = {"ratio": 0.9, "low": 0.88, "high": 0.92}


def test_change_has_its_cause_its_first_pass_and_the_anchor_below_it():
    run = run_of(
        benchmark(
            verdict="REGRESSED",
            verdict_detail="0.900 of 0002_main.json",
            change=SLOWER,
            attribution={"cause": "CODE", "detail": "controls held"},
            first_pass={"verdict": "REGRESSED", "change": SLOWER | {"ratio": 0.89}},
            anchor=SLOWER | {"verdict": "UNCHANGED", "file": "0001_anchor.json", "ratio": 0.91},
        )
    )
    assert notes_of(report(run))[:4] == [
        f"{NAME}: REGRESSED: 0.900 of 0002_main.json",
        "  CODE: controls held",
        "  first pass: REGRESSED 0.890 [0.880, 0.920]; the verdict above pools both passes",
        "  against 0001_anchor.json: UNCHANGED 0.910 [0.880, 0.920]",
    ]


@pytest.mark.parametrize(
    ("compared", "confirms", "said"),
    [
        (0, False, None),
        (1, False, None),
        (
            3,
            False,
            "false alarms: up to 1% for each comparison, so up to 3.0% of sessions with 3 comparisons; ",
        ),  # 1 - 0.99³
        (3, True, "false alarms: at most 1% of sessions (Holm, 3 comparisons)"),
    ],
)
def test_rate_of_false_alarms_is_stated(compared, confirms, said):
    made = [benchmark(each.name, change=SLOWER) for each in EXPERIMENTS[:compared]]
    run = run_of(*made, benchmark("llama2-7b-chat-fp16"))
    if confirms:
        run["confirms"] = {"run": "the run", "commit": "0123456789abcdef"}
    found = [line for line in notes_of(report(run)) if line.startswith("false alarms")]
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])


def test_second_pass_says_what_it_confirms():
    run = run_of(benchmark(change=SLOWER), outcomes=(outcome("a", "passed") | CARRIED, outcome(NAME, "passed")))
    run["confirms"] = {"run": "the run", "commit": "0123456789abcdef"}
    assert f"second pass of the run (commit 0123456789ab): carried a; measured now: {NAME}" in notes_of(report(run))


def test_run_stored_before_changes_had_causes_is_shown_without():
    old = benchmark(verdict="REGRESSED", verdict_detail="0.900 of it", change=SLOWER)
    for name in ("attribution", "anchor", "first_pass"):
        del old["extra_info"][name]
    assert notes_of(report(run_of(old)))[0] == f"{NAME}: REGRESSED: 0.900 of it"


QUALITY_CHANGE = {
    "verdict": "INFERIOR",
    "mean": -0.0249,
    "low": -0.031,
    "high": -0.0004,
    "confidence": 0.9,
    "documents": 8,
    "documents_needed": None,
    "changed_summaries": 6,
    "mcnemar": {kind: {"more": 0, "fewer": 0, "p_value": 1.0} for kind in ("empty", "repeating")},
    "baseline": "0001_main.json",
}
LOST = "INFERIOR to 0001_main.json: ROUGE-1 -2.5 points [-3.1, +0.0], 8 documents, 6 summaries changed"


def test_quality_against_the_baseline_has_its_line_and_a_failure_for_it_is_reported_once():
    run = run_of(benchmark(quality_change=QUALITY_CHANGE), outcomes=(outcome(NAME, "failed", f"quality {LOST}"),))
    assert report(run).count(LOST) == 1
    assert f"{NAME}: quality {LOST}" in notes_of(report(run))


@pytest.mark.parametrize(
    ("p_value", "outcomes", "ending"),
    [
        (0.009, ("failed",), "fails, confirmed by Holm's correction over all comparisons of the session (p 0.009)"),
        (
            0.02,
            (),
            "does not fail, as it is not confirmed by Holm's correction over all comparisons of the session (p 0.02)",
        ),
    ],
)
@pytest.mark.parametrize("is_quiet", [False, True])
def test_loss_that_holm_decides_is_said_once_with_what_was_decided(p_value, outcomes, ending, is_quiet):
    change = QUALITY_CHANGE | {"p_value": p_value, "level": 0.001}
    detail = "quality INFERIOR to 0001_main.json: confirmed once all quality comparisons of the session were in (Holm, 1 test)"
    run = run_of(benchmark(quality_change=change), outcomes=tuple(outcome(NAME, each, detail) for each in outcomes))
    said = list(quiet_notes(run)) if is_quiet else notes_of(report(run))
    assert [line for line in said if "INFERIOR" in line] == [f"{NAME}: quality {LOST}; {ending}"]


def test_failure_for_more_empty_outputs_is_reported_beside_the_quality_line():
    tests = {"empty": {"more": 7, "fewer": 0, "p_value": 0.0078}}
    change = QUALITY_CHANGE | {"verdict": "NON-INFERIOR", "mcnemar": tests}
    failed = outcome(NAME, "failed", "7 more empty outputs than 0001_main.json")
    said = notes_of(report(run_of(benchmark(quality_change=change), outcomes=(failed,))))
    assert f"{NAME}: quality NON-{LOST}, 7 more and 0 fewer empty (p 0.0078)" in said
    assert said[-1] == f"{NAME}: failed: 7 more empty outputs than 0001_main.json"


@pytest.mark.parametrize("order", [1, -1])
def test_quantized_loader_is_shown_beside_the_16_bit_one_of_its_run_whichever_ran_first(order):
    run = run_of(*[benchmark("llama2-7b-chat-fp16"), benchmark(rouge1_scores=[0.15] * 8)][::order])
    (line,) = [line for line in notes_of(report(run)) if "quality" in line]
    assert line == (
        f"{NAME}: quality INFERIOR to fp16 of this run: "
        "ROUGE-1 -10.0 points [-15.0, -5.0], margin 1.5, 8 documents, 0 summaries changed"
    )


def test_run_stored_before_quality_was_compared_is_shown_without():
    old = benchmark()
    del old["extra_info"]["quality_change"], old["extra_info"]["degenerate_document_ids"]
    assert "quality" not in report(run_of(old))


def test_limited_or_emulated_device_is_noted_last():
    limited = replace(A100, memory_bytes=int(14.5 * GIB), is_limited=True)
    assert notes_of(report(run_of(), limited)) == [
        "memory was limited to 14.5 GiB, so this run cannot become a baseline"
    ]
    assert notes_of(report(run_of(), replace(A100, family="t4", stands_in=True))) == [
        "NVIDIA A100-SXM4-40GB emulates t4: its memory capacity is comparable, its speed is not"
    ]
