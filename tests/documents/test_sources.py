import json
import random
import re
import unicodedata
from dataclasses import replace
from itertools import groupby

import pytest

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document, Half, Reason
from summarybench.documents.prompts import INSTRUCTION, build_prompt
from summarybench.documents.sources import EMBEDDED_ARTICLES, documents_of_file, embedded_documents

EMBEDDED = embedded_documents()


def row(url="u", names=("a", "b"), texts=("A text.", "B text."), summaries=("A.", "B.")):
    article = {"section_name": list(names), "document": list(texts), "summary": list(summaries)}
    return {"url": url, "article": article}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")
    return path


def parquet_file(path, rows):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def embedded_rows():
    return [json.loads(line) for line in EMBEDDED_ARTICLES.read_text(encoding="utf-8").splitlines()]


def ids(documents):
    return [document.id for document in documents]


# The embedded set


def test_the_embedded_set_is_large_enough():
    assert len({document.url for document in EMBEDDED.documents}) >= 24
    assert len(EMBEDDED.documents) >= 64
    assert len(EMBEDDED.eligible()) >= 32


def test_one_embedded_section_is_longer_than_any_prompt_and_the_others_are_of_usual_length():
    words = [len(document.text.split()) for document in EMBEDDED.documents]
    assert [count for count in words if not 100 <= count <= 600] == [count for count in words if count > 3000]
    assert sum(count > 3000 for count in words) == 1


def test_an_embedded_article_without_sections_is_left_out():
    without = {each["url"] for each in embedded_rows() if not each["article"]["document"]}
    assert without
    assert without.isdisjoint(document.url for document in EMBEDDED.documents)


def test_the_embedded_set_holds_text_of_other_alphabets():
    letters = {letter for document in EMBEDDED.documents for letter in document.text if letter.isalpha()}
    assert any(not letter.isascii() and unicodedata.name(letter).startswith("LATIN") for letter in letters)
    assert any(not unicodedata.name(letter).startswith("LATIN") for letter in letters)


def test_every_embedded_document_has_a_reference_and_an_id_of_its_own():
    assert all(document.reference for document in EMBEDDED.documents)
    assert len(set(ids(EMBEDDED.documents))) == len(EMBEDDED.documents)


# Halves and samples


def test_all_sections_of_an_article_fall_into_one_half():
    by_url = groupby(sorted(EMBEDDED.documents, key=lambda each: each.url), key=lambda each: each.url)
    halves = [{document.half for document in sections} for _, sections in by_url]
    assert all(len(found) == 1 for found in halves)
    assert set().union(*halves) == {Half.BENCH, Half.TRAIN}


def test_a_sample_is_a_prefix_of_any_larger_one():
    assert EMBEDDED.sample(5, seed=3) == EMBEDDED.sample(20, seed=3)[:5] == EMBEDDED.sample(None, seed=3)[:5]


def test_the_ranking_of_seed_0_stays_what_it_was():
    assert ids(EMBEDDED.sample(3, seed=0)) == ["724186afc51654eb", "9db6d392767c5fa0", "e181a532e0e3b3a1"]


def test_another_seed_gives_another_order_of_the_same_documents():
    zero, one = ids(EMBEDDED.sample(None, seed=0)), ids(EMBEDDED.sample(None, seed=1))
    assert zero != one
    assert sorted(zero) == sorted(one)


def test_a_sample_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = embedded_rows()
    shuffled = random.Random(1).sample(rows, len(rows))
    assert shuffled != rows
    here, there = jsonl(tmp_path / "a.jsonl", rows), jsonl(tmp_path / "b.jsonl", shuffled)
    assert documents_of_file(here).sample(10, seed=0) == documents_of_file(there).sample(10, seed=0)


def test_the_embedded_set_is_benchmarked_from_its_bench_half_only():
    assert {document.half for document in EMBEDDED.sample(None, seed=0)} == {Half.BENCH}


def test_a_file_is_benchmarked_whole(tmp_path):
    found = documents_of_file(jsonl(tmp_path / "all.jsonl", embedded_rows()))
    assert sorted(ids(found.sample(None, seed=0))) == sorted(ids(EMBEDDED.documents))


def test_more_documents_than_there_are_is_refused_with_both_numbers(tmp_path):
    collection = documents_of_file(jsonl(tmp_path / "two.jsonl", [row()]))
    with pytest.raises(InputError, match="--documents 3 is more than the 2 "):
        collection.sample(3, seed=0)


# Files


def test_jsonl_and_parquet_give_the_same_documents(tmp_path):
    rows = [row("u1"), row("u2", names=["é"], texts=["Καλημέρα\nworld"], summaries=["Hello."])]
    of_jsonl = documents_of_file(jsonl(tmp_path / "a.jsonl", rows))
    of_parquet = documents_of_file(parquet_file(tmp_path / "a.parquet", rows))
    assert of_jsonl.documents == of_parquet.documents
    assert [(each.url, each.section) for each in of_jsonl.documents] == [("u1", "a"), ("u1", "b"), ("u2", "é")]


def test_the_revision_changes_with_the_content(tmp_path):
    first, second = jsonl(tmp_path / "a.jsonl", [row("u1")]), jsonl(tmp_path / "b.jsonl", [row("u2")])
    assert documents_of_file(first).revision != documents_of_file(second).revision


def test_blank_lines_and_sections_without_text_are_skipped(tmp_path):
    path = tmp_path / "gaps.jsonl"
    full = json.dumps(row(names=["a", "b", "c"], texts=["A text.", " ", "C text."], summaries=["A.", "B.", ""]))
    path.write_text(f"\n{full}\n\n", encoding="utf-8")
    assert [document.section for document in documents_of_file(path).documents] == ["a", "c"]


def test_distinct_sections_of_one_name_are_kept_in_any_order(tmp_path):
    there = documents_of_file(jsonl(tmp_path / "twice.jsonl", [row(names=["a", "a"])])).documents
    here = documents_of_file(
        jsonl(tmp_path / "turned.jsonl", [row(names=["a", "a"], texts=["B text.", "A text."], summaries=["B.", "A."])])
    ).documents
    assert [document.text for document in there] == ["A text.", "B text."]
    assert len(set(ids(there))) == 2
    assert set(ids(there)) == set(ids(here))


def test_sections_without_a_url_or_a_name_are_told_apart_by_their_text(tmp_path):
    rows = [row("", names=[""], texts=[f"Text {number}."], summaries=["Do it."]) for number in range(40)]
    collection = documents_of_file(jsonl(tmp_path / "dup.jsonl", [*rows, rows[0]]))
    assert len(set(ids(collection.documents))) == 40
    assert collection.dropped == {Reason.EQUAL: 1}
    assert collection.about_dropped == f"{tmp_path / 'dup.jsonl'}: 40 documents; dropped 1 equal to an earlier one"


def test_what_is_dropped_is_counted_by_reason(tmp_path):
    rows = [row("u1", texts=["A text.", " "]), row("u2", summaries=["A.", ""]), row("u3", summaries=["…", "B."])]
    collection = documents_of_file(jsonl(tmp_path / "gaps.jsonl", [*rows, *rows]))
    assert collection.dropped == {Reason.NO_TEXT: 2, Reason.EQUAL: 5}
    assert len(collection.documents) == 5


def test_documents_are_kept_with_and_without_a_reference_that_has_words(tmp_path):
    rows = [row("u1", summaries=["A.", ""]), row("u2", summaries=["…", "B."])]
    collection = documents_of_file(jsonl(tmp_path / "mixed.jsonl", rows))
    assert [document.reference for document in collection.documents] == ["A.", "", "", "B."]
    assert collection.references == 2
    assert not collection.dropped


def test_documents_without_any_reference_are_all_kept(tmp_path):
    collection = documents_of_file(jsonl(tmp_path / "bare.jsonl", [row(summaries=["", " "])]))
    assert [document.reference for document in collection.documents] == ["", ""]
    assert collection.references == 0
    assert not collection.dropped


GOOD = json.dumps(row()).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        pytest.param(
            "cut.jsonl", GOOD * 2 + b'{"url": "u"\n', "cut.jsonl, line 3: not a JSON object", id="broken-json"
        ),
        pytest.param("latin.jsonl", GOOD + b'{"url": "\xe9"}\n', "latin.jsonl, line 2: .*UTF-8", id="not-utf-8"),
        pytest.param("list.jsonl", GOOD + b"[1]\n", "list.jsonl, line 2: not WikiLingua", id="not-an-object"),
        pytest.param(
            "keys.jsonl",
            b'{"words": "x"}\n',
            "keys.jsonl, line 1: no column of documents among 'words'",
            id="other-keys",
        ),
        pytest.param("text.jsonl", b"a plain text", "text.jsonl, line 1: ", id="plain-text"),
        pytest.param("blank.jsonl", b"", "blank.jsonl holds no document", id="blank"),
        pytest.param("text.parquet", GOOD, "text.parquet: not a parquet file", id="text-named-parquet"),
        pytest.param("blank.parquet", b"", "blank.parquet: not a parquet file", id="blank-parquet"),
    ],
)
def test_a_file_that_is_not_rows_is_refused_with_file_and_line(tmp_path, name, content, where):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=where):
        documents_of_file(path)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(row(names=["a"]), id="lists-of-different-lengths"),
        pytest.param(row(url=5), id="url-not-text"),
        pytest.param(row(summaries=["A.", None]), id="summary-null"),
        pytest.param(row(texts=[1, 2]), id="document-a-number"),
        pytest.param({"url": "u", "article": None}, id="no-article"),
        pytest.param({"url": "u", "article": {"section_name": [], "document": []}}, id="no-summaries"),
        pytest.param(
            {"url": "u", "article": {"section_name": "a", "document": "b", "summary": "c"}}, id="texts-not-lists"
        ),
    ],
)
def test_a_row_of_another_schema_is_refused_with_file_and_line(tmp_path, bad):
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        documents_of_file(jsonl(tmp_path / "rows.jsonl", [row(), bad]))


def test_a_lone_surrogate_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "surrogate.jsonl"
    path.write_text(json.dumps(row(url="\ud800")) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"surrogate\.jsonl, line 1: "):
        documents_of_file(path)


def test_a_bad_parquet_row_is_refused_with_its_number(tmp_path):
    path = parquet_file(tmp_path / "rows.parquet", [row(), row(names=["a"])])
    with pytest.raises(InputError, match=r"rows\.parquet, row 2: "):
        documents_of_file(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
        documents_of_file(tmp_path / "absent.jsonl")


def test_a_file_of_nothing_but_empty_sections_is_refused(tmp_path):
    rows = [row(names=[], texts=[], summaries=[]), row(texts=["", " "])]
    with pytest.raises(InputError, match=r"empty\.jsonl holds no document .*dropped 2 without text"):
        documents_of_file(jsonl(tmp_path / "empty.jsonl", rows))


# Prompts


class WordTokenizer:
    """One token a word, and a template of 5."""

    def __init__(self):
        self._words = []

    def document_offsets(self, text):
        return [match.span() for match in re.finditer(r"\S+", text)]

    def chat_ids(self, message):
        words = ["<s>", "[user]", *message.split(), "[/user]", "[model]", ":"]
        self._words += [word for word in words if word not in self._words]
        return [self._words.index(word) for word in words]

    def text(self, token_ids):
        return " ".join(self._words[token_id] for token_id in token_ids)


OVERHEAD = 5 + len(INSTRUCTION.split())
TEN_WORDS = Document(
    url="u", section="s", text="one two  three\nfour five six seven eight nine ten", reference="Numbers."
)


@pytest.mark.parametrize(
    ("limit", "kept", "truncated"),
    [
        pytest.param(OVERHEAD + 100, 10, False, id="roomy"),
        pytest.param(OVERHEAD + 10, 10, False, id="just-enough"),
        pytest.param(OVERHEAD + 9, 9, True, id="one-too-few"),
        pytest.param(OVERHEAD + 1, 1, True, id="room-for-one"),
    ],
)
def test_a_prompt_keeps_as_much_of_the_document_as_fits(limit, kept, truncated):
    prompt = build_prompt(TEN_WORDS, WordTokenizer(), limit)
    assert (prompt.document_tokens, prompt.truncated) == (kept, truncated)
    assert len(prompt.token_ids) == OVERHEAD + kept <= limit


def test_the_instruction_survives_truncation_and_the_document_loses_its_end():
    tokenizer = WordTokenizer()
    prompt = build_prompt(TEN_WORDS, tokenizer, OVERHEAD + 3)
    assert tokenizer.text(prompt.token_ids) == f"<s> [user] {INSTRUCTION} one two three [/user] [model] :"


def test_every_embedded_prompt_stays_within_the_limit():
    prompts = [build_prompt(document, WordTokenizer(), 400) for document in EMBEDDED.documents]
    assert max(len(prompt.token_ids) for prompt in prompts) == 400
    assert any(prompt.truncated for prompt in prompts)
    assert any(not prompt.truncated for prompt in prompts)


@pytest.mark.parametrize("limit", [OVERHEAD, 1, 0, -5])
def test_a_limit_without_room_for_the_document_is_refused(limit):
    with pytest.raises(InputError, match=f"--max-prompt-tokens {limit}: chat template and instruction leave no room"):
        build_prompt(TEN_WORDS, WordTokenizer(), limit)


def test_the_id_is_of_the_section_and_not_of_its_text():
    assert replace(TEN_WORDS, text="other").id == TEN_WORDS.id
    assert replace(TEN_WORDS, section="other").id != TEN_WORDS.id
