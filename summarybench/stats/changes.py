"""Pure functions: percentiles, intervals, and the decision whether a change of speed is one. No clock, no file, no torch.

The speed of a run is a ratio of sums, tokens ÷ seconds; its change is measured on the logarithm, paired by document:

    d    = log(generated tokens per second now ÷ baseline)
    se²  = s_doc²/n + s_run² (1/R_baseline + 1/R_now)

s_doc is the standard deviation over documents of the linearized d (Cochran, Sampling Techniques, 3rd ed., ch. 6: the
variance of a ratio estimator); s_run is the standard deviation of one run of the same thing in a fresh process. The
degrees of freedom of the sum are Welch and Satterthwaite's.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement
from statistics import fmean, median, quantiles, stdev, variance

from summarybench.core.outcomes import Verdict

REGRESSION_RATIO = 0.985
"""A slowdown of less than this is not worth an alarm, however certain it is."""
IMPROVEMENT_RATIO = 1 / REGRESSION_RATIO
"""The mirror image of REGRESSION_RATIO."""
ALARM_CONFIDENCE = 0.99
INTERVAL_CONFIDENCE = 0.95
MINIMUM_COMMON_DOCUMENTS = 8
MOST_VALUES_EXACTLY = 200
"""Beyond it Wilcoxon's distribution takes seconds, and the normal one is within 3% of its probabilities from 0.5% on."""
MOST_DOCUMENTS, MOST_RUNS = 1_000_000, 1_000
"""More than anybody would measure: what these do not decide, nothing does."""


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The given percentile, interpolated linearly (as numpy's default), in the unit of `values`.

    None where fewer values than 100 ÷ (100 − percent) are there: the p95 of 8 documents would be their maximum by
    another name.
    """
    if len(values) < max(2, 100 / (100 - percent)):
        return None
    return quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A range that holds the quantity with this two-sided confidence."""

    low: float
    high: float
    confidence: float


def bootstrap_mean_interval(values: Sequence[float], confidence: float = INTERVAL_CONFIDENCE) -> Interval | None:
    """The percentile bootstrap interval of the mean (9,999 resamples, a fixed seed); None for fewer than 2 values."""
    if len(values) < 2:
        return None
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), fmean, vectorized=False, n_resamples=9_999, confidence_level=confidence, method="percentile", rng=0
    )
    return Interval(
        low=float(found.confidence_interval.low), high=float(found.confidence_interval.high), confidence=confidence
    )


def mean_upper_bound(values: Sequence[float], confidence: float = ALARM_CONFIDENCE) -> float:
    """The one-sided upper bound of the mean, Student's t: a bootstrap of few values is too narrow at 99%.

    Infinite for fewer than 2 values, which bound nothing.
    """
    if len(values) < 2:
        return math.inf
    return fmean(values) + student_quantile(confidence, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def percent(deviation: float) -> str:
    """6.8% and 0.03%: with a digit more where there would be none."""
    return f"{deviation:.1%}" if not 0 < deviation < 0.001 else f"{deviation:.2%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The standard deviation of log(tokens per second) between runs of one thing in fresh processes.

    `degrees_of_freedom` is None where the spread is assumed and not measured. `is_of_host` says that all of those runs were
    one host's, and not of several hosts with the same device; `is_of_tunings`, that a compiler tuned kernels anew between them.
    """

    standard_deviation: float
    degrees_of_freedom: float | None = None
    is_of_host: bool = False
    is_of_tunings: bool = False

    @property
    def is_assumed(self) -> bool:
        return self.degrees_of_freedom is None

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""
        found = "assumed" if self.is_assumed else "measured on this host" if self.is_of_host else "measured"
        return f"{found} (kernels tuned apart)" if self.is_of_tunings else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One document in one run: how many tokens were generated in how many seconds."""

    tokens: int
    seconds: float

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0 < self.seconds < math.inf:
            raise ValueError(f"a timing needs tokens and seconds above zero: {self.tokens} tokens, {self.seconds} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of generated tokens per second against a baseline, and how uncertain it is.

    `pass_ratios` holds the ratio of each pass alone to the same baseline; it is empty where there is only one pass.
    """

    log_ratio: float
    document_deviation: float
    documents: int
    spread: Spread
    baseline_runs: int = 1
    runs_now: int = 1
    pass_ratios: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        return math.exp(self.log_ratio)

    @property
    def _document_variance(self) -> float:
        return self.document_deviation**2 / self.documents

    @property
    def _run_variance(self) -> float:
        return self.spread.standard_deviation**2 * (1 / self.baseline_runs + 1 / self.runs_now)

    @property
    def standard_error(self) -> float:
        return math.sqrt(self._document_variance + self._run_variance)

    @property
    def degrees_of_freedom(self) -> float:
        """Welch–Satterthwaite; an assumed spread counts as known."""
        uncertain = self._document_variance**2 / (self.documents - 1)
        if self.spread.degrees_of_freedom is not None:
            uncertain += self._run_variance**2 / self.spread.degrees_of_freedom
        return self.standard_error**4 / uncertain if uncertain > 0 else math.inf

    def upper_bound(self, confidence: float) -> float:
        """The one-sided upper bound of the ratio."""
        return math.exp(self.log_ratio + student_quantile(confidence, self.degrees_of_freedom) * self.standard_error)

    def lower_bound(self, confidence: float) -> float:
        """The one-sided lower bound of the ratio."""
        return math.exp(self.log_ratio - student_quantile(confidence, self.degrees_of_freedom) * self.standard_error)

    @property
    def p_value(self) -> float:
        """How likely unchanged code shows a slowdown like this or a larger one."""
        from scipy.stats import t

        error = self.standard_error
        if error == 0:
            return 1.0 if self.log_ratio >= 0 else 0.0
        return float(t.cdf(self.log_ratio / error, self.degrees_of_freedom))

    def interval(self, confidence: float = INTERVAL_CONFIDENCE) -> Interval:
        """The two-sided interval of the ratio."""
        one_sided = (1 + confidence) / 2
        return Interval(low=self.lower_bound(one_sided), high=self.upper_bound(one_sided), confidence=confidence)


def paired_change(
    now: Sequence[Timing], baseline: Sequence[Timing], spread: Spread, *, baseline_runs: int = 1, runs_now: int = 1
) -> Change:
    """The change over documents that both runs measured, given in the same order.

    Raises ValueError where the two differ in length or hold fewer than 2 documents.
    """
    if len(now) != len(baseline) or len(now) < 2:
        raise ValueError(
            f"a paired change needs the same documents, at least 2: {len(now)} now, {len(baseline)} in the baseline"
        )
    log_ratio = _log_speed(now) - _log_speed(baseline)
    differences = [a - b for a, b in zip(_influences(now), _influences(baseline), strict=True)]
    return Change(
        log_ratio=log_ratio,
        document_deviation=stdev(differences),
        documents=len(now),
        spread=spread,
        baseline_runs=baseline_runs,
        runs_now=runs_now,
    )


def pooled_change(passes: Sequence[Sequence[Timing]], baseline: Sequence[Sequence[Timing]], spread: Spread) -> Change:
    """The change of several passes pooled, against several baseline runs pooled, with the ratio of each pass alone.

    Every run holds the same documents in the same order. Raises ValueError as `paired_change` does.
    """
    pooled_baseline = added_up(baseline)
    change = paired_change(added_up(passes), pooled_baseline, spread, baseline_runs=len(baseline), runs_now=len(passes))
    if len(passes) == 1:
        return change
    return replace(change, pass_ratios=tuple(speed_ratio(each, pooled_baseline) for each in passes))


def speed_ratio(now: Sequence[Timing], baseline: Sequence[Timing]) -> float:
    """Tokens per second now ÷ those of the baseline."""
    return math.exp(_log_speed(now) - _log_speed(baseline))


def _log_speed(timings: Sequence[Timing]) -> float:
    return math.log(sum(timing.tokens for timing in timings) / math.fsum(timing.seconds for timing in timings))


def _influences(timings: Sequence[Timing]) -> list[float]:
    """How much each document moves log(Σ tokens ÷ Σ seconds), to first order, times n."""
    mean_tokens = fmean(timing.tokens for timing in timings)
    mean_seconds = fmean(timing.seconds for timing in timings)
    return [timing.tokens / mean_tokens - timing.seconds / mean_seconds for timing in timings]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalChange:
    """The change of a typical document's tokens per second, whatever disturbs a few of them.

    Hodges and Lehmann's estimate with the exact interval that Wilcoxon's signed-rank test does not reject (Hollander,
    Wolfe and Chicken, Nonparametric Statistical Methods, 3rd ed., 2014, sections 3.2 and 3.3). Of the documents' log
    ratios it assumes that they are independent and spread evenly to both sides, not that they are normal.
    """

    walsh_averages: tuple[float, ...]
    """Of each two log ratios, and of each with itself; ascending."""
    documents: int

    @property
    def ratio(self) -> float:
        return math.exp(median(self.walsh_averages))

    def lower_bound(self, confidence: float) -> float | None:
        """The one-sided lower bound of the ratio; None where so few documents have none (99% needs 7)."""
        rank = bounding_rank(self.documents, confidence)
        return math.exp(self.walsh_averages[rank - 1]) if rank else None

    def upper_bound(self, confidence: float) -> float | None:
        """The one-sided upper bound of the ratio; None as in `lower_bound`."""
        rank = bounding_rank(self.documents, confidence)
        return math.exp(self.walsh_averages[-rank]) if rank else None

    def interval(self, confidence: float = INTERVAL_CONFIDENCE) -> Interval | None:
        """The two-sided interval of the ratio; None as in `lower_bound` (95% needs 6)."""
        one_sided = (1 + confidence) / 2
        low, high = self.lower_bound(one_sided), self.upper_bound(one_sided)
        return None if low is None or high is None else Interval(low=low, high=high, confidence=confidence)


def typical_change(now: Sequence[Timing], baseline: Sequence[Timing]) -> TypicalChange:
    """The change over documents that both sides measured, given in the same order.

    Raises ValueError where the two differ in length or are empty.
    """
    if len(now) != len(baseline) or not now:
        raise ValueError(f"a typical change needs the same documents: {len(now)} now, {len(baseline)} in the baseline")
    ratios = [_log_speed([a]) - _log_speed([b]) for a, b in zip(now, baseline, strict=True)]
    averages = ((a + b) / 2 for a, b in combinations_with_replacement(ratios, 2))
    return TypicalChange(walsh_averages=tuple(sorted(averages)), documents=len(ratios))


@cache
def bounding_rank(values: int, confidence: float) -> int:
    """Which Walsh average, counted from the lowest or the highest, bounds the middle of so many values on one side.

    The largest k with P(T⁺ ≤ k − 1) ≤ 1 − confidence; 0 where not even the outermost one bounds it.
    """
    allowed = (1 - confidence) * (1 + 1e-9)  # what a float makes of 1 − 0.975 is not what decides
    averages = values * (values + 1) // 2
    return bisect_right(range(averages), allowed, key=lambda most: signed_rank_probability(most, values))


def signed_rank_probability(most: int, values: int) -> float:
    """P(T⁺ ≤ most): how likely the ranks of the positive ones among so many values around zero add up to no more."""
    from scipy.stats import wilcoxon

    signed, left = [], most
    for rank in range(values, 0, -1):  # values whose T⁺ is `most`
        signed.append(rank if rank <= left else -rank)
        left -= max(signed[-1], 0)
    method = "exact" if values <= MOST_VALUES_EXACTLY else "asymptotic"
    return float(wilcoxon(signed, alternative="less", method=method, correction=True).pvalue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Runs of one experiment over the same documents on one host, taken apart into what runs and what documents vary by.

    `speed_variance` is that of log(tokens per second) between the runs; `document_variance` that of one document in one
    run around its own mean and its run's, of which `speed_variance` contains 1 ÷ `documents`.
    """

    runs: int
    documents: int
    speed_variance: float
    document_variance: float

    @property
    def document_degrees_of_freedom(self) -> int:
        return (self.runs - 1) * (self.documents - 1)


def replicates_of(runs: Sequence[Sequence[Timing]]) -> Replicates:
    """The two variances of a two-way layout, documents × runs; each run has the same documents in the same order.

    Raises ValueError for fewer than 2 runs or documents, or runs of unequal length.
    """
    documents = len(runs[0]) if runs else 0
    if len(runs) < 2 or documents < 2 or any(len(run) != documents for run in runs):
        raise ValueError(
            f"replicates are at least 2 runs of the same documents, at least 2: {[len(run) for run in runs]}"
        )
    by_document = list(zip(*(_influences(run) for run in runs), strict=True))
    residuals = [influence - fmean(influences) for influences in by_document for influence in influences]
    return Replicates(
        runs=len(runs),
        documents=documents,
        speed_variance=variance(_log_speed(run) for run in runs),
        document_variance=math.fsum(each**2 for each in residuals) / ((len(runs) - 1) * (documents - 1)),
    )


def pooled_spread(groups: Sequence[Replicates]) -> Spread:
    """The spread between runs of a device, from all its replicates: the variance between runs less the documents' part.

    Satterthwaite's degrees of freedom for a difference of mean squares (Searle, Casella and McCulloch, Variance
    Components, 1992, ch. 2). Where the documents' part covers the runs', the difference is not told from zero: its
    standard error then stands in its place, so that a spread is never claimed to be smaller than could be seen.
    Raises ValueError for no groups.
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


def added_up(runs: Sequence[Sequence[Timing]]) -> list[Timing]:
    """Several runs of the same documents, given in the same order, as one: a document's tokens and seconds added up."""
    return [
        Timing(tokens=sum(each.tokens for each in passes), seconds=math.fsum(each.seconds for each in passes))
        for passes in zip(*runs, strict=True)
    ]


def is_regressed(change: Change) -> bool:
    """Whether a change is a slowdown that is worth an alarm, surely one, and slow in each pass alone."""
    return _is_slower(change) and is_slow_in_each_pass(change.pass_ratios)


def is_slow_in_each_pass(pass_ratios: Sequence[float]) -> bool:
    """Whether no pass alone is above REGRESSION_RATIO; True where there is only one pass.

    A single disturbed pass can slow the pooled speed by any amount, and the spread between runs does not cover it. A slowdown
    of the code shows in every pass.
    """
    return all(ratio <= REGRESSION_RATIO for ratio in pass_ratios)


def contradicted_verdict(change: Change) -> Verdict | None:
    """The verdict that the pooled passes ask for and that one of the passes alone contradicts; None without such a conflict."""
    if _is_slower(change) and not is_slow_in_each_pass(change.pass_ratios):
        return Verdict.REGRESSED
    if _is_faster(change) and not _is_fast_in_each_pass(change.pass_ratios):
        return Verdict.IMPROVED
    return None


def _is_slower(change: Change) -> bool:
    return change.ratio <= REGRESSION_RATIO and change.upper_bound(ALARM_CONFIDENCE) < 1


def _is_faster(change: Change) -> bool:
    return change.ratio >= IMPROVEMENT_RATIO and change.lower_bound(ALARM_CONFIDENCE) > 1


def _is_fast_in_each_pass(pass_ratios: Sequence[float]) -> bool:
    return all(ratio >= IMPROVEMENT_RATIO for ratio in pass_ratios)


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several null hypotheses are rejected so that at most `level` of all sessions reject a true one.

    Holm, Scandinavian Journal of Statistics 6 (1979): the smallest p-value is held against level ÷ their number, the
    next against level ÷ one less, until one is not rejected.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def decide(change: Change, tolerance: float) -> Verdict:
    """The verdict on a change; `tolerance` is the relative change that counts as none (0.05 for 5%).

    Passes that contradict each other decide nothing: REGRESSED and IMPROVED must show in each pass alone.
    """
    if contradicted_verdict(change):
        return Verdict.INCONCLUSIVE
    if _is_slower(change):
        return Verdict.REGRESSED
    if _is_faster(change):
        return Verdict.IMPROVED
    interval = change.interval()
    if 1 - tolerance <= interval.low and interval.high <= 1 + tolerance:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What would turn an inconclusive change into a verdict, if it stays as large as it was seen.

    `documents` with the runs there are, or None where no number of documents decides; `runs` (on each side) with the
    documents there are, or None where no number of runs does.
    """

    documents: int | None
    runs: int | None


def remedy(change: Change, tolerance: float) -> Remedy:
    """The fewest documents, or runs on each side, that would decide."""

    def is_decided(larger: Change) -> bool:
        return decide(larger, tolerance) is not Verdict.INCONCLUSIVE

    return Remedy(
        documents=fewest(
            change.documents, MOST_DOCUMENTS, lambda number: is_decided(replace(change, documents=number))
        ),
        runs=fewest(
            min(change.baseline_runs, change.runs_now),
            MOST_RUNS,
            lambda number: is_decided(replace(change, baseline_runs=number, runs_now=number)),
        ),
    )


def fewest(present: int, most: int, decides: Callable[[int], bool]) -> int | None:
    """The smallest number above `present` that decides; None where not even `most` does."""
    if not decides(most):
        return None
    below, above = present, present + 1
    while not decides(above):
        below, above = above, min(2 * above, most)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if decides(middle) else (middle, above)
    return above


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """The quantile of Student's t; `degrees_of_freedom` may be infinite."""
    from scipy.stats import t

    return float(t.ppf(probability, degrees_of_freedom))


WITHIN_ONE_PROCESS = Spread(standard_deviation=0.0)
"""Both sides share the process, so that no spread between runs stands between them."""
