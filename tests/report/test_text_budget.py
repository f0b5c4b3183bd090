"""The page of a long run has the texts of as many documents as a browser opens quickly, and figures of all."""

from __future__ import annotations

from dataclasses import replace

from summarybench.report.documents import DocumentView, Segment, SummaryView
from summarybench.report.text_budget import text_bytes, within_budget, without_texts

SUMMARY = SummaryView(
    experiment=None, tokens=9, seconds=2.0, rouge1=0.5, flags=("cap-hit",), summary="né", changes=(), against=""
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


def test_documents_beyond_the_budget_keep_their_figures_alone():
    one, two, three = (document(number) for number in (1, 2, 3))
    assert list(within_budget([one, two, three], most_bytes=2 * 113)) == [one, two, without_texts(three)]
    bare = without_texts(document(3, CHANGED))
    assert (bare.text, bare.reference, bare.summaries[0].summary, bare.summaries[0].changes) == (None, None, None, ())
    assert (bare.tokens, bare.summaries[0].rouge1, bare.flags) == (50, 0.5, ["cap-hit"])


def test_a_short_document_after_the_first_left_out_is_left_out_too():
    long, short = document(1, text="x" * 1_000), document(2, text="", reference="")
    assert list(within_budget([long, short], most_bytes=500)) == [without_texts(long), without_texts(short)]
