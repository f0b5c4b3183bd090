"""The noise between runs of unchanged code, estimated from replicates.

Each run is a fresh process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from summarybench.stats.noise_parts import Level, NoiseTerm
from summarybench.stats.timings import Timing, influences, log_speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The standard deviation of log(tokens per second) between runs.

    The runs are of unchanged code, in fresh processes. `is_prior` is True if a part of it was not measured.
    `degrees_of_freedom` is None if the spread is assumed rather than measured.
    """

    standard_deviation: float
    degrees_of_freedom: float | None = None
    is_prior: bool = False

    @property
    def is_assumed(self) -> bool:
        return self.is_prior or self.degrees_of_freedom is None

    def terms(self, baseline_runs: int, runs_now: int) -> tuple[NoiseTerm, ...]:
        """The variance of log(speed now ÷ baseline), for means of so many runs."""
        freedom = math.inf if self.degrees_of_freedom is None else self.degrees_of_freedom
        variance = self.standard_deviation**2 * (1 / baseline_runs + 1 / runs_now)
        return (
            NoiseTerm(
                level=Level.PROCESS,
                variance=variance,
                degrees_of_freedom=freedom,
                is_measured=not self.is_assumed,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """The variance components of several runs of one experiment.

    The runs have the same documents and the same host.

    `speed_variance` is the variance of log(tokens per second) between the runs. `document_variance` is the variance of one
    document in one run, around the document's mean and the run's mean; `speed_variance` contains 1 ÷ `documents` of it.
    """

    runs: int
    documents: int
    speed_variance: float
    document_variance: float

    @property
    def document_degrees_of_freedom(self) -> int:
        return (self.runs - 1) * (self.documents - 1)


def replicates_of(runs: Sequence[Sequence[Timing]]) -> Replicates:
    """Estimate the variances of a two-way layout, documents × runs.

    Each run has the same documents in the same order.

    Raises ValueError for fewer than 2 runs or documents, or for runs of unequal length.
    """
    documents = len(runs[0]) if runs else 0
    if len(runs) < 2 or documents < 2 or any(len(run) != documents for run in runs):
        raise ValueError(
            f"replicates are at least 2 runs of the same documents, at least 2: {[len(run) for run in runs]}"
        )
    by_document = list(zip(*(influences(run) for run in runs), strict=True))
    residuals = [influence - fmean(of_document) for of_document in by_document for influence in of_document]
    return Replicates(
        runs=len(runs),
        documents=documents,
        speed_variance=variance(log_speed(run) for run in runs),
        document_variance=math.fsum(each**2 for each in residuals) / ((len(runs) - 1) * (documents - 1)),
    )


def pooled_spread(groups: Sequence[Replicates]) -> Spread:
    """Pool all replicates of a device into one spread.

    It is the variance between runs minus the documents' part of it.

    The degrees of freedom are Satterthwaite's for a difference of mean squares (Searle, Casella and McCulloch, Variance
    Components, 1992, ch. 2). If the difference is smaller than its standard error, the standard error replaces it, so that
    no spread is claimed that is smaller than the replicates could show. Raises ValueError for no groups.
    """
    if not groups:
        raise ValueError("a spread needs replicates")
    runs_freedom = sum(group.runs - 1 for group in groups)
    total = math.fsum((group.runs - 1) * group.speed_variance for group in groups) / runs_freedom
    of_documents = (
        math.fsum((group.runs - 1) * group.document_variance / group.documents for group in groups) / runs_freedom
    )
    uncertain = total**2 / runs_freedom + math.fsum(
        ((group.runs - 1) / runs_freedom * group.document_variance / group.documents) ** 2
        / group.document_degrees_of_freedom
        for group in groups
    )
    between_runs = max(total - of_documents, math.sqrt(2 * uncertain))
    return Spread(
        standard_deviation=math.sqrt(between_runs),
        degrees_of_freedom=between_runs**2 / uncertain if uncertain > 0 else runs_freedom,
    )
