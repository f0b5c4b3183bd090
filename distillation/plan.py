"""`python -m distillation … --plan`: expected time and memory.

They follow from the drawn prompts and a short probe of the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from statistics import fmean
from typing import Any

from distillation.generation import BatchGenerator
from distillation.layers import evenly_spaced_layers
from distillation.loading import Teacher, compute_dtype, load_teacher
from distillation.schedule import micro_batch_size, teacher_batch_size, total_steps
from distillation.settings import DistillSettings
from distillation.student import student_config
from distillation.summaries import TRAINING, Request, summary_requests
from distillation.synthetic_documents import placeholder_summary_requests, synthetic_document_requests
from distillation.training_documents import TrainingDocuments
from summarybench.core.numbers import decimal, gib, grouped
from summarybench.engines.memory_model import predict_memory, predict_weights
from summarybench.engines.pretrained import load_config
from summarybench.engines.shapes import empty_model
from summarybench.machine.device import Device

PROBE_TOKENS = 8
"""New tokens of each text in the probe of decoding."""
PROBE_TEXTS = 8
PROBE_PROMPT_TOKENS_OF_A_HOST = 64
"""A CPU computes at its full rate with few tokens, and its whole prompts would take minutes."""
TRAINING_BYTES = 16
"""Bytes per parameter in training: weight, gradient and Adam's two moments, in float32."""
LOGIT_COPIES = 4
"""Copies of the float32 logits [labelled tokens, vocabulary] in the loss: both models' logits, and the student's
gradient in parts and joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The work of one distillation, in tokens, parameters and bytes.

    `prompt_tokens` and `new_tokens` are means per text.
    """

    title: str
    teacher_parameters: int
    student_parameters: int
    teacher_bytes: int
    texts: int
    generated_tokens: float
    prompt_tokens: float
    new_tokens: float
    examples_seen: int
    batch: int
    memory_bytes: int

    @property
    def trained_tokens(self) -> float:
        return self.examples_seen * (self.prompt_tokens + self.new_tokens)

    @property
    def training_flop(self) -> float:
        """FLOP of training, from parameters and tokens.

        The student's forward and backward pass take 6 per parameter and token, the teacher's forward pass 2.
        """
        return self.trained_tokens * (6 * self.student_parameters + 2 * self.teacher_parameters)

    @property
    def decoding_bytes(self) -> float:
        """Bytes of the teacher's weights, which each decode step of a batch reads once."""
        return self.teacher_bytes * self.generated_tokens / self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Measured rates of this device with this teacher.

    They are the bytes of weights read per second of decoding, and the FLOP per second of a forward pass.
    """

    bytes_per_second: float
    flop_per_second: float

    def hours(self, job: Job) -> tuple[float, float]:
        """Expected hours of generating and of training."""
        return job.decoding_bytes / self.bytes_per_second / 3600, job.training_flop / self.flop_per_second / 3600


def print_plan(settings: DistillSettings, teacher: Teacher, documents: TrainingDocuments, device: Device) -> None:
    """Print the plan.

    Raises SuiteError if the teacher cannot be loaded or does not fit into memory.
    """
    synthetic = synthetic_document_requests(documents, settings, teacher.chat)
    summaries = [
        *summary_requests(documents, settings, teacher.chat),
        *placeholder_summary_requests(synthetic, settings, teacher.chat),
    ]
    batch = teacher_batch_size(settings, device)
    dtype = compute_dtype(device, float32=settings.float32)
    here = requested_job(settings, teacher.chat.config, summaries, synthetic, device, batch=batch, dtype=dtype)
    print(f"probing {device} for a few seconds", flush=True)
    measured = probe(teacher, summaries, device, here, dtype)
    print("\n".join([*plan_lines(here, measured, device), *ASSUMPTIONS]))


def requested_job(
    settings: DistillSettings,
    config: Any,
    summaries: Sequence[Request],
    synthetic: Sequence[Request],
    device: Device,
    *,
    batch: int,
    dtype: str,
) -> Job:
    """The distillation with these settings, if every text reaches its token limit."""
    training = [each for each in summaries if each.role == TRAINING]
    kept = evenly_spaced_layers(int(config.num_hidden_layers), settings.layers) if settings.layers else ()
    smaller = student_config(config, kept) if kept else _starting_config(settings)
    texts = [*synthetic, *summaries]
    sources = len({each.document.id for each in training})
    of_these = f", {len(synthetic):,} of them synthetic documents" if synthetic else ""
    return _job(
        f"{settings.teacher} → {f'{len(kept)} layers' if kept else 'the given model'}, {sources} training texts{of_these}",
        config,
        smaller,
        texts=len(texts),
        generated_tokens=sum(each.max_new_tokens for each in texts),
        prompt_tokens=fmean(len(each.prompt_ids) for each in summaries),
        new_tokens=fmean(each.max_new_tokens for each in summaries),
        examples_seen=total_steps(len(training), settings) * settings.batch_size,
        batch=min(batch, len(summaries)),
        longest=max(len(each.prompt_ids) + each.max_new_tokens for each in texts),
        micro_batch=micro_batch_size(settings, device, 1),
        dtype=dtype,
    )


def _starting_config(settings: DistillSettings) -> Any:
    return load_config(str(settings.student_from))


def _job(
    title: str, config: Any, smaller: Any, *, longest: int, micro_batch: int, dtype: str, batch: int, **counts: Any
) -> Job:
    teacher_bytes = predict_weights(config, {"dtype": dtype})
    student_parameters = _parameters(smaller)
    generating = predict_memory(config, {"dtype": dtype}, longest, batch).total_bytes
    tokens = longest * micro_batch
    training = TRAINING_BYTES * student_parameters + teacher_bytes + _activation_bytes(smaller, tokens)
    return Job(
        title=title,
        teacher_parameters=_parameters(config),
        student_parameters=student_parameters,
        teacher_bytes=teacher_bytes,
        batch=batch,
        memory_bytes=max(generating, training),
        **counts,
    )


def _parameters(config: Any) -> int:
    return sum(prod(each.shape) for each in empty_model(config).parameters())


def _activation_bytes(config: Any, tokens: int) -> int:
    """Memory that the backward pass needs.

    About 8 hidden and 3 intermediate sizes per token and layer, in float32, and the logits.
    """
    a_layer = 4 * (8 * int(config.hidden_size) + 3 * int(config.intermediate_size))
    return tokens * (int(config.num_hidden_layers) * a_layer + 4 * LOGIT_COPIES * int(config.vocab_size))


def probe(teacher: Teacher, requests: Sequence[Request], device: Device, job: Job, dtype: str) -> Probe:
    """Time decoding and the forward pass of one small batch, each after one warm-up."""
    clock = device.clock()
    model = load_teacher(teacher, dtype, device.torch_name)
    most = PROBE_PROMPT_TOKENS_OF_A_HOST if device.is_host else None
    batch = [each.prompt_ids[:most] for each in requests[:PROBE_TEXTS]]
    generator = BatchGenerator(model, device, len(batch), max(map(len, batch)) + 1 + PROBE_TOKENS)
    seconds, steps = {}, 0
    for new_tokens in (1, 1 + PROBE_TOKENS):  # the difference is decoding alone
        for _ in range(2):
            start = clock()
            steps = max(map(len, generator.generate(batch, new_tokens))) - 1
            seconds[new_tokens] = clock() - start
    del model, generator
    device.release_memory()
    decoding = max(seconds[1 + PROBE_TOKENS] - seconds[1], 1e-9)
    flop = 2 * job.teacher_parameters * sum(map(len, batch))
    return Probe(bytes_per_second=job.teacher_bytes * max(steps, 1) / decoding, flop_per_second=flop / seconds[1])


def plan_lines(job: Job, measured: Probe, device: Device) -> Iterator[str]:
    """One job's expected texts, tokens, hours and memory, a line each."""
    generating, training = measured.hours(job)
    fits = "" if job.memory_bytes <= device.memory_bytes else f", but the device has {gib(device.memory_bytes, 1)} GiB"
    yield job.title
    yield f"  generate: {job.texts:,} texts, at most {grouped(job.generated_tokens)} tokens, {decimal(generating, 2)} hours"
    yield f"  train: {grouped(job.trained_tokens)} tokens, prompts included, {decimal(training, 2)} hours"
    yield f"  peak memory: {gib(job.memory_bytes, 1)} GiB{fits}"
    yield f"  total: {decimal(generating + training, 2)} hours on this device"


ASSUMPTIONS = (
    "Assumptions: generating is limited by reading the teacher's weights, once per decode step of a batch. Training runs at the "
    "probe's FLOP rate, with 6 FLOP per token and student parameter and 2 per token and teacher parameter. A larger model uses a "
    "GPU better than the probe, so its hours are an upper bound.",
)
