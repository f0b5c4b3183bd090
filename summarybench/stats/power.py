"""The statistical power of the decision.

It says which slowdown a number of documents, runs and passes can detect.

The decision is `decision.is_regressed`, its threshold on the ratio included. With s_doc and s_run the standard deviations
of one document in one run and of one run,

    se² = s_doc²/n · (1/R_baseline + 1/R_now) + s_run² (1/R_baseline + 1/R_now)

The standard error is itself an estimate, with Welch and Satterthwaite's degrees of freedom ν: se² · χ²_ν / ν. The power of
one decision is then the noncentral t's (Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2, 1995,
ch. 31). A first pass that is confirmed makes two decisions, whose changes are correlated: the first pass is part of the
pooled passes, so that its change is the pooled change plus an independent difference between the passes.

There are two approximations. Both decisions share one χ², although only its part between runs is common to them. The
spread in spread.json counts as the true one.

Each of two passes must also be at or below the threshold on the ratio by itself. The changes of the two passes are the
pooled change plus and minus half their difference, which is independent of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from summarybench.stats.changes import Change
from summarybench.stats.decision import MOST_DOCUMENTS, MOST_RUNS, REGRESSION_RATIO, fewest
from summarybench.stats.intervals import ALARM_CONFIDENCE, student_quantile
from summarybench.stats.slowdowns import slowdown_of
from summarybench.stats.spread import Spread

DETECTION = 0.95
"""The probability with which a planned slowdown is to be detected."""
FALSE_ALARMS = 1 - ALARM_CONFIDENCE
TARGET_RATIO = 0.97
LOG_THRESHOLD = math.log(REGRESSION_RATIO)
CONFIRMED, POOLED = (1, 2), (2,)
"""The decisions of `--passes 1` and `--passes 2`, each given by the number of runs it pools. All must be REGRESSED."""
PASSES_OF_A_SESSION = 2
"""The most passes that `summarybench bench` measures. With more runs on a side, only the pooled runs are decided on."""
NODES = 64
"""Nodes of the Gauss–Legendre quadrature: probabilities agree with scipy's noncentral t within 0.0001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How one experiment is measured and decided.

    `document_deviation` is the standard deviation of one document in one run.
    """

    documents: int
    document_deviation: float
    spread: Spread
    baseline_runs: int
    decisions: tuple[int, ...]

    def change(self, runs_now: int) -> Change:
        """A change of zero, with the uncertainty that this design gives it."""
        return Change(
            log_ratio=0.0,
            document_deviation=self.document_deviation * math.sqrt(1 / self.baseline_runs + 1 / runs_now),
            documents=self.documents,
            noise=self.spread.terms(self.baseline_runs, runs_now),
            baseline_runs=self.baseline_runs,
            runs_now=runs_now,
        )


def detection_probability(design: Design, log_ratio: float, level: float = FALSE_ALARMS) -> float:
    """The probability that a change of this size is REGRESSED.

    Each decision's p-value is compared with `level`.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    pooled = design.change(design.decisions[-1])
    error = pooled.standard_error
    if error == 0:
        return float(log_ratio <= LOG_THRESHOLD)
    points, weights = np.polynomial.legendre.leggauss(NODES)
    points, weights = (points + 1) / 2, weights / 2  # on the unit interval
    scales = _error_scales(pooled.degrees_of_freedom, points)
    quantile = student_quantile(1 - level, pooled.degrees_of_freedom)
    likely = ndtr((_limit(quantile, error * scales) - log_ratio) / error)  # [scale]
    if design.decisions[-1] != PASSES_OF_A_SESSION:
        return float(weights @ likely)
    alone = design.change(1)
    between = math.sqrt(alone.standard_error**2 - error**2)  # deviation of half the difference between the passes
    changes = log_ratio + error * ndtri(np.outer(points, likely))  # [change, scale]: pooled changes that are REGRESSED
    decides_first = 1 in design.decisions
    limit = _limit(quantile, alone.standard_error * scales) if decides_first else LOG_THRESHOLD
    first_is_slow = ndtr((limit - changes) / between)
    second_is_not = ndtr((changes - LOG_THRESHOLD) / between)
    confirmed = np.maximum(first_is_slow - second_is_not, 0)
    return float((weights @ confirmed) @ (weights * likely))


def _error_scales(degrees_of_freedom: float, probabilities: Any) -> Any:
    """Quantiles of the estimated ÷ true standard error, √(χ²_ν / ν)."""
    import numpy as np
    from scipy.special import gammaincinv

    if math.isinf(degrees_of_freedom):
        return np.ones_like(probabilities)
    return np.sqrt(2 * gammaincinv(degrees_of_freedom / 2, probabilities) / degrees_of_freedom)


def _limit(quantile: float, errors: Any) -> Any:
    """The largest log ratios that are REGRESSED, given standard errors."""
    import numpy as np

    return np.minimum(LOG_THRESHOLD, -quantile * errors)


def smallest_slowdown(design: Design, level: float = FALSE_ALARMS) -> float:
    """The smallest slowdown (0.03 for 3%) that is REGRESSED with 95% probability."""
    from scipy.optimize import brentq

    def excess(log_ratio: float) -> float:
        return detection_probability(design, log_ratio, level) - DETECTION

    if excess(LOG_THRESHOLD) >= 0:
        return slowdown_of(REGRESSION_RATIO)
    far = 2 * LOG_THRESHOLD
    while excess(far) < 0:
        far *= 2
    return slowdown_of(math.exp(brentq(excess, far, LOG_THRESHOLD, xtol=1e-9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What would detect a slowdown that the design does not detect.

    Each number is None if no number of its kind does.

    `documents`: with the present runs and passes. `baseline_runs`: with two passes and the present documents. `runs`: on
    each side, with the present documents. `is_met` is True if the design already detects the slowdown.
    """

    is_met: bool = False
    documents: int | None = None
    baseline_runs: int | None = None
    runs: int | None = None


def need(design: Design, ratio: float = TARGET_RATIO) -> Need:
    """The fewest documents, or runs, that detect a change to this ratio.

    They detect it with 95% probability.
    """

    def detects(other: Design) -> bool:
        return detection_probability(other, math.log(ratio)) >= DETECTION

    def with_documents(number: int) -> bool:
        return detects(replace(design, documents=number))

    if detects(design):
        return Need(is_met=True)
    return Need(
        documents=fewest(design.documents, _enough(design.documents, with_documents), with_documents),
        baseline_runs=fewest(
            design.baseline_runs - 1,
            MOST_RUNS,
            lambda number: detects(replace(design, baseline_runs=number, decisions=POOLED)),
        ),
        runs=fewest(1, MOST_RUNS, lambda number: detects(replace(design, baseline_runs=number, decisions=(number,)))),
    )


def _enough(present: int, decides: Callable[[int], bool]) -> int:
    """A number of documents that decides, if one exists.

    The largest number need not decide: more documents reduce the documents' noise but also the degrees of freedom, and for
    a spread with few degrees of freedom Student's quantile grows faster than the standard error falls.
    """
    number = 2 * present
    while number < MOST_DOCUMENTS and not decides(number):
        number *= 2
    return min(number, MOST_DOCUMENTS)
