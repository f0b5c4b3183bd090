"""Models, loaders and experiments.

Models and loaders are read from the TOML tables beside this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from summarybench.catalogue.entries import check_known, named
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown
from summarybench.documents.strategy import Strategy
from summarybench.machine.device import Device
from summarybench.machine.families import (
    BFLOAT16_CAPABILITY,
    CPU_FAMILY,
    FAMILIES,
    GPU_FAMILIES,
    UNKNOWN_GPU_FAMILY,
    gpus_from,
    major_and_minor,
)

MODELS_FILE = Path(__file__).with_name("models.toml")
LOADERS_FILE = Path(__file__).with_name("loaders.toml")
WEIGHT_ONLY = (INT4_GROUPS, FP8_WEIGHTS) = ("int4 group 64", "fp8 e4m3 weights")
"""Quantizations of the weights alone, made from 16-bit weights at load by summarybench/engines/quantize.py."""
AS_STORED = "as stored"
"""The quantization of a checkpoint that was published quantized."""
QUANTIZATIONS = ("llm.int8", "nf4", "int8 weights", *WEIGHT_ONLY, AS_STORED)
DTYPES = ("float32", "float16", "bfloat16")
DRAFTS = (PROMPT_LOOKUP, STUDENT) = ("prompt lookup", "student")
"""Where a loader's drafts come from: the text itself, or a distilled model."""

CPU = frozenset({CPU_FAMILY})
EVERY_GPU = frozenset(GPU_FAMILIES)
GPUS_WITH_BFLOAT16 = gpus_from(BFLOAT16_CAPABILITY)
GPUS_THAT_COMPILE = GPUS_WITH_BFLOAT16
"""The suite uses inductor's kernels from compute capability 8.0 on. On older GPUs CUDA graphs capture uncompiled steps."""
COMPILED_ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2"})
"""Types of models whose parts a compiled decoding step calls as their own `forward` does."""
COMPILED_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""
RESERVED_MARKERS = frozenset({"compiled", "student", "slow"})
ALL_GPUS = "gpus"
"""In models.toml, this name means every GPU family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes in a config.json, under the names they have there.

    They determine the size of weights, KV cache and workspace.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool = False
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The whole config.json, for architectures whose parameters depend on more than these numbers."""


def shape_of(architecture: str, config: Mapping[str, Any], where: str) -> ModelShape:
    """The shape in a config.json.

    Raises InputError, beginning with `where`, for a missing or impossible number.
    """
    stated = {key: value for key, value in config.items() if value is not None}
    shape = entry_of(
        ModelShape, {**stated, "architecture": architecture, "config": dict(config)}, where, ignored=config
    )
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if getattr(shape, name) < 1:
            raise InputError(f"{where}: {name}: {getattr(shape, name)} must be at least 1")
    return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFacts:
    """What is known, before loading, about a model that the user named.

    - `folder`: where its files are; None for a model on the hub.
    - `quantization`: how its checkpoint is quantized, such as 'gptq'; empty for plain weights.
    - `weights_bytes`: the size of its safetensors; None where it is not known.
    - `loaders`: the loaders to measure; empty for all that fit.
    - `obstacle`: why it cannot be loaded; empty if nothing is known to prevent it.
    """

    folder: Path | None = None
    quantization: str = ""
    weights_bytes: int | None = None
    loaders: tuple[str, ...] = ()
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A chat model.

    `marker` selects its tests; `architecture` is config.json's model_type.

    By default it runs on devices of `families`; on devices of `on_request` only if -m or -k names it. `config` holds the
    parts of its config.json that determine the size of weights and KV cache, and the whole of it for a model of --model or
    --models, which alone has `own`.
    """

    name: str
    repository: str
    revision: str
    marker: str
    architecture: str
    licence_url: str
    title: str = ""
    is_embedded: bool = False
    families: frozenset[str] = frozenset()
    on_request: frozenset[str] = frozenset()
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    null_in_config: tuple[str, ...] = ()
    teacher: str | None = None  # for a student, the model that it was distilled from
    own: OwnFacts | None = None

    @property
    def shape(self) -> ModelShape:
        return shape_of(self.architecture, self.whole_config, f"the configuration of {self.name}")

    @property
    def obstacle_to_compiling(self) -> str:
        """Why compiled loaders cannot run this model; empty if they can."""
        if self.architecture not in COMPILED_ARCHITECTURES:
            known = ", ".join(sorted(COMPILED_ARCHITECTURES))
            return f"it is of type {self.architecture!r}, and compiled decoding knows {known}"
        window, context = self.config.get("sliding_window"), self.config.get("max_position_embeddings")
        if window and self.config.get("use_sliding_window", True) and window < (context or 0):
            return f"its attention slides over a window of {window} tokens, which compiled decoding does not know"
        rotary = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        rotation = str(rotary.get("rope_type") or rotary.get("type") or "default")
        if rotation not in COMPILED_ROTATIONS:
            return f"its rotary embedding is of type {rotation!r}, which compiled decoding does not know"
        return ""

    @property
    def whole_config(self) -> dict[str, Any]:
        """`config` with the keys that are null, which TOML cannot express."""
        return {**self.config, **dict.fromkeys(self.null_in_config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How weights are loaded.

    - `dtype`: None means the device's own 16-bit type.
    - `threshold`: LLM.int8() multiplies activations beyond it separately in 16 bits; with 0 it separates none.
    - `eager_counterpart`: the loader with the same numerics that compiles nothing; fidelity compares the two.
    - `compute_capability`: the lowest of the GPUs that run it.
    - `is_only_counterpart`: it has no experiments of its own.
    - `draft_tokens`: the most drafts that a step verifies; 0 for plain decoding.
    - `drafts`: where they come from, one of DRAFTS.
    - `is_served`: a server loads the weights, in ways and on devices that the suite does not know.
    """

    name: str
    dtype: str | None = None
    quantization: str | None = None  # one of QUANTIZATIONS
    threshold: float = 6.0
    is_compiled: bool = False
    eager_counterpart: str = ""
    compute_capability: float = 0.0
    runs_on_cpu: bool = False
    is_only_counterpart: bool = False
    draft_tokens: int = 0
    drafts: str = PROMPT_LOOKUP
    is_served: bool = False

    @property
    def families(self) -> frozenset[str]:
        """The device families that can run it."""
        return gpus_from(self.compute_capability) | (CPU if self.runs_on_cpu else frozenset())

    def runs_on(self, device: Device) -> bool:
        """Whether a GPU has the compute capability that the loader needs. True for a device that has none."""
        found = device.compute_capability()
        return found is None or found >= major_and_minor(self.compute_capability)

    def settings(
        self, device: Device, threads: int, wait_policy: str = "default"
    ) -> dict[str, str | float | bool | int]:
        """The settings for transformers and bitsandbytes on this device.

        They are part of the workload. Those of `as-stored` are completed when the checkpoint is read.

        On a CPU they include the number of threads, since twice as many are another experiment. On a CPU without AVX-512,
        where the suite chooses how threads wait for each other, they include that too.
        """
        chosen: dict[str, str | float | bool | int] = {"dtype": self.dtype or device.compute_dtype}
        if self.quantization == "llm.int8":
            chosen |= {
                "dtype": device.int8_input_dtype,
                "quantization": "llm.int8",
                "threshold": self.threshold,
            }
        if self.quantization == "nf4":
            chosen |= {"quantization": "nf4", "compute_dtype": device.compute_dtype, "double_quantization": False}
        if self.quantization in ("int8 weights", *WEIGHT_ONLY, AS_STORED):
            chosen |= {"quantization": str(self.quantization)}
        if self.is_compiled:
            how = "inductor, CUDA graph" if device.compiles_decoding else "CUDA graph"
            chosen |= {"attention": "static keys", "compiled": how}
        elif device.eager_attention:
            chosen["attention"] = device.eager_attention
        if self.draft_tokens:
            chosen |= {"drafts": self.drafts, "draft_tokens": self.draft_tokens}
        if device.is_host:
            chosen["threads"] = threads
        if device.is_cpu_without_avx512:
            chosen["wait_policy"] = wait_policy
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Model × loader × batch size, and the devices that it runs on.

    By default it runs on devices of `families`; on devices of `on_request` only if -m or -k names it. `suffix` ends the
    name of experiments that have the same loader. `other_loaders` are loaded in the same test, one after another.
    `long_documents` is what is done with documents that do not fit in one prompt, and ends the name unless it is the usual.
    `draft_model` is the student whose drafts the model verifies, empty for none.
    """

    model: str
    loader: str
    families: frozenset[str]
    on_request: frozenset[str] = field(default=frozenset())
    batch_size: int = 1
    suffix: str = ""
    other_loaders: tuple[str, ...] = ()
    long_documents: Strategy = Strategy.TRUNCATE
    draft_model: str = ""
    is_beside_student: bool = False  # of a student, or of a teacher whose student is in this session

    @property
    def name(self) -> str:
        strategy = "" if self.long_documents is Strategy.TRUNCATE else f"-{self.long_documents}"
        return f"{self.model}-{self.loader}{self.suffix}{strategy}"

    def loaded_as(self, loader: str) -> Experiment:
        """The same model with another loader."""
        return replace(self, loader=loader)

    def is_for(self, device: Device, *, named: bool) -> bool:
        """Whether it is meant for a device; `on_request` counts if -m or -k named it. An unknown GPU gets whatever it can run."""
        families = self.families | (self.on_request if named else frozenset())
        if device.family == UNKNOWN_GPU_FAMILY:
            return bool(families - CPU) and LOADERS[self.loader].runs_on(device)
        return device.family in families

    @property
    def markers(self) -> tuple[str, ...]:
        kinds = ("compiled",) if LOADERS[self.loader].is_compiled else ()
        student = ("student",) if self.is_beside_student else ()
        return (MODELS[self.model].marker, *kinds, *student, *sorted(self.families))

    @property
    def markers_but_compiled(self) -> tuple[str, ...]:
        """`markers`, for kinds whose compiled loaders need not be named."""
        return tuple(name for name in self.markers if name != "compiled")


def add_model(spec: ModelSpec) -> None:
    """Register a model in this process: a student, or a model of --model or --models."""
    MODELS[spec.name] = spec


def read_models(path: Path = MODELS_FILE) -> dict[str, ModelSpec]:
    """Read the models, by name.

    Raises InputError that names the file, the entry and the value.
    """
    found: dict[str, ModelSpec] = {}
    for name, values in read_table(path).items():
        where = f"{shown(path)}: [{name}]"
        spec = entry_of(ModelSpec, named(values, name), where)
        shape_of(spec.architecture, spec.config, f"{where}: config")
        if not spec.title:
            raise InputError(f"{where}: the key 'title' is missing; set it to a string")
        check_marker(spec.marker, f"{where}: marker")
        found[name] = replace(
            spec,
            families=_families(spec.families, f"{where}: families"),
            on_request=_families(spec.on_request, f"{where}: on_request"),
        )
    return found


def check_marker(marker: str, where: str) -> None:
    """Raise InputError for a marker that is taken or that pytest cannot select."""
    taken = FAMILIES | RESERVED_MARKERS
    if not marker.isidentifier() or marker.startswith("_") or marker in taken:
        raise InputError(
            f"{where}: {marker!r} must be a word of letters, digits and underscores that begins with a letter, and none of "
            f"{', '.join(sorted(taken))}"
        )


def _families(names: frozenset[str], where: str) -> frozenset[str]:
    for name in names:
        check_known(name, {ALL_GPUS, *FAMILIES}, where)
    return (names - {ALL_GPUS}) | (EVERY_GPU if ALL_GPUS in names else frozenset())


def read_loaders(path: Path = LOADERS_FILE) -> dict[str, Loader]:
    """Read the loaders, by name.

    Raises InputError that names the file, the entry and the value.
    """
    table = read_table(path)
    found: dict[str, Loader] = {}
    for name, values in table.items():
        where = f"{shown(path)}: [{name}]"
        loader = entry_of(Loader, named(values, name), where)
        if loader.dtype is not None:
            check_known(loader.dtype, DTYPES, f"{where}: dtype")
        if loader.quantization is not None:
            check_known(loader.quantization, QUANTIZATIONS, f"{where}: quantization")
        check_known(loader.drafts, DRAFTS, f"{where}: drafts")
        if loader.eager_counterpart:
            check_known(loader.eager_counterpart, table, f"{where}: eager_counterpart")
        found[name] = loader
    return found


MODELS = read_models()
LOADERS = read_loaders()
REFERENCE_LOADER = "default"
"""Float32, with which the logits of all other loaders are compared."""

LARGEST_BATCH = "-largest-batch"
ALL_AT_ONCE = "-continuous"
FASTEST = "-fastest"


def experiments() -> tuple[Experiment, ...]:
    """Every model of this process with each of its loaders, compiled loaders last.

    Students are left out: the kinds that measure them copy their teachers' experiments. So are loaders that verify drafts,
    which decode one document at a time.
    """
    return tuple(each for each in _experiments() if not LOADERS[each.loader].draft_tokens)


def lookup_experiments() -> tuple[Experiment, ...]:
    """Every model of this process with each loader that decodes with prompt lookup, compiled loaders last."""
    return _experiments_with_drafts(PROMPT_LOOKUP)


def student_draft_experiments() -> tuple[Experiment, ...]:
    """Every model of this process with each loader that verifies a student's drafts, whether it has a student or not."""
    return _experiments_with_drafts(STUDENT)


def _experiments_with_drafts(drafts: str) -> tuple[Experiment, ...]:
    found = ((each, LOADERS[each.loader]) for each in _experiments())
    return tuple(each for each, loader in found if loader.draft_tokens and loader.drafts == drafts)


def _experiments() -> Iterator[Experiment]:
    for is_compiled in (False, True):
        for model in MODELS.values():
            for loader in LOADERS.values():
                families, on_request = model.families & loader.families, model.on_request & loader.families
                if loader.is_compiled is is_compiled and families | on_request and _is_offered(loader, model):
                    yield Experiment(model=model.name, loader=loader.name, families=families, on_request=on_request)


def _is_offered(loader: Loader, model: ModelSpec) -> bool:
    """Whether a model has an experiment with this loader, on devices that both support.

    A quantized checkpoint is what it is, and any other loader would contradict it.
    """
    if model.teacher or loader.is_only_counterpart or loader.is_served:
        return False
    own = model.own or OwnFacts()
    if own.loaders:
        return loader.name in own.loaders
    return (loader.quantization == AS_STORED) is bool(own.quantization)


EXPERIMENTS: tuple[Experiment, ...] = experiments()
"""The experiments of the catalogue alone."""
