"""Step 5: the provenance, which benchmarks read, and the model card of a student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

from distillation.loading import Teacher
from distillation.settings import DistillSettings
from distillation.summaries import describe_degenerate
from distillation.training_documents import TrainingDocuments
from summarybench.core.files import write_atomically
from summarybench.core.numbers import decimal, percent, trimmed
from summarybench.documents.document import DocumentSource
from summarybench.engines.embedded import EMBEDDED_REPOSITORY
from summarybench.machine.device import Device
from summarybench.machine.environment import describe_environment
from summarybench.session.students import PROVENANCE_FILE, SCHEMA, Student, text_digest

TRAINING_SETTINGS = (
    "ce_weight",
    "kl_weight",
    "reverse_kl_weight",
    "unlikelihood_weight",
    "hidden_weight",
    "temperature",
    "prompt_weight",
    "least_overlap",
    "finished_only",
    "epochs",
    "batch_size",
    "learning_rate",
    "evaluations",
    "patience",
    "seed",
)
DATA_SETTINGS = (
    "passages_per_document",
    "summaries_per_document",
    "rewrites_per_document",
    "own_summaries",
    "invented_documents",
    "sampling_temperature",
    "max_new_tokens",
    "max_prompt_tokens",
)
LICENCES = {
    DocumentSource.EMBEDDED: "the embedded articles: Apache-2.0",
    DocumentSource.WIKILINGUA: "WikiLingua's texts come from wikiHow: CC BY-NC-SA 3.0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentRecord:
    """How a student was made.

    `folder` is the student's folder, relative if --out was. `earlier` is the distilled student that it started from, if
    any. `synthetic`, `summaries` and `training` are the facts that those steps recorded. `seconds` has the duration of
    each step.
    """

    name: str
    folder: Path
    teacher: Teacher
    settings: DistillSettings
    documents: TrainingDocuments
    device: Device
    layers: tuple[int, ...]
    earlier: Student | None
    synthetic: Mapping[str, Any] | None
    summaries: Mapping[str, Any]
    training: Mapping[str, Any]
    seconds: Mapping[str, float]
    processes: int
    dtype: str
    weights_sha256: str

    def provenance(self) -> dict[str, Any]:
        """The content of distillation.json: plain JSON types."""
        settings, documents, earlier = self.settings, self.documents, self.earlier
        seen = {text_digest(document.text) for document in documents.all}
        return {
            "schema": SCHEMA,
            "name": self.name,
            "teacher": self.teacher.facts(),
            "architecture": self.teacher.chat.config.model_type,
            "layers": list(self.layers),
            "choose_layers": settings.choose_layers,
            "student_from": None if settings.student_from is None else settings.student_from.name,
            "sources": list(documents.sources),
            "documents": {
                "training": len(documents.training),
                "invented": len(documents.synthetic),
                "validation": len(documents.validation),
                "held_out": len(documents.held_out),
            },
            "data_settings": {key: getattr(settings, key) for key in DATA_SETTINGS},
            "training_settings": {key: getattr(settings, key) for key in TRAINING_SETTINGS},
            "invented": None if self.synthetic is None else dict(self.synthetic),
            "summaries": dict(self.summaries),
            "training": dict(self.training),
            "seconds": dict(self.seconds),
            "shared_steps": [] if earlier is None else shared_steps(self.seconds, earlier.provenance["seconds"]),
            "seconds_before": 0.0 if earlier is None else total_seconds(earlier.provenance),
            "processes": self.processes,
            "dtype": self.dtype,
            "environment": describe_environment(self.device),
            "weights_sha256": self.weights_sha256,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "trained_on": sorted(seen | (earlier.trained_on if earlier else frozenset())),
        }


def shared_steps(seconds: Mapping[str, float], earlier: Mapping[str, float]) -> list[str]:
    """The steps that both students share, such as synthetic documents.

    Shared steps are recognized by their durations, which are exactly equal.
    """
    return [name for name, spent in seconds.items() if earlier.get(name) == spent]


def own_seconds(facts: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each step, without steps that an earlier student has counted."""
    shared = facts.get("shared_steps", ())
    return {name: spent for name, spent in facts["seconds"].items() if name not in shared}


def total_seconds(facts: Mapping[str, Any]) -> float:
    """Seconds of making a student, including the students that it started from."""
    return sum(own_seconds(facts).values()) + float(facts.get("seconds_before", 0.0))


def write_card(folder: Path, record: StudentRecord) -> None:
    """Write README.md, then distillation.json, which marks the folder as a student.

    Raises OSError.
    """
    facts = record.provenance()
    write_atomically(folder / "README.md", model_card(facts, record))
    write_atomically(folder / PROVENANCE_FILE, json.dumps(facts, indent=1) + "\n")


# The model card --------------------------------------------------------------------------------------------------


def model_card(facts: Mapping[str, Any], record: StudentRecord) -> str:
    """The model card as markdown, with the front matter that model hubs read."""
    teacher, settings = record.teacher, record.settings
    lines = [
        *_front_matter(teacher),
        "",
        f"# {facts['name']}",
        "",
        f"A summarizer distilled from {teacher.spec.name} (`{facts['teacher']['revision']}`). It started from "
        f"{_starting_point(facts)}.",
        "",
        "| | |",
        "|---|---|",
        f"| documents | {facts['documents']['training']} for training, {facts['documents']['validation']} for validation, from the "
        f"train half of {'; '.join(facts['sources'])} |",
        *_text_rows(facts, settings),
        *_training_rows(facts["training"], facts["training_settings"]),
        _cost_row(facts),
        f"| licence | the teacher's: {teacher.spec.licence_url}; {LICENCES[settings.document_source]}"
        f"{'; additional documents: see their source' if settings.documents_files else ''} |",
        "",
        *_history(facts["training"]),
        "It writes like its teacher and repeats its teacher's mistakes. To measure its speed and quality: "
        f"`pytest benchmarks -m student --student {quote(str(record.folder))}`.",
        "",
    ]
    return "\n".join(lines)


def _front_matter(teacher: Teacher) -> list[str]:
    is_apache = teacher.spec.licence_url.endswith("LICENSE-2.0")
    return [
        "---",
        f"license: {'apache-2.0' if is_apache else 'other'}",
        *([] if is_apache else ["license_name: teacher", f"license_link: {teacher.spec.licence_url}"]),
        f"base_model: {EMBEDDED_REPOSITORY if teacher.spec.is_embedded else teacher.spec.repository}",
        "pipeline_tag: text-generation",
        "tags: [summarization, distillation]",
        "---",
    ]


def _starting_point(facts: Mapping[str, Any]) -> str:
    if facts["student_from"]:
        return f"the smaller model {facts['student_from']}"
    choice = " (chosen by their effect on the teacher's predictions)" if facts["choose_layers"] else ""
    layers = ", ".join(map(str, facts["layers"]))
    noun = "layer" if len(facts["layers"]) == 1 else "layers"
    return f"{noun} {layers} of the teacher{choice}, with its embeddings and output head"


def _text_rows(facts: Mapping[str, Any], settings: DistillSettings) -> list[str]:
    """Counts of the synthetic documents, if any, and of the texts that training used."""
    writer = "student" if facts["data_settings"]["own_summaries"] else "teacher"
    rows = [(f"texts written by the {writer}", facts["summaries"], settings.trains_on_repeating)]
    if facts["invented"] is not None:
        rows.insert(0, ("synthetic documents written by the teacher", facts["invented"], False))
    return [
        f"| {title} | {each['asked']}, {each['generated_tokens']:,} tokens; {describe_degenerate(each, are_kept=are_kept)} |"
        for title, each, are_kept in rows
    ]


def _training_rows(training: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    if not training["steps"]:
        return ["| training | none |"]
    loss = (
        f"{trimmed(settings['ce_weight'])} × CE + {trimmed(settings['kl_weight'])} × KL "
        f"at temperature {trimmed(settings['temperature'])}"
    )
    if settings["reverse_kl_weight"]:
        loss += f" + {trimmed(settings['reverse_kl_weight'])} × reverse KL"
    if settings["unlikelihood_weight"]:
        loss += f" + {trimmed(settings['unlikelihood_weight'])} × unlikelihood of repeated tokens"
    if settings["hidden_weight"]:
        loss += f" + {trimmed(settings['hidden_weight'])} × hidden states"
    return [
        f"| training | {training['steps']} steps of {settings['batch_size']} examples out of "
        f"{describe_examples(training['examples'], settings)}, {loss} |",
        f"| kept | step {training['best_step']}, validation loss {decimal(training['best_validation_loss'], 4)} |",
    ]


def describe_examples(count: int, settings: Mapping[str, Any]) -> str:
    """The number of training texts, and which others were left out."""
    rules = []
    if settings["least_overlap"]:
        rules.append(
            f"only summaries that share at least {percent(settings['least_overlap'])} of their word pairs with their text"
        )
    if settings["finished_only"]:
        rules.append("no text that reached the token limit")
    return f"{count} ({'; '.join(rules)})" if rules else str(count)


def _cost_row(facts: Mapping[str, Any]) -> str:
    seconds, before = own_seconds(facts), facts["seconds_before"]
    steps = ", ".join(f"{name} {decimal(spent, 0)} s" for name, spent in seconds.items())
    earlier = f"; before that, {facts['student_from']}: {decimal(before / 3600, 2)} hours" if before else ""
    return (
        f"| cost | {decimal(sum(seconds.values()) / 3600, 2)} hours on {facts['processes']} × {facts['environment']['device']} "
        f"({steps}), {facts['dtype']}{earlier} |"
    )


def _history(training: Mapping[str, Any]) -> list[str]:
    """A table with one row per validation.

    Its columns are the step, the last training loss before it, the validation loss and ROUGE-1.
    """
    by_step: dict[int, dict[str, float]] = {}
    loss: dict[str, float] = {}
    for each in training["history"]:
        loss = {"loss": each["loss"]} if "loss" in each else loss
        by_step.setdefault(each["step"], {}).update(each | loss)
    rows = [each for each in by_step.values() if "eval_loss" in each]
    if not rows:
        return []
    lines = [
        f"| {each['step']} | {_number(each.get('loss'))} | {_number(each['eval_loss'])} | {_number(each.get('eval_rouge1'))} |"
        for each in rows
    ]
    return ["| step | training loss | validation loss | validation ROUGE-1 |", "|---|---|---|---|", *lines, ""]


def _number(value: float | None) -> str:
    return decimal(value, 4)
