"""The experiments that are worth a choice: no other is better in both speed and quality, or speed and memory."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.report.experiment import ExperimentView


def frontier_of(experiments: Sequence[ExperimentView], *, scored: bool) -> tuple[ExperimentView, ...]:
    """The experiments that no other beats in both figures, slowest first.

    The figures are speed and ROUGE-1 if `scored`, otherwise speed and peak memory.
    """
    candidates = [(each, merit) for each in experiments if (merit := _merit(each, scored=scored)) is not None]

    def is_beaten(mine: tuple[float, float]) -> bool:
        return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for _, (a, b) in candidates)

    best = [(merit[0], each) for each, merit in candidates if not is_beaten(merit)]
    return tuple(each for _, each in sorted(best, key=lambda found: found[0]))


def _merit(experiment: ExperimentView, *, scored: bool) -> tuple[float, float] | None:
    """Speed and quality, or speed and saved memory: more is better in both. None where the latter is unknown."""
    speed, peak = float(experiment.info["generated_tokens_per_second"]), experiment.info["peak_memory_bytes"]
    if not scored:
        return None if peak is None else (speed, -float(peak))
    return None if experiment.rouge1 is None else (speed, experiment.rouge1)
