"""--profile: fills in the options of a published benchmark. Options that the user gives replace the profile's."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from typing import Any

from summarybench.catalogue.profiles import PROFILES, REFERENCES, Profile, Reference
from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError
from summarybench.runs.profile_record import ProfileRecord
from summarybench.runs.run_file import ROUGE_TYPES

SOURCES = ("documents_file", "dataset", "document_source")
LIMITS = ("max_prompt_tokens", "max_new_tokens", "slo")
MOST_PERCENT = 100
NOT_REQUIRED = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenProfile:
    """The profile of a session, the options that replace its settings in words, and the reference scores to reach."""

    profile: Profile
    overridden: tuple[str, ...] = ()
    reference: Reference | None = None

    def as_record(self) -> ProfileRecord:
        """The key `profile` of the run file, with scores from 0 to 1."""
        found = self.reference
        return {
            "name": self.profile.name,
            "title": self.profile.title,
            "overridden": list(self.overridden),
            "quality_share": self.profile.quality_share,
            "shortest": self.profile.shortest,
            "longest": self.profile.longest,
            "reference": None
            if found is None
            else {
                "rouge1": _share(found.rouge1),
                "rouge2": _share(found.rouge2),
                "rougeL": _share(found.rougeL),
                "rougeLsum": _share(found.rougeLsum),
                "characters": found.characters,
                "source": found.source,
            },
        }


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def with_profile(option: Any) -> Any:
    """The parsed options, completed by those of the profile. Raises InputError for a profile that does not exist."""
    profile = _profile_of(option)
    if profile is None:
        return option
    completed = Namespace(**vars(option))
    for key in LIMITS:
        if getattr(option, key) is None:
            setattr(completed, key, getattr(profile, key))
    if all(getattr(option, key) is None for key in SOURCES):
        completed.dataset = profile.dataset
        if option.split is None:
            completed.split = profile.split
    return completed


def chosen_profile(option: Any) -> ChosenProfile | None:
    """The profile that the options name. Raises InputError for one that does not exist, and for unusable references."""
    profile, reference = _profile_of(option), _reference_of(option)
    if profile is None:
        if reference is not None or option.reference_length is not None:
            lonely = "--reference-rouge" if reference is not None else "--reference-length"
            raise InputError(f"{lonely} is for --profile; give it too, such as --profile {next(iter(PROFILES))}")
        return None
    if reference is None and option.reference_length is not None:
        raise InputError("--reference-length is for --reference-rouge; give it too")
    return ChosenProfile(profile=profile, overridden=tuple(_overridden(option, profile)), reference=reference)


def _profile_of(option: Any) -> Profile | None:
    if option.profile is None:
        return None
    if option.profile not in PROFILES:
        raise InputError(f"--profile {option.profile}: no such profile; there is {', '.join(PROFILES)}")
    return PROFILES[option.profile]


def _overridden(option: Any, profile: Profile) -> list[str]:
    given = [
        f"{_name(key)} {value} instead of {getattr(profile, key)}"
        for key in LIMITS
        if (value := getattr(option, key)) is not None and value != getattr(profile, key)
    ]
    sources = [key for key in SOURCES if getattr(option, key) is not None]
    given += [f"{_name(key)} {getattr(option, key)} instead of --dataset {profile.dataset}" for key in sources]
    if not sources and option.split not in (None, profile.split):
        given.append(f"--split {option.split} instead of {profile.split}")
    return given


def _name(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _reference_of(option: Any) -> Reference | None:
    """The scores of the catalogue, or numbers in percent. --reference-length replaces the length."""
    text, length = option.reference_rouge, option.reference_length
    if length is not None and not 0 < length < float("inf"):
        raise InputError(f"--reference-length {trimmed(length)}: give the mean characters of a summary, such as 611")
    if text is None:
        return None
    if text in REFERENCES:
        known = REFERENCES[text]
        return known if length is None else replace(known, characters=length)
    scores = _scores_in(text)
    if scores is None:
        raise InputError(
            f"--reference-rouge {text}: give ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum in percent, such as "
            f"38.7792,15.9075,24.4957,35.793 ({NOT_REQUIRED} for one that is not required), or {', '.join(REFERENCES)}"
        )
    rouge1, rouge2, rouge_l, rouge_lsum = scores
    return Reference(
        name="",
        rouge1=rouge1,
        rouge2=rouge2,
        rougeL=rouge_l,
        rougeLsum=rouge_lsum,
        source="--reference-rouge",
        characters=length,
    )


def _scores_in(text: str) -> list[float | None] | None:
    """The four scores in percent, each None if it is not required; None for anything else."""
    try:
        scores = [None if each.strip() == NOT_REQUIRED else float(each) for each in text.split(",")]
    except ValueError:
        return None
    given = [each for each in scores if each is not None]
    is_whole = len(scores) == len(ROUGE_TYPES) and given
    return scores if is_whole and all(1 < each <= MOST_PERCENT for each in given) else None
