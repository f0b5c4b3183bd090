"""Memory, measured and predicted, and the time to load a model."""

from __future__ import annotations

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Format, Group
from summarybench.report.figures.values import IN_GIB, TENTHS

PEAK = Figure(
    key="peak",
    name="Peak memory",
    heading="peak GiB",
    short="peak\nGiB",
    unit="GiB",
    format=IN_GIB,
    better=Better.LOWER,
    value=lambda experiment: experiment.info["peak_memory_bytes"],
    definition=(
        "The most memory in use during the rounds, in GiB (2³⁰ bytes). On a GPU it is what torch's allocator held, on a CPU "
        "the resident memory of the process. For a server that the suite started, it is the memory that its GPU had in use "
        "and had not before, or the resident memory of its processes. It is unknown for other servers."
    ),
)
LOAD = Figure(
    key="load",
    name="Load time",
    heading="load s",
    short="load\ns",
    unit="s",
    format=TENTHS,
    better=Better.LOWER,
    value=lambda experiment: experiment.info["load_seconds"],
    definition="Seconds to load the model from disk, quantization included. No round contains it.",
)
WEIGHTS = Figure(
    key="weights",
    name="Weights",
    heading="weights GiB",
    short="weights\nGiB",
    unit="GiB",
    format=IN_GIB,
    better=Better.LOWER,
    value=lambda experiment: experiment.info["weights_bytes"],
    definition="The size of the loaded weights, quantization scales included.",
)


def _predicted(experiment: ExperimentView) -> int | None:
    """The prediction; None on a CPU, where the measured peak is that of the whole process."""
    is_on_cpu = "threads" in experiment.info["workload_settings"]["loader_settings"]
    return None if is_on_cpu else experiment.info["predicted_memory_bytes"]


PREDICTED = Figure(
    key="predicted",
    name="Predicted peak",
    heading="predicted peak GiB",
    short="predicted\npeak GiB",
    unit="GiB",
    format=IN_GIB,
    value=_predicted,
    definition=(
        "The peak memory that was predicted before loading, from the model's shape, the loader and the batch size. It is not "
        "shown for a CPU, where the measured peak includes Python and its libraries, and no prediction does."
    ),
)


def _prediction_error(experiment: ExperimentView) -> float | None:
    predicted, peak = _predicted(experiment), experiment.info["peak_memory_bytes"]
    return None if predicted is None or peak is None else predicted / peak - 1


PREDICTION_ERROR = Figure(
    key="prediction-error",
    name="Prediction error",
    heading="error",
    format=Format(spec="+.1%"),
    value=_prediction_error,
    definition="Predicted ÷ measured peak memory − 1. It is not shown for a CPU.",
)

GROUP = Group(
    title="Memory",
    terms=(
        PEAK,
        LOAD,
        WEIGHTS,
        PREDICTED,
        PREDICTION_ERROR,
    ),
)
