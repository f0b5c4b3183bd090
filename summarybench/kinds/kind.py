"""What every kind of benchmark declares, and the defaults that most kinds keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from summarybench.catalogue.models import Experiment
from summarybench.core.option import Option
from summarybench.core.processes import ALONE, Process
from summarybench.documents.strategy import Strategy
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.machine.device import Device
from summarybench.runs.kind_facts import KindFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The pytest marker that selects a kind.

    `description` is for `pytest --markers`.
    """

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test of a kind.

    The model of the experiment `loaded` is loaded, and the experiment `measured` is measured with it. Cases with the
    same `loaded` object share one load.
    """

    loaded: Experiment
    measured: Experiment


def cases_by_strategy(cases: Sequence[Case], strategies: Sequence[Strategy]) -> list[Case]:
    """Each case once for each way of reading long documents, with one load for all of them."""
    return [
        replace(case, measured=replace(case.measured, long_documents=strategy))
        for case in cases
        for strategy in strategies
    ]


def cases_of(experiments: Sequence[Experiment]) -> list[Case]:
    """One case for each experiment, measured with the model that it names."""
    return [Case(loaded=each, measured=each) for each in experiments]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The facts about a session that decide whether a kind can run in it.

    `markers` is the expression that was given with -m, `arguments` are all arguments of pytest. With `reads_in_calls`, some
    experiments read long documents in several calls.
    """

    device: Device
    process: Process = ALONE
    markers: str = ""
    arguments: tuple[str, ...] = ()
    synthetic_weights: bool = False
    reads_in_calls: bool = False


class Kind(ABC):
    """One kind of benchmark.

    Each subclass has a file of its own, and its instance a line in the registry.
    """

    facts: KindFacts
    """What comparisons and reports must know; stored with every experiment that the kind measures."""
    marker: Marker | None = None
    """Asks for the kind with -m. None only for a kind that runs unasked."""
    runs_unasked: bool = False
    """Whether the kind runs when -m does not name its marker."""
    flag: str = ""
    """The key of one of `options`, which selects this kind and no other; empty for none."""
    options: tuple[Option, ...] = ()
    """The command-line options that only this kind needs."""
    has_students: bool = False
    """Whether the models of --student get cases like their teachers'."""
    is_planned: bool = False
    """Whether --plan can say which slowdowns the kind's comparisons detect."""
    reads_long_documents: bool = False
    """Whether a document that does not fit in one prompt can be read in several calls, as --long-documents asks."""
    is_for_processes: bool = False
    """Whether several processes measure together. Under a launcher, only such kinds run."""
    baseline_figures: tuple[str, ...] = ()
    """Keys of `extra_info` whose value in the newest baseline is stored too, as `baseline_KEY`."""

    @property
    def name(self) -> str:
        return self.facts.name

    @abstractmethod
    def cases(self) -> Sequence[Case]:
        """The tests of this kind, in the order in which they run."""

    @abstractmethod
    def measure(self, toolbox: Toolbox) -> Measurement:
        """Measure one test.

        The session compares the result with the baseline and records both. Raises UnavailableError where documents
        could not be downloaded, DeviceMemoryError where memory runs out and DeviceLostError where the device is lost.
        """

    def completed_options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The kind's options from the command line, with what they leave open and does not depend on the device.

        Called once, before tests are collected. Raises InputError for a value that cannot be used.
        """
        return given

    def remote_device(self, given: Mapping[str, Any]) -> str:
        """The slug of the device that the kind measures, if it is another machine's; empty for this machine's."""
        del given
        return ""

    def cases_with(self, given: Mapping[str, Any]) -> Sequence[Case]:
        """The tests in a session with these options of all kinds, as `completed_options` returns them."""
        del given
        return self.cases()

    def experiments(self) -> list[Experiment]:
        """What the tests measure, one experiment each."""
        return [case.measured for case in self.cases()]

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The markers of one case, apart from the kind's own."""
        return experiment.markers

    def skip_reason(self, context: RunContext) -> str:
        """Why no case of this kind can run in such a session; empty if they can."""
        del context
        return ""

    def resolved_options(self, given: Mapping[str, Any], device: Device) -> dict[str, Any]:
        """The values of the kind's options on this device.

        Only options that change what is measured belong here. `given` has the values from the command line, None where
        an option was left out. A run can be resumed only with the same values.
        """
        del given, device
        return {}
