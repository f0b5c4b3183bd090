"""Options, parsed once into a frozen `Settings`; nothing behind it reads options or the environment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import InputError
from summarybench.core.share import parse_share
from summarybench.documents.sources import DocumentSource
from summarybench.engines.weights import check_model_folder, folder_digest
from summarybench.kinds.registry import KINDS
from summarybench.machine.cpu import wait_policy
from summarybench.machine.device import Device
from summarybench.runs.run_folder import take_folder_file
from summarybench.session.options import all_options
from summarybench.session.students import Student, read_students
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS

DEFAULT_STORAGE = "file://./.benchmarks"  # pytest-benchmark's own default, which stands for our baselines/ here


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSample:
    """How much a session measures unless an option asks for something else."""

    documents: int
    max_new_tokens: int
    max_prompt_tokens: int


ON_A_GPU = DefaultSample(documents=100, max_new_tokens=100, max_prompt_tokens=2048)
ON_A_CPU = DefaultSample(documents=8, max_new_tokens=48, max_prompt_tokens=2048)
ON_A_CPU_WITHOUT_AVX512 = DefaultSample(
    documents=MINIMUM_COMMON_DOCUMENTS,  # fewer would get no verdict
    max_new_tokens=12,
    max_prompt_tokens=128,
)
"""Small enough for three minutes on two cores, where ON_A_CPU takes five."""


def default_sample_on(device: Device) -> DefaultSample:
    """The default for this kind of device, whatever else the machine is doing: two runs on it are one workload."""
    if device.is_gpu:
        return ON_A_GPU
    return ON_A_CPU_WITHOUT_AVX512 if device.is_cpu_without_avx512 else ON_A_CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line asked for. None means: the device's default, or as many as there are."""

    documents: int | None
    seed: int
    max_new_tokens: int | None
    max_prompt_tokens: int | None
    documents_file: Path | None
    document_source: DocumentSource | None
    model_paths: Mapping[str, Path]
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
    compare_with: str | None
    save_as: str | None
    json_path: Path | None
    folder_file: Path | None = None
    resume: Path | None
    confirm: Path | None
    students: Mapping[str, Student]
    student_margin: float
    kind_options: Mapping[str, Any]
    """What was given for the options of the kinds of benchmark, by their keys."""

    def workload_on(self, device: Device) -> dict[str, Any]:
        """What must be equal for two sessions to be parts of one run: plain JSON types, files and folders by content."""
        return {
            "documents": self.documents or self.default_documents_on(device),
            "seed": self.seed,
            "max_new_tokens": self.new_tokens_on(device),
            "max_prompt_tokens": self.prompt_tokens_on(device),
            "document_source": None if self.document_source is None else self.document_source.value,
            "documents_file_sha256": _file_digest(self.documents_file),
            "weights": "synthetic" if self.synthetic_weights else "published",
            "model_folders": {name: folder_digest(folder) for name, folder in sorted(self.model_paths.items())},
            "gpu_family": self.gpu_family,
            "memory_limit_gib": self.memory_limit_gib,
            "predict_memory": self.predict_memory,
            **self.kind_options_on(device),
        }

    def kind_options_on(self, device: Device) -> dict[str, Any]:
        """The options of all kinds, as they resolve them for this device."""
        found: dict[str, Any] = {}
        for kind in KINDS.values():
            found |= kind.resolved_options(self.kind_options, device)
        return found

    def new_tokens_on(self, device: Device) -> int:
        return self.max_new_tokens or default_sample_on(device).max_new_tokens

    def prompt_tokens_on(self, device: Device) -> int:
        return self.max_prompt_tokens or default_sample_on(device).max_prompt_tokens

    def default_documents_on(self, device: Device) -> int:
        return default_sample_on(device).documents

    def choices_on(self, device: Device) -> str:
        """What the suite chose by itself because of the CPU, why, and how to ask for more; empty where it chose nothing."""
        if not device.is_cpu_without_avx512:
            return ""
        small, usual = ON_A_CPU_WITHOUT_AVX512, ON_A_CPU
        limits, options = [], []
        if self.max_new_tokens is None:
            limits.append(f"{small.max_new_tokens} new tokens")
            options.append(f"--max-new-tokens {usual.max_new_tokens}")
        if self.max_prompt_tokens is None:
            limits.append(f"{small.max_prompt_tokens} prompt tokens")
            options.append(f"--max-prompt-tokens {usual.max_prompt_tokens}")
        chosen = [f"a document has at most {' and '.join(limits)} (for more: {' '.join(options)})"] if limits else []
        if wait_policy() == "passive":
            chosen.append("OpenMP threads sleep while they wait")
        because = "this CPU has no AVX-512, so quantized models are slow on it"
        return f"{because}: {', and '.join(chosen)}" if chosen else ""

    def document_source_of(self, model: str) -> DocumentSource:
        """The embedded model and synthetic weights get the embedded documents unless told otherwise, others WikiLingua."""
        if self.documents_file is not None:
            return DocumentSource.FILE
        spec = MODELS[MODELS[model].teacher or model]  # a student gets what its teacher gets
        needs_no_hub = spec.is_embedded or self.synthetic_weights
        return self.document_source or (DocumentSource.EMBEDDED if needs_no_hub else DocumentSource.WIKILINGUA)


def settings_of(option: Any, root: Path) -> Settings:
    """The settings that parsed options ask for; relative defaults are folders of `root`.

    Raises InputError for a value that makes no sense.
    """
    for each in all_options():
        value = getattr(option, each.key)
        if each.minimum is not None and value is not None and value < each.minimum:
            raise InputError(f"{each.name} {value}: must be at least {each.minimum}")
    if option.documents_file is not None and option.document_source is not None:
        raise InputError("--documents-file and --document-source name two sources; give one of them")
    if option.resume is not None and option.confirm is not None:
        raise InputError("--resume and --confirm each go on from a run; give one of them")
    students = read_students(option.student)
    if students and option.weights == "synthetic":
        raise InputError("--student with --weights synthetic: a student is its weights; leave one of them out")
    compare = option.benchmark_compare
    return Settings(
        documents=option.documents,
        seed=option.seed,
        max_new_tokens=option.max_new_tokens,
        max_prompt_tokens=option.max_prompt_tokens,
        documents_file=option.documents_file,
        document_source=None if option.document_source is None else DocumentSource(option.document_source),
        model_paths=model_paths_of(option.model_path) | {name: student.folder for name, student in students.items()},
        gpu_family=option.gpu_family,
        memory_limit_gib=option.memory_limit,
        predict_memory=not option.no_memory_prediction,
        synthetic_weights=option.weights == "synthetic",
        tolerance=parse_share(option.tolerance),
        baseline_runs=option.baseline_runs,
        passes=option.passes,
        require_baseline=option.require_baseline,
        results_dir=option.results_dir or root / "results",
        baselines_dir=_baselines_dir(option.benchmark_storage, root),
        compare_with=compare if isinstance(compare, str) else None,
        save_as=option.benchmark_save or option.benchmark_autosave,
        json_path=option.benchmark_json,
        folder_file=take_folder_file(),
        resume=option.resume,
        confirm=option.confirm,
        students=students,
        student_margin=parse_share(option.student_margin, "--student-margin"),
        kind_options={each.key: getattr(option, each.key) for kind in KINDS.values() for each in kind.options},
    )


def _baselines_dir(storage: str, rootpath: Path) -> Path:
    if storage == DEFAULT_STORAGE:
        return rootpath / "baselines"
    if "://" in storage and not storage.startswith("file://"):
        raise InputError(f"--benchmark-storage {storage}: baselines are files here; name a folder")
    return Path(storage.removeprefix("file://")).absolute()


def _file_digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():  # where documents are asked of it, a missing file has been refused
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def model_paths_of(pairs: Sequence[str]) -> dict[str, Path]:
    """The folders of NAME=FOLDER options. Raises InputError where one names no model, or holds none of that kind."""
    found: dict[str, Path] = {}
    for pair in pairs:
        name, _, folder = pair.partition("=")
        if name not in MODELS or not folder:
            raise InputError(f"--model-path {pair}: give NAME=FOLDER, with NAME one of {', '.join(MODELS)}")
        found[name] = Path(folder).absolute()
        check_model_folder(MODELS[name], found[name])
    return found
