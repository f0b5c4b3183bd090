"""Step 2: what the teacher writes, part by part, so that a killed run goes on after the last part that was finished."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from distillation.generate import TOP_K, Sampling, TokenIds, Writer, end_tokens
from distillation.settings import DistillSettings
from distillation.training_documents import Drawn, passages
from summarybench.analysis.quality import DEGENERATE
from summarybench.documents.sources import INSTRUCTION, Document, build_prompt
from summarybench.engines.chat import Chat
from summarybench.machine.device import Device

REWRITE_INSTRUCTION = "Rewrite the following text in your own words."
INVENT_INSTRUCTION = (
    "Write a long section of a how-to article in which the following is said, in whole sentences without lists."
)
INSTRUCTIONS = {"summarize": INSTRUCTION, "rewrite": REWRITE_INSTRUCTION, "invent": INVENT_INSTRUCTION}
TIMES_A_SUMMARY = {"summarize": 1, "rewrite": 3, "invent": 4}
"""How long a text may become."""
TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text for the teacher to answer to. Sample 0 is greedy, the others are drawn; rewritings and inventions are always drawn."""

    role: str
    task: str
    sample: int
    document: Document
    prompt_ids: TokenIds
    max_new_tokens: int

    @property
    def is_sampled(self) -> bool:
        return self.sample > 0

    @property
    def batch_key(self) -> tuple[str, bool, int]:
        """What must be equal within one batch."""
        return self.task, self.is_sampled, self.max_new_tokens


def requests(drawn: Drawn, settings: DistillSettings, chat: Chat) -> list[Request]:
    """All that the teacher is asked, those that go into one batch together and the longest of them first."""
    found = [
        *(each for document in drawn.training for each in _training_requests(document, settings, chat)),
        *(request(TRAINING, "summarize", 0, document, settings, chat) for document in drawn.invented),
        *(request(VALIDATION, "summarize", 0, document, settings, chat) for document in drawn.validation),
    ]
    return sorted(found, key=lambda each: (each.batch_key, -len(each.prompt_ids)))


def _training_requests(document: Document, settings: DistillSettings, chat: Chat) -> Iterator[Request]:
    for passage in passages(document, settings.passages_per_document):
        for sample in range(settings.summaries_per_document):
            yield request(TRAINING, "summarize", sample, passage, settings, chat)
        for sample in range(1, settings.rewrites_per_document + 1):
            yield request(TRAINING, "rewrite", sample, passage, settings, chat)


def request(role: str, task: str, sample: int, document: Document, settings: DistillSettings, chat: Chat) -> Request:
    """Raises InputError where the prompt has no room for a token of the document."""
    new_tokens = settings.max_new_tokens * TIMES_A_SUMMARY[task]
    limit = min(settings.max_prompt_tokens, chat.context_tokens - new_tokens)
    return Request(
        role=role,
        task=task,
        sample=sample,
        document=document,
        prompt_ids=build_prompt(document, chat, limit, INSTRUCTIONS[task]).token_ids,
        max_new_tokens=new_tokens,
    )


def batches(asked: Sequence[Request], size: int) -> list[list[Request]]:
    """At most `size` requests each, all of one kind."""
    groups = (list(group) for _, group in groupby(asked, key=lambda each: each.batch_key))
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def answer_parts(
    parts: Sequence[Sequence[Request]],
    folder: Path,
    model: Any,
    device: Device,
    *,
    decode: Callable[[TokenIds], str],
    temperature: float,
    seed: int,
    on_part: Callable[[int], None],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Write a parquet file for each part that has none yet; `share` is this process's rank and their number.

    `on_part` is told how many tokens were generated. Raises DeviceMemoryError where not even one request fits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank, world = share
    writer = Writer(model, device, max(map(len, parts)), tokens_of(parts))
    for number, part in enumerate(parts):
        path = part_path(folder, number)
        if number % world != rank or path.is_file():
            continue
        drawn_by = hashlib.sha256(f"{seed}:{number}".encode()).digest()
        sampling = (
            Sampling(temperature=temperature, seed=int.from_bytes(drawn_by[:4], "big")) if part[0].is_sampled else None
        )
        answers = writer.answer([each.prompt_ids for each in part], part[0].max_new_tokens, sampling)
        rows = [_row(each, ids, decode, end_tokens(model)) for each, ids in zip(part, answers, strict=True)]
        _write_rows(path, rows)
        on_part(sum(map(len, answers)))


def tokens_of(parts: Iterable[Iterable[Request]]) -> int:
    """What the longest prompt and its answer take."""
    return max(len(each.prompt_ids) + each.max_new_tokens for part in parts for each in part)


def part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.parquet"


def _row(request: Request, ids: list[int], decode: Callable[[TokenIds], str], ends: Sequence[int]) -> dict[str, Any]:
    output = decode(ids)
    return {
        "document_id": request.document.id,
        "url": request.document.url,
        "section": request.document.section,
        "role": request.role,
        "task": request.task,
        "sample": request.sample,
        "text": request.document.text,
        "reference": request.document.reference,
        "output": output,
        "prompt_ids": list(request.prompt_ids),
        "output_ids": ids,
        "hit_cap": not ids or ids[-1] not in ends,
        "dropped": next((kind for kind, has_it in DEGENERATE.items() if has_it(output)), ""),
    }


def overlap(answer: str, text: str) -> float:
    """The share of an answer's word pairs that are in the text, each as often as it is there: ROUGE-2's precision
    (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"). 0 where it has no pair.

    rouge_score's tokens, but not its score, which takes 4 ms: a run has tens of thousands of them.
    """
    from rouge_score.tokenize import tokenize

    pairs, offered = (Counter(pairwise(tokenize(each, None))) for each in (answer, text))
    return (pairs & offered).total() / max(1, pairs.total())


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any] | None = None) -> None:
    """Whole or not at all; provenance goes into the file's own metadata."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows))
    if provenance is not None:
        table = table.replace_schema_metadata({"distillation": json.dumps(provenance, sort_keys=True)})
    temporary = path.with_name(f".{path.name}")
    parquet.write_table(table, temporary)
    temporary.replace(path)


def join_parts(folder: Path, count: int, path: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """One file of all parts, with where it comes from; the counts that the model card tells."""
    rows = [row for number in range(count) for row in read_rows(part_path(folder, number))]
    _write_rows(path, rows, provenance)
    dropped = Counter(row["dropped"] for row in rows if row["dropped"])
    return {
        "asked": len(rows),
        "dropped": {kind: dropped[kind] for kind in DEGENERATE},
        "generated_tokens": sum(len(row["output_ids"]) for row in rows),
        "cap_hits": sum(row["hit_cap"] for row in rows),
    }


def degenerate_told(facts: Mapping[str, Any]) -> str:
    """Of what `join_parts` counted: how many are empty and repeating, in words."""
    return ", ".join(f"{count} {kind}" for kind, count in facts["dropped"].items())


def read_rows(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return list(parquet.read_table(path).to_pylist())


def inputs_of(drawn: Drawn, settings: DistillSettings, teacher: Mapping[str, str], chat: Chat) -> dict[str, Any]:
    """What the teacher's output follows from: plain JSON types."""
    return {
        "documents": [asdict(document) for document in drawn.all],
        "validation": [document.id for document in drawn.validation],
        "teacher": dict(teacher),
        "template": chat.template,
        "instructions": INSTRUCTIONS,
        "passages_per_document": settings.passages_per_document,
        "summaries_per_document": settings.summaries_per_document,
        "rewrites_per_document": settings.rewrites_per_document,
        "sampling_temperature": settings.sampling_temperature,
        "top_k": TOP_K,
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens,
        "max_prompt_tokens": settings.max_prompt_tokens,
    }
