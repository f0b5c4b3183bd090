"""Scores the summaries of a session with the models of --scorer, once all tests have ended and all models are released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from summarybench.core.cache import cache_folder
from summarybench.core.device_errors import is_device_lost, is_out_of_memory
from summarybench.core.numbers import counted
from summarybench.core.outcomes import CheckpointError, UnavailableError, first_line
from summarybench.documents.document import Document
from summarybench.engines.scorer_models import ScorerSource
from summarybench.engines.scorers import ScoredText, opened_scorer
from summarybench.measure.scoring import ScoreCache, score_texts, scores_record
from summarybench.runs.journal import JournalContents, read_journal
from summarybench.session.session import Session


def score_summaries(session: Session) -> None:
    """Score the summaries of every measured experiment, and journal the scores.

    Summaries of synthetic weights are left out, and so are those without the reference that a scorer needs. A scorer that
    cannot be loaded or runs out of memory is reported in one line; what was measured is kept.
    """
    scorers = session.config.settings.scorers
    if not scorers or session.lost:
        return
    journal = read_journal(session.results.journal.path)
    texts = dict(_texts(session, journal))
    for source in scorers:
        with session.progress.stage(
            f"scoring {counted(sum(map(len, texts.values())), 'summary', 'summaries')}: {source.name}"
        ):
            _score(session, source, texts)


def _score(session: Session, source: ScorerSource, texts: Mapping[str, Sequence[ScoredText]]) -> None:
    having = {
        nodeid: found
        for nodeid, found in texts.items()
        if not source.kind.needs_reference or any(text.reference for text in found)
    }
    every = [text for found in having.values() for text in found]
    try:
        scores = iter(
            score_texts(source, every, ScoreCache(cache_folder()), lambda: opened_scorer(source, session.device))
        )
    except (UnavailableError, CheckpointError) as error:
        session.progress.warn(f"--scorer {source.name}: no scores: {first_line(error)}")
        return
    except Exception as error:
        if not (is_out_of_memory(error) or is_device_lost(error)):
            raise
        session.progress.warn(f"--scorer {source.name}: no scores: {first_line(error)}")
        return
    for nodeid, found in having.items():
        record = scores_record(source, [next(scores) for _ in found])
        session.results.journal.append("scores", {"nodeid": nodeid, "scorer": source.name, "model_scores": record})


def _texts(session: Session, journal: JournalContents) -> Iterator[tuple[str, list[ScoredText]]]:
    """The texts of each experiment by nodeid, in document order; without experiments whose documents are not there."""
    infos: dict[str, Mapping[str, Any]] = {each["fullname"]: each["extra_info"] for each in journal.experiments}
    summaries = {(each["nodeid"], each["document_id"]): each["summary"] for each in journal.documents}
    models = {info["model"] for info in infos.values()}
    documents: dict[str, Document] = {each.id: each for each in session.sampler.documents(models)}
    for nodeid, info in infos.items():
        ids = info["document_ids"]
        if info["weights"] == "synthetic" or not all(each in documents for each in ids):
            continue
        yield (
            nodeid,
            [
                ScoredText(
                    document=documents[each].text,
                    summary=summaries[nodeid, each],
                    reference=documents[each].reference,
                )
                for each in ids
            ],
        )
