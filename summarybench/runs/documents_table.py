"""`documents.parquet`: one typed row per document and experiment, with raw facts and texts, for pandas or datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

from summarybench.core.invocation import this_invocation
from summarybench.core.names import check_within
from summarybench.core.outcomes import InputError, first_line
from summarybench.documents.document import Document
from summarybench.runs.faithfulness_record import FAITHFULNESS_LISTS
from summarybench.runs.journal import JournalContents
from summarybench.runs.migration import migrated_document, migrated_extra_info, migrated_header
from summarybench.runs.run_file import DEGENERATE_KINDS, ROUGE_TYPES
from summarybench.runs.schema import DocumentRecord, ExperimentRecord, SessionRecord

SCHEMA_VERSION = 1
"""The version that the file states. It is raised when a column changes its name, type or meaning."""


ROWS_AT_ONCE = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, its type as pyarrow names it, and its meaning with the unit."""

    name: str
    type: str
    meaning: str


def _columns(type_: str, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=type_, meaning=meaning) for name, meaning in meanings.items())


OF_EXPERIMENT = (
    *_columns(
        "string",
        experiment="the experiment's name: model, loader and kind",
        model="the model's name in the catalogue",
        loader="how its weights were loaded",
        weights="source of the weights: `hub`, `path`, `embedded` or `synthetic`",
        workload="sha256 of everything that must be equal for two runs to be comparable",
    ),
    *_columns(
        "int64",
        batch_size="documents generated at once",
        max_new_tokens="the limit of generated tokens",
        max_prompt_tokens="the limit of prompt tokens",
    ),
)
"""Equal in all rows of an experiment; taken from its `extra_info`."""

OF_DOCUMENT = (
    *_columns("string", document_id="hash of the document's url and section name"),
    *_columns(
        "int64",
        document_tokens="the document's tokens in its prompts",
        prompt_tokens="the whole prompt's tokens, instruction and template included; of the last call",
        generated_tokens="the summary's tokens, the end token included, padding not",
    ),
    *_columns(
        "bool",
        truncated="the document was cut to fit the prompt limit",
        hit_cap="the summary was cut at the token limit",
    ),
    *_columns(
        "double",
        start_seconds="when generating began, on the session's one clock",
        first_token_seconds="when the first token was chosen, on the same clock",
        end_seconds="when generating ended, on the same clock",
        host_rate_per_second="host probe just before the round: kernel launches, on a CPU loop iterations, per second; null if not taken",
    ),
    *_columns(
        "int64",
        batch="number of the round in which the document was timed",
        rows="number of documents in that round, which share its times",
        unread_tokens="the document's tokens that were cut off; null in older runs",
        earlier_calls="calls of the model before the one whose answer is the summary; null in older runs",
        earlier_prompt_tokens="tokens of their prompts",
        earlier_generated_tokens="tokens of their answers",
    ),
    *_columns("string", summary="the generated text"),
)
"""Taken from the journal as they are."""

OF_SUMMARY = (
    *_columns("string", summary_sha256="the generated text's sha256"),
    *_columns(
        "bool",
        empty="the summary is empty or only whitespace; null where outputs are not scored",
        repeating="the summary repeats itself; null where outputs are not scored",
    ),
    *_columns(
        "double",
        rouge1="ROUGE-1 F1, 0 to 1; null where outputs are not scored",
        rouge2="ROUGE-2 F1, likewise",
        rougeL="ROUGE-L F1, likewise; null in older runs",
        rougeLsum="ROUGE-Lsum F1, likewise",
    ),
)
"""Taken from the lists in the experiment's `extra_info`."""

OF_FAITHFULNESS = (
    *_columns(
        "double",
        novel_words="share of the summary's distinct words that the document does not have, 0 to 1; null without any",
        novel_bigrams="share of its distinct word pairs, likewise",
        novel_trigrams="share of its distinct word triples, likewise",
    ),
    *_columns(
        "int64",
        numbers="distinct numbers of the summary; null where outputs are not scored",
        novel_numbers="those that the document does not have",
        dates="distinct dates of the summary",
        novel_dates="those that the document does not have",
        names="distinct capitalized names of the summary; null for a language that does not mark names by capital letters",
        novel_names="those that the document does not have",
    ),
    *_columns(
        "double",
        coverage="share of the summary's words in fragments copied from the document",
        density="mean length in words of the copied fragment that a word is in",
        compression="the document's words ÷ the summary's",
        length_ratio="the summary's words ÷ the reference's; null without a reference",
    ),
)
"""Taken from the lists of `faithfulness` in the experiment's `extra_info`; null where it has none."""

OF_SOURCE = _columns(
    "string",
    url="the article's address",
    section="the name of its section",
    reference="the reference summary",
    text="the whole document, before it was truncated",
)
"""Null for a document that is not among those drawn now."""

SCORER = "scorer_"
"""The columns of --scorer begin with it; a file of a session without scorers has none."""

COLUMNS = (*OF_EXPERIMENT, *OF_DOCUMENT, *OF_SUMMARY, *OF_FAITHFULNESS, *OF_SOURCE)


def write_documents_table(path: Path, journal: JournalContents, documents: Iterable[Document]) -> None:
    """Write the documents of the finished experiments, with the columns of `COLUMNS`. Raises OSError.

    A document that is not among `documents` has its raw facts and its summary, but no other text. The file's metadata have
    the schema's version, the device, the commit and the start of the session; each column's metadata have its meaning.
    """
    from pyarrow import parquet

    by_id = {document.id: document for document in documents}
    facts = {(record["nodeid"], record["document_id"]): record for record in journal.documents}
    scorers = _columns_of_scorers(journal)
    rows = chain.from_iterable(
        _rows(experiment, facts, by_id, _scores(journal, experiment, scorers)) for experiment in journal.experiments
    )
    if not journal.experiments:
        return
    temporary, schema = path.with_name(f".{path.name}"), _schema(journal.session, scorers)
    try:
        with parquet.ParquetWriter(temporary, schema) as writer:
            # All texts at once would take more memory than measuring did.
            while some := list(islice(rows, ROWS_AT_ONCE)):
                writer.write_table(_as_table(some, schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_table(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    """The rows as an arrow table, by way of JSON: `Table.from_pylist` would import pandas, which takes 50 MB."""
    from pyarrow import json as arrow_json

    lines = "\n".join(json.dumps(row, allow_nan=False) for row in rows).encode()
    return arrow_json.read_json(
        BytesIO(lines),
        read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines)),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    ).cast(schema)  # for the metadata


def read_documents_table(path: Path) -> list[dict[str, Any]]:
    """All rows, by column name. Raises InputError if the file is missing or cannot be read."""
    with errors_named(path):
        return list(opened(path).read().to_pylist())


def opened(path: Path) -> Any:
    """The file as a ParquetFile, which does not import pandas as `read_table` does. Raises InputError if it is missing."""
    from pyarrow import parquet

    check_within(path, path.parent)
    if not path.exists():
        resume = this_invocation().command("bench", "--resume", path.parent)
        raise InputError(f"{path}: not there, so the run was cut short; finish it with {resume} and the options it had")
    return parquet.ParquetFile(path)


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Raise InputError with the file's name for whatever pyarrow raises of a damaged file."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError) as error:  # bytes that are not UTF-8, too
        raise InputError(f"cannot read {path}: {first_line(error)}; `--resume` writes it anew") from error


def _columns_of_scorers(journal: JournalContents) -> dict[str, Column]:
    """A column for each score of each --scorer, by its name."""
    found = {}
    for record in journal.scores:
        scorer, facts = record["scorer"], record["model_scores"]
        for name in facts["scores"]:
            key = f"{SCORER}{scorer}_{name}"
            meaning = f"{name} by --scorer {scorer} ({facts['kind']}, {facts['source']}); null if not scored"
            found[key] = Column(name=key, type="double", meaning=meaning)
    return found


def _scores(
    journal: JournalContents, experiment: ExperimentRecord, columns: Mapping[str, Column]
) -> Mapping[str, Sequence[float]]:
    """The scores of one experiment by column, in document order; nothing for columns of scorers that left it out."""
    found = journal.scores_of(experiment["fullname"]).get("model_scores", {})
    names = {
        f"{SCORER}{scorer}_{name}": values for scorer, each in found.items() for name, values in each["scores"].items()
    }
    return {column: names.get(column, ()) for column in columns}


def _schema(session: SessionRecord, scorers: Mapping[str, Column]) -> Any:
    import pyarrow

    fields = [
        pyarrow.field(column.name, pyarrow.type_for_alias(column.type), metadata={"meaning": column.meaning})
        for column in (*COLUMNS, *scorers.values())
    ]
    header = migrated_header(session)
    about = {
        "schema_version": SCHEMA_VERSION,
        "device": header["machine_info"]["device"],
        "commit": header["commit_info"]["id"],
        "datetime": header["datetime"] or "unknown",
    }
    return pyarrow.schema(fields, metadata={name: str(value) for name, value in about.items()})


def _rows(
    experiment: ExperimentRecord,
    facts: Mapping[tuple[str, str], DocumentRecord],
    by_id: Mapping[str, Document],
    scores: Mapping[str, Sequence[float]],
) -> Iterator[dict[str, Any]]:
    info: Mapping[str, Any] = migrated_extra_info(experiment["name"], experiment["extra_info"])
    stated = info["degenerate_document_ids"]
    faithfulness: Mapping[str, Any] = info["faithfulness"] or dict.fromkeys(FAITHFULNESS_LISTS, ())
    degenerate = None if stated is None else {kind: frozenset(stated[kind]) for kind in DEGENERATE_KINDS}
    for number, document_id in enumerate(info["document_ids"]):
        record: Mapping[str, Any] = migrated_document(facts[experiment["fullname"], document_id])
        document = by_id.get(document_id)
        yield {
            **{column.name: info[column.name] for column in OF_EXPERIMENT},
            **{column.name: record[column.name] for column in OF_DOCUMENT},
            "summary_sha256": info["summary_sha256"][number],
            **_flags(degenerate, document_id),
            **{name: _item(info.get(f"{name}_scores", ()), number) for name in ROUGE_TYPES},
            **{name: _item(faithfulness[name], number) for name in FAITHFULNESS_LISTS},
            **{column.name: getattr(document, column.name, None) for column in OF_SOURCE},
            **{name: _item(values, number) for name, values in scores.items()},
        }


def _flags(degenerate: Mapping[str, frozenset[str]] | None, document_id: str) -> dict[str, bool | None]:
    """Whether the summary only looks fast, by kind; None if that was not checked."""
    return {kind: None if degenerate is None else document_id in degenerate[kind] for kind in DEGENERATE_KINDS}


def _item(scores: Sequence[float | None], number: int) -> float | None:
    """A document's score; None without a reference, and for the outputs of synthetic weights."""
    return scores[number] if scores else None
