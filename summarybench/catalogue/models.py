"""Which models, loaders and experiments exist. Models and loaders are read from TOML tables beside this module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from summarybench.catalogue.entries import check_known
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown
from summarybench.machine.device import DeviceRecord
from summarybench.machine.families import CPU_FAMILY, FAMILIES, GPU_FAMILIES, gpus_from

MODELS_FILE = Path(__file__).with_name("models.toml")
LOADERS_FILE = Path(__file__).with_name("loaders.toml")
WEIGHT_ONLY = (INT4_GROUP_128, FP8_WEIGHTS) = ("int4 group 128", "fp8 e4m3 weights")
"""Quantizations of weights alone, made from 16-bit weights at load by summarybench/engines/quantize.py."""
QUANTIZATIONS = ("llm.int8", "nf4", "int8 weights", *WEIGHT_ONLY)

CPU = frozenset({CPU_FAMILY})
EVERY_GPU = frozenset(GPU_FAMILIES)
GPUS_WITH_BFLOAT16 = gpus_from(compute_capability=8.0)
GPUS_THAT_COMPILE = GPUS_WITH_BFLOAT16
"""The compiler's kernels are made for compute capability 8.0 and newer."""
ALL_GPUS = "gpus"
"""Stands for every GPU family in models.toml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The numbers of a config.json that decide how large weights, KV cache and workspace are, under the names used there."""

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
    """The whole config.json, for architectures whose parameters need more than these numbers."""


def shape_of(architecture: str, config: Mapping[str, Any], where: str) -> ModelShape:
    """The shape that a config.json states. Raises InputError, beginning with `where`, for a missing or impossible number."""
    stated = {key: value for key, value in config.items() if value is not None}
    shape = entry_of(
        ModelShape, {**stated, "architecture": architecture, "config": dict(config)}, where, ignored=config
    )
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if getattr(shape, name) < 1:
            raise InputError(f"{where}: {name}: {getattr(shape, name)} must be at least 1")
    return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A chat model. `marker` selects its tests; `architecture` is config.json's model_type.

    It runs unasked on devices of `families`, and on those of `on_request` when -m or -k names it. `config` holds the
    parts of its config.json that decide the sizes of weights and cache.
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
    teacher: str | None = None  # of a student: the model that it was distilled from

    @property
    def shape(self) -> ModelShape:
        return shape_of(self.architecture, self.whole_config, f"the configuration of {self.name}")

    @property
    def whole_config(self) -> dict[str, Any]:
        """`config` with the keys that TOML cannot express because they are null."""
        return {**self.config, **dict.fromkeys(self.null_in_config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How weights are loaded. `dtype` is None where the device's own 16-bit type is meant.

    `threshold` is LLM.int8()'s: activations beyond it are multiplied separately in 16 bits; 0 separates none.
    `eager_twin` names the loader with the same numerics that compiles nothing: fidelity compares the two.
    `compute_capability` is the lowest of the GPUs that run it. One that `is_only_twin` has no experiments of its own.
    """

    name: str
    dtype: str | None = None
    quantization: str | None = None  # one of QUANTIZATIONS
    threshold: float = 6.0
    is_compiled: bool = False
    eager_twin: str = ""
    compute_capability: float = 0.0
    runs_on_cpu: bool = False
    is_only_twin: bool = False

    @property
    def families(self) -> frozenset[str]:
        """The device families that can run it."""
        return gpus_from(self.compute_capability) | (CPU if self.runs_on_cpu else frozenset())

    def settings(
        self, device: DeviceRecord, threads: int, wait_policy: str = "default"
    ) -> dict[str, str | float | bool | int]:
        """What is asked of transformers and bitsandbytes on this device: part of the workload.

        On a CPU the number of threads belongs to it: twice as many are another experiment. So does how they wait for each
        other, where the suite chooses that: on a CPU without AVX-512.
        """
        chosen: dict[str, str | float | bool | int] = {"dtype": self.dtype or device.compute_dtype}
        if self.quantization == "llm.int8":
            # The int8 kernels compute in float16 on a GPU, and on a CPU are fastest from float32.
            chosen |= {
                "dtype": "float16" if device.is_gpu else "float32",
                "quantization": "llm.int8",
                "threshold": self.threshold,
            }
        if self.quantization == "nf4":
            chosen |= {"quantization": "nf4", "compute_dtype": device.compute_dtype, "double_quantization": False}
        if self.quantization in ("int8 weights", *WEIGHT_ONLY):
            chosen |= {"quantization": str(self.quantization)}
        if self.is_compiled:
            chosen |= {"attention": "static keys", "compiled": "inductor, CUDA graph"}
        elif device.is_gpu:
            # cuDNN's attention builds a plan for each new length, at each step of a new document: on an H100 that is
            # 84 ms a token instead of 27, and what would be timed is the building.
            chosen["attention"] = "sdpa without cuDNN"
        if not device.is_gpu:
            chosen["threads"] = threads
        if device.is_cpu_without_avx512:
            chosen["wait_policy"] = wait_policy
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Model × loader × batch size, and where it belongs.

    It runs unasked on devices of `families`, and on those of `on_request` when -m or -k names it. `suffix` ends the name
    where the loader does not distinguish experiments. `other_loaders` are loaded in the same test, one after another.
    """

    model: str
    loader: str
    families: frozenset[str]
    on_request: frozenset[str] = field(default=frozenset())
    batch_size: int = 1
    suffix: str = ""
    other_loaders: tuple[str, ...] = ()
    is_beside_student: bool = False  # a student's, or a teacher's that has one in this session

    @property
    def name(self) -> str:
        return f"{self.model}-{self.loader}{self.suffix}"

    def loaded_as(self, loader: str) -> Experiment:
        """The same model with another loader."""
        return replace(self, loader=loader)

    @property
    def markers(self) -> tuple[str, ...]:
        kinds = ("compiled",) if LOADERS[self.loader].is_compiled else ()
        student = ("student",) if self.is_beside_student else ()
        return (MODELS[self.model].marker, *kinds, *student, *sorted(self.families))


def add_model(spec: ModelSpec) -> None:
    """Make a model known to this process: a student, which no table can name."""
    MODELS[spec.name] = spec


def model_markers() -> dict[str, str]:
    """Each model's marker with its description, for `pytest --markers`."""
    return {spec.marker: f"experiments with {spec.title}" for spec in MODELS.values() if spec.title}


def read_models(path: Path = MODELS_FILE) -> dict[str, ModelSpec]:
    """The models by name. Raises InputError that names the file and the entry at fault."""
    found: dict[str, ModelSpec] = {}
    for name, values in read_table(path).items():
        where = f"{shown(path)}: [{name}]"
        spec = entry_of(ModelSpec, {**values, "name": name} if isinstance(values, dict) else values, where)
        shape_of(spec.architecture, spec.config, f"{where}: config")
        if not spec.title:
            raise InputError(f"{where}: 'title' is missing")
        found[name] = replace(
            spec,
            families=_families(spec.families, f"{where}: families"),
            on_request=_families(spec.on_request, f"{where}: on_request"),
        )
    return found


def _families(names: frozenset[str], where: str) -> frozenset[str]:
    for name in names:
        check_known(name, {ALL_GPUS, *FAMILIES}, where)
    return (names - {ALL_GPUS}) | (EVERY_GPU if ALL_GPUS in names else frozenset())


def read_loaders(path: Path = LOADERS_FILE) -> dict[str, Loader]:
    """The loaders by name. Raises InputError that names the file and the entry at fault."""
    table = read_table(path)
    found: dict[str, Loader] = {}
    for name, values in table.items():
        where = f"{shown(path)}: [{name}]"
        loader = entry_of(Loader, {**values, "name": name} if isinstance(values, dict) else values, where)
        if loader.quantization is not None:
            check_known(loader.quantization, QUANTIZATIONS, f"{where}: quantization")
        if loader.eager_twin:
            check_known(loader.eager_twin, table, f"{where}: eager_twin")
        found[name] = loader
    return found


MODELS = read_models()
LOADERS = read_loaders()
REFERENCE_LOADER = "default"
"""Float32: what the logits of all others are held against."""

LARGEST_BATCH = "-largest-batch"
ALL_AT_ONCE = "-continuous"
FASTEST = "-fastest"


def _experiments() -> Iterator[Experiment]:
    """Each model with each loader on the devices that both can run on; compiled loaders come last."""
    for is_compiled in (False, True):
        for model in MODELS.values():
            for loader in LOADERS.values():
                families, on_request = model.families & loader.families, model.on_request & loader.families
                if loader.is_compiled is is_compiled and not loader.is_only_twin and families | on_request:
                    yield Experiment(model=model.name, loader=loader.name, families=families, on_request=on_request)


EXPERIMENTS: tuple[Experiment, ...] = tuple(_experiments())
