"""Scores summaries with models, once for each text: scores are kept in the cache folder by the digests of text and model."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from statistics import fmean

from summarybench.engines.scorer_models import ScorerSource
from summarybench.engines.scorers import ScoredText, Scorer
from summarybench.runs.extra_info import ModelScores

VERSION = 1
"""Raised when a scorer computes its scores in another way: cached ones are then computed anew."""
DATABASE = "scores.sqlite"


class ScoreCache:
    """Scores by key, in one file that several processes may use. Where it cannot be used, nothing is kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE

    def find(self, key: str) -> dict[str, float] | None:
        with suppress(OSError, sqlite3.Error, ValueError, TypeError), self._opened() as database:
            row = database.execute("SELECT scores FROM scores WHERE key = ?", (key,)).fetchone()
            return None if row is None else {str(name): float(value) for name, value in json.loads(row[0]).items()}
        return None

    def keep(self, key: str, scores: Mapping[str, float]) -> None:
        with suppress(OSError, sqlite3.Error), self._opened() as database:
            database.execute("INSERT OR REPLACE INTO scores VALUES (?, ?)", (key, json.dumps(dict(scores))))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, scores TEXT)")
            yield database


def key_of(source: ScorerSource, text: ScoredText) -> str:
    """Identifies the scores of one summary: by the scorer's kind and files, and by all texts that it may read."""
    parts = [VERSION, source.kind.value, source.digest, text.document, text.summary, text.reference]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def score_texts(
    source: ScorerSource,
    texts: Sequence[ScoredText],
    cache: ScoreCache,
    opened: Callable[[], AbstractContextManager[Scorer]],
) -> list[Mapping[str, float]]:
    """The scores of each text; none for a text without the reference that the scorer needs.

    The scorer is opened only if the cache lacks scores.
    """
    scored = [text if text.reference or not source.kind.needs_reference else None for text in texts]
    found = {key: cache.find(key) for key in (key_of(source, text) for text in scored if text)}
    if None in found.values():
        with opened() as scorer:
            for text in filter(None, scored):
                key = key_of(source, text)
                if found[key] is None:
                    found[key] = dict(scorer.score(text))
                    cache.keep(key, found[key] or {})
    return [(found[key_of(source, text)] or {}) if text else {} for text in scored]


def scores_record(source: ScorerSource, scores: Sequence[Mapping[str, float]]) -> ModelScores:
    """What the run file states about the scores of one experiment, in document order; at least one document has scores."""
    by_name = {name: [each.get(name) for each in scores] for name in source.kind.figures}
    return {
        "kind": source.kind.value,
        "source": source.source,
        "digest": source.digest,
        "means": {name: fmean(each for each in values if each is not None) for name, values in by_name.items()},
        "scores": by_name,
    }
