"""The experiments that are worth a choice: no other is better in both figures of the trade-off chart."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.cost import cost_per_thousand_documents


def frontier_of(
    experiments: Sequence[ExperimentView], *, scored: bool, priced: bool = False
) -> tuple[ExperimentView, ...]:
    """The experiments that no other beats in both figures, slowest or dearest first.

    The first figure is the cost of 1,000 documents if `priced`, otherwise speed. The second is ROUGE-1 if `scored`,
    otherwise peak memory.
    """
    candidates = [
        (each, merit) for each in experiments if (merit := _merit(each, scored=scored, priced=priced)) is not None
    ]

    def is_beaten(mine: tuple[float, float]) -> bool:
        return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for _, (a, b) in candidates)

    best = [(merit[0], each) for each, merit in candidates if not is_beaten(merit)]
    return tuple(each for _, each in sorted(best, key=lambda found: found[0]))


def _merit(experiment: ExperimentView, *, scored: bool, priced: bool) -> tuple[float, float] | None:
    """Speed or saved money, and quality or saved memory: more is better in both. None where either is unknown."""
    spent = cost_per_thousand_documents(experiment) if priced else None
    first = float(experiment.info["generated_tokens_per_second"]) if not priced else None if spent is None else -spent
    peak = experiment.info["peak_memory_bytes"]
    second = experiment.rouge1 if scored else None if peak is None else -float(peak)
    return None if first is None or second is None else (first, second)
