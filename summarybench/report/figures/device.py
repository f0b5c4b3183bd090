"""How far the device's memory bandwidth is used, and what it takes in power."""

from __future__ import annotations

from summarybench.analysis.utilization import utilization_of
from summarybench.report.figures.figure import Better, Figure, Format, Group
from summarybench.report.figures.values import HUNDREDTHS, THOUSANDTHS

UTILIZATION = Figure(
    key="utilization",
    name="Model bandwidth utilization",
    heading="bandwidth utilization",
    short="bandw.\nutiliz.",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: utilization_of(experiment.entry),
    definition=(
        "Bytes that decoding reads per second ÷ the copy bandwidth measured at the start of the session. A decode step reads "
        "the weights once, and the KV cache of all sequences in the batch, each padded to the longest prompt. Continuous "
        "batching pads none, and counts the seconds of prefill too. 1 is the device's limit. On a CPU it can exceed 1 if the "
        "weights fit the caches."
    ),
)
COPY_BANDWIDTH = Figure(
    key="copy-bandwidth",
    name="Copy bandwidth",
    heading="copy GB/s",
    unit="GB/s",
    format=Format(spec=".0f", divisor=1e9),
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["copy_bandwidth_bytes_per_second"],
    definition="How fast the device copies its own memory, measured at the start of the session, in 10⁹ bytes per second.",
)
JOULES = Figure(
    key="joules",
    name="Joules per token",
    heading="J/token",
    short="J\n/token",
    unit="J",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: experiment.info["joules_per_token"],
    definition="Energy during the rounds, by NVML's energy counter, ÷ generated tokens.",
)
POWER = Figure(
    key="power",
    name="Mean power",
    heading="mean W",
    short="mean\nW",
    unit="W",
    format=Format(spec=".0f"),
    value=lambda experiment: experiment.info["telemetry"]["power_watts_mean"],
    definition="Mean power of the GPU during the rounds, by NVML.",
)
TEMPERATURE = Figure(
    key="temperature",
    name="Highest temperature",
    heading="max °C",
    short="max\n°C",
    unit="°C",
    format=Format(spec=".0f"),
    value=lambda experiment: experiment.info["telemetry"]["temperature_celsius_max"],
    definition="Highest temperature of the GPU during the rounds, by NVML.",
)

GROUP = Group(
    title="Device",
    terms=(
        UTILIZATION,
        COPY_BANDWIDTH,
        JOULES,
        POWER,
        TEMPERATURE,
    ),
)
