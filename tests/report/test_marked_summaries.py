"""What the page marks in summaries: numbers, dates and names that their documents do not have."""

from __future__ import annotations

import pytest

from summarybench.analysis.faithfulness import Mark
from summarybench.report.documents import Segment, documents_of, marked_segments, word_changes
from summarybench.report.html import report_html
from summarybench.report.view import view_of
from tests.report.test_report_page import records, source
from tests.run_files import benchmark, faithfulness_of_documents

FP16, FOUR = "llama2-7b-chat-fp16", "llama2-7b-chat-4-bit"
TEXT = "Anna paid 100 dollars."
SUMMARY = "Anna paid 200 <b>dollars</b> to Bob on 5 May 2020."
NEW = faithfulness_of_documents(**{key: [1] + [0] * 7 for key in ("numbers", "novel_numbers", "names", "novel_names")})


def mark(start, end, kind="number"):
    return Mark(kind=kind, start=start, end=end, key=start, is_novel=True)


def page_of(*summaries, faithfulness=NEW):
    names = (FP16, FOUR)[: len(summaries)]
    made = [benchmark(name, faithfulness=faithfulness) for name in names]
    rows = [row for name, text in zip(names, summaries, strict=True) for row in records(name, text, text=TEXT)]
    return [source(*made, documents=rows)]


def pieces(*summaries, **options):
    (first, *_) = documents_of(view_of(page_of(*summaries, **options)).experiments)
    return [(each.text, each.novel) for each in first.summaries[-1].pieces]


def test_segments_are_cut_at_the_marks():
    whole = [Segment(kind="same", text="pay 200 to Bob")]
    found = marked_segments(whole, [mark(4, 7), mark(11, 14, "name")])
    assert [(each.text, each.novel) for each in found] == [
        ("pay ", ""),
        ("200", "number"),
        (" to ", ""),
        ("Bob", "name"),
    ]


def test_mark_across_two_segments_is_cut_in_two_and_removed_words_are_no_places():
    changes = [
        Segment(kind="same", text="5 "),
        Segment(kind="removed", text="April "),
        Segment(kind="added", text="May 2020"),
    ]
    found = marked_segments(changes, [mark(0, 5, "date")])
    assert [(each.kind, each.text, each.novel) for each in found] == [
        ("same", "5 ", "date"),
        ("removed", "April ", ""),
        ("added", "May", "date"),
        ("added", " 2020", ""),
    ]


@pytest.mark.parametrize("before", ["pay 200 to Ann", "nothing", "Bob 200", ""])
def test_marks_change_no_text(before):
    changes = word_changes(before, "pay 200 to Bob")
    found = marked_segments(changes, [mark(4, 7), mark(11, 14, "name")])
    assert "".join(each.text for each in found if each.kind != "removed") == "pay 200 to Bob"
    assert [each.text for each in found if each.kind == "removed"] == [
        each.text for each in changes if each.kind == "removed"
    ]


def test_summary_is_marked_where_the_document_has_not_what_it_says():
    found = [each for each in pieces(SUMMARY) if each[1]]
    assert found == [("200", "number"), ("Bob", "name"), ("5 May 2020", "date")]


def test_run_that_did_not_record_faithfulness_has_no_marks():
    assert pieces(SUMMARY, faithfulness=None) == [(SUMMARY, "")]
    assert "<mark" not in report_html(page_of(SUMMARY, faithfulness=None)).partition("</style>")[2]


def test_page_marks_escapes_explains_and_filters():
    page = report_html(page_of(SUMMARY, SUMMARY.replace("200", "300")))
    assert '<mark class="novel novel-number" title="new number: not in the document">200</mark>' in page
    assert "&lt;b&gt;dollars&lt;/b&gt;" in page
    assert '<ins><mark class="novel novel-number" title="new number: not in the document">300</mark></ins>' in page
    assert "Mark what the document does not have" in page
    assert '<option value="new-number">with a flag: new-number</option>' in page
    assert '<span class="flag flag-new-name">new-name</span>' in page
