"""How often the quality gate fails without a loss, and how often it finds one: simulated with real differences of ROUGE-1.

The differences are those between two loaders of one stored run. With their mean removed they are the differences of a change
that costs nothing; a loss is then subtracted from the summaries that differ. Each draw takes documents with replacement and is
judged as a session would judge it, by the same standard error, quantile and margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from summarybench.analysis.quality_change import (
    QUALITY_LEVEL,
    ROUGE1_MARGIN,
    TYPICAL_DEVIATION,
    TYPICAL_WEIGHT,
)
from summarybench.runs.run_file import Entry
from summarybench.stats.intervals import ALARM_CONFIDENCE, INTERVAL_CONFIDENCE, student_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

DRAWS = 20_000
DOCUMENTS = (8, 20, 100)
SESSIONS = (1, 3, 12)
"""Comparisons of a session: one, the three loaders of the embedded model, a night on a GPU."""
LOSSES = (0.03, 0.05, 0.10)
"""Losses of ROUGE-1 F1, 0 to 1."""
SHARES_CHANGED = (1.0, 0.5, 0.1)
"""Shares of the summaries that a change alters: all by a quantization, few by another kernel."""
LARGEST_LOSS = 0.18
"""The mean ROUGE-1 of the embedded model: a summary that has changed cannot lose more on average."""
FLOOR_DOCUMENTS = (24, 100, 400)
RELATIVE_LOSSES = (0.1, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRates:
    """Simulated rates for one share of changed summaries and one number of documents; all shares, 0 to 1.

    `coverage` is of the 95% interval of the mean difference. `false_failures` are by the number of a session's comparisons,
    all of which changed without a loss; `found` by the loss, in a session of one comparison, where the changed summaries can lose
    so much. Only draws in which at least one summary has changed count: without a changed text nothing is compared.
    """

    share_changed: float
    documents: int
    coverage: float
    false_failures: dict[int, float]
    found: dict[float, float]


def paired_scores(entries: Sequence[Entry]) -> list[float]:
    """The differences of ROUGE-1 between the quantized loader that differs most and the first loader of the same documents.

    Empty if no two experiments of a kind scored the same documents.
    """
    found: list[float] = []
    for entry in entries:
        first = next((each for each in entries if each.kind.name == entry.kind.name and each.texts), None)
        if first is None or first is entry or first.texts.keys() != entry.texts.keys():
            continue
        differences = [entry.texts[each].rouge1 - first.texts[each].rouge1 for each in entry.texts]
        if _count(differences) > _count(found):
            found = differences
    return found


def _count(differences: Sequence[float]) -> int:
    return sum(each != 0 for each in differences)


def simulate(differences: Sequence[float]) -> Iterator[QualityRates]:
    """The rates for each share of changed summaries and each number of documents. The seed is fixed.

    The shape of real differences is not symmetrical, and a loader may stand on either side: of the two directions, the worse
    coverage and the more false failures are reported, and the smaller rate of losses that are found.
    """
    for share in SHARES_CHANGED:
        for documents in DOCUMENTS:
            one, other = (_rates([sign * each for each in differences], share, documents) for sign in (1, -1))
            yield QualityRates(
                share_changed=share,
                documents=documents,
                coverage=min(one.coverage, other.coverage),
                false_failures={
                    each: max(one.false_failures[each], other.false_failures[each]) for each in one.false_failures
                },
                found={each: min(one.found[each], other.found[each]) for each in one.found},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorRates:
    """How often a floor fails a model as good as the floor's, and one that lost a share of its ROUGE-1 (by the share)."""

    documents: int
    false_failures: float
    found: dict[float, float]


def simulate_floor(scores: Sequence[float], floor_documents: int) -> Iterator[FloorRates]:
    """The rates of a floor that is the mean of so many documents, for samples of other documents. The seed is fixed."""
    import numpy as np

    generator = np.random.default_rng(0)
    floors = generator.choice(np.asarray(scores), (DRAWS, floor_documents)).mean(axis=1)
    for documents in FLOOR_DOCUMENTS:
        draws = generator.choice(np.asarray(scores), (DRAWS, documents))
        fails = [_fails(draws * (1 - loss), floors, floor_documents) for loss in (0.0, *RELATIVE_LOSSES)]
        yield FloorRates(
            documents=documents,
            false_failures=fails[0],
            found=dict(zip(RELATIVE_LOSSES, fails[1:], strict=True)),
        )


def _fails(draws: Numbers, floors: Numbers, floor_documents: int) -> float:
    """The share of draws, [draws, documents], whose upper bound is below the floor."""
    import numpy as np

    documents = draws.shape[1]
    error = draws.std(axis=1, ddof=1) * np.sqrt(1 / documents + 1 / floor_documents)
    bounds = draws.mean(axis=1) + student_quantile(ALARM_CONFIDENCE, documents - 1) * error
    return float(np.mean(bounds < floors))


def _rates(differences: Sequence[float], share: float, documents: int) -> QualityRates:
    import numpy as np
    from scipy.stats import t

    generator = np.random.default_rng(0)
    centred = np.asarray(differences) - np.mean(differences)
    draws = generator.choice(centred, (DRAWS, documents))
    is_changed = generator.random((DRAWS, documents)) < share
    is_changed = is_changed[is_changed.any(axis=1)]
    draws = np.where(is_changed, draws[: len(is_changed)], 0.0)
    mean, error = draws.mean(axis=1), _standard_errors(draws)
    reach = t.ppf((1 + INTERVAL_CONFIDENCE) / 2, documents - 1) * error
    p_values = _p_values(draws)
    return QualityRates(
        share_changed=share,
        documents=documents,
        coverage=float(np.mean(np.abs(mean) <= reach)),
        # The smallest p-value of independent comparisons decides whether Holm's correction rejects any.
        false_failures={each: 1 - float(np.mean(p_values > QUALITY_LEVEL / each)) ** each for each in SESSIONS},
        found={
            loss: float(np.mean(_p_values(draws - np.where(is_changed, loss / share, 0.0)) <= QUALITY_LEVEL))
            for loss in LOSSES
            if loss / share <= LARGEST_LOSS
        },
    )


def _standard_errors(draws: Numbers) -> Numbers:
    """`PairedDifference.standard_error` of each draw, [draws, documents]."""
    import numpy as np

    documents = draws.shape[1]
    squares = (documents - 1) * draws.var(axis=1, ddof=1) + TYPICAL_WEIGHT * TYPICAL_DEVIATION**2
    errors: Numbers = np.sqrt(squares / (documents - 1 + TYPICAL_WEIGHT) / documents)
    return errors


def _p_values(draws: Numbers) -> Numbers:
    """The p-value of ROUGE-1 in each draw; 1 for a loss within the margin, which never fails."""
    import numpy as np
    from scipy.stats import t

    mean = draws.mean(axis=1)
    p_values: Numbers = np.where(mean <= -ROUGE1_MARGIN, t.cdf(mean / _standard_errors(draws), draws.shape[1] - 1), 1.0)
    return p_values
