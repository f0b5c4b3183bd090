"""The environments of the runs of a report, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from summarybench.core.numbers import MISSING, gib
from summarybench.machine.environment import VERSIONS
from summarybench.report.experiment import ExperimentView, Source

NAMES = {"host_name": "host", "cuda": "CUDA", "cpu": "CPU", "cpu_count": "CPU count", "python": "Python"}
"""The names of facts that are not their key with blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFact:
    """One fact, with its value in each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """The labels of the runs, and the facts with one value for each run."""

    runs: tuple[str, ...]
    facts: tuple[EnvironmentFact, ...]


def environments_of(sources: Sequence[Source], experiments: Sequence[ExperimentView]) -> Environments:
    """The environments of the runs and of the baselines that they were compared with, without facts that no run states."""
    found = {f"{source.tag} {source.stored.label}".strip(): source.stored.environment for source in sources}
    shown = {each.stored.path for each in sources}
    for each in experiments:
        if each.baseline is not None and each.baseline.path not in shown:
            found[each.baseline.label] = each.baseline.environment
    keys = dict.fromkeys(key for environment in found.values() for key in environment if key not in ("host", "host_id"))
    facts = tuple(
        EnvironmentFact(
            name=NAMES.get(key, key.removesuffix("_bytes").replace("_", " ")),
            values=tuple(_text(key, each.get(key)) for each in found.values()),
        )
        for key in keys
        if any(each.get(key) is not None for each in found.values())
    )
    return Environments(runs=tuple(found), facts=facts)


def versions_of(environment: Mapping[str, Any], names: Sequence[str] = VERSIONS) -> list[str]:
    """`torch 2.11.0` and so on, for the versions that the environment states."""
    return [f"{name} {environment[name]}" for name in names if environment.get(name) is not None]


def _text(key: str, value: Any) -> str:
    if value is None:
        return MISSING
    return f"{gib(value, 1)} GiB" if key.endswith("_bytes") else str(value)
