"""The formats that --documents-file takes, each with the same documents in it."""

import csv
import gzip
import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Reason
from summarybench.documents.rows import Columns
from summarybench.documents.sources import documents_of_file

ROWS = [
    {"article": f'Text {number}, with a comma.\nAnd a "quoted" line; é.', "highlights": f"Do {number}."}
    for number in range(10)
]
AS_LINES = "".join(json.dumps(each) + "\n" for each in ROWS).encode()


def table(path, rows, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


def saved_parquet(path):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


def saved_dataset(path):
    datasets.Dataset.from_list(ROWS).save_to_disk(path)
    return path


FORMATS = {
    "JSON Lines": lambda folder: written(folder / "a.jsonl", AS_LINES),
    "JSON Lines called json": lambda folder: written(folder / "a.json", AS_LINES),
    "JSON array": lambda folder: written(folder / "a.JSON", json.dumps(ROWS, indent=1).encode()),
    "JSON with a byte order mark": lambda folder: written(folder / "a.json", b"\xef\xbb\xbf" + AS_LINES),
    "CSV": lambda folder: table(folder / "a.csv", ROWS),
    "CSV of Excel": lambda folder: table(folder / "a.CSV", ROWS, delimiter=";", encoding="utf-8-sig"),
    "TSV": lambda folder: table(folder / "a.tsv", ROWS, delimiter="\t"),
    "gzip": lambda folder: written(folder / "a.jsonl.GZ", gzip.compress(AS_LINES)),
    "parquet": lambda folder: saved_parquet(folder / "a.Parquet"),
    "saved dataset": lambda folder: saved_dataset(folder / "saved"),
}


@pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS.keys())
def test_every_format_gives_the_same_documents(tmp_path, make):
    collection = documents_of_file(make(tmp_path))
    reference = documents_of_file(written(tmp_path / "reference.jsonl", AS_LINES))
    assert len(collection.documents) == 10
    assert collection.documents == reference.documents
    assert collection.columns == "documents from column 'article', summaries from 'highlights'"


def test_a_zipped_file_is_the_same_work_as_the_file_in_it(tmp_path):
    zipped = documents_of_file(written(tmp_path / "a.jsonl.gz", gzip.compress(AS_LINES, mtime=1)))
    assert zipped.revision == documents_of_file(written(tmp_path / "a.jsonl", AS_LINES)).revision


@pytest.mark.parametrize(
    ("text", "summary"),
    [("document", "summary"), ("Article", "Highlights"), ("text", "abstract"), ("dialogue", "target")],
)
def test_usual_columns_are_guessed(tmp_path, text, summary):
    (document,) = documents_of_file(table(tmp_path / "a.csv", [{"x": "1", text: "A text.", summary: "Do."}])).documents
    assert (document.text, document.reference) == ("A text.", "Do.")


def test_columns_can_be_named(tmp_path):
    path = table(tmp_path / "a.csv", [{"text": "x", "body": "A text.", "tldr": "Do.", "id": "7", "title": "Tea"}])
    (document,) = documents_of_file(path, Columns(text="body", summary="tldr")).documents
    assert (document.text, document.reference, document.url, document.section) == ("A text.", "Do.", "7", "Tea")


def test_other_columns_of_one_file_are_another_revision(tmp_path):
    path = table(tmp_path / "a.csv", [{"text": "A text.", "body": "Another.", "summary": "Do."}])
    assert documents_of_file(path).revision != documents_of_file(path, Columns(text="body")).revision


def test_the_column_of_references_is_found_even_if_the_first_row_has_none(tmp_path):
    path = tmp_path / "gaps.jsonl"
    path.write_text('{"text": "A text."}\n{"text": "B text.", "summary": "B."}\n', encoding="utf-8")
    collection = documents_of_file(path)
    assert [each.reference for each in collection.documents] == ["", "B."]
    assert collection.columns == "documents from column 'text', summaries from 'summary'"


def test_without_a_column_of_summaries_documents_have_no_reference(tmp_path):
    collection = documents_of_file(table(tmp_path / "a.csv", [{"text": "A text."}, {"text": "Another."}]))
    assert collection.references == 0
    assert "no column of reference summaries (--summary-column names one)" in collection.columns


def test_documents_with_one_id_and_other_texts_are_kept(tmp_path):
    rows = [{"id": "", "text": "A.", "summary": "a"}, {"id": "1", "text": "B.", "summary": "b"}]
    path = table(tmp_path / "a.csv", [*rows, {"id": "1", "text": "C.", "summary": "c"}, rows[0]])
    collection = documents_of_file(path)
    assert len({document.id for document in collection.documents}) == 3
    assert collection.dropped == {Reason.EQUAL: 1}


DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"title,words\nx,y\n", "a.csv, line 1: no column of documents among 'title', 'words'"),
        (
            "a.csv",
            b"text,article\nx,y\n",
            "a.csv, line 1: 'text', 'article' could each be meant; name one with --text-column",
        ),
        ("a.csv", b"text,summary\nx\n", "line 2: 1 value, but the header has 2 columns; check the quotes"),
        ("a.csv", b"text,summary\na,b\n\nx,y,z\n", "line 4: 3 values, but the header has 2 columns; check"),
        ("a.csv", b"text\nx,y\n", "line 2: 2 values, but the header has 1 column; check"),
        ("a.csv", b"text,text\nx,y\n", "a.csv, line 1: two columns have the name 'text'"),
        ("a.csv", b'text,summary\n"x,y\n', "line 2: a quoted value is not closed, or is followed by text"),
        ("a.csv", b'text,summary\nx,y\n"x" y,z\n', "line 3: a quoted value is not closed, or is followed by text"),
        ("a.csv", b'text,"summary\nx,y\n', "line 1: a quoted value is not closed, or is followed by text"),
        ("a.csv", b"text,summary\nx,y\n\xe9,y\n", "line 3: not UTF-8"),
        ("a.csv", b"", "a.csv holds no document"),
        ("a.json", DEEP, "it is nested too deeply"),
        ("a.jsonl", DEEP, "it is nested too deeply"),
        ("a.json", b"[1, 2]", "element 1: int in place of an object with columns"),
        ("a.json", b'["a text", "another"]', "element 1: str in place of an object with columns"),
        ("a.jsonl", b'["a text", "a summary"]', "line 1: list in place of an object with columns"),
        ("a.jsonl", b"{}", "line 1: an empty object in place of an object with columns"),
        ("a.jsonl", b'{"text": "\\ud800"}', "column 'text' must hold text in valid Unicode, not half a surrogate pair"),
        ("a.jsonl", gzip.compress(AS_LINES), "is compressed with gzip; let its name end in .gz"),
        ("a.csv", b"PK\x03\x04...", "is a zip archive or a spreadsheet; unpack it, or save the table as CSV"),
        ("a.xlsx", b"PK\x03\x04...", "is a zip archive or a spreadsheet; unpack it, or save the table as CSV"),
        ("a.jsonl", b"PAR1...PAR1", "is a parquet file; let its name end in .parquet"),
        ("a.jsonl", AS_LINES.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.csv", "text\nx\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.txt", b"A text.", "; a file that does not end in .json, .csv, .tsv or .parquet is read as JSON Lines"),
        (
            "a.csv",
            f"{'word ' * 50},Do.\nx,y\n".encode(),
            "or does the first line hold a document in place of the names?",
        ),
        ("a.jsonl", b'{"text": "x"}\n{"body": "x"}', "line 2: has no column 'text'; it has 'body'"),
        ("a.jsonl", b'{"text": "x"}\n[1]', "line 2: list in place of an object with the column 'text'"),
        ("a.jsonl", b'{"text": ["x"]}', "line 1: column 'text' must hold text in valid Unicode, not list"),
        ("a.jsonl.gz", b"text", "not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(AS_LINES)[:-9], "not a whole gzip file"),
        ("a.parquet.gz", gzip.compress(AS_LINES), "not a parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, name, content, said):
    with pytest.raises(InputError) as caught:
        documents_of_file(written(tmp_path / name, content))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_does_not_exist_gets_a_suggestion(tmp_path):
    path = table(tmp_path / "a.csv", [{"body": "A text.", "note": "Do."}])
    with pytest.raises(
        InputError, match=r"--text-column bodi: .*a\.csv, line 1 has no such column; did you mean 'body'\?"
    ):
        documents_of_file(path, Columns(text="bodi"))
    with pytest.raises(InputError, match=r"--summary-column zzz: .*; choose from 'note'"):
        documents_of_file(path, Columns(text="body", summary="zzz"))


def test_a_column_in_other_letters_gets_a_suggestion(tmp_path):
    path = table(tmp_path / "a.csv", [{"body": "A text.", "note": "Do."}])
    with pytest.raises(InputError, match=r"--text-column BODY: .*; did you mean 'body'\?"):
        documents_of_file(path, Columns(text="BODY"))


def test_a_document_in_place_of_a_column_name_is_cut_short(tmp_path):
    path = written(tmp_path / "a.csv", f"{'word ' * 500},Do.\nx,y\n".encode())
    with pytest.raises(InputError) as caught:
        documents_of_file(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_folder_that_is_no_dataset_is_named(tmp_path):
    with pytest.raises(InputError, match=r"not a folder saved by datasets .*save_to_disk"):
        documents_of_file(tmp_path)


def test_a_split_of_a_saved_dataset_is_chosen(tmp_path):
    parts = {name: datasets.Dataset.from_list([{"text": f"{name}."}]) for name in ("train", "dev")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    (document,) = documents_of_file(tmp_path / "saved", split="dev").documents
    assert document.text == "dev."
    with pytest.raises(InputError, match=r"has several splits; choose one with --split: train, dev"):
        documents_of_file(tmp_path / "saved")
    with pytest.raises(InputError, match=r"--split test: .* has no such split; choose one with --split: train, dev"):
        documents_of_file(tmp_path / "saved", split="test")
    with pytest.raises(InputError, match=r"--split dev: .* is one file"):
        documents_of_file(written(tmp_path / "a.jsonl", AS_LINES), split="dev")
