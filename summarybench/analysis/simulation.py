"""Draws the nights of many series: a host's, a night's, a process's and the documents' share of the noise.

Everything is a logarithm of tokens per second, relative to the unchanged code on the first host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from summarybench.analysis.truths import (
    DOCUMENT_SHARE,
    DOCUMENTS,
    HOST_DEVIATION,
    JUDGED_NIGHTS,
    SLIDE,
    STORED_NIGHTS,
    Truth,
)
from summarybench.stats.slowdowns import log_ratio_of

Numbers = NDArray[np.float64]
PASSES = 2
FIRST_TOKEN_SHARE = 0.25
"""The part of a document's seconds until its first token, at the baseline's output length."""
SMALLEST_OUTLIER, LARGEST_OUTLIER = 0.10, 0.30


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """Drawn nights, [trials, nights, passes]: stored ones, then judged ones.

    `log_speeds` are at the baseline's output lengths, which the suite judges. `raw_log_speeds` are tokens ÷ seconds and
    `log_seconds` those of a document, as plain rules see them. `document_deviation` is that of one document in one run.
    """

    log_speeds: Numbers
    raw_log_speeds: Numbers
    log_seconds: Numbers
    document_deviation: float
    is_moved: bool

    @property
    def document_variance(self) -> float:
        """What the documents add to the variance of one run's speed."""
        return self.document_deviation**2 / DOCUMENTS

    def slowed_by(self, slowdown: float) -> Nights:
        """The same nights with judged ones at 1 − `slowdown` of the speed."""
        return self._shifted(np.full(JUDGED_NIGHTS, log_ratio_of(slowdown)))

    def sliding(self) -> Nights:
        """The same nights, each judged one SLIDE slower than the one before."""
        return self._shifted(np.cumsum(np.full(JUDGED_NIGHTS, log_ratio_of(SLIDE))))

    def _shifted(self, log_ratios: Numbers) -> Nights:
        shift = np.concatenate([np.zeros(STORED_NIGHTS), log_ratios])[:, None]
        return replace(
            self,
            log_speeds=self.log_speeds + shift,
            raw_log_speeds=self.raw_log_speeds + shift,
            log_seconds=self.log_seconds - shift,
        )


def draw(truth: Truth, noise: float, trials: int, rng: np.random.Generator) -> Nights:
    """Nights of unchanged code. `noise` is the standard deviation of single runs on different nights."""
    nights = STORED_NIGHTS + JUDGED_NIGHTS
    of_documents, rest = DOCUMENT_SHARE * noise**2, (1 - DOCUMENT_SHARE) * noise**2
    of_night, of_process = truth.night_share * rest, (1 - truth.night_share) * rest
    log_speeds = _deviations(truth, of_night, (trials, nights, 1), rng)
    log_speeds = log_speeds + _deviations(truth, of_process, (trials, nights, PASSES), rng)
    log_speeds += math.sqrt(of_documents) * rng.standard_normal(log_speeds.shape)
    log_speeds += truth.drift * noise * rng.standard_normal(log_speeds.shape)
    log_speeds[:, STORED_NIGHTS:] *= truth.later_noise
    if truth.outlier_share:
        is_outlier = rng.random(log_speeds.shape) < truth.outlier_share
        size = rng.uniform(SMALLEST_OUTLIER, LARGEST_OUTLIER, log_speeds.shape)
        log_speeds += np.where(is_outlier, np.log1p(-size), 0.0)
    if truth.is_moved:
        hosts = HOST_DEVIATION * rng.standard_normal((trials, 2, 1, 1))
        log_speeds[:, STORED_NIGHTS:] += hosts[:, 1] - hosts[:, 0]
    longer = np.zeros((nights, 1))
    longer[STORED_NIGHTS:] = math.log(truth.length_ratio)
    seconds = np.where(longer, math.log(FIRST_TOKEN_SHARE + (1 - FIRST_TOKEN_SHARE) * truth.length_ratio), 0.0)
    # What a run's documents differ by grows with a drift within it: a line from −d to d has the deviation d ÷ √3.
    drift_within = truth.drift * noise / math.sqrt(3)
    return Nights(
        log_speeds=log_speeds,
        raw_log_speeds=log_speeds + longer - seconds,
        log_seconds=seconds - log_speeds,
        document_deviation=math.sqrt(of_documents * DOCUMENTS + drift_within**2),
        is_moved=truth.is_moved,
    )


def _deviations(truth: Truth, variance: float, shape: tuple[int, ...], rng: np.random.Generator) -> Numbers:
    if truth.tail_freedom is None:
        return math.sqrt(variance) * rng.standard_normal(shape)
    freedom = truth.tail_freedom
    scale = math.sqrt(variance * (freedom - 2) / freedom)  # Student's t has the variance ν ÷ (ν − 2)
    return scale * rng.standard_t(freedom, shape)
