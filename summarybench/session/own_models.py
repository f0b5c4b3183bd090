"""The models that a user names: `--model`, `--models` and `--config`.

A model is a repository of the hub, a local folder, or, with synthetic weights, a config.json alone.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from summarybench.catalogue.entries import check_known
from summarybench.catalogue.models import (
    CPU,
    EVERY_GPU,
    LOADERS,
    MODELS,
    RESERVED_MARKERS,
    ModelSpec,
    OwnFacts,
    check_marker,
)
from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.core.paths import user_path
from summarybench.core.tables import entry_of, read_table
from summarybench.engines.checkpoint_files import read_json, weights_bytes
from summarybench.engines.hub import describe, page_of
from summarybench.engines.weights import check_model_folder
from summarybench.kinds.registry import KINDS
from summarybench.machine.families import FAMILIES

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
SNAPSHOT = re.compile(r"models--(?:.+--)?(?P<name>.+?)/snapshots/[0-9a-f]{40}$")
"""A model's folder in the hub's cache."""
NOT_ON_THE_HUB = re.compile("could not be downloaded|has no such repository")
"""What `describe` says of a hub id that may have been meant as a relative path."""
CONFIG = "config.json"
ADAPTER = "adapter_config.json"
MERGE = "an adapter is not a model: merge it into its base model (PEFT's merge_and_unload) and save that"
WITHOUT_GENERATION = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
"""Endings of the classes of transformers that cannot write a summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A model as the user named it.

    - `option`: what the user wrote, for messages.
    - `source`: a repository with its revision (`ORG/NAME@REV`), or a path.
    - `name`, `marker`: empty for the ones that follow from the source.
    - `base`: the folder that a relative path belongs to.
    """

    option: str
    source: str
    name: str = ""
    marker: str = ""
    title: str = ""
    loaders: tuple[str, ...] = ()
    config: Path | None = None
    base: Path = field(default_factory=Path)

    @property
    def path(self) -> Path | None:
        """The local folder or file that the source names; None for a repository of the hub."""
        path = self.base / _expanded(self.source, self.option)
        return path.absolute() if path.exists() or self.source.startswith(("/", "./", "../", "~")) else None

    @property
    def repository(self) -> str:
        return self.source.partition("@")[0]

    @property
    def revision(self) -> str | None:
        return self.source.partition("@")[2] or None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One table of a --models file."""

    model: str
    marker: str = ""
    title: str = ""
    loaders: tuple[str, ...] = ()


def read_named_models(
    models: Sequence[str], files: Sequence[Path], configs: Sequence[str], *, synthetic: bool
) -> dict[str, ModelSpec]:
    """The models that these options name, by name; empty for the catalogue's choice.

    The user's own models have `own`; the specs of built-in ones are the catalogue's.

    Models of the hub are looked up there, unless its cache has the commit; a model that the hub does not give has its
    reason in `own.obstacle`. Raises InputError for a name, a folder or a file that cannot be used.
    """
    named = [*map(_named, models), *(each for path in files for each in _entries_in(path))]
    named = _with_configs(named, configs, synthetic=synthetic)
    found: dict[str, ModelSpec] = {}
    for each in named:
        if each.source in MODELS:
            _check_changes_nothing(each)
            found[each.source] = MODELS[each.source]
            continue
        spec = _spec_of(each, synthetic=synthetic, taken=_taken_markers() | {spec.marker for spec in found.values()})
        if spec.name in found or spec.name in MODELS:
            whose = "a built-in model" if spec.name in MODELS else "another model given here"
            raise InputError(f"{each.option}: {spec.name!r} is the name of {whose}; choose another: NAME={each.source}")
        found[spec.name] = spec
    return found


def _check_changes_nothing(named: Named) -> None:
    """Raise InputError for an entry that names a built-in model and gives it a name, loaders and the like."""
    given = {
        "name": named.name not in ("", named.source),
        "marker": named.marker,
        "title": named.title,
        "loaders": named.loaders,
        "configuration": named.config,
    }
    if own := " and ".join(key for key, value in given.items() if value):
        raise InputError(
            f"{named.option}: {named.source!r} is a built-in model and keeps its own {own}; leave the {own} out "
            f"(--model {named.source}), and select its tests with -k"
        )


def _named(text: str) -> Named:
    name, equals, source = text.partition("=")
    if not equals or Path(text).exists():
        name, equals, source = "", "", text
    if (equals and not NAME.fullmatch(name)) or not source:
        raise InputError(
            f"--model {text}: give a hub id, a folder, or NAME=X with a NAME of letters, digits, '.', '_' and '-'"
        )
    return Named(option=f"--model {text}", source=source, name=name)


def _entries_in(path: Path) -> Iterator[Named]:
    """The tables of a --models file. Relative folders are relative to it."""
    table = read_table(path)
    if not table:
        raise InputError(f'--models {path}: names no model; give each a table: [NAME] with model = "FOLDER"')
    for name, values in table.items():
        where = f"{path}: [{name}]"
        entry = entry_of(ModelEntry, values, where)
        if not NAME.fullmatch(name):
            raise InputError(f"{where}: a name consists of letters, digits, '.', '_' and '-'")
        for loader in entry.loaders:
            check_known(loader, LOADERS, f"{where}: loaders")
        if entry.marker:
            check_marker(entry.marker, f"{where}: marker")
        yield Named(
            option=where,
            source=entry.model,
            name=name,
            marker=entry.marker,
            title=entry.title,
            loaders=entry.loaders,
            base=path.parent,
        )


def _with_configs(named: Sequence[Named], configs: Sequence[str], *, synthetic: bool) -> list[Named]:
    """The models with the files of --config.

    NAME=FILE is for the model with that name, and FILE alone for the only model without a file. If there is no such model,
    the file is a model by itself. Files with a name are matched first, so that the order of the options does not matter.
    """
    if configs and not synthetic:
        raise InputError(f"--config {configs[0]}: only synthetic weights can be made from it; add --weights synthetic")
    given, by_themselves = list(named), []
    for text in sorted(configs, key=lambda text: "=" not in text):
        option = f"--config {text}"
        name, equals, source = text.partition("=")
        path = _expanded(source if equals else text, option).absolute()
        if not path.is_file():
            raise InputError(f"{option}: no such file; give [NAME=]FILE")
        place = _place_with_name(name, given, option) if equals else _place_without_config(given, text)
        if place is None:
            own_name = name if equals else ""
            by_themselves.append(Named(option=option, source=str(path), name=own_name, config=path))
        else:
            given[place] = replace(given[place], config=path)
    return [*given, *by_themselves]


def _place_with_name(name: str, given: Sequence[Named], option: str) -> int | None:
    """The place in `given` of the model with this name; None if there is none."""
    for place, each in enumerate(given):
        if (each.name or each.source) == name:
            if each.config:
                raise InputError(f"{option}: {name!r} already has {each.config}; give one file for each model")
            return place
    return None


def _place_without_config(given: Sequence[Named], text: str) -> int | None:
    """The place in `given` of the only model without a file of --config; None if no model is given."""
    places = [place for place, each in enumerate(given) if each.config is None]
    if len(places) > 1:
        raise InputError(f"--config {text}: {len(places)} models are given; name the one it is for: NAME={text}")
    if given and not places:
        raise InputError(
            f"--config {text}: the models given already have a file each; leave it out, or measure it as a model by itself: "
            f"NAME={text}"
        )
    return places[0] if places else None


def _expanded(text: str, option: str) -> Path:
    try:
        return user_path(text)
    except ArgumentTypeError as error:
        raise InputError(f"{option}: {error}") from error


def _spec_of(named: Named, *, synthetic: bool, taken: frozenset[str] | set[str]) -> ModelSpec:
    path = named.path
    if path is None and not REPOSITORY.fullmatch(named.repository):
        raise InputError(f"{named.option}: is neither a folder nor a hub id such as ORG/NAME or ORG/NAME@REVISION")
    name = named.name or _name_from(path, named.repository)
    marker = named.marker or _marker_of(name, taken)
    if marker in taken:
        raise InputError(f"{named.option}: marker: {marker!r} is taken; choose another")
    spec = ModelSpec(
        name=name,
        repository=str(path or named.repository),
        revision="",
        marker=marker,
        architecture="",
        licence_url=page_of(named.repository),
        title=named.title or named.source,
        families=EVERY_GPU | CPU,
        own=OwnFacts(loaders=named.loaders),
    )
    if named.config is not None or path is not None:
        return _of_files(spec, named, path, synthetic=synthetic)
    return _of_hub(spec, named, synthetic=synthetic)


def _of_files(spec: ModelSpec, named: Named, path: Path | None, *, synthetic: bool) -> ModelSpec:
    """The model of a local folder, or of a config.json for synthetic weights."""
    file = named.config or path
    if file is None or not file.exists():
        raise InputError(f"{named.option}: no such folder")
    if file.is_dir():
        file /= CONFIG
    elif not synthetic:
        raise InputError(f"{named.option}: is a file; give the model's folder, or add --weights synthetic")
    if not file.is_file():
        raise InputError(f"{named.option}: has no {CONFIG}; {_remedy_without_config(file.parent)}")
    if named.config is None:
        _check_is_no_adapter(file.parent, named.option)
    spec = _with_config(spec, read_json(file), str(file), synthetic=synthetic)
    if synthetic or path is None or spec.own is None:
        return spec
    check_model_folder(spec, path, named.option)
    return replace(spec, own=replace(spec.own, folder=path, weights_bytes=weights_bytes(path)))


def _remedy_without_config(folder: Path) -> str:
    """What the user can do about a folder without config.json, from what else it holds."""
    if (folder / ADAPTER).is_file():
        return MERGE
    if any(folder.glob("*.gguf")):
        return "GGUF files are not loaded; name a folder with the model's safetensors"
    models = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if models:
        return f"it holds {counted(models, 'model')}; name one of them, such as {folder / models[-1]}"
    return "name a folder that save_pretrained wrote"


def _check_is_no_adapter(folder: Path, option: str) -> None:
    """Raise InputError for a folder with an adapter, which transformers would load in place of, or on top of, the model."""
    if (folder / ADAPTER).is_file():
        raise InputError(
            f"{option}: has an {ADAPTER}; {MERGE}, or remove the adapter's files if they are merged already"
        )


def _of_hub(spec: ModelSpec, named: Named, *, synthetic: bool) -> ModelSpec:
    try:
        found = describe(named.repository, named.revision)
    except UnavailableError as error:
        obstacle = replace(spec.own or OwnFacts(), obstacle=_with_missing_folder(str(error), named))
        return replace(spec, revision=named.revision or "", own=obstacle)
    spec = _with_config(spec, found.config, f"{named.repository}: {CONFIG}", synthetic=synthetic)
    own = replace(spec.own or OwnFacts(), weights_bytes=None if synthetic else found.weights_bytes)
    return replace(spec, revision=found.commit, own=own)


def _with_missing_folder(why: str, named: Named) -> str:
    """Why the hub does not give the model, with a remark if its id may have been meant as a relative path."""
    return why if named.revision else NOT_ON_THE_HUB.sub(r"\g<0> (there is no folder of that name here)", why, count=1)


def _with_config(spec: ModelSpec, config: Mapping[str, Any], where: str, *, synthetic: bool) -> ModelSpec:
    architecture = config.get("model_type")
    if not isinstance(architecture, str):
        raise InputError(f"{where}: states no model_type, so transformers cannot load it")
    _check_generates(config, where)
    own = replace(spec.own or OwnFacts(), quantization="" if synthetic else _quantization_in(config, where))
    return replace(spec, architecture=architecture, config=dict(config), own=own)


def _check_generates(config: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a model that is not a causal language model, such as T5 or BERT."""
    kinds = config.get("architectures") or ()
    names = [str(kind) for kind in kinds] if isinstance(kinds, Sequence) and not isinstance(kinds, str) else []
    if config.get("is_encoder_decoder") is True:
        what = "an encoder-decoder model"
    elif names and all(name.endswith(WITHOUT_GENERATION) for name in names):
        what = f"a {names[0]}"
    else:
        return
    raise InputError(f"{where}: describes {what}, and only causal language models are measured; name one")


def _quantization_in(config: Mapping[str, Any], where: str) -> str:
    """How the checkpoint is quantized; empty for plain weights."""
    text = config.get("text_config")
    stored = config.get("quantization_config") or (
        text.get("quantization_config") if isinstance(text, Mapping) else None
    )
    if not stored:
        return ""
    if not isinstance(stored, Mapping):
        raise InputError(f"{where}: quantization_config: must be an object, not {stored!r}")
    return str(stored.get("quant_method", "bitsandbytes"))


def _name_from(path: Path | None, repository: str) -> str:
    """A name for test ids and command lines, from the folder or the hub id."""
    if path is None:
        found = repository.rpartition("/")[2]
    else:
        folder = path.parent if path.is_file() and path.name == CONFIG else path
        cached = SNAPSHOT.search(folder.as_posix())
        found = cached["name"] if cached else folder.resolve().name.removesuffix(".json")
    name = re.sub(r"[^a-z0-9._-]+", "-", found.lower()).strip("-._")
    if not NAME.fullmatch(name):
        raise InputError(
            f"--model {path or repository}: gives no name for the model; give one: NAME={path or repository}"
        )
    return name


def _marker_of(name: str, taken: frozenset[str] | set[str]) -> str:
    """The name as a pytest marker: `qwen2.5-0.5b-instruct` as `qwen2_5_0_5b_instruct`, `7b-chat` as `model_7b_chat`."""
    marker = re.sub(r"\W", "_", name)
    marker = marker if marker.isidentifier() else f"model_{marker}"  # pytest refuses a leading underscore
    return f"{marker}_model" if marker in taken else marker


def _taken_markers() -> frozenset[str]:
    """The markers of families, kinds and built-in models, and the words of pytest's -m."""
    kinds = {kind.marker.name for kind in KINDS.values() if kind.marker}
    return frozenset(
        {*FAMILIES, *RESERVED_MARKERS, *kinds, *(spec.marker for spec in MODELS.values()), "and", "or", "not"}
    )
