"""The settings of a session, resolved once for its device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from summarybench.engines.synthetic import synthetic_revision
from summarybench.engines.weights import folder_digest
from summarybench.kinds.registry import KINDS
from summarybench.machine.cpu import wait_policy
from summarybench.machine.device import Device
from summarybench.session.settings import Settings, UnresolvedOptions
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a session does on its device.

    With `is_default_sample_size`, `documents` may be more than the source holds; then all of them are measured. `defaulted`
    names the fields of `DefaultSample` that no option set. `kind_options` has the options of all kinds by their keys, as the
    kinds resolve them for the device.
    """

    settings: Settings
    device: Device
    documents: int
    max_new_tokens: int
    max_prompt_tokens: int
    defaulted: frozenset[str]
    kind_options: Mapping[str, Any]

    @property
    def is_default_sample_size(self) -> bool:
        return "documents" in self.defaulted

    def conditions(self) -> dict[str, Any]:
        """What must be equal for two sessions to be parts of one run.

        Plain JSON types. Files and folders count by their content. Model folders are read, which takes a while when
        their digests are not known yet.
        """
        settings = self.settings
        return {
            "documents": self.documents,
            "seed": settings.seed,
            "max_new_tokens": self.max_new_tokens,
            "max_prompt_tokens": self.max_prompt_tokens,
            "document_source": None if settings.document_source is None else settings.document_source.value,
            "documents_file_sha256": _content_digest(settings.documents_file),
            **settings.document_options.conditions(),
            "weights": "synthetic" if settings.synthetic_weights else "published",
            "model_folders": {name: folder_digest(folder) for name, folder in sorted(settings.model_paths.items())},
            **({"own_models": found} if (found := self._own_models()) else {}),
            "gpu_family": settings.gpu_family,
            "memory_limit_gib": settings.memory_limit_gib,
            "predict_memory": settings.predict_memory,
            **self.kind_options,
        }

    def _own_models(self) -> dict[str, str]:
        """The commit of each model of the hub that the user named, or its shape if its weights are synthetic."""
        synthetic, models = self.settings.synthetic_weights, self.settings.own_models
        return {
            name: synthetic_revision(spec) if synthetic else spec.revision
            for name, spec in sorted(models.items())
            if name not in self.settings.model_paths
        }

    @property
    def choices(self) -> str:
        """What was chosen because of the CPU, why, and how to ask for more.

        Empty where nothing was chosen.
        """
        if not self.device.is_cpu_without_avx512:
            return ""
        small, usual = ON_A_CPU_WITHOUT_AVX512, ON_A_CPU
        limits, options = [], []
        if "max_new_tokens" in self.defaulted:
            limits.append(f"{small.max_new_tokens} new tokens")
            options.append(f"--max-new-tokens {usual.max_new_tokens}")
        if "max_prompt_tokens" in self.defaulted:
            limits.append(f"{small.max_prompt_tokens} prompt tokens")
            options.append(f"--max-prompt-tokens {usual.max_prompt_tokens}")
        chosen = [f"a document has at most {' and '.join(limits)} (for more: {' '.join(options)})"] if limits else []
        if wait_policy() == "passive":
            chosen.append("OpenMP threads sleep while they wait")
        because = "this CPU has no AVX-512, so quantized models are slow on it"
        return f"{because}: {', and '.join(chosen)}" if chosen else ""


def resolve(settings: Settings, unresolved: UnresolvedOptions, device: Device) -> Config:
    """The configuration of a session with these settings on this device."""
    sample = {each.name: getattr(unresolved, each.name) for each in fields(DefaultSample)}
    given = {name: value for name, value in sample.items() if value is not None}
    kind_options: dict[str, Any] = {}
    for kind in KINDS.values():
        kind_options |= kind.resolved_options(unresolved.kind_options, device)
    return Config(
        settings=settings,
        device=device,
        defaulted=frozenset(sample.keys() - given.keys()),
        kind_options=kind_options,
        **asdict(replace(default_sample_on(device), **given)),
    )


def default_sample_on(device: Device) -> DefaultSample:
    """The default for this kind of device.

    It does not depend on load or free memory: two runs are one workload.
    """
    if device.affords_large_samples:
        return ON_A_GPU
    return ON_A_CPU_WITHOUT_AVX512 if device.is_cpu_without_avx512 else ON_A_CPU


def _content_digest(path: Path | None) -> str | None:
    """The first half of the SHA-256 of a file, or of the digests of the files in a folder.

    It is None for a missing file too: the session refuses that as soon as it needs documents.
    """
    if path is None or not path.exists():
        return None
    if path.is_file():
        return _sha256(path).hex()[:16]
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(_sha256(file))
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
