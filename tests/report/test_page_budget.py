"""The page of a long run has as many documents, and the texts of as many of them, as a browser opens quickly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from summarybench.report import view
from summarybench.report.documents import DocumentView, Segment, SummaryView, documents_of
from summarybench.report.html import report_html
from summarybench.report.page_budget import BYTES_OF_A_CARD, BYTES_OF_A_DOCUMENT, PageBudget, text_bytes
from summarybench.report.view import view_of
from tests.report.test_marked_summaries import FOUR, FP16, NEW, TEXT
from tests.report.test_report_page import records, source
from tests.run_files import benchmark

TEXTS = ("Anna paid 100 dollars.", "Anna paid 200 dollars.")

SUMMARY = SummaryView(
    experiment=None, tokens=9, seconds=2.0, rouge1=0.5, flags=("cut-off",), summary="né", changes=(), against=""
)
CHANGED = replace(
    SUMMARY,
    changes=(Segment(kind="same", text="a "), Segment(kind="removed", text="bc "), Segment(kind="added", text="d")),
    against="fp16",
)


def document(number, *summaries, text="x" * 100, reference="y" * 10):
    return DocumentView(
        number=number,
        id=f"id{number}",
        tokens=50,
        title="t",
        section="",
        url="",
        language="en",
        text=text,
        reference=reference,
        summaries=summaries or (SUMMARY,),
    )


def test_bytes_are_those_of_texts_and_marks_and_not_of_characters():
    assert text_bytes(document(1)) == 100 + 10 + 3
    assert text_bytes(document(1, SUMMARY, CHANGED)) == 113 + len("a bc d") + 2 * len("<ins></ins>")
    assert text_bytes(document(1, replace(SUMMARY, summary=None), text=None, reference=None)) == 0


def test_texts_fit_until_their_bytes_are_used_up():
    budget = PageBudget(most_bytes=2 * 113)
    assert [budget.has_room_for_texts(document(number)) for number in (1, 2, 3)] == [True, True, False]


def test_figures_fit_until_their_bytes_are_used_up():
    budget = PageBudget(most_bytes=2 * (BYTES_OF_A_DOCUMENT + 2 * BYTES_OF_A_CARD))
    assert [budget.has_room_for_figures(2) for _ in range(3)] == [True, True, False]
    assert budget.has_room_for_texts(document(1)), "which have bytes of their own"


def test_a_thousand_documents_of_four_experiments_have_all_their_figures():
    budget = PageBudget()
    assert all(budget.has_room_for_figures(4) for _ in range(1_000))


def views(has_room_for_texts, has_room_for_figures=lambda _: True):
    """Eight documents of two experiments; the second one's summary of the first document has a new number."""
    rows = [
        row for name, text in zip((FP16, FOUR), TEXTS, strict=True) for row in records(name, *[text] * 8, text=TEXT)
    ]
    entries = [benchmark(name, faithfulness=NEW) for name in (FP16, FOUR)]
    experiments = view_of([source(*entries, documents=rows)]).experiments
    return list(documents_of(experiments, has_room_for_texts, has_room_for_figures))


def test_documents_without_room_keep_their_figures_alone():
    (whole, *_), (bare, *_) = views(lambda _: True), views(lambda _: False)
    assert (whole.text, whole.reference) == (TEXT, "Boil it.")
    assert [each.summary for each in whole.summaries] == list(TEXTS)
    assert whole.summaries[1].changes
    assert whole.summaries[1].pieces
    figures = [replace(each, summary=None, changes=(), pieces=(), against="") for each in whole.summaries]
    assert bare == replace(whole, text=None, reference=None, summaries=tuple(figures))
    assert bare.flags == whole.flags == ["repeating", "new-number", "new-name"]


def test_documents_after_the_first_without_room_are_not_asked_about_and_have_no_texts():
    asked = []
    found = views(lambda document: asked.append(document.number) or document.number < 3)
    assert asked == [1, 2, 3]
    assert [each.text is not None for each in found] == [True, True, *[False] * 6]


def test_documents_end_before_the_first_without_room_for_figures():
    asked = []
    found = views(lambda _: True, lambda experiments: asked.append(experiments) or len(asked) < 4)
    assert asked == [2, 2, 2, 2]
    assert [each.number for each in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Short.", "The page has the first 3 of 8 documents. All are in <code>documents.parquet</code>"),
        ("Long. " * 200, "The page has the first 3 of 8 documents, and the first 2 with their texts. All are in"),
    ],
)
def test_page_says_how_many_documents_it_has(monkeypatch, text, said):
    monkeypatch.setattr(view, "PageBudget", lambda: PageBudget(3 * (BYTES_OF_A_DOCUMENT + BYTES_OF_A_CARD)))
    page = report_html([source(benchmark(FP16), documents=records(FP16, *["one"] * 8, text=text))])
    assert said in page
    assert page.count("<li data-number=") == 3
    assert "<dt>Documents</dt><dd>8, " in page
