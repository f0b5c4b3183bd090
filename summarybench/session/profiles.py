"""--profile: fills in the options of a published benchmark. Options that the user gives replace the profile's."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from summarybench.catalogue.profiles import PROFILES, REFERENCES, Profile, Reference
from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError
from summarybench.runs.profile_record import ProfileRecord

SOURCES = ("documents_file", "dataset", "document_source")
LIMITS = ("max_prompt_tokens", "max_new_tokens", "slo")
MOST_PERCENT = 100


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
                "rouge1": found.rouge1 / 100,
                "rouge2": found.rouge2 / 100,
                "rougeLsum": found.rougeLsum / 100,
                "characters": found.characters,
                "source": found.source,
            },
        }


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
    """The scores of the catalogue, or three numbers in percent. --reference-length replaces the length."""
    text, length = option.reference_rouge, option.reference_length
    if length is not None and not 0 < length < float("inf"):
        raise InputError(f"--reference-length {trimmed(length)}: give the mean characters of a summary, such as 611")
    if text is None:
        return None
    if text in REFERENCES:
        known = REFERENCES[text]
        return Reference(
            name=known.name,
            rouge1=known.rouge1,
            rouge2=known.rouge2,
            rougeLsum=known.rougeLsum,
            source=known.source,
            characters=known.characters if length is None else length,
        )
    try:
        rouge1, rouge2, rouge_lsum = (float(each) for each in text.split(","))
    except ValueError:
        rouge1 = rouge2 = rouge_lsum = 0.0
    if not all(1 < each <= MOST_PERCENT for each in (rouge1, rouge2, rouge_lsum)):
        raise InputError(
            f"--reference-rouge {text}: give ROUGE-1, ROUGE-2 and ROUGE-Lsum in percent, such as 38.7792,15.9075,35.793, or "
            f"{', '.join(REFERENCES)}"
        )
    return Reference(
        name="", rouge1=rouge1, rouge2=rouge2, rougeLsum=rouge_lsum, source="--reference-rouge", characters=length
    )
