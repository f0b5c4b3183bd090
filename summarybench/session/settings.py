"""Options, parsed once into frozen `Settings` and `UnresolvedOptions`.

Nothing behind them reads options or the environment.
"""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS, ModelSpec
from summarybench.core.names import check_name
from summarybench.core.outcomes import InputError
from summarybench.core.paths import user_path
from summarybench.core.price import parse_price
from summarybench.core.share import parse_share
from summarybench.documents.document import DocumentSource
from summarybench.engines.scorer_models import ScorerSource, read_scorers
from summarybench.engines.weights import check_model_folder
from summarybench.kinds.registry import KINDS
from summarybench.machine.environment import HOST_NAME_VARIABLE
from summarybench.runs.run_folder import take_folder_file
from summarybench.session.document_options import DocumentOptions, document_options_of
from summarybench.session.options import all_options
from summarybench.session.own_models import read_named_models
from summarybench.session.profiles import ChosenProfile, chosen_profile, with_profile
from summarybench.session.students import Student, read_students

LONGEST_HOST_NAME = 40
DEFAULT_STORAGE = "file://./.benchmarks"  # pytest-benchmark's own default, which stands for our baselines/ here


@dataclass(frozen=True, slots=True, kw_only=True)
class UnresolvedOptions:
    """The options whose defaults depend on the device; None for each that was left out.

    `config.resolve` alone reads them, and `Config` has their values on the session's device. `kind_options` has those of all
    kinds of benchmark, by their keys.
    """

    documents: int | None
    max_new_tokens: int | None
    max_prompt_tokens: int | None
    kind_options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line asked for, whatever the device.

    `own_models` are the user's own of --model, --models and --config. Only `chosen_models` are measured; if it is empty, all
    of the catalogue are.
    """

    seed: int
    documents_file: Path | None
    document_source: DocumentSource | None
    document_options: DocumentOptions = field(default_factory=DocumentOptions)
    model_paths: Mapping[str, Path]
    own_models: Mapping[str, ModelSpec]
    chosen_models: frozenset[str]
    gpu_family: str | None
    memory_limit_gib: float | None
    predict_memory: bool
    synthetic_weights: bool
    tolerance: float
    baseline_runs: int
    passes: int
    require_baseline: bool
    results_dir: Path
    baselines_dir: Path
    host_name: str = ""
    compare_with: str | None
    save_as: str | None
    json_path: Path | None
    folder_file: Path | None = None
    resume: Path | None
    confirm: Path | None
    students: Mapping[str, Student]
    student_margin: float
    scorers: tuple[ScorerSource, ...] = ()
    gpu_hour_price: float | None = None
    profile: ChosenProfile | None = None

    def document_source_of(self, model: str) -> DocumentSource:
        """The source that an option names.

        Without one, models that need no hub get the embedded documents, and other models WikiLingua.
        """
        if self.documents_file is not None:
            return DocumentSource.FILE
        if self.document_options.dataset is not None:
            return DocumentSource.HUB
        spec = MODELS[MODELS[model].teacher or model]  # a student gets what its teacher gets
        is_folder = spec.own is not None and spec.own.folder is not None
        needs_no_hub = spec.is_embedded or is_folder or self.synthetic_weights
        return self.document_source or (DocumentSource.EMBEDDED if needs_no_hub else DocumentSource.WIKILINGUA)


def settings_of(option: Any, root: Path) -> Settings:
    """The settings that parsed options ask for.

    Relative defaults are folders of `root`. Raises InputError for a value that makes no sense.
    """
    _check(option)
    profile = chosen_profile(option)
    option = with_profile(option)
    document_options = document_options_of(option)
    students = read_students(option.student)
    synthetic = option.weights == "synthetic"
    named = read_named_models(option.model, option.models, option.config, synthetic=synthetic)
    own = {name: spec for name, spec in named.items() if spec.own}
    folders = {name: spec.own.folder for name, spec in own.items() if spec.own and spec.own.folder}
    compare = option.benchmark_compare
    return Settings(
        seed=option.seed,
        documents_file=option.documents_file,
        document_source=None if option.document_source is None else DocumentSource(option.document_source),
        document_options=document_options,
        model_paths={
            **model_paths_of(option.model_path),
            **{name: student.folder for name, student in students.items()},
            **folders,
        },
        own_models=own,
        chosen_models=_chosen_models(named, students),
        gpu_family=option.gpu_family,
        memory_limit_gib=option.memory_limit,
        predict_memory=not option.no_memory_prediction,
        synthetic_weights=synthetic,
        tolerance=parse_share(option.tolerance),
        baseline_runs=option.baseline_runs,
        passes=option.passes,
        require_baseline=option.require_baseline,
        results_dir=option.results_dir or root / "results",
        baselines_dir=_baselines_dir(option.benchmark_storage, root),
        host_name=_host_name(option.host_name),
        compare_with=compare if isinstance(compare, str) else None,
        save_as=_save_as(option),
        json_path=option.benchmark_json and _path_of("--benchmark-json", option.benchmark_json),
        folder_file=take_folder_file(),
        resume=option.resume,
        confirm=option.confirm,
        students=students,
        student_margin=parse_share(option.student_margin, "--student-margin"),
        scorers=read_scorers(option.scorer),
        gpu_hour_price=None if option.gpu_hour_price is None else parse_price(option.gpu_hour_price),
        profile=profile,
    )


def _chosen_models(named: Collection[str], students: Mapping[str, Student]) -> frozenset[str]:
    """The named models, and the students with their teachers; empty if no model is named."""
    of_students = {name for each in students.values() for name in (each.name, each.teacher)}
    return frozenset({*named, *of_students}) if named else frozenset()


def _check(option: Any) -> None:
    """Raise InputError for a value that is too small, and for options that contradict each other."""
    for each in all_options():
        value = getattr(option, each.key)
        if each.minimum is not None and value is not None and value < each.minimum:
            raise InputError(f"{each.name} {value}: must be at least {each.minimum}")
    if option.resume is not None and option.confirm is not None:
        raise InputError("--resume and --confirm each go on from a run; give one of them")
    if option.weights == "synthetic" and option.student:
        raise InputError("--student with --weights synthetic: a student is its weights; leave one of them out")
    if option.weights == "synthetic" and option.scorer:
        raise InputError(
            "--scorer with --weights synthetic: random weights write no summaries to score; leave one of them out"
        )


def unresolved_options_of(option: Any) -> UnresolvedOptions:
    """The parsed options that `config.resolve` completes. `settings_of` checks their range.

    Raises InputError for an option of a kind that cannot be used.
    """
    option = with_profile(option)
    kind_options: dict[str, Any] = {}
    for kind in KINDS.values():
        kind_options |= kind.completed_options({each.key: getattr(option, each.key) for each in kind.options})
    return UnresolvedOptions(
        documents=option.documents,
        max_new_tokens=option.max_new_tokens,
        max_prompt_tokens=option.max_prompt_tokens,
        kind_options=kind_options,
    )


def _host_name(asked: str | None) -> str:
    """The name from --host-name or its environment variable; empty for a name made from the host's ID."""
    name = asked if asked is not None else os.environ.get(HOST_NAME_VARIABLE, "")
    if not name.isprintable() or len(name) > LONGEST_HOST_NAME:
        raise InputError(
            f"--host-name (or {HOST_NAME_VARIABLE}) {name!r}: give at most {LONGEST_HOST_NAME} printable characters"
        )
    return name.strip()


def _save_as(option: Any) -> str | None:
    name = option.benchmark_save or option.benchmark_autosave
    return check_name(name, "--benchmark-save=") if name else None


def _baselines_dir(storage: str, rootpath: Path) -> Path:
    if storage == DEFAULT_STORAGE:
        return rootpath / "baselines"
    if "://" in storage and not storage.startswith("file://"):
        raise InputError(f"--benchmark-storage {storage}: baselines are files here; name a folder")
    return _path_of("--benchmark-storage", storage.removeprefix("file://"))


def model_paths_of(pairs: Sequence[str]) -> dict[str, Path]:
    """The folders of NAME=FOLDER options.

    Raises InputError where one names no model, or holds none of that kind.
    """
    found: dict[str, Path] = {}
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if name not in MODELS or not folder:
            raise InputError(f"--model-path {pair}: give NAME=FOLDER, with NAME one of {', '.join(MODELS)}")
        found[name] = _path_of("--model-path", folder)
        check_model_folder(MODELS[name], found[name])
    return found


def _path_of(option: str, text: str | Path) -> Path:
    """The whole path that an option names. Raises InputError for `~` without a home folder."""
    try:
        return user_path(str(text)).absolute()
    except ArgumentTypeError as error:
        raise InputError(f"{option} {error}") from error
