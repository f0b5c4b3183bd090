"""`python -m distillation … --plan`: what it will cost, from the prompts that were drawn and a short probe of this device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from statistics import fmean
from typing import Any

from distillation.generate import Writer
from distillation.invented import inventions, stand_ins
from distillation.opening import Teacher, compute_dtype, load_teacher
from distillation.settings import DistillSettings
from distillation.student import spaced_layers, student_config
from distillation.summaries import TRAINING, Request, requests
from distillation.trainer import micro_batch_of, total_steps
from distillation.training_documents import Drawn
from summarybench.catalogue.models import MODELS
from summarybench.engines.memory_model import predict_memory, predict_weights
from summarybench.engines.pretrained import load_config
from summarybench.engines.shapes import empty_model
from summarybench.engines.synthetic import model_config
from summarybench.machine.device import GIB, Device

PROBE_TOKENS = 8
TRAINING_BYTES = 16
"""A parameter in training: weight, gradient and Adam's two moments, float32 each."""
LOGIT_COPIES = 4
"""Of [labelled tokens, vocabulary] in float32 at the loss: both logits, and the student's gradient in parts and joined."""
LARGE_TEACHER, LARGE_LAYERS, LARGE_SECTIONS = "llama2-7b-chat", 16, 50_000
LARGE_EPOCHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be generated and learnt, in tokens and parameters; the lengths are means, in tokens."""

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
        """6 a parameter and token for the student (forward and backward), 2 for the teacher's forward pass."""
        return self.trained_tokens * (6 * self.student_parameters + 2 * self.teacher_parameters)

    @property
    def decoding_bytes(self) -> float:
        """The teacher's weights, read once a step of a batch."""
        return self.teacher_bytes * self.generated_tokens / self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What this device did with this teacher: bytes of weights read in decoding, FLOP in a forward pass, a second each."""

    bytes_per_second: float
    flop_per_second: float

    def hours(self, job: Job) -> tuple[float, float]:
        """To generate and to train."""
        return job.decoding_bytes / self.bytes_per_second / 3600, job.training_flop / self.flop_per_second / 3600


def tell_plan(settings: DistillSettings, teacher: Teacher, drawn: Drawn, device: Device) -> None:
    """Print it. Raises SuiteError where the teacher cannot be loaded or does not fit."""
    invented = inventions(drawn, settings, teacher.chat)
    asked = [*requests(drawn, settings, teacher.chat), *stand_ins(invented, settings, teacher.chat)]
    batch = settings.teacher_batch or (128 if device.is_gpu else 8)
    dtype = compute_dtype(device, float32=settings.float32)
    here = job_of(settings, teacher.chat.config, asked, invented, device, batch=batch, dtype=dtype)
    large = large_job(here, device, batch=batch, dtype=dtype)
    print(f"probing {device} for some seconds", flush=True)
    measured = probe(teacher, asked, device, here, dtype)
    print("\n".join([*lines(here, measured, device), *lines(large, measured, device), *ASSUMPTIONS]))


def job_of(
    settings: DistillSettings,
    config: Any,
    asked: Sequence[Request],
    invented: Sequence[Request],
    device: Device,
    *,
    batch: int,
    dtype: str,
) -> Job:
    """The run at hand; every text as long as it may become."""
    training = [each for each in asked if each.role == TRAINING]
    kept = spaced_layers(int(config.num_hidden_layers), settings.layers) if settings.layers else ()
    smaller = student_config(config, kept) if kept else _config_of(settings)
    steps = total_steps(len(training), settings)
    prompt, new = fmean(len(each.prompt_ids) for each in asked), fmean(each.max_new_tokens for each in asked)
    texts = [*invented, *asked]
    longest = max(len(each.prompt_ids) + each.max_new_tokens for each in texts)
    told = f", {len(invented):,} of them invented" if invented else ""
    return _job(
        f"{settings.teacher} → {len(kept) or 'given'} layers, {len({each.document.id for each in training})} training texts{told}",
        config,
        smaller,
        texts=len(texts),
        generated_tokens=sum(each.max_new_tokens for each in texts),
        prompt_tokens=prompt,
        new_tokens=new,
        examples_seen=steps * settings.batch_size,
        batch=min(batch, len(asked)),
        longest=longest,
        micro_batch=micro_batch_of(settings, device, 1),
        dtype=dtype,
    )


def _config_of(settings: DistillSettings) -> Any:
    return load_config(str(settings.student_from), local_files_only=True)


def large_job(here: Job, device: Device, *, batch: int, dtype: str) -> Job:
    """Llama-2-7b-chat → 16 layers on 50,000 sections, from its configuration and the lengths seen here."""
    config = model_config(MODELS[LARGE_TEACHER])
    kept = spaced_layers(int(config.num_hidden_layers), LARGE_LAYERS)
    return _job(
        f"{LARGE_TEACHER} → {LARGE_LAYERS} layers, {LARGE_SECTIONS:,} WikiLingua sections, {LARGE_EPOCHS} epochs",
        config,
        student_config(config, kept),
        texts=LARGE_SECTIONS,
        prompt_tokens=here.prompt_tokens,
        generated_tokens=100 * LARGE_SECTIONS,
        new_tokens=100,
        examples_seen=LARGE_EPOCHS * LARGE_SECTIONS,
        batch=32 if device.is_gpu else batch,
        longest=int(here.prompt_tokens) + 100,
        micro_batch=1,
        dtype=dtype,
    )


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
    """Kept for the backward pass: about 4 hidden and 3 inner widths a layer and token in float32, and the logits' copies."""
    a_layer = 4 * (8 * int(config.hidden_size) + 3 * int(config.intermediate_size))
    return tokens * (int(config.num_hidden_layers) * a_layer + 4 * LOGIT_COPIES * int(config.vocab_size))


def probe(teacher: Teacher, asked: Sequence[Request], device: Device, job: Job, dtype: str) -> Probe:
    """Some tokens of one small batch, and a forward pass of it: each once to warm up, and once timed."""
    clock = device.clock()
    model = load_teacher(teacher, dtype, "cuda" if device.is_gpu else "cpu")
    batch = [each.prompt_ids for each in asked[: min(8, len(asked))]]
    writer = Writer(model, device, len(batch), max(map(len, batch)) + 1 + PROBE_TOKENS)
    seconds, steps = {}, 0
    for new_tokens in (1, 1 + PROBE_TOKENS):  # their difference is decoding alone
        for _ in range(2):
            start = clock()
            steps = max(map(len, writer.answer(batch, new_tokens))) - 1
            seconds[new_tokens] = clock() - start
    del model, writer
    device.release_memory()
    decoding = max(seconds[1 + PROBE_TOKENS] - seconds[1], 1e-9)
    flop = 2 * job.teacher_parameters * sum(map(len, batch))
    return Probe(bytes_per_second=job.teacher_bytes * max(steps, 1) / decoding, flop_per_second=flop / seconds[1])


def lines(job: Job, measured: Probe, device: Device) -> Iterator[str]:
    """What a person decides by."""
    generating, training = measured.hours(job)
    fits = "" if job.memory_bytes <= device.memory_bytes else f", and {device.memory_bytes / GIB:.1f} GiB are there"
    yield job.title
    yield f"  to generate: {job.texts:,} texts, at most {job.generated_tokens:,.0f} tokens, {generating:.2f} hours"
    yield f"  to train on: {job.trained_tokens:,.0f} tokens, prompts included, {training:.2f} hours"
    yield f"  memory: {job.memory_bytes / GIB:.1f} GiB at the peak{fits}"
    yield f"  together: {generating + training:.2f} hours on this device"


ASSUMPTIONS = (
    "Generating is scaled by the bytes of weights that are read, a batch's step once; training by FLOP (6 a student's and 2 a "
    "teacher's parameter and token), at the rate of the probe's forward pass. Larger models use a GPU better than a small one "
    "does: for them these hours are an upper bound. Lengths of other documents are taken to be those drawn here.",
)
