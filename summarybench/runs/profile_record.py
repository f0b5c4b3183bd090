"""What a run file states about the profile of its session, and which of its scenarios an experiment belongs to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NotRequired, TypedDict

from summarybench.core.numbers import percent
from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.kind_facts import KindFacts, Unit


class ReferenceScores(TypedDict):
    """Mean scores to hold summaries against."""

    rouge1: Annotated[float | None, Key("ROUGE-1 F1; null if not required", at_most=1)]
    rouge2: Annotated[float | None, Key("ROUGE-2 F1; null if not required", at_most=1)]
    rougeL: NotRequired[
        Annotated[float | None, Key("ROUGE-L F1; null if not required, absent in older runs", at_most=1)]
    ]
    rougeLsum: Annotated[float | None, Key("ROUGE-Lsum F1; null if not required", at_most=1)]
    characters: Annotated[
        float | None, Key("mean characters of a summary; null if unknown", at_least=SMALLEST_POSITIVE)
    ]
    source: Annotated[str, Key("where the scores come from")]


class ProfileRecord(TypedDict):
    """The profile of --profile: a published benchmark whose settings the session took over."""

    name: Annotated[str, Key("the profile's name", may_be_empty=False)]
    title: Annotated[str, Key("how outputs call it", may_be_empty=False)]
    overridden: Annotated[list[str], Key("options that replaced the profile's settings, in words")]
    quality_share: Annotated[float, Key("share of each reference score that must be reached", at_most=1)]
    shortest: Annotated[float, Key("least mean length ÷ the reference's")]
    longest: Annotated[float, Key("greatest mean length ÷ the reference's")]
    reference: Annotated[ReferenceScores | None, Key("the reference scores; null if none were given")]


def describe_profile(profile: ProfileRecord) -> str:
    """One line: the profile's title, which options replaced its settings, and what the summaries are held against."""
    reference = profile["reference"]
    held = (
        f"at least {percent(profile['quality_share'])} of the reference's ROUGE ({reference['source']}) is required"
        if reference
        else ("no reference scores were given (--reference-rouge), so quality is not checked")
    )
    replaced = f"; {', '.join(profile['overridden'])}" if profile["overridden"] else ""
    return f"profile {profile['name']}: {profile['title']}{replaced}; {held}"


class Scenario(StrEnum):
    """How queries arrive, in MLPerf's terms."""

    OFFLINE = "Offline"
    SERVER = "Server"
    SINGLE_STREAM = "SingleStream"


def scenario_of(kind: KindFacts, info: ExtraInfo) -> Scenario | None:
    """The scenario that an experiment resembles: all documents at once, at a rate, or one at a time; None for others."""
    if "served" in info:
        if info["served"]["arrivals_per_second"] is not None:
            return Scenario.SERVER
        if info["batch_size"] >= len(info["document_ids"]) > 1:
            return Scenario.OFFLINE
        return Scenario.SINGLE_STREAM if info["batch_size"] == 1 else None
    if kind.place is None:
        return None
    return Scenario.SINGLE_STREAM if kind.unit is Unit.DOCUMENT else Scenario.OFFLINE
