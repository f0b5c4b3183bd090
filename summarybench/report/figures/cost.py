"""What summaries cost in money and in energy."""

from __future__ import annotations

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Format, Group

THOUSAND, MILLION = 1_000, 1_000_000
MONEY = "your currency"


def cost_per_thousand_documents(experiment: ExperimentView) -> float | None:
    """None without a price."""
    return experiment.consumption.cost_of_documents(THOUSAND, experiment.source.price)


PRICE = Figure(
    key="gpu-hour-price",
    name="Price of a GPU-hour",
    heading="price per GPU-hour",
    short="price\n/GPU-h",
    unit=MONEY,
    format=Format(spec=".2f"),
    value=lambda experiment: experiment.source.price,
    definition=(
        "The price of one GPU for an hour, from --gpu-hour-price. On a CPU it is the price of the whole machine. It is "
        "without currency, and not part of the workload."
    ),
)
GPUS = Figure(
    key="gpus",
    name="GPUs",
    heading="GPUs",
    format=Format(spec="d", missing="1"),
    value=lambda experiment: experiment.consumption.gpus if experiment.consumption.gpus > 1 else None,
    definition=(
        "The GPUs whose time is counted: one per process, one per server of a fleet, and as many as the command of a started "
        "server asks for. The column is left out if all experiments used one."
    ),
)
COST_PER_DOCUMENTS = Figure(
    key="cost-documents",
    name="Cost per 1,000 documents",
    heading="cost per 1,000 documents",
    short="cost/1k\ndocs",
    unit=MONEY,
    format=Format(spec=".4f"),
    better=Better.LOWER,
    value=cost_per_thousand_documents,
    definition=(
        "Seconds of the rounds ÷ 3,600 × price of a GPU-hour × GPUs, for 1,000 documents. Loading, compiling and idle time come "
        "on top."
    ),
)
COST_PER_TOKENS = Figure(
    key="cost-tokens",
    name="Cost per million tokens",
    heading="cost per 1M tokens",
    short="cost/1M\ntokens",
    unit=MONEY,
    format=Format(spec=".3f"),
    better=Better.LOWER,
    value=lambda experiment: experiment.consumption.cost_of_tokens(MILLION, experiment.source.price),
    definition="The same for a million generated tokens. Reading the prompts is included.",
)
ENERGY_PER_DOCUMENTS = Figure(
    key="energy-documents",
    name="Energy per 1,000 documents",
    heading="Wh per 1,000 documents",
    short="Wh/1k\ndocs",
    unit="Wh",
    format=Format(spec=".1f"),
    better=Better.LOWER,
    value=lambda experiment: experiment.consumption.watt_hours_of_documents(THOUSAND),
    definition=(
        "Energy of the GPU during the rounds, by NVML's energy counter, for 1,000 documents, in watt-hours. The rest of the "
        "machine is not counted. Unknown for servers on several GPUs."
    ),
)
ENERGY_PER_TOKENS = Figure(
    key="energy-tokens",
    name="Energy per million tokens",
    heading="Wh per 1M tokens",
    short="Wh/1M\ntokens",
    unit="Wh",
    format=Format(spec=".1f"),
    better=Better.LOWER,
    value=lambda experiment: experiment.consumption.watt_hours_of_tokens(MILLION),
    definition="The same for a million generated tokens: joules per token × 1,000,000 ÷ 3,600.",
)

GROUP = Group(
    title="Cost and energy",
    terms=(
        PRICE,
        GPUS,
        COST_PER_DOCUMENTS,
        COST_PER_TOKENS,
        ENERGY_PER_DOCUMENTS,
        ENERGY_PER_TOKENS,
    ),
)
