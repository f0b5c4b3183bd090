"""What the options say about documents and prompts, apart from their number and length."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from summarybench.catalogue.datasets import DATASETS
from summarybench.core.outcomes import InputError
from summarybench.documents.hub import HubDataset
from summarybench.documents.languages import ENGLISH, Language, language_of
from summarybench.documents.prompts import INSTRUCTION
from summarybench.documents.rows import Columns
from summarybench.documents.strategy import Strategy

_SPECIFICATION = re.compile(r"(?P<name>[^:@]+)(:(?P<configuration>[^@]+))?(@(?P<revision>.+))?")
_TEXT_FILE = re.compile(r"\S+\.(txt|md|prompt)")
DEFAULT_SPLIT = "test"
DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentOptions:
    """How documents are read and prompted.

    `dataset` is the hub's dataset that --dataset names. `split` is the one that --split names for a saved folder.
    `long_documents` has the strategies that are measured side by side.
    """

    columns: Columns = field(default_factory=Columns)
    dataset: HubDataset | None = None
    split: str | None = None
    instruction: str = INSTRUCTION
    language: Language = ENGLISH
    long_documents: tuple[Strategy, ...] = (Strategy.TRUNCATE,)

    @property
    def reads_in_calls(self) -> bool:
        """Whether documents that do not fit in one prompt are read in several calls, by at least one experiment."""
        return self.long_documents != (Strategy.TRUNCATE,)

    def conditions(self) -> dict[str, Any]:
        """What differs from the defaults, in plain JSON types: two sessions of one run must agree on it."""
        found = {
            "text_column": self.columns.text,
            "summary_column": self.columns.summary,
            "dataset": self.dataset and f"{self.dataset} {self.dataset.split}",
            "split": self.split,
            "instruction": None if self.instruction == INSTRUCTION else self.instruction,
            "language": None if self.language.is_english else self.language.code,
            "long_documents": [each.value for each in self.long_documents] if self.reads_in_calls else None,
        }
        return {key: value for key, value in found.items() if value is not None}


def document_options_of(option: Any) -> DocumentOptions:
    """The parsed options. Raises InputError for a value that makes no sense, and for options that exclude each other."""
    sources = {
        "--documents-file": option.documents_file,
        "--document-source": option.document_source,
        "--dataset": option.dataset,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} name {len(given)} sources; give one of them")
    columns = Columns(text=option.text_column, summary=option.summary_column)
    is_users = option.documents_file is not None or option.dataset is not None
    if not is_users and (columns.are_given or option.split is not None):
        lonely = "--split" if option.split is not None else "--text-column" if columns.text else "--summary-column"
        raise InputError(f"{lonely} is for --documents-file or --dataset; give one of them too")
    dataset = None
    if option.dataset is not None:
        dataset, usual = parse_dataset(option.dataset, option.split)
        columns = Columns(text=columns.text or usual.text, summary=columns.summary or usual.summary)
    return DocumentOptions(
        columns=columns,
        dataset=dataset,
        split=option.split if dataset is None else None,
        long_documents=option.long_documents,
        instruction=INSTRUCTION if option.instruction is None else read_instruction(option.instruction),
        language=language_of(option.language),
    )


def parse_dataset(specification: str, split: str | None) -> tuple[HubDataset, Columns]:
    """The dataset of NAME[:CONFIG][@REV] and its columns, as far as the catalogue knows them.

    Without a revision it is the catalogue's, or the newest commit: the one that is read becomes part of the workload. Raises
    InputError for another form, and for a misspelled short name.
    """
    match = _SPECIFICATION.fullmatch(specification)
    name = match["name"] if match else ""
    short = name.lower().replace("/", "_").replace("-", "_")
    known = DATASETS.get(short)
    if match is None:
        raise InputError(
            f"--dataset {specification}: give NAME[:CONFIG][@REV], a dataset on the hub with a commit, tag or branch, or one of "
            f"{', '.join(DATASETS)}"
        )
    if known is None:
        close = difflib.get_close_matches(short, DATASETS, n=1, cutoff=0.8)
        if close and "/" not in name:  # the hub's own names have an owner
            raise InputError(
                f"--dataset {specification}: there is no short name {name!r}; did you mean {close[0]}? Other datasets are OWNER/NAME"
            )
        dataset = HubDataset(
            repository=name,
            configuration=match["configuration"],
            revision=match["revision"] or DEFAULT_REVISION,
            split=split or DEFAULT_SPLIT,
        )
        return dataset, Columns()
    dataset = HubDataset(
        repository=known.repository,
        configuration=match["configuration"] or known.configuration,
        revision=match["revision"] or known.revision,
        split=split or known.split,
    )
    return dataset, Columns(text=known.text, summary=known.summary)


def read_instruction(text_or_file: str) -> str:
    """The instruction, or the content of the file that has it. Raises InputError if there is none."""
    path = Path(text_or_file).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # too long for a path
        is_file = is_folder = False
    if is_folder:
        raise InputError(
            f"--instruction {text_or_file}: is a folder; name a text file, or write the instruction itself"
        )
    if not is_file and _TEXT_FILE.fullmatch(text_or_file):
        raise InputError(f"--instruction {text_or_file}: no such file")
    try:
        instruction = path.read_text(encoding="utf-8-sig") if is_file else text_or_file
    except (OSError, ValueError) as error:
        raise InputError(f"--instruction {text_or_file}: not a readable text file in UTF-8 ({error})") from error
    if not instruction.strip():
        raise InputError("--instruction: is empty; say what the model should do with the document")
    return instruction.strip()
