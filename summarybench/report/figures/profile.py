"""What the profile of --profile asks for: its scenario, and quality and length against the reference."""

from __future__ import annotations

from collections.abc import Callable

from summarybench.analysis.targets import Reached, Target, targets_of
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Format, Group
from summarybench.report.figures.values import HUNDREDTHS, WORD
from summarybench.runs.profile_record import ProfileRecord, Scenario, scenario_of
from summarybench.stats.intervals import percentile

PERCENT = Format(spec=".1%")
WORST_FIRST = (Reached.MISSED, Reached.WITHIN_CHANCE, Reached.REACHED)


def profile_of(experiment: ExperimentView) -> ProfileRecord | None:
    """The profile of the experiment's session; None without one."""
    return experiment.source.stored.run.get("profile")


def title_of(experiment: ExperimentView) -> str:
    """The profile's title; empty without one."""
    profile = profile_of(experiment)
    return profile["title"] if profile else ""


def _scenario(experiment: ExperimentView) -> Scenario | None:
    return scenario_of(experiment.kind, experiment.info) if profile_of(experiment) else None


def _targets(experiment: ExperimentView) -> tuple[Target, ...]:
    info = experiment.info
    scores = {
        "rouge1": info["rouge1_scores"],
        "rouge2": info["rouge2_scores"],
        "rougeL": info.get("rougeL_scores", []),
        "rougeLsum": info["rougeLsum_scores"],
    }
    return targets_of(profile_of(experiment), scores, info.get("summary_characters", []))


def _share_of(key: str) -> Callable[[ExperimentView], float | None]:
    """The mean ÷ the reference's."""
    return lambda experiment: next((each.ratio for each in _targets(experiment) if each.key == key), None)


def _worst(experiment: ExperimentView) -> str | None:
    found = {each.reached for each in _targets(experiment)}
    return next((each.value for each in WORST_FIRST if each in found), None)


def _single_stream_seconds(experiment: ExperimentView) -> float | None:
    if _scenario(experiment) is not Scenario.SINGLE_STREAM:
        return None
    return percentile(list(experiment.document_seconds.values()), 90)


def _within_objective(experiment: ExperimentView) -> float | None:
    return experiment.info["served"]["within_objective"] if _scenario(experiment) is Scenario.SERVER else None


SCENARIO = Figure(
    key="scenario",
    name="Scenario",
    heading="scenario",
    format=WORD,
    value=_scenario,
    definition=(
        "MLPerf's word for how documents arrive: Offline (all at once), Server (at random, at a mean rate) or SingleStream (one "
        "at a time). The experiment resembles the scenario, without MLPerf's load generator and its durations."
    ),
)
STREAM_SECONDS = Figure(
    key="single-stream-seconds",
    name="Seconds per document, 90th percentile",
    heading="s/document p90",
    short="p90\ns/doc",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=_single_stream_seconds,
    definition="What MLPerf reports for SingleStream. With too few documents the report shows –.",
)
WITHIN_OBJECTIVE = Figure(
    key="within-objective",
    name="Requests within the objective",
    heading="within SLO",
    short="within\nSLO",
    format=PERCENT,
    better=Better.HIGHER,
    value=_within_objective,
    definition="Share of the requests that met --slo, for Server. MLPerf requires 99% for each of the two limits.",
)
ROUGE1_SHARE, ROUGE2_SHARE, ROUGE_L_SHARE, ROUGE_LSUM_SHARE = (
    Figure(
        key=f"reference-{key.lower()}",
        name=f"{name} ÷ reference",
        heading=f"{name} ÷ ref.",
        short=f"{short}\n÷ ref.",
        format=PERCENT,
        better=Better.HIGHER,
        value=_share_of(key),
        definition=f"Mean {name} ÷ the {name} that --reference-rouge gives. The profile requires 99%.",
    )
    for key, name, short in (
        ("rouge1", "ROUGE-1", "R-1"),
        ("rouge2", "ROUGE-2", "R-2"),
        ("rougeL", "ROUGE-L", "R-L"),
        ("rougeLsum", "ROUGE-Lsum", "R-Lsum"),
    )
)
LENGTH_SHARE = Figure(
    key="reference-length",
    name="Length ÷ reference",
    heading="length ÷ ref.",
    short="length\n÷ ref.",
    format=PERCENT,
    value=_share_of("characters"),
    definition="Mean characters of a summary ÷ those of the reference (MLPerf's gen_len). The profile requires 90% to 110%.",
)
TARGETS = Figure(
    key="targets",
    name="Targets",
    heading="targets",
    format=WORD,
    value=_worst,
    is_verdict=True,
    definition=(
        "REACHED: ROUGE and length are as the profile requires. MISSED: they are not, and chance is ruled out at 99%; the test "
        "fails. WITHIN CHANCE: they are not, but other documents might show otherwise. The worst of all targets counts."
    ),
)

GROUP = Group(
    title="Profile",
    terms=(
        SCENARIO,
        STREAM_SECONDS,
        WITHIN_OBJECTIVE,
        ROUGE1_SHARE,
        ROUGE2_SHARE,
        ROUGE_L_SHARE,
        ROUGE_LSUM_SHARE,
        LENGTH_SHARE,
        TARGETS,
    ),
)
