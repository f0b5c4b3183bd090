"""Which texts become training and validation examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from distillation.settings import DistillSettings
from distillation.summaries import TRAINING, VALIDATION
from summarybench.core.numbers import percent
from summarybench.core.outcomes import InputError

REPEATED_TOKENS = 8
"""Length of a token sequence that counts as repeated. Names and phrases, which may recur, are shorter."""

Example = Mapping[str, Any]
"""A row of summaries.parquet: see `summaries._row`."""


def select_examples(rows: Sequence[Example], role: str, settings: DistillSettings) -> list[Example]:
    """The usable texts of one role.

    Empty and repeating texts are dropped; repeating ones are kept if the student unlearns repetition. --finished-only
    drops texts that reached the token limit, --least-overlap drops summaries that share few word pairs with their text.
    """
    least = settings.least_overlap
    kept = ("", "repeating") if settings.trains_on_repeating else ("",)
    return [
        row
        for row in rows
        if row["role"] == role
        and row["dropped"] in kept
        and not (settings.finished_only and row["hit_cap"])
        and (not least or row["task"] != "summarize" or overlap(row["output"], row["text"]) >= least)
    ]


def training_and_validation(rows: Sequence[Example], settings: DistillSettings) -> tuple[list[Example], list[Example]]:
    """The examples of both roles. Raises InputError if either has none."""
    training, validation = (select_examples(rows, role, settings) for role in (TRAINING, VALIDATION))
    if not training or not validation:
        others = "empty" if settings.trains_on_repeating else "empty or repeating"
        if settings.least_overlap:
            others += f", or below --least-overlap {percent(settings.least_overlap)}"
        if settings.finished_only:
            others += ", or reached the token limit (--finished-only)"
        raise InputError(
            f"{len(training)} training texts and {len(validation)} validation texts are usable, and at least one of each is needed "
            f"(the others are {others}); raise --documents or choose another --teacher"
        )
    return training, validation


def overlap(summary: str, text: str) -> float:
    """The share of a summary's word pairs that its text has too.

    Pairs count as often as they occur. A summary without pairs has 0.

    This is the precision of ROUGE-2 (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"), with the
    tokens of rouge_score. Its scorer takes 4 ms a text, too long for tens of thousands of them.
    """
    from rouge_score.tokenize import tokenize

    pairs, offered = (Counter(pairwise(tokenize(each, None))) for each in (summary, text))
    return (pairs & offered).total() / max(1, pairs.total())


def repeated_tokens(ids: Sequence[int]) -> list[bool]:
    """For each token, whether it is part of a repeated sequence.

    That is a sequence of REPEATED_TOKENS tokens that occurred earlier in the text.
    """
    seen: set[tuple[int, ...]] = set()
    repeated = [False] * len(ids)
    for start in range(len(ids) - REPEATED_TOKENS + 1):
        sequence = tuple(ids[start : start + REPEATED_TOKENS])
        if sequence in seen:
            repeated[start : start + REPEATED_TOKENS] = [True] * REPEATED_TOKENS
        seen.add(sequence)
    return repeated
