"""The noise of a device as a test states it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from summarybench.analysis.quantities import Quantity
from summarybench.stats.noise_parts import NoiseParts, Part

KNOWN = 1e9
"""Degrees of freedom of noise that is as good as known."""


class KnownNoise:
    """The same noise for all experiments: standard deviations that processes, nights and hosts add, and what is measured.

    `others` has the deviation between processes of other quantities than the speed, or of single experiments.
    """

    def __init__(
        self,
        process: float = 0.01,
        *,
        night: float = 0.0,
        host: float = 0.0,
        freedom: float = KNOWN,
        unmeasured: str = "",
        others: Mapping[str, float] | None = None,
        controls: Mapping[str, float] | None = None,
    ) -> None:
        self._added = (process, night, host)
        self._freedom = freedom
        self._unmeasured = unmeasured
        self._others = others or {}
        self._controls = controls or {}
        self.asked: list[tuple[str, Quantity, bool, str | None]] = []

    def parts(
        self,
        experiment: str,
        quantity: Quantity = Quantity.SPEED,
        *,
        tuned_alike: bool = False,
        host: str | None = None,
    ) -> NoiseParts:
        self.asked.append((experiment, quantity, tuned_alike, host))
        process, night, hosts = self._added
        process = self._others.get(experiment, self._others.get(quantity, process))
        return NoiseParts(
            process=self._part("process", process**2),
            night=self._part("night", process**2 + night**2),
            host=self._part("host", process**2 + night**2 + hosts**2),
        )

    def _part(self, name: str, variance: float) -> Part:
        share = 0.0 if name in self._unmeasured else 1.0
        return Part(variance=variance, degrees_of_freedom=self._freedom, measured_share=share)

    def control_deviations_like(self, entry: object, host: str | None) -> dict[str, float]:
        return dict(self._controls)


def write_replicates(
    folder: Path,
    deviation: float,
    *,
    experiment: str = "any",
    host: str = "any",
    runs: int = 10,
    one_night: bool = True,
    **keys: Any,
) -> None:
    """A spread.json as if `summarybench noise` had measured so many runs, in one night or one a night, by turns fast and slow.

    Other experiments of the same class, and other hosts, are judged by it too.
    """
    far = deviation * (math.sqrt((runs - 1) / runs) if one_night else math.sqrt(0.5))
    speeds = [100 * math.exp(far if number % 2 else -far) for number in range(runs)]
    group = {
        "experiment": experiment,
        "workload": "a workload",
        "weights": "hub",
        "max_new_tokens": 100,
        "host": host,
        "versions": {},
        "measured": [f"2026-11-01, process {number}" if one_night else f"night {number:04}" for number in range(runs)],
        "documents": 8,
        "generated_tokens_per_second": speeds,
        "speed_deviation": deviation,
        "document_deviation": 0.0,
        "first_token": {"speeds": speeds, "document_deviation": 0.0},
        "decode": {"speeds": speeds, "document_deviation": 0.0},
        "controls": {},
    }
    of_all = {"standard_deviation": deviation, "degrees_of_freedom": float(runs - 1)}
    (folder / "spread.json").write_text(json.dumps({"schema": 1, **of_all, "replicates": [group | keys]}))
