"""The suite's command-line options, declared once: pytest's `--help` and docs/reference/options.md both come from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from summarybench.documents.sources import DocumentSource


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `type`, `default`, `metavar`, `choices` and `action` are argparse's.

    `default_in_words` describes a default that depends on the device or on other options.
    """

    name: str
    meaning: str
    example: str = field(kw_only=True)
    is_everyday: bool = field(default=False, kw_only=True)
    default_in_words: str | None = field(default=None, kw_only=True)
    type: Callable[[str], Any] | None = field(default=None, kw_only=True)
    default: Any = field(default=None, kw_only=True)
    metavar: str | None = field(default=None, kw_only=True)
    choices: Sequence[Any] | None = field(default=None, kw_only=True)
    action: str | None = field(default=None, kw_only=True)

    @property
    def placeholder(self) -> str:
        """What stands for the value in a usage line; empty for a flag."""
        if self.action == "store_true":
            return ""
        return "|".join(map(str, self.choices)) if self.choices else self.metavar or "VALUE"

    @property
    def stated_default(self) -> str:
        if self.default_in_words:
            return self.default_in_words
        return "off" if self.action == "store_true" else str(self.default or "none")

    @property
    def help(self) -> str:
        """For argparse: the meaning, and the default where it is worth saying."""
        default = f" (default: {self.default_in_words})" if self.default_in_words else ""
        return f"{self.meaning}{default}".replace("%", "%%")

    @property
    def argparse_keywords(self) -> dict[str, Any]:
        names = ("type", "default", "metavar", "choices", "action")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**given, "help": self.help}


OPTIONS: tuple[Option, ...] = (
    Option(
        "--documents",
        "how many documents to summarize",
        example="--documents 20",
        is_everyday=True,
        default_in_words="100 on a GPU, 8 on a CPU",
        type=int,
        metavar="N",
    ),
    Option(
        "--seed",
        "which documents: the same seed draws the same ones everywhere",
        example="--seed 1",
        is_everyday=True,
        default_in_words="0",
        type=int,
        default=0,
        metavar="S",
    ),
    Option(
        "--max-new-tokens",
        "longest summary in tokens",
        example="--max-new-tokens 300",
        is_everyday=True,
        default_in_words="100 on a GPU, 48 on a CPU",
        type=int,
        metavar="N",
    ),
    Option(
        "--documents-file",
        "summarize the documents of a JSONL or parquet file in WikiLingua's schema",
        example="--documents-file articles.jsonl",
        is_everyday=True,
        type=Path,
        metavar="PATH",
    ),
    Option(
        "--document-source",
        "where documents come from",
        example="--document-source embedded",
        is_everyday=True,
        default_in_words="wikilingua for hub models, embedded for the embedded one",
        choices=[DocumentSource.WIKILINGUA.value, DocumentSource.EMBEDDED.value],
    ),
    Option(
        "--model-path",
        "take a model's safetensors and tokenizer from a local folder",
        example="--model-path llama2-7b-chat=/models/llama2",
        is_everyday=True,
        default=[],
        metavar="NAME=FOLDER",
        action="append",
    ),
    Option(
        "--fastest",
        "measure each precision in large batches instead of single documents, compiled where the device supports it",
        example="--fastest",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--weights",
        "synthetic: random weights of the true shape, for speed and memory without a download",
        example="--weights synthetic",
        is_everyday=True,
        default="published",
        choices=["published", "synthetic"],
    ),
    Option(
        "--tolerance",
        "a change within this counts as none",
        example="--tolerance 3%",
        is_everyday=True,
        default_in_words="5%",
        default="5%",
        metavar="SHARE",
    ),
    Option(
        "--require-baseline",
        "fail where there is no comparable baseline",
        example="--require-baseline",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--resume",
        "continue a run that was cut short, given by its results folder (such as results/latest); "
        "finished tests are taken over and the others measured; repeat the other options",
        example="--resume results/latest",
        is_everyday=True,
        type=Path,
        metavar="RUN",
    ),
    Option(
        "--plan",
        "measure nothing; print which slowdowns the chosen documents, baseline runs and passes can detect",
        example="--plan",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--rounds",
        "how often continuous batching is given all documents; a verdict needs 8",
        example="--rounds 8",
        default_in_words="8 on a GPU, 1 on a CPU",
        type=int,
        metavar="N",
    ),
    Option(
        "--max-prompt-tokens",
        "longer documents are truncated",
        example="--max-prompt-tokens 1024",
        default_in_words="2048",
        type=int,
        default=2048,
        metavar="N",
    ),
    Option(
        "--gpu-family",
        "treat this device as one of another family; such a run never becomes a baseline",
        example="--gpu-family t4",
        metavar="FAMILY",
    ),
    Option(
        "--memory-limit",
        "use at most this much of the device's memory; such a run never becomes a baseline",
        example="--memory-limit 14.6",
        type=float,
        metavar="GIB",
    ),
    Option(
        "--no-memory-prediction",
        "try experiments that are predicted not to fit",
        example="--no-memory-prediction",
        action="store_true",
    ),
    Option(
        "--baseline-runs",
        "compare with up to N stored runs: the newest, and older ones with the same versions",
        example="--baseline-runs 1",
        default_in_words="3",
        type=int,
        default=3,
        metavar="N",
    ),
    Option(
        "--passes",
        "2: `summarybench bench` (make bench) measures each experiment in two processes before it decides",
        example="--passes 2",
        default_in_words="1, again where it REGRESSED",
        type=int,
        default=1,
        choices=[1, 2],
    ),
    Option(
        "--student",
        "measure a model from `python -m distillation` (make distill) and its teacher; add -m student to measure nothing else",
        example="--student students/smollm2-15l",
        type=Path,
        default=[],
        metavar="FOLDER",
        action="append",
    ),
    Option(
        "--student-margin",
        "largest loss of ROUGE-1 that a student may have, as a share of its teacher's",
        example="--student-margin 5%",
        default_in_words="10%",
        default="10%",
        metavar="SHARE",
    ),
    Option(
        "--results-dir",
        "where each run leaves its folder",
        example="--results-dir /data/results",
        default_in_words="results",
        type=Path,
        metavar="FOLDER",
    ),
    Option(
        "--confirm",
        "measure again what REGRESSED in RUN; a test fails only if both passes together show a regression "
        "and neither pass alone has a ratio above 0.985",
        example="--confirm results/latest",
        type=Path,
        metavar="RUN",
    ),
)
"""Everyday options first."""
