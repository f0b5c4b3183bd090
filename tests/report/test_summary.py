"""A run as markdown: the headline, the rows, and no text read as markup."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest

from summarybench.core.outcomes import ExitCode
from summarybench.report.headline import EXIT_CODES_IN_WORDS
from summarybench.report.markdown import escaped
from tests.command import command
from tests.commands.test_adopt import A100
from tests.run_files import benchmark, faithfulness_of_documents, outcome, run_of

main = command("summary")

NAME = "llama2-7b-chat-4-bit"
CHANGE = {"ratio": 0.9, "low": 0.875, "high": 0.925, "confidence": 0.95}
UNCHANGED = benchmark(verdict="UNCHANGED", verdict_detail="1.000 of 0001_main.json", change=CHANGE)
REGRESSED = benchmark(verdict="REGRESSED", verdict_detail="0.900 of 0001_main.json", change=CHANGE)


@pytest.fixture
def summarize(tmp_path, capsys):
    """The markdown of a hand-made run of an A100, by its paragraphs, without the second, which is the page's headline."""

    def shown(*benchmarks, exit_code=0, outcomes=(), **more):
        folder = tmp_path / "a-run"
        folder.mkdir(exist_ok=True)
        run = {**run_of(*benchmarks, outcomes=outcomes), "device": asdict(A100), **more}
        (folder / "run.json").write_text(json.dumps(run))
        if exit_code is not None:
            (folder / "exit_code").write_text(f"{exit_code}\n")
        assert main([str(folder)]) == 0
        first, headline, *others = capsys.readouterr().out.rstrip("\n").split("\n\n")
        assert headline.startswith("**")
        assert headline.endswith(".**")
        return [first, *others]

    return shown


@pytest.mark.parametrize(
    ("exit_code", "benchmarks", "headline"),
    [
        (0, [benchmark()], "## Clean: nothing to compare with yet (exit code 0)"),
        (0, [UNCHANGED], "## Clean: nothing regressed (exit code 0)"),
        (1, [REGRESSED, benchmark("llama2-7b-chat-fp16")], "## REGRESSED: 1 of 2 experiments (exit code 1)"),
        (1, [benchmark()], "## Failed (exit code 1)"),
        (2, [], "## Interrupted (exit code 2)"),
        (10, [], "## Quality failed: below its floor, or worse than the baseline (exit code 10)"),
        (
            11,
            [],
            "## No verdict: a model could not be downloaded, or the machine was throttled, shared or slower (exit code 11)",
        ),
        (
            11,
            [REGRESSED],
            "## No verdict: a model could not be downloaded, or the machine was throttled, shared or slower (exit code 11)",
        ),
        (12, [], "## Nothing measured: every test was for another device (exit code 12)"),
        (99, [], "## Ended by something other than the suite (exit code 99)"),
        (None, [], "## Unknown: there is no exit_code beside the run file (killed, or a copy)"),
    ],
)
def test_headline_is_the_exit_code_in_words(summarize, exit_code, benchmarks, headline):
    assert summarize(*benchmarks, exit_code=exit_code)[0] == headline


def test_every_exit_code_has_its_words():
    assert EXIT_CODES_IN_WORDS.keys() == {*ExitCode, 2, 3, 4, 5}


def test_row_has_the_run_s_figures_with_the_interval_of_the_ratio(summarize):
    synthetic = benchmark("llama2-7b-chat-fp16", rouge1=None)
    assert summarize(REGRESSED, synthetic)[2].splitlines() == [
        "| experiment | documents | generated tok/s | document tok/s | ROUGE-1 (95% interval) | peak GiB | verdict "
        "| ratio (95% interval) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| {NAME} | 8 | 50.0 | 250.0 | 0.250 0.200–0.300 | 5.00 | REGRESSED | 0.900 \\[0.875, 0.925\\] |",
        "| llama2-7b-chat-fp16 | 8 | 50.0 | 250.0 | – | 5.00 | NO BASELINE | – |",
    ]


def test_tested_series_have_a_table_of_their_own(summarize):
    history = {"trend": "STEADY", "host": "0123456789ab", "nights": 28, "reference_nights": 18}
    history |= {"reference_tokens_per_second": 50.0, "standard_deviation": 0.01, "ratio": 1.004}
    history |= {"since": None, "commits": None}
    paragraphs = summarize(benchmark(history=history), benchmark("llama2-7b-chat-fp16"))
    assert paragraphs[paragraphs.index("**History**") + 1].splitlines()[2:] == [
        "| 4-bit | STEADY | 28, 18 of them the reference | 50.0 | 1.004 | 1.0% | – |"
    ]
    assert "**History**" not in summarize(benchmark(history={**history, "trend": "COLLECTING"}))


def test_faithfulness_has_the_table_of_the_html_page(summarize):
    lists = {name: [2, 0] * 4 for name in ("numbers", "novel_numbers", "dates", "novel_dates", "names", "novel_names")}
    shares = {"novel_words": [0.25] * 8, "novel_bigrams": [0.5] * 8, "novel_trigrams": [0.75] * 8}
    measured = benchmark(faithfulness=faithfulness_of_documents(**shares, **lists))
    paragraphs = summarize(measured, benchmark("llama2-7b-chat-fp16"))
    title = "**Faithfulness: what summaries have that their documents do not, how much they copy, and their length**"
    heading, _, *rows = paragraphs[paragraphs.index(title) + 1].splitlines()
    assert [each.strip() for each in heading.split("|")[2:8]] == [
        "new words",
        "new word pairs",
        "new word triples",
        "with new numbers",
        "with new dates",
        "with new names",
    ]
    (row,) = rows
    assert [each.strip() for each in row.split("|")[1:8]] == [NAME, "25%", "50%", "75%", "4", "4", "4"]


def test_notes_are_the_terminal_s_a_list_entry_each(summarize):
    failed = outcome("another", "failed", "boom")
    notes = summarize(REGRESSED, outcomes=(failed,))[-2].splitlines()
    assert notes[0] == f"- {NAME}: REGRESSED: 0.900 of 0001_main.json"
    assert notes[-1] == "- another: failed: boom"


def test_last_lines_say_where_and_of_which_commit_and_run(summarize):
    commit = {"id": "0123abcd", "branch": "main", "dirty": True}
    assert summarize(benchmark(), commit_info=commit)[-1].splitlines() == [
        "NVIDIA A100-SXM4-40GB, driver 580.95.05, cuda 13.0, torch 2.13.0, transformers 5.23.0, bitsandbytes 0.50.2, "
        "accelerate 1.15.0, python 3.11.7  ",
        "commit 0123abcd (main), with uncommitted changes; run a-run",
    ]
    assert summarize(benchmark(), commit_info=None)[-1].endswith("\ncommit unknown; run a-run")


def test_run_without_benchmarks_has_outcomes_and_no_table(summarize):
    outcomes = (outcome("a", "out_of_memory", "too large"), outcome("b", "skipped"), outcome("c", "skipped"))
    assert summarize(outcomes=outcomes)[1:3] == ["1 out of memory, 2 skipped", "- a: out of memory: too large"]
    assert summarize()[1] == "no test finished"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", "a \\| b"),
        ("`rm -rf`", "\\`rm -rf\\`"),
        ("two\nlines\r\n| more", "two lines \\| more"),
        ("<img src=x> & $x$", "\\<img src=x\\> \\& \\$x\\$"),
        ("[a](b) *c* ~~d~~ # e", "\\[a\\](b) \\*c\\* \\~\\~d\\~\\~ \\# e"),
        ("back\\slash", "back\\\\slash"),
        ("0001_main.json, _x_, __init__", "0001_main.json, \\_x\\_, \\_\\_init\\_\\_"),
    ],
)
def test_what_markdown_would_read_as_more_than_text_is_escaped(text, shown):
    assert escaped(text) == shown


def test_markup_in_a_verdict_breaks_no_line_and_no_cell(summarize):
    detail = "a | b\n`c` <d>"
    row, note = "RE\\|GRESSED", "a \\| b\\\\n\\`c\\` \\<d\\>"
    paragraphs = summarize(benchmark(verdict="RE|GRESSED", verdict_detail=detail))
    assert row in paragraphs[2].splitlines()[2]
    assert paragraphs[-2].splitlines()[0] == f"- {NAME}: {row}: {note}"


def test_rows_read_by_a_markdown_parser_have_their_cells(summarize):
    from markdown_it import MarkdownIt

    table = summarize(benchmark(verdict="RE|GRE`SSED", change=CHANGE))[2]
    tokens = MarkdownIt().enable("table").parse(table)
    cells = [tokens[at + 1] for at, token in enumerate(tokens) if token.type == "td_open"]
    text = ["".join(child.content for child in cell.children) for cell in cells]
    assert text == [
        NAME,
        "8",
        "50.0",
        "250.0",
        "0.250 0.200–0.300",
        "5.00",
        "RE|GRE`SSED",
        "0.900 [0.875, 0.925]",
    ]


def test_output_is_appended_and_the_headline_printed(summarize, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n")
    first, *others = summarize(benchmark())
    assert main([str(tmp_path / "a-run"), "--output", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{first}\n\n**")
    assert text.endswith("\n\n" + "\n\n".join(others) + "\n")
    assert capsys.readouterr().out == "Clean: nothing to compare with yet (exit code 0)\n"


def test_run_that_is_stored_asks_for_no_baseline(summarize, tmp_path, capsys):
    new = benchmark(verdict="NO BASELINE", verdict_detail="no baseline; save one with --benchmark-save=NAME")
    assert any("--benchmark-save" in each for each in summarize(new))
    stored = tmp_path / "baselines" / A100.slug
    stored.mkdir(parents=True)
    shutil.copy(tmp_path / "a-run" / "run.json", stored / "0001_main.json")
    assert main([str(tmp_path / "a-run"), "--baselines", str(stored.parent)]) == 0
    assert "--benchmark-save" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("{half", "is not JSON"),
        ("[]", "is not a run of this suite"),
        (
            json.dumps({**run_of(), "outcomes": [{"outcome": "failed"}], "device": asdict(A100)}),
            "outcomes[0].nodeid is missing",
        ),
        (json.dumps(run_of()), "does not say on which device"),
    ],
)
def test_file_that_is_no_run_is_named_in_one_line(tmp_path, capsys, content, said):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    assert main([str(file)]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("ERROR: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err


def test_page_that_cannot_be_written_is_named(summarize, tmp_path, capsys):
    summarize()
    assert main([str(tmp_path / "a-run"), "--output", str(tmp_path)]) == 4
    assert capsys.readouterr().err == f"ERROR: cannot write {tmp_path}: Is a directory\n"


def test_session_s_own_run_has_a_summary(project, capsys):
    session = project.bench("-k", "4-bit")
    assert main([str(session.folder / "results" / "latest")]) == 0
    markdown = capsys.readouterr().out
    assert markdown.startswith("## Clean: nothing to compare with yet (exit code 0)\n")
    assert "| smollm2-135m-instruct-4-bit | 8 | " in markdown
    assert "1 passed" in markdown
