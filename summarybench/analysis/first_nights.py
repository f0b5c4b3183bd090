"""The first nights of a host, whose noise is still assumed: how often the interval holds, and how often a night fails.

Nights of unchanged code, decided by the suite's own functions with the priors of an eager loader on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from summarybench.analysis.alarms import Verdicts, change_by_the_suite, verdict_fails
from summarybench.analysis.simulation import Nights, draw
from summarybench.analysis.truths import AS_MEASURED
from summarybench.stats.decision import is_regressed

TRUE_NOISES = (0.003, 0.01, 0.03, 0.05, 0.10)
"""The standard deviation of single runs on different nights. The prior is 5% between processes and 2% between nights."""
STORED_COUNTS = (1, 2, 4, 8, 20)
TRIALS = 1_000


def simulate_first_nights(
    seed: int, *, noises: Sequence[float] = TRUE_NOISES, trials: int = TRIALS
) -> list[dict[str, Any]]:
    """One row for each noise and number of stored nights.

    `coverage` is the share of 95% intervals that contain the true ratio, 1. `one_pass` and `two_passes` are the shares of nights
    that are REGRESSED: by one pass, and after a second one.
    """
    rows = []
    for noise in noises:
        nights = draw(AS_MEASURED, noise, trials, np.random.default_rng([seed, round(1e6 * noise)]))
        rows += [_row(nights, noise, stored) for stored in STORED_COUNTS]
    return rows


def _row(nights: Nights, noise: float, stored: int) -> dict[str, Any]:
    first = nights.log_speeds[:, :, 0]
    verdicts = Verdicts(alarmed=np.zeros(first.shape, dtype=np.bool_), speeds=first, bounds=np.zeros(first.shape))
    covers, one_pass, two_passes = [], [], []
    for trial in range(len(first)):
        change = change_by_the_suite(nights, verdicts, trial, stored)
        single = change(1)
        interval = single.interval()
        covers.append(interval.low <= 1 <= interval.high)
        one_pass.append(is_regressed(single))
        two_passes.append(one_pass[-1] and verdict_fails(change))
    return {
        "noise": noise,
        "stored_nights": stored,
        "trials": len(first),
        "coverage": fmean(covers),
        "one_pass": fmean(one_pass),
        "two_passes": fmean(two_passes),
    }
