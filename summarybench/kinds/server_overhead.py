"""The suite's client against a bare streaming loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from summarybench.catalogue.models import Experiment
from summarybench.kinds.kind import Case, Kind, cases_of
from summarybench.kinds.overhead import OverheadKind
from summarybench.kinds.server import ServerKind, experiments_of, open_served_model, served_models
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.served_overhead import compare_with_bare_stream
from summarybench.runs.kind_facts import KindFacts
from summarybench.runs.served_figures import OVERHEAD_FIGURES


class ServerOverheadKind(Kind):
    """Each document is sent twice by the client and twice by the bare loop, interleaved in one process."""

    facts = KindFacts(
        name="server_overhead",
        title="server overhead",
        is_own_speed=False,
        figures=OVERHEAD_FIGURES,
    )
    marker = OverheadKind.marker

    def cases(self) -> Sequence[Case]:
        return self.cases_with({option.key: option.default for option in ServerKind.options})

    def cases_with(self, given: Mapping[str, Any]) -> Sequence[Case]:
        return cases_of([each for model in served_models(given) for each in experiments_of(model, given, [""])])

    def remote_device(self, given: Mapping[str, Any]) -> str:
        return given["server_device"] or ""

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """Both markers must be named: `-m "server and overhead"`."""
        return (ServerKind.facts.name, *experiment.markers)

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is a `ServedOverhead`. Raises as `Kind.measure`, and ServerError where a request fails."""
        model = replace(open_served_model(toolbox), experiment=toolbox.experiment)
        sample = toolbox.sample_for(model)
        overhead, measured = compare_with_bare_stream(
            toolbox.benchmark,
            model,
            sample.prompts,
            max_new_tokens=sample.max_new_tokens,
            instruments=toolbox.instruments(model),
            on_record=toolbox.recorder(model, len(sample.prompts)),
            is_loaded=toolbox.device.affords_large_samples or model.process is None,
        )
        if overhead.load_failure:
            toolbox.say(f"{toolbox.experiment.name}: no request of the load was answered: {overhead.load_failure}")
        extra_info = {"overhead": overhead.speed.as_extra_info(), "served_overhead": overhead.as_record()}
        return toolbox.measurement(model, sample, measured, extra_info=extra_info, finding=overhead)
