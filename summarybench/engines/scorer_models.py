"""Which models can score summaries, and where they are. Nothing here imports torch or transformers.

A model for sequence classification with a label `entailment` is an NLI scorer. Any other encoder is a BERTScore scorer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import ModelSpec
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.core.paths import user_path
from summarybench.engines.checkpoint_files import check_checkpoint, read_json
from summarybench.engines.hub import WITHOUT_HUB, describe, download, page_of
from summarybench.engines.weights import folder_digest

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
CLASSIFIER = "ForSequenceClassification"
GENERATING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM")
"""Ends of the names of architectures that generate text, and are no scorers."""


class ScorerKind(StrEnum):
    """How a scorer scores."""

    NLI = "nli"
    BERTSCORE = "bertscore"

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of a summary's scores; the last one stands for all."""
        return ("entailment",) if self is ScorerKind.NLI else ("precision", "recall", "f1")

    @property
    def needs_reference(self) -> bool:
        """Whether a summary without a reference has no score."""
        return self is ScorerKind.BERTSCORE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSource:
    """A scorer that --scorer names, checked but not loaded.

    `source` is what the user gave: a folder, or a hub id at a commit. `digest` is that of the files in `folder`. `entailment` is the
    number of an NLI model's label.
    """

    name: str
    kind: ScorerKind
    folder: Path
    source: str
    digest: str
    entailment: int | None = None


def read_scorers(pairs: Sequence[str]) -> tuple[ScorerSource, ...]:
    """The scorers of NAME=FOLDER|HUBID options; those of the hub are downloaded.

    Raises InputError for one that is no scorer, and where two have the same name.
    """
    found: dict[str, ScorerSource] = {}
    for pair in pairs:
        scorer = _read_scorer(pair)
        if scorer.name in found:
            raise InputError(f"--scorer {pair}: another scorer has the name {scorer.name!r}; give each its own")
        found[scorer.name] = scorer
    return tuple(found.values())


def _read_scorer(pair: str) -> ScorerSource:
    option = f"--scorer {pair}"
    name, separator, given = pair.partition("=")
    if not separator or not given or not NAME.fullmatch(name):
        raise InputError(f"{option}: give NAME=FOLDER or NAME=ORG/MODEL, with a NAME such as nli or bertscore-large")
    folder, source = _folder_of(name, given, option)
    config = _config_in(folder, option)
    check_checkpoint(folder, option)
    kind, entailment = kind_of(config, name, option)
    return ScorerSource(
        name=name, kind=kind, folder=folder, source=source, digest=folder_digest(folder), entailment=entailment
    )


def _folder_of(name: str, given: str, option: str) -> tuple[Path, str]:
    """The folder of a scorer, and what to call it. A folder that exists is never taken for a repository of the hub."""
    path = user_path(given).absolute()
    if path.is_dir():
        return path, path.name
    match = None if path.exists() or given.startswith((".", "/", "~")) else REPOSITORY.fullmatch(given)
    if match is None:
        raise InputError(f"{option}: is neither a folder nor a hub id such as ORG/NAME or ORG/NAME@REVISION")
    repository = match["repository"]
    try:
        commit = describe(repository, match["revision"]).commit
        spec = ModelSpec(
            name=repository,
            repository=repository,
            revision=commit,
            marker="",
            architecture="",
            licence_url=page_of(repository),
        )
        return download(spec), f"{repository}@{commit}"
    except UnavailableError as error:
        remedy = f"without the hub, name a local folder (--scorer {name}=FOLDER)"
        raise InputError(f"{option}: {str(error).replace(WITHOUT_HUB, remedy)}") from error


def _config_in(folder: Path, option: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise InputError(f"{option}: has no config.json; name a folder that save_pretrained wrote")
    return read_json(folder / "config.json")


def kind_of(config: Mapping[str, Any], name: str, option: str) -> tuple[ScorerKind, int | None]:
    """The kind of scorer that a config.json describes, unless the name begins with another, and an NLI model's label.

    Raises InputError if the model is no scorer.
    """
    architectures = [str(each) for each in config.get("architectures") or []]
    if any(each.endswith(GENERATING) for each in architectures) or config.get("is_decoder"):
        raise InputError(f"{option}: {architectures[0]} generates text; a scorer is an encoder or an NLI classifier")
    label = _entailment_in(config)
    is_nli = any(each.endswith(CLASSIFIER) for each in architectures) and label is not None
    asked = next((kind for kind in ScorerKind if re.match(rf"{kind}\b", name)), None)
    kind = asked or (ScorerKind.NLI if is_nli else ScorerKind.BERTSCORE)
    if kind is ScorerKind.NLI and not is_nli:
        raise InputError(
            f"{option}: is no NLI model: it needs {CLASSIFIER} with a label 'entailment', and has {_shown(config)}"
        )
    if asked is None and not is_nli and any(each.endswith(CLASSIFIER) for each in architectures):
        raise InputError(
            f"{option}: is a classifier without a label 'entailment' ({_shown(config)}); to use its encoder, let the name begin "
            f"with {ScorerKind.BERTSCORE.value}"
        )
    return kind, label if kind is ScorerKind.NLI else None


def _entailment_in(config: Mapping[str, Any]) -> int | None:
    labels = config.get("id2label")
    if not isinstance(labels, Mapping):
        return None
    found = [number for number, label in labels.items() if str(label).lower() == "entailment"]
    return int(found[0]) if len(found) == 1 else None


def _shown(config: Mapping[str, Any]) -> str:
    labels = config.get("id2label")
    names = ", ".join(map(str, labels.values())) if isinstance(labels, Mapping) else "no labels"
    return f"{', '.join(map(str, config.get('architectures') or ['no architecture']))} with {names}"[:200]
