import json
import os
import sys
from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import DeviceInvalidError
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.machine.telemetry import (
    ENERGY_UNKNOWN,
    NO_GPU,
    PROCESSES_UNKNOWN,
    GpuMonitor,
    NullMonitor,
    Reading,
    Round,
    Telemetry,
    TelemetrySummary,
    as_extra_info,
    foreign_processes,
    problem,
    summarize,
)

OWN = os.getpid()
A, B, C = OWN + 1, OWN + 2, OWN + 3


class NVMLError(Exception):
    """Named as pynvml names its own, and so are these."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818
    pass


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801, N818
    pass


class NVMLError_Unknown(NVMLError):  # noqa: N801, N818
    pass


class FakeNvml:
    """An NVML with one GPU whose state a test sets. An answer that is an exception is raised."""

    NVMLError = NVMLError
    NVMLError_GpuIsLost = NVMLError_GpuIsLost
    NVMLError_Unknown = NVMLError_Unknown
    NVML_PERF_POLICY_POWER = 0
    NVML_PERF_POLICY_THERMAL = 1
    NVML_PERF_POLICY_SYNC_BOOST = 2
    NVML_PERF_POLICY_BOARD_LIMIT = 3
    NVML_PERF_POLICY_RELIABILITY = 5
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self):
        self.calls = []
        self.init = None
        self.uuids = {"GPU-1111": "handle"}
        self.energy = 5_000
        self.violations = {0: 10, 1: 20, 2: 30, 3: 40, 5: 50}
        self.clocks = {1: 1_590, 2: 5_000}
        self.temperature = 61
        self.power = 65_500
        self.limit = 70_000
        self.default_limit = 70_000
        self.pids = [OWN]
        self.used = 3_000_000

    def answer(self, handle, value):
        assert handle == "handle"
        if isinstance(value, Exception):
            raise value
        return value

    def nvmlInit(self):  # noqa: N802
        self.answer("handle", self.init)
        self.calls.append("init")

    def nvmlShutdown(self):  # noqa: N802
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return self.answer("handle", self.uuids.get(uuid, NVMLError("Not Found")))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self.answer(handle, self.energy)

    def nvmlDeviceGetViolationStatus(self, handle, policy):  # noqa: N802
        nanoseconds = self.answer(handle, self.violations.get(policy, NVMLError_NotSupported("Not Supported")))
        return SimpleNamespace(referenceTime=1, violationTime=nanoseconds)

    def nvmlDeviceGetClockInfo(self, handle, clock):  # noqa: N802
        return self.answer(handle, self.clocks.get(clock, NVMLError_NotSupported("Not Supported")))

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self.answer(handle, self.temperature)

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self.answer(handle, self.power)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802
        return self.answer(handle, self.limit)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):  # noqa: N802
        return self.answer(handle, self.default_limit)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.answer(handle, self.pids)]

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return SimpleNamespace(used=self.answer(handle, self.used))


def device():
    return CudaDevice(
        kind="cuda",
        name="Tesla T4",
        slug="tesla-t4",
        family="t4",
        memory_bytes=16 * GIB,
        compute_dtype="float16",
        uuid="GPU-1111",
    )


def monitor(nvml, seconds=7.5):
    return GpuMonitor(device(), nvml, lambda: seconds)


class ListedReadings:
    """A monitor that hands out these readings, one after the other."""

    note = PROCESSES_UNKNOWN

    def __init__(self, *readings):
        self._readings = iter(readings)

    def note_before_context(self):
        pass

    def read(self):
        return next(self._readings)

    def close(self):
        pass


def a_round(seconds=1.0, start=0.0, **edges):
    """A round of so many seconds; each keyword is a Reading's field, given as (before, after)."""
    before, after = ({name: values[edge] for name, values in edges.items()} for edge in (0, 1))
    return Round(before=Reading(seconds=start, **before), after=Reading(seconds=start + seconds, **after))


def throttled(reason, before, after, **edges):
    return a_round(violation_nanoseconds=({reason: before}, {reason: after}), **edges)


def summary(**known):
    """A summary of a GPU that was itself, except for what is named."""
    facts = {
        "measured_seconds": 10.0,
        "joules": 600.0,
        "power_watts_mean": 60.0,
        "throttled_share": {},
        "sm_clock_mhz_min": 1_200,
        "sm_clock_mhz_max": 1_590,
        "temperature_celsius_max": 84,
        "power_limit_watts": 70.0,
        "default_power_limit_watts": 70.0,
        "foreign_processes": 0,
        "note": None,
    }
    return TelemetrySummary(**{**facts, **known})


# What one reading holds


def test_a_reading_holds_what_nvml_says_in_named_units():
    assert monitor(FakeNvml()).read() == Reading(
        seconds=7.5,
        energy_millijoules=5_000,
        violation_nanoseconds={"power": 10, "thermal": 20, "sync_boost": 30, "board_limit": 40, "reliability": 50},
        sm_clock_mhz=1_590,
        memory_clock_mhz=5_000,
        temperature_celsius=61,
        power_watts=65.5,
        power_limit_watts=70.0,
        default_power_limit_watts=70.0,
        foreign_processes=0,
        memory_used_bytes=3_000_000,
    )


def test_what_the_product_does_not_offer_is_unknown_and_its_reasons_are_left_out():
    nvml = FakeNvml()
    no = NVMLError_NotSupported("Not Supported")
    nvml.energy = nvml.temperature = nvml.power = nvml.limit = nvml.default_limit = nvml.pids = nvml.used = no
    nvml.clocks = {}
    nvml.violations = {1: 20}
    assert monitor(nvml).read() == Reading(seconds=7.5, violation_nanoseconds={"thermal": 20})


@pytest.mark.parametrize("error", [NVMLError("Uninitialized"), NVMLError_Unknown("Unknown Error")])
def test_any_error_but_a_lost_gpu_makes_one_figure_unknown(error):
    nvml = FakeNvml()
    nvml.temperature = error
    reading = monitor(nvml).read()
    assert (reading.temperature_celsius, reading.sm_clock_mhz) == (None, 1_590)


def test_a_zero_is_a_figure_and_not_unknown():
    nvml = FakeNvml()
    nvml.energy, nvml.violations, nvml.power = 0, {1: 0}, 0
    reading = monitor(nvml).read()
    assert (reading.energy_millijoules, reading.violation_nanoseconds, reading.power_watts) == (0, {"thermal": 0}, 0.0)


def test_a_lost_gpu_ends_the_measurement_and_keeps_what_was_recorded():
    nvml = FakeNvml()
    watched = monitor(nvml)
    nvml.energy = NVMLError_GpuIsLost("GPU is lost")
    with pytest.raises(DeviceInvalidError, match=r"^the GPU was lost: GPU is lost; the records before it are kept$"):
        watched.read()


def test_an_unknown_error_after_the_loss_is_the_loss():
    nvml = FakeNvml()
    watched = monitor(nvml)
    nvml.pids = NVMLError_GpuIsLost("GPU is lost")
    with pytest.raises(DeviceInvalidError):
        watched.read()
    nvml.pids, nvml.energy = [OWN], NVMLError_Unknown("Unknown Error")
    with pytest.raises(DeviceInvalidError, match="the GPU was lost: Unknown Error; the records before it are kept"):
        watched.read()


def test_a_lost_gpu_is_also_noticed_before_the_context():
    nvml = FakeNvml()
    watched = monitor(nvml)
    nvml.pids = NVMLError_GpuIsLost("GPU is lost")
    with pytest.raises(DeviceInvalidError, match="the GPU was lost"):
        watched.note_before_context()


# Opening and closing


def test_nvml_stays_open_until_the_monitor_is_closed():
    nvml = FakeNvml()
    watched = monitor(nvml)
    watched.read()
    assert nvml.calls == ["init"]
    watched.close()
    assert nvml.calls == ["init", "shutdown"]


def test_a_gpu_that_nvml_no_longer_knows_is_no_device_to_judge():
    nvml = FakeNvml()
    nvml.uuids = {}
    with pytest.raises(
        DeviceInvalidError, match=r"cannot open the Tesla T4 \(GPU-1111\): Not Found; check whether nvidia"
    ):
        monitor(nvml)
    assert nvml.calls == ["init", "shutdown"]


def test_an_nvml_that_does_not_start_is_not_shut_down():
    nvml = FakeNvml()
    nvml.init = NVMLError("Driver Not Loaded")
    with pytest.raises(DeviceInvalidError, match="Driver Not Loaded"):
        monitor(nvml)
    assert nvml.calls == []


def test_pynvml_is_what_a_monitor_asks_by_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert device().monitor().read().energy_millijoules == 5_000


def test_a_cpu_has_a_monitor_that_records_nothing_and_never_asks_nvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    cpu = CpuDevice(kind="cpu", name="a CPU", slug="cpu", family="cpu", memory_bytes=GIB, compute_dtype="float32")
    watched = cpu.monitor()
    watched.note_before_context()
    reading = watched.read()
    watched.close()
    assert reading == Reading(seconds=reading.seconds)


def test_a_cpu_s_summary_knows_the_time_and_says_why_not_more():
    seconds = iter([1.0, 3.0])
    telemetry = Telemetry(NullMonitor(lambda: next(seconds)))
    telemetry.before_round()
    telemetry.after_round()
    assert telemetry.summary() == summary(
        measured_seconds=2.0,
        joules=None,
        power_watts_mean=None,
        sm_clock_mhz_min=None,
        sm_clock_mhz_max=None,
        temperature_celsius_max=None,
        power_limit_watts=None,
        default_power_limit_watts=None,
        foreign_processes=None,
        note=NO_GPU,
    )
    assert problem(telemetry.summary()) is None


# Who else is there


@pytest.mark.parametrize(
    ("before", "now", "foreign"),
    [
        ((), (OWN,), 0),
        ((), (OWN, A), 1),
        ((A,), (OWN,), 0),
        ((A,), (OWN, A), 1),
        ((A,), (OWN, A, B), 2),
        ((OWN,), (OWN,), 0),
        ((OWN,), (OWN, A), 1),
        ((), (OWN, OWN), 0),
    ],
    ids=[
        "alone",
        "one-came",
        "one-left",
        "one-stayed",
        "one-stayed-one-came",
        "noted-too-late",
        "noted-too-late-and-one-came",
        "listed-twice",
    ],
)
def test_where_this_process_is_listed_all_others_are_foreign(before, now, foreign):
    assert foreign_processes(before, now, OWN) == foreign


@pytest.mark.parametrize(
    ("before", "now", "foreign"),
    [
        ((), (A,), 0),
        ((), (A, B), 1),
        ((A,), (A, B), 1),
        ((A,), (B,), 0),
        ((A,), (A, B, C), 2),
        ((A,), (B, C), 1),
    ],
    ids=["one-new", "two-new", "one-stayed-one-new", "one-left-one-new", "one-stayed-two-new", "one-left-two-new"],
)
def test_in_a_container_one_new_process_is_taken_to_be_this_one(before, now, foreign):
    assert foreign_processes(before, now, OWN) == foreign


@pytest.mark.parametrize(("before", "now", "foreign"), [((A,), (A,), 1), ((A, B), (A, B), 2), ((A, B), (B,), 1)])
def test_who_was_there_before_is_foreign_even_where_this_process_is_hidden(before, now, foreign):
    assert foreign_processes(before, now, OWN) == foreign


@pytest.mark.parametrize("before", [(), (A,)])
def test_an_empty_list_tells_nothing_since_this_process_is_missing_in_it(before):
    assert foreign_processes(before, (), OWN) is None


def test_who_is_there_before_the_context_is_remembered():
    nvml = FakeNvml()
    watched = monitor(nvml)
    nvml.pids = [A]
    watched.note_before_context()
    nvml.pids = [A]
    assert watched.read().foreign_processes == 1
    nvml.pids = [A, B]
    assert watched.read().foreign_processes == 1
    nvml.pids = [B]
    assert watched.read().foreign_processes == 0


def test_only_the_first_note_counts_since_a_later_one_sees_this_process():
    nvml = FakeNvml()
    watched = monitor(nvml)
    nvml.pids = []
    watched.note_before_context()
    nvml.pids = [A]  # this process, as the host numbers it
    watched.note_before_context()
    assert watched.read().foreign_processes == 0


# What rounds amount to


def test_only_rounds_are_counted_and_never_the_time_between_them():
    telemetry = Telemetry(
        ListedReadings(
            Reading(seconds=10.0, energy_millijoules=1_000),
            Reading(seconds=12.0, energy_millijoules=121_000),
            Reading(seconds=50.0, energy_millijoules=900_000),
            Reading(seconds=51.0, energy_millijoules=960_000),
        )
    )
    for _ in range(2):
        telemetry.before_round()
        telemetry.after_round()
    found = telemetry.summary()
    assert (found.measured_seconds, found.joules, found.power_watts_mean) == (3.0, 180.0, 60.0)


def test_throttled_share_is_per_reason_over_the_measured_time():
    rounds = [
        a_round(2.0, violation_nanoseconds=({"power": 5, "thermal": 0}, {"power": 1_000_000_005, "thermal": 0})),
        a_round(2.0, violation_nanoseconds=({"power": 9, "thermal": 7}, {"power": 9, "thermal": 1_000_000_007})),
    ]
    assert summarize(rounds, "").throttled_share == {"power": 0.25, "thermal": 0.25}


def test_time_throttled_between_rounds_is_nobody_s():
    rounds = [throttled("thermal", 0, 0), throttled("thermal", 9_000_000_000, 9_000_000_000)]
    assert summarize(rounds, "").throttled_share == {"thermal": 0.0}


def test_a_gpu_is_never_throttled_for_more_than_all_the_time():
    assert summarize([throttled("thermal", 0, 1_200_000_000)], "").throttled_share == {"thermal": 1.0}


def test_the_extremes_of_all_readings_are_kept():
    rounds = [
        a_round(sm_clock_mhz=(300, 1_590), temperature_celsius=(50, 71), power_limit_watts=(70.0, 60.0)),
        a_round(sm_clock_mhz=(1_410, 1_200), temperature_celsius=(69, None), power_limit_watts=(60.0, 70.0)),
    ]
    found = summarize(rounds, "")
    assert (found.sm_clock_mhz_min, found.sm_clock_mhz_max) == (300, 1_590)
    assert (found.temperature_celsius_max, found.power_limit_watts) == (71, 60.0)


def test_the_product_s_own_power_limit_is_handed_on():
    assert summarize([a_round(default_power_limit_watts=(70.0, 70.0))], "").default_power_limit_watts == 70.0


def test_the_most_foreign_processes_seen_are_reported():
    rounds = [a_round(foreign_processes=(0, 2)), a_round(foreign_processes=(1, None))]
    found = summarize(rounds, PROCESSES_UNKNOWN)
    assert (found.foreign_processes, found.note) == (2, None)


def test_unknown_foreign_processes_are_said_so_in_words():
    found = summarize([a_round()], PROCESSES_UNKNOWN)
    assert found.foreign_processes is None
    assert found.note == (
        "whether other processes used the GPU is unknown: NVML lists none, not even this one (as in some containers)"
    )


def test_energy_that_is_not_offered_is_unknown_and_needs_no_words():
    found = summarize([a_round(foreign_processes=(0, 0))], "")
    assert (found.joules, found.power_watts_mean, found.note) == (None, None, None)


def test_a_reset_energy_counter_leaves_no_sum_but_the_other_rounds_power():
    rounds = [
        a_round(2.0, energy_millijoules=(0, 120_000), foreign_processes=(0, 0)),
        a_round(3.0, energy_millijoules=(120_000, 5), foreign_processes=(0, 0)),
    ]
    found = summarize(rounds, "")
    assert (found.measured_seconds, found.joules, found.power_watts_mean) == (5.0, None, 60.0)
    assert found.note == ENERGY_UNKNOWN


def test_both_notes_are_one_line():
    found = summarize([a_round(energy_millijoules=(5, 0))], PROCESSES_UNKNOWN)
    assert found.note == f"{PROCESSES_UNKNOWN}; {ENERGY_UNKNOWN}"


def test_a_reset_violation_counter_makes_its_round_unknown_and_is_never_negative():
    rounds = [throttled("thermal", 0, 500_000_000), throttled("thermal", 500_000_000, 3)]
    assert summarize(rounds, "").throttled_share == {"thermal": 0.5}


def test_a_reason_known_in_no_round_is_left_out():
    assert summarize([throttled("thermal", 3, 0)], "").throttled_share == {}


def test_no_round_amounts_to_nothing_known():
    found = Telemetry(ListedReadings()).summary()
    assert (found.measured_seconds, found.joules, found.throttled_share, found.note) == (0, None, {}, None)


def test_a_round_that_was_never_ended_does_not_count():
    readings = [Reading(seconds=float(second)) for second in (0, 5, 9)]
    telemetry = Telemetry(ListedReadings(*readings))
    telemetry.before_round()
    telemetry.before_round()
    telemetry.after_round()
    assert telemetry.summary().measured_seconds == 4.0


def test_a_lost_gpu_keeps_the_rounds_before_it():
    nvml = FakeNvml()
    seconds = iter([1.0, 2.0, 3.0, 4.0])
    telemetry = Telemetry(GpuMonitor(device(), nvml, lambda: next(seconds)))
    telemetry.before_round()
    nvml.energy += 50_000
    telemetry.after_round()
    telemetry.before_round()
    nvml.energy = NVMLError_GpuIsLost("GPU is lost")
    with pytest.raises(DeviceInvalidError):
        telemetry.after_round()
    assert (telemetry.summary().measured_seconds, telemetry.summary().joules) == (1.0, 50.0)


def test_an_end_without_a_beginning_is_refused():
    with pytest.raises(RuntimeError, match="after_round without before_round"):
        Telemetry(ListedReadings()).after_round()


def test_a_beginning_serves_one_end_only():
    telemetry = Telemetry(ListedReadings(*(Reading(seconds=float(second)) for second in range(3))))
    telemetry.before_round()
    telemetry.after_round()
    with pytest.raises(RuntimeError, match="after_round without before_round"):
        telemetry.after_round()


def test_a_round_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match=r"a round ends before it starts: 2\.0 s, 1\.0 s"):
        a_round(-1.0, start=2.0)


# Whether the figures are a verdict


@pytest.mark.parametrize(
    ("reason", "share", "line"),
    [
        (
            "thermal",
            0.31,
            "throttled (thermal) for 31% of the measured time at 84 °C: "
            "cool the GPU, or end its other work, then measure again",
        ),
        (
            "sync_boost",
            0.5,
            "throttled (sync boost) for 50% of the measured time at 84 °C: "
            "take the GPU out of its sync boost group, then measure again",
        ),
        (
            "board_limit",
            0.2,
            "throttled (board limit) for 20% of the measured time at 84 °C: "
            "check the board's power supply, then measure again",
        ),
        (
            "reliability",
            1.0,
            "throttled (reliability) for 100% of the measured time at 84 °C: "
            "reset its clocks and voltage to the product's defaults, then measure again",
        ),
    ],
)
def test_throttling_above_a_tenth_of_the_time_is_no_verdict(reason, share, line):
    assert problem(summary(throttled_share={reason: share})) == line


@pytest.mark.parametrize("reason", ["power", "thermal", "sync_boost", "board_limit", "reliability"])
def test_throttling_for_a_tenth_of_the_time_is_tolerated(reason):
    assert problem(summary(throttled_share={reason: 0.1}, power_limit_watts=50.0)) is None


def test_the_reason_that_throttled_longest_is_named():
    line = problem(summary(throttled_share={"thermal": 0.2, "board_limit": 0.4, "power": 0.9}))
    assert line.startswith("throttled (board limit) for 40% of the measured time")


def test_throttling_is_told_without_a_temperature_where_none_is_known():
    line = problem(summary(throttled_share={"thermal": 0.31}, temperature_celsius_max=None))
    assert line.startswith("throttled (thermal) for 31% of the measured time: cool")


@pytest.mark.parametrize(("limit", "default"), [(70.0, 70.0), (80.0, 70.0), (None, 70.0), (50.0, None), (None, None)])
def test_a_gpu_at_its_own_power_limit_is_itself(limit, default):
    found = summary(throttled_share={"power": 1.0}, power_limit_watts=limit, default_power_limit_watts=default)
    assert problem(found) is None


def test_a_gpu_that_somebody_has_limited_is_not_itself():
    assert problem(summary(throttled_share={"power": 0.4}, power_limit_watts=50.0)) == (
        "throttled (power) for 40% of the measured time: its power limit is 50 W, below the product's default of 70 W; "
        "restore it (nvidia-smi -pl 70), then measure again"
    )


def test_a_limit_that_was_never_reached_is_no_problem():
    assert problem(summary(throttled_share={"power": 0.0}, power_limit_watts=50.0)) is None


@pytest.mark.parametrize(("count", "others"), [(1, "1 other process"), (3, "3 other processes")])
def test_a_shared_gpu_is_no_verdict(count, others):
    assert problem(summary(foreign_processes=count)) == (
        f"shared with {others}: end the GPU's other work (nvidia-smi lists it), then measure again"
    )


@pytest.mark.parametrize("count", [0, None])
def test_no_known_company_is_no_problem(count):
    assert problem(summary(foreign_processes=count)) is None


# What a run file holds


def test_extra_info_is_plain_json_with_joules_per_token():
    info = as_extra_info(summary(throttled_share={"power": 0.25}), generated_tokens=300)
    assert info == {
        "joules_per_token": 2.0,
        "telemetry": {
            "throttled_share": {"power": 0.25},
            "temperature_celsius_max": 84,
            "sm_clock_mhz": [1_200, 1_590],
            "power_watts_mean": 60.0,
            "power_limit_watts": 70.0,
            "foreign_processes": 0,
            "note": None,
        },
    }
    assert json.loads(json.dumps(info, allow_nan=False)) == info


def test_extra_info_of_a_real_summary_is_plain_json():
    nvml = FakeNvml()
    telemetry = Telemetry(monitor(nvml))
    telemetry.before_round()
    telemetry.after_round()
    info = as_extra_info(telemetry.summary(), generated_tokens=1)
    assert json.loads(json.dumps(info, allow_nan=False)) == info


def test_extra_info_of_a_cpu_is_plain_json():
    telemetry = Telemetry(NullMonitor())
    telemetry.before_round()
    telemetry.after_round()
    info = as_extra_info(telemetry.summary(), generated_tokens=10)
    assert json.loads(json.dumps(info, allow_nan=False)) == info
    assert (info["joules_per_token"], info["telemetry"]["note"]) == (None, NO_GPU)


@pytest.mark.parametrize(("joules", "tokens"), [(None, 300), (600.0, 0)])
def test_joules_per_token_are_unknown_without_energy_or_tokens(joules, tokens):
    assert as_extra_info(summary(joules=joules), tokens)["joules_per_token"] is None
