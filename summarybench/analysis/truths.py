"""What may really happen to a benchmark from night to night, as the simulation of detection draws it."""

from __future__ import annotations

from dataclasses import dataclass

STORED_NIGHTS = 30
"""Nights that are stored before the first judged one. The reference of the history is settled by then."""
JUDGED_NIGHTS = 60
DOCUMENTS = 100
BASELINE_RUNS = 3
NOISES = (0.005, 0.02, 0.068)
"""The standard deviation of single runs on different nights. A quiet host, a usual one, and what eager loaders varied by on
the shared H100 hosts whose runs are in baselines/."""
DOCUMENT_SHARE = 0.2
"""The share of that variance that the documents have: what would become smaller with more of them."""
NIGHT_SHARE = 0.5
"""The share of the rest that all processes of a night have in common."""
HOST_DEVIATION = 0.10
"""Between hosts with the same GPU, as seen on H100 hosts."""
SLOWDOWNS = (0.02, 0.03, 0.05, 0.10)
"""Of the speed: 0.03 is a ratio of 0.97."""
SLIDE = 0.005
"""Of the speed, each night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One way in which runs of unchanged code differ. The defaults are what the rules assume.

    `tail_freedom` are the degrees of freedom of Student's t, with the same standard deviation; None for normal noise.
    `outlier_share` of all runs are 10% to 30% slower. `drift` is the standard deviation of what a run's mean gains or loses
    because its speed drifts from the first document to the last, in units of the noise. `later_noise` multiplies the noise of the
    judged nights, which is then larger than what was measured before them. With `is_moved`, the judged nights run on another
    host. `length_ratio` is the judged nights' output length ÷ the stored ones'.
    """

    name: str
    tail_freedom: float | None = None
    outlier_share: float = 0.0
    drift: float = 0.0
    night_share: float = NIGHT_SHARE
    later_noise: float = 1.0
    is_moved: bool = False
    length_ratio: float = 1.0

    @property
    def most_false_alarms(self) -> float:
        """The goal a night."""
        return 0.02 if self.later_noise > 1 else 0.01


AS_MEASURED = Truth(name="noise as measured")
TRUTHS = (
    AS_MEASURED,
    Truth(name="heavy tails (Student's t, 3 degrees of freedom)", tail_freedom=3.0),
    Truth(name="outliers: 5% of runs are 10–30% slower", outlier_share=0.05),
    Truth(name="speed drifts within a run", drift=1.0),
    Truth(name="nine tenths of the noise are shared by a night's passes", night_share=0.9),
    Truth(name="noise 1.5 times what was measured", later_noise=1.5),
    Truth(name="noise twice what was measured", later_noise=2.0),
    Truth(name="another host from the first judged night on", is_moved=True),
    Truth(name="outputs twice as long as the baseline's", length_ratio=2.0),
)
