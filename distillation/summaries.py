"""Step 2: the texts that the teacher, or an earlier student, writes for training.

They are written in parts, one file each, so that an interrupted run continues after the last finished part.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from distillation.generation import TOP_K, BatchGenerator, Sampling, TokenIds, end_tokens
from distillation.settings import DistillSettings
from distillation.training_documents import TrainingDocuments, passages
from summarybench.analysis.quality import DEGENERATE
from summarybench.documents.document import Document
from summarybench.documents.prompts import INSTRUCTION, build_prompt
from summarybench.engines.chat import Chat
from summarybench.machine.device import Device

REWRITE_INSTRUCTION = "Rewrite the following text in your own words."
INVENT_INSTRUCTION = (
    "Write a long section of a how-to article in which the following is said, in whole sentences without lists."
)
INSTRUCTIONS = {"summarize": INSTRUCTION, "rewrite": REWRITE_INSTRUCTION, "invent": INVENT_INSTRUCTION}
"""The prompt of each task. "invent" asks for a synthetic document."""
LENGTH_FACTORS = {"summarize": 1, "rewrite": 3, "invent": 4}
"""Token limit of each task, as a multiple of --max-new-tokens."""
TRAINING, VALIDATION = "training", "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to generate.

    Summaries with sample 0 are greedy. All other texts are sampled.
    """

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


def summary_requests(documents: TrainingDocuments, settings: DistillSettings, chat: Chat) -> list[Request]:
    """All summaries and paraphrases to generate, ordered for batching.

    Requests that may share a batch are consecutive, the longest prompts first.
    """
    found = [
        *(each for document in documents.training for each in _training_requests(document, settings, chat)),
        *(build_request(TRAINING, "summarize", 0, document, settings, chat) for document in documents.synthetic),
        *(build_request(VALIDATION, "summarize", 0, document, settings, chat) for document in documents.validation),
    ]
    return sorted(found, key=lambda each: (each.batch_key, -len(each.prompt_ids)))


def _training_requests(document: Document, settings: DistillSettings, chat: Chat) -> Iterator[Request]:
    for passage in passages(document, settings.passages_per_document):
        for sample in range(settings.summaries_per_document):
            yield build_request(TRAINING, "summarize", sample, passage, settings, chat)
        for sample in range(1, settings.rewrites_per_document + 1):
            yield build_request(TRAINING, "rewrite", sample, passage, settings, chat)


def build_request(
    role: str, task: str, sample: int, document: Document, settings: DistillSettings, chat: Chat
) -> Request:
    """Build a request and its prompt.

    Raises InputError if the prompt leaves no room for the document.
    """
    new_tokens = settings.max_new_tokens * LENGTH_FACTORS[task]
    limit = min(settings.max_prompt_tokens, chat.context_tokens - new_tokens)
    return Request(
        role=role,
        task=task,
        sample=sample,
        document=document,
        prompt_ids=build_prompt(document, chat, limit, INSTRUCTIONS[task]).token_ids,
        max_new_tokens=new_tokens,
    )


def batches(requests: Sequence[Request], size: int) -> list[list[Request]]:
    """Consecutive requests of one kind, at most `size` in each batch."""
    groups = (list(group) for _, group in groupby(requests, key=lambda each: each.batch_key))
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """Generator of texts in parts: each part is one batch and one parquet file."""

    parts: Sequence[Sequence[Request]]
    folder: Path
    decode: Callable[[TokenIds], str]
    temperature: float
    seed: int

    def missing(self, rank: int = 0, processes: int = 1) -> list[int]:
        """The numbers of the parts that this process still has to write."""
        own = range(rank, len(self.parts), processes)
        return [number for number in own if not part_path(self.folder, number).is_file()]

    def write(self, numbers: Iterable[int], model: Any, device: Device, on_part: Callable[[int], None]) -> None:
        """Generate and write these parts.

        After each part, `on_part` gets the number of generated tokens.

        Raises DeviceMemoryError if a single text does not fit into memory.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        generator = BatchGenerator(model, device, max(map(len, self.parts)), longest_tokens(self.parts))
        ends = end_tokens(model)
        for number in numbers:
            part = self.parts[number]
            prompts, max_new_tokens = [each.prompt_ids for each in part], part[0].max_new_tokens
            texts = generator.generate(prompts, max_new_tokens, self._sampling(number))
            rows = [_row(each, ids, self.decode, ends) for each, ids in zip(part, texts, strict=True)]
            _write_rows(part_path(self.folder, number), rows)
            on_part(sum(map(len, texts)))

    def _sampling(self, number: int) -> Sampling | None:
        """How to sample a part: with a seed of its own.

        So a part does not depend on which process writes it, or when.
        """
        if not self.parts[number][0].is_sampled:
            return None
        digest = hashlib.sha256(f"{self.seed}:{number}".encode()).digest()
        return Sampling(temperature=self.temperature, seed=int.from_bytes(digest[:4], "big"))


def longest_tokens(parts: Iterable[Iterable[Request]]) -> int:
    """The most tokens that a prompt and its text take together."""
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
        "dropped": next((kind for kind, is_kind in DEGENERATE.items() if is_kind(output)), ""),
    }


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any] | None = None) -> None:
    """Write a parquet file, whole or not at all, with `provenance` in its metadata."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows))
    if provenance is not None:
        table = table.replace_schema_metadata({"distillation": json.dumps(provenance, sort_keys=True)})
    temporary = path.with_name(f".{path.name}")
    parquet.write_table(table, temporary)
    temporary.replace(path)


def join_parts(folder: Path, count: int, path: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Join all parts into one file, and return the counts for the model card.

    `provenance` goes into the file's metadata.
    """
    rows = [row for number in range(count) for row in read_rows(part_path(folder, number))]
    _write_rows(path, rows, provenance)
    dropped = Counter(row["dropped"] for row in rows if row["dropped"])
    return {
        "asked": len(rows),
        "dropped": {kind: dropped[kind] for kind in DEGENERATE},
        "generated_tokens": sum(len(row["output_ids"]) for row in rows),
        "cap_hits": sum(row["hit_cap"] for row in rows),
    }


def describe_degenerate(facts: Mapping[str, Any], *, are_kept: bool) -> str:
    """How many texts are empty and how many repeat, from the counts of `join_parts`."""
    counts = ", ".join(f"{count} {kind}" for kind, count in facts["dropped"].items())
    return f"{'among them' if are_kept else 'dropped'}: {counts}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return list(parquet.read_table(path).to_pylist())


def summary_inputs(
    documents: TrainingDocuments, settings: DistillSettings, teacher: Mapping[str, str], chat: Chat
) -> dict[str, Any]:
    """Everything that determines the teacher's texts: plain JSON types."""
    return {
        "documents": [asdict(document) for document in documents.all],
        "validation": [document.id for document in documents.validation],
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
