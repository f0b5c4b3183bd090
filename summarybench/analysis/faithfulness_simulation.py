"""How often the faithfulness gate fails without a loss, and how often it finds one: simulated.

A document's summary gains a new number with one probability and loses one with another. Without a loss both are equal over the
documents, and the gate should fail in at most 1% of sessions however rare, common or uneven the changes are. The hostile
truths: changes so rare that most samples have none, documents that change every time, documents each of which can only gain or
only lose, and sections of one article that change together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from summarybench.analysis.faithfulness_change import FAITHFULNESS_MARGIN
from summarybench.analysis.quality_change import INTERVAL_CONFIDENCE, MINIMUM_MORE_DOCUMENTS, QUALITY_LEVEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Changes = NDArray[np.int64]
    """+1 for a gain, −1 for a loss: [draws, documents]."""

DRAWS = 10_000
DOCUMENTS = (8, 20, 100)
TESTS_OF_SESSIONS = (1, 3, 36)
"""Tests of a session: one, a comparison's three, and those of twelve experiments."""
NET_LOSSES = (0.1, 0.2, 0.4)
"""Net shares of summaries that gain a new number."""
CLUSTER = 3
"""Sections of one article."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """How summaries change. `gain` and `loss` are probabilities, by document for `by_document`."""

    name: str
    gain: float
    loss: float
    how: str = "independent"


TRUTHS = (
    Truth(name="2% of the summaries change", gain=0.01, loss=0.01),
    Truth(name="20% change", gain=0.1, loss=0.1),
    Truth(name="all change", gain=0.5, loss=0.5),
    Truth(name="half can only gain, half only lose", gain=0.3, loss=0.3, how="divided"),
    Truth(name="one gains more often than ten lose", gain=0.3, loss=0.03, how="skewed"),
    Truth(name="20% change, sections of an article together", gain=0.1, loss=0.1, how="clustered"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaithfulnessRates:
    """Simulated rates for one truth and one number of documents; all shares, 0 to 1.

    `coverage` is of the 98% interval. `false_failures` are by the number of a session's tests, all of which are of this truth;
    `found` by the net loss that is added, in a session of one comparison, whose other two tests have not changed.
    """

    truth: str
    documents: int
    coverage: float
    false_failures: dict[int, float]
    found: dict[float, float]


def simulate_faithfulness() -> Iterator[FaithfulnessRates]:
    """The rates for each truth and each number of documents. The seed is fixed."""
    for truth in TRUTHS:
        for documents in DOCUMENTS:
            yield _rates(truth, documents)


def _rates(truth: Truth, documents: int) -> FaithfulnessRates:
    import numpy as np

    generator = np.random.default_rng(0)
    changes = DRAW[truth.how](truth, documents, generator)
    p_values = _p_values(changes)
    return FaithfulnessRates(
        truth=truth.name,
        documents=documents,
        coverage=_coverage(changes),
        # The smallest p-value of independent tests decides whether Holm's correction rejects any.
        false_failures={
            each: 1 - float(np.mean(p_values > QUALITY_LEVEL / each)) ** each for each in TESTS_OF_SESSIONS
        },
        found={
            loss: float(np.mean(_p_values(_with_loss(changes, loss, generator)) <= QUALITY_LEVEL))
            for loss in NET_LOSSES
        },
    )


def _independent(truth: Truth, documents: int, generator: np.random.Generator) -> Changes:
    return _drawn(generator.random((DRAWS, documents)), truth.gain, truth.loss)


def _divided(truth: Truth, documents: int, generator: np.random.Generator) -> Changes:
    """Every second document can only gain, and the others only lose."""
    import numpy as np

    is_first = np.arange(documents) % 2 == 0
    return _drawn(
        generator.random((DRAWS, documents)), np.where(is_first, truth.gain, 0), np.where(is_first, 0, truth.loss)
    )


def _skewed(truth: Truth, documents: int, generator: np.random.Generator) -> Changes:
    """One document in eleven gains often, and the others lose rarely: equal over the documents, which are drawn anew."""
    import numpy as np

    is_gaining = generator.random((DRAWS, documents)) < truth.loss / (truth.gain + truth.loss)
    return _drawn(
        generator.random((DRAWS, documents)), np.where(is_gaining, truth.gain, 0), np.where(is_gaining, 0, truth.loss)
    )


def _clustered(truth: Truth, documents: int, generator: np.random.Generator) -> Changes:
    """The sections of an article change together, in the same direction."""
    import numpy as np

    articles = -(-documents // CLUSTER)
    return np.repeat(_drawn(generator.random((DRAWS, articles)), truth.gain, truth.loss), CLUSTER, axis=1)[
        :, :documents
    ]


DRAW: dict[str, Callable[[Truth, int, np.random.Generator], Changes]] = {
    "independent": _independent,
    "divided": _divided,
    "skewed": _skewed,
    "clustered": _clustered,
}


def _drawn(uniform: Numbers, gain: float | Numbers, loss: float | Numbers) -> Changes:
    import numpy as np

    return np.where(uniform < gain, 1, np.where(uniform > 1 - np.asarray(loss), -1, 0))


def _with_loss(changes: Changes, loss: float, generator: np.random.Generator) -> Changes:
    """A share of the documents that would stay as they are, or improve, gain a new number instead."""
    import numpy as np

    share = loss / np.mean(changes < 1) if np.mean(changes < 1) else 0.0
    return np.where((changes < 1) & (generator.random(changes.shape) < share), np.minimum(changes + 1, 1), changes)


def _p_values(changes: Changes) -> Numbers:
    """`NovelChange.p_value` of each draw; 1 for a loss within the margin, which never fails."""
    import numpy as np
    from scipy.stats import binom

    more, fewer = (changes > 0).sum(axis=1), (changes < 0).sum(axis=1)
    is_relevant = (more - fewer >= FAITHFULNESS_MARGIN * changes.shape[1]) & (more - fewer >= MINIMUM_MORE_DOCUMENTS)
    found: Numbers = np.where(is_relevant, binom.sf(more - 1, more + fewer, 0.5), 1.0)
    return found


def _coverage(changes: Changes) -> float:
    """How often the interval holds 0: where Tango's statistic at 0, which is McNemar's, is within its quantiles."""
    import numpy as np
    from scipy.stats import norm

    more, fewer = (changes > 0).sum(axis=1), (changes < 0).sum(axis=1)
    scores = (more - fewer) / np.sqrt(np.maximum(more + fewer, 1))
    return float(np.mean(np.abs(scores) <= norm.ppf((1 + INTERVAL_CONFIDENCE) / 2)))
