"""Scores that the models of --scorer gave: each name of a scorer makes figures of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Estimate, Figure, Format
from summarybench.runs.extra_info import ModelScores
from summarybench.stats.intervals import mean_interval

FORMAT = Format(spec=".3f", has_brackets=False)
DEFINITIONS = {
    "entailment": (
        "For each sentence of the summary, the highest probability that a sentence of the document entails it; the mean over "
        "the summary's sentences, then over documents"
    ),
    "precision": "BERTScore: how similar the most similar token of the reference is to each token of the summary",
    "recall": "BERTScore: how similar the most similar token of the summary is to each token of the reference",
    "f1": "BERTScore: the harmonic mean of precision and recall",
}


def figures_of(experiments: Sequence[ExperimentView]) -> list[Figure]:
    """The figures of all scorers that any of these experiments names, in the order in which they ran."""
    found = {key: figure for experiment in experiments for key, figure in _figures(experiment)}
    return list(found.values())


def _figures(experiment: ExperimentView) -> Iterator[tuple[str, Figure]]:
    for scorer, facts in experiment.info.get("model_scores", {}).items():
        for score in facts["means"]:
            figure = _figure(scorer, score, facts)
            yield figure.key, figure


def _figure(scorer: str, score: str, facts: ModelScores) -> Figure:
    heading = scorer if len(facts["means"]) == 1 else f"{scorer} {score}"
    return Figure(
        key=f"scorer-{scorer}-{score}".replace(".", "-").replace("_", "-"),
        name=f"{scorer}: {score}",
        heading=heading,
        short=heading.replace(" ", "\n"),
        format=FORMAT,
        better=Better.HIGHER,
        value=lambda experiment: _value(experiment, scorer, score),
        definition=f"{DEFINITIONS.get(score, score)}. By the model {facts['source']}, with its 95% interval by Student's t.",
    )


def _value(experiment: ExperimentView, scorer: str, score: str) -> Estimate | None:
    facts = experiment.info.get("model_scores", {}).get(scorer)
    if facts is None or score not in facts["means"]:
        return None
    interval = mean_interval([each for each in facts["scores"][score] if each is not None])
    return Estimate(facts["means"][score], *((interval.low, interval.high) if interval else (None, None)))
