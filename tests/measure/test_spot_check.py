"""The spot checks: rounds with and without a disturbance, interleaved, and the verdict and the cause that come of them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.core.outcomes import Cause, InputError, Verdict
from summarybench.documents.sources import embedded_documents
from summarybench.machine.probes import PYTHON_LOOP, ProbeReading
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure import spot_check
from summarybench.measure.generation import Instruments, build_prompts
from summarybench.runs.run_file import Entry
from tests.fakes import FakeCpu, FakeGpu, FakeModel, FakeTime
from tests.measure.test_disturbances import Module

A_GPU = FakeGpu()


class Stage:
    """A fake model on a fake clock, and controls that a disturbance can slow down too."""

    def __init__(self, *, disturbed_token=0.01, disturbed_loop=1.0, drift=1.0):
        self.time = FakeTime()
        experiment = next(each for each in EXPERIMENTS if each.name == spot_check.ON_CPU.experiment)
        self.model = FakeModel(experiment, self.time, seconds_per_token=0.01)
        self.switched = []
        self._token = {False: 0.01, True: disturbed_token}
        self._loop = {False: 1.0, True: disturbed_loop}
        self._drift, self._readings = drift, 0
        self.prompts = build_prompts(self.model, embedded_documents().sample(8, seed=0), 128, 8)

    def switch(self, is_on):
        self.switched.append(is_on)
        self.model._seconds_per_token = self._token[is_on]

    def probe(self):
        rate = self._loop[self.switched[-1]] * self._drift**self._readings
        self._readings += 1
        return {PYTHON_LOOP: ProbeReading(rate=rate, standard_deviation=0.001, work=10.0)}

    def run(self, deviation=0.001):
        cpu = FakeCpu()
        instruments = Instruments(device=cpu, clock=self.time.clock, monitor=NullMonitor(), probe_machine=self.probe)
        sides = spot_check.disturbed("it", self.model, self.prompts, self.switch, instruments, max_new_tokens=8)
        return spot_check.judged(sides, {PYTHON_LOOP: deviation}, is_gpu=False)


def test_slower_tokens_with_steady_controls_are_the_codes():
    spot = Stage(disturbed_token=0.0125).run()
    assert spot.change.ratio == pytest.approx(0.8)
    assert spot.verdict is Verdict.REGRESSED
    assert spot.attribution.cause is Cause.CODE
    assert spot.probes == {PYTHON_LOOP: 1.0}


def test_slower_tokens_with_slower_controls_are_the_hosts():
    spot = Stage(disturbed_token=0.0125, disturbed_loop=0.75).run()
    assert spot.attribution.cause is Cause.HOST
    assert spot.as_json()["attribution"]["cause"] == "HOST"
    assert spot.probes == {PYTHON_LOOP: 0.75}


def test_host_that_slows_down_steadily_does_not_look_like_the_disturbance():
    spot = Stage(disturbed_token=0.0125, drift=0.9).run()
    assert spot.probes == {PYTHON_LOOP: pytest.approx(1.0)}
    assert spot.attribution.cause is Cause.CODE


def test_controls_that_vary_tell_nothing():
    assert Stage(disturbed_token=0.0125).run(deviation=0.1).attribution.cause is Cause.UNKNOWN


def test_controls_deviate_by_what_lies_between_undisturbed_sides():
    readings = [
        {PYTHON_LOOP: {"before": before, "after": after}} for before, after in ((1.0, 1.0), (2.0, 0.5), (1.1, 1.1))
    ]
    entries = [Entry(name="", extra_info={"controls": each}, seconds=()) for each in readings]
    expected = math.log(1.1) / math.sqrt(3)  # of 0, 0 and log 1.1
    assert spot_check.probe_deviations(entries) == pytest.approx({PYTHON_LOOP: expected})


def test_disturbance_that_does_nothing_is_unchanged_and_attributed_to_nothing():
    spot = Stage().run()
    assert (spot.change.ratio, spot.verdict, spot.attribution) == (pytest.approx(1.0), Verdict.UNCHANGED, None)


def test_rounds_are_interleaved_and_the_warm_up_is_not_disturbed():
    stage = Stage()
    stage.run()
    turns = [False, True, True, False]  # the controls' before, the rounds', the controls' after
    assert stage.switched == [*turns, False, *(turns * 8), *turns]


@pytest.mark.parametrize(("device", "tenants"), [(A_GPU, 1), (FakeCpu(), 0)])
def test_another_tenant_is_tried_on_a_gpu_only(device, tenants):
    instruments = Instruments(device=device, clock=FakeTime().clock, monitor=NullMonitor())
    names = [name for name, _ in spot_check._disturbances(SimpleNamespace(model=Module()), instruments)]
    assert len(names) == len(spot_check.DELAYS) + 1 + tenants
    assert names.count("another tenant of the GPU") == tenants


# Where it is tried ------------------------------------------------------------------------------------------------

THE_CPU = FakeCpu()


def detect_with(gpu):
    return lambda environment: THE_CPU if environment.get("CUDA_VISIBLE_DEVICES") == "" or not gpu else gpu


@pytest.mark.parametrize(
    ("kind", "with_gpu", "without"),
    [
        ("all", (A_GPU, THE_CPU), (THE_CPU,)),
        ("cpu", (THE_CPU,), (THE_CPU,)),
        ("gpu", (A_GPU,), None),
    ],
)
def test_what_is_there_is_tried_the_gpu_first(kind, with_gpu, without):
    assert spot_check.devices_to_try(kind, detect_with(A_GPU)) == with_gpu
    if without is None:
        with pytest.raises(InputError, match="--device gpu: this process sees none"):
            spot_check.devices_to_try(kind, detect_with(None))
    else:
        assert spot_check.devices_to_try(kind, detect_with(None)) == without


def test_cpu_asked_for_is_tried_without_a_look_at_the_gpu():
    def detect(environment):
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        return THE_CPU

    assert spot_check.devices_to_try("cpu", detect) == (THE_CPU,)


@pytest.mark.parametrize("sample", [spot_check.ON_CPU, spot_check.ON_GPU])
def test_samples_name_experiments_that_there_are(sample):
    assert [each.name for each in EXPERIMENTS].count(sample.experiment) == 1
