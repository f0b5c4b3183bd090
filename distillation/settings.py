"""The settings of one distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.documents.document import DocumentSource
from summarybench.documents.rows import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """What the command line asked for: see `distillation.options`.

    None means the default: all documents there are, or the default of the device. `out` is the absolute path of
    `given_out`.
    """

    teacher: str
    out: Path
    given_out: Path
    layers: int | None
    choose_layers: bool
    student_from: Path | None
    model_paths: Mapping[str, Path]
    documents: int | None
    document_source: DocumentSource
    documents_files: tuple[Path, ...]
    columns: Columns
    seed: int
    validation_share: float
    passages_per_document: int
    summaries_per_document: int
    rewrites_per_document: int
    own_summaries: bool
    invented_documents: int
    sampling_temperature: float
    max_new_tokens: int
    max_prompt_tokens: int
    teacher_batch: int | None
    ce_weight: float
    kl_weight: float
    reverse_kl_weight: float
    unlikelihood_weight: float
    hidden_weight: float
    temperature: float
    prompt_weight: float
    least_overlap: float
    finished_only: bool
    epochs: float
    steps: int | None
    batch_size: int
    micro_batch: int | None
    learning_rate: float
    evaluations: int
    patience: int
    float32: bool
    plan: bool

    @property
    def needs_logits(self) -> bool:
        """Whether a loss term compares the student's logits with the teacher's."""
        return self.kl_weight > 0 or self.reverse_kl_weight > 0

    @property
    def needs_teacher(self) -> bool:
        """Whether training runs the teacher, for its logits or its hidden states."""
        return self.needs_logits or self.hidden_weight > 0

    @property
    def trains_on_repeating(self) -> bool:
        """Whether repeating texts are training examples; otherwise they are dropped.

        They are with --own-summaries and --unlikelihood-weight: the student unlearns its own repetition.
        """
        return self.own_summaries and self.unlikelihood_weight > 0

    @property
    def name(self) -> str:
        """The student's name in benchmarks, which is the name of its folder."""
        return self.out.name
