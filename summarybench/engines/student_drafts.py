"""Decoding with the drafts of a distilled student: transformers' own assisted decoding, one document at a time.

The student decodes a few tokens greedily. One forward pass of its teacher verifies all of them, as in prompt lookup.
"""

from __future__ import annotations

from dataclasses import replace

from summarybench.catalogue.models import Experiment
from summarybench.core.numbers import counted
from summarybench.core.outcomes import UnavailableError
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.lookup import AssistedDecoding
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.shapes import text_config_of


class StudentDrafts(AssistedDecoding):
    """A teacher that verifies its student's drafts.

    The student drafts `draft_tokens` tokens for each step, fewer only before the end. transformers' usual threshold, which
    ends a draft at the first improbable token, is switched off: scikit-learn would move it where that is installed.

    Raises UnavailableError if the two models do not have the same tokens.
    """

    def __init__(self, teacher: LoadedModel, student: LoadedModel, draft_tokens: int) -> None:
        check_same_tokens(teacher, student)
        settings = student.model.generation_config
        settings.num_assistant_tokens = draft_tokens
        settings.num_assistant_tokens_schedule = "constant"
        settings.assistant_confidence_threshold = 0.0
        super().__init__(teacher, {"assistant_model": student.model})


def check_same_tokens(teacher: LoadedModel, student: LoadedModel) -> None:
    """Raise UnavailableError unless each token id means the same to both models."""
    ours, theirs = student.chat.tokenizer.get_vocab().items(), teacher.chat.tokenizer.get_vocab().items()
    size, wanted = (int(text_config_of(each.chat.config).vocab_size) for each in (student, teacher))
    if tokens := {token for token, _ in ours ^ theirs}:
        difference = f"their tokenizers differ in {counted(tokens, 'token')}"
    elif size != wanted:
        difference = f"it has embeddings for {size} tokens, and its teacher for {wanted}"
    else:
        return
    raise UnavailableError(
        f"{student.experiment.model} cannot draft for {teacher.experiment.model}: {difference}; distil it again from this "
        "teacher (make distill)"
    )


def beside_student(
    experiment: Experiment, teacher: LoadedModel, student: LoadedModel, sequence_tokens: int
) -> LoadedModel:
    """The teacher with what its student adds: settings that name it, and its weights, cache and seconds of loading.

    `experiment` is what is measured. `sequence_tokens` is the length of the longest sequence, prompt and summary together. The bytes
    that a step reads are the teacher's alone.
    """
    own, added = (each.memory_for(sequence_tokens, 1) for each in (teacher, student))
    prediction = MemoryPrediction(
        weights_bytes=own.weights_bytes + added.weights_bytes,
        cache_bytes=own.cache_bytes + added.cache_bytes,
        workspace_bytes=max(own.workspace_bytes, added.workspace_bytes),  # one model computes at a time
    )
    drafts = {"draft_model": student.experiment.model, "draft_revision": student.weights.revision}
    return replace(
        teacher,
        experiment=experiment,
        settings={**teacher.settings, **drafts},
        load_seconds=teacher.load_seconds + student.load_seconds,
        load_peak_memory_bytes=max(teacher.load_peak_memory_bytes, student.load_peak_memory_bytes),
        weights_bytes=teacher.weights_bytes + student.weights_bytes,
        predicted_memory_bytes=prediction.total_bytes,
    )
