"""Profiles of --profile and reference scores of --reference-rouge, read from profiles.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.catalogue.datasets import DATASETS
from summarybench.catalogue.entries import check_known, entries_in
from summarybench.core.tables import entry_of

PROFILES_FILE = Path(__file__).with_name("profiles.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The settings of a published benchmark.

    `title` goes into every output. `quality_share` is the share of each reference score that must be reached, and the mean
    length of the summaries must be between `shortest` and `longest` times the reference's.
    """

    name: str
    title: str
    dataset: str
    split: str
    max_prompt_tokens: int
    max_new_tokens: int
    slo: str
    quality_share: float
    shortest: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Mean scores to hold summaries against: ROUGE F1 in percent, and characters of a summary.

    None if unknown, or not required.
    """

    name: str
    rouge1: float | None
    rouge2: float | None
    rougeL: float | None  # noqa: N815  # the name of the score
    rougeLsum: float | None  # noqa: N815
    source: str
    characters: float | None = None


def read_profiles(path: Path = PROFILES_FILE) -> dict[str, Profile]:
    """Read the profiles, by name. Raises InputError that names the file, the entry and the value."""
    found = {}
    for where, values in entries_in(path, "profiles"):
        profile = entry_of(Profile, values, where)
        check_known(profile.dataset, DATASETS, f"{where}: dataset")
        found[profile.name] = profile
    return found


def read_references(path: Path = PROFILES_FILE) -> dict[str, Reference]:
    """Read the reference scores, by name. Raises as `read_profiles`."""
    entries = (entry_of(Reference, values, where) for where, values in entries_in(path, "references"))
    return {each.name: each for each in entries}


PROFILES: Mapping[str, Profile] = read_profiles()
REFERENCES: Mapping[str, Reference] = read_references()
