"""Step 5: what stands beside the student's weights: its provenance, which benchmarks read, and a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distillation.opening import Teacher
from distillation.settings import DistillSettings
from distillation.summaries import degenerate_told
from distillation.training_documents import Drawn
from summarybench.core.files import write_atomically
from summarybench.documents.sources import DocumentSource
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


def provenance(
    name: str,
    teacher: Teacher,
    settings: DistillSettings,
    drawn: Drawn,
    device: Device,
    *,
    layers: tuple[int, ...],
    earlier: Student | None,
    invented: Mapping[str, Any] | None,
    summaries: Mapping[str, Any],
    training: Mapping[str, Any],
    seconds: Mapping[str, float],
    processes: int,
    dtype: str,
    weights_sha256: str,
) -> dict[str, Any]:
    """Everything that a session or a reader wants to know of a student: plain JSON types."""
    return {
        "schema": SCHEMA,
        "name": name,
        "teacher": teacher.facts(),
        "architecture": teacher.chat.config.model_type,
        "layers": list(layers),
        "choose_layers": settings.choose_layers,
        "student_from": None if settings.student_from is None else settings.student_from.name,
        "sources": list(drawn.sources),
        "documents": {
            "training": len(drawn.training),
            "invented": len(drawn.invented),
            "validation": len(drawn.validation),
            "held_out": len(drawn.held_out),
        },
        "data_settings": {key: getattr(settings, key) for key in DATA_SETTINGS},
        "training_settings": {key: getattr(settings, key) for key in TRAINING_SETTINGS},
        "invented": None if invented is None else dict(invented),
        "summaries": dict(summaries),
        "training": dict(training),
        "seconds": dict(seconds),
        "shared_steps": [] if earlier is None else steps_in_both(seconds, earlier.provenance["seconds"]),
        "seconds_before": 0.0 if earlier is None else seconds_of(earlier.provenance),
        "processes": processes,
        "dtype": dtype,
        "environment": describe_environment(device),
        "weights_sha256": weights_sha256,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "trained_on": sorted(
            {text_digest(document.text) for document in drawn.all} | (earlier.trained_on if earlier else frozenset())
        ),
    }


def steps_in_both(seconds: Mapping[str, float], earlier: Mapping[str, float]) -> list[str]:
    """The steps that were done once for both, as inventing documents is: of those the very seconds are the same."""
    return [name for name, spent in seconds.items() if earlier.get(name) == spent]


def own_seconds(facts: Mapping[str, Any]) -> dict[str, float]:
    """By step: what a student has cost beside the student that it came from."""
    shared = facts.get("shared_steps", ())
    return {name: spent for name, spent in facts["seconds"].items() if name not in shared}


def seconds_of(facts: Mapping[str, Any]) -> float:
    """What a student has cost, with the students that it came from."""
    return sum(own_seconds(facts).values()) + float(facts.get("seconds_before", 0.0))


def write_card(folder: Path, facts: Mapping[str, Any], teacher: Teacher, settings: DistillSettings) -> None:
    """README.md, and last of all the provenance that makes the folder a student. Raises OSError."""
    write_atomically(folder / "README.md", model_card(facts, teacher, settings))
    write_atomically(folder / PROVENANCE_FILE, json.dumps(facts, indent=1) + "\n")


def model_card(facts: Mapping[str, Any], teacher: Teacher, settings: DistillSettings) -> str:
    """Markdown with the front matter that model hubs read."""
    is_apache = teacher.spec.licence_url.endswith("LICENSE-2.0")
    summaries, training, seconds = facts["summaries"], facts["training"], own_seconds(facts)
    given, before = facts["student_from"], facts["seconds_before"]
    chosen = " (those that its texts need most)" if facts["choose_layers"] else ""
    kept = f"layers {', '.join(map(str, facts['layers']))} of the teacher{chosen}, embeddings and head kept"
    began = f"the smaller model {given}" if given else kept
    writer = "the student's own texts, before" if facts["data_settings"]["own_summaries"] else "the teacher's texts"
    lines = [
        "---",
        f"license: {'apache-2.0' if is_apache else 'other'}",
        *([] if is_apache else ["license_name: teacher", f"license_link: {teacher.spec.licence_url}"]),
        f"base_model: {teacher.spec.repository}",
        "pipeline_tag: text-generation",
        "tags: [summarization, distillation]",
        "---",
        "",
        f"# {facts['name']}",
        "",
        f"A summarizer distilled from {teacher.spec.name} (`{facts['teacher']['revision']}`). It began as {began}.",
        "",
        "| | |",
        "|---|---|",
        f"| documents | {facts['documents']['training']} to train on, {facts['documents']['validation']} to validate; of the train "
        f"half of {'; '.join(facts['sources'])} |",
        *([] if facts["invented"] is None else [_texts_row("documents that the teacher invented", facts["invented"])]),
        _texts_row(writer, summaries, settings.repeating_are),
        *_training_rows(training, facts["training_settings"]),
        f"| cost | {sum(seconds.values()) / 3600:.2f} hours on {facts['processes']} × {facts['environment']['device']} "
        f"({', '.join(f'{name} {spent:.0f} s' for name, spent in seconds.items())}), {facts['dtype']}"
        f"{f'; before that, {given}: {before / 3600:.2f} hours' if before else ''} |",
        f"| licence | the teacher's: {teacher.spec.licence_url}; {LICENCES[settings.document_source]}"
        f"{'; further documents: their own, see their source' if settings.documents_files else ''} |",
        "",
        *_history(training),
        "It speaks as its teacher does, mistakes included. How fast and how good it is: "
        f"`pytest benchmarks -m student --student {facts['name']}`.",
        "",
    ]
    return "\n".join(lines)


def _texts_row(title: str, facts: Mapping[str, Any], told: str = "dropped") -> str:
    return f"| {title} | {facts['asked']}, {facts['generated_tokens']:,} tokens; {told}: {degenerate_told(facts)} |"


def _training_rows(training: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    if not training["steps"]:
        return ["| training | none |"]
    weights = (
        f"{settings['ce_weight']:g} × CE + {settings['kl_weight']:g} × KL at temperature {settings['temperature']:g}"
    )
    if settings["reverse_kl_weight"]:
        weights += f" + {settings['reverse_kl_weight']:g} × reverse KL"
    if settings["unlikelihood_weight"]:
        weights += f" + {settings['unlikelihood_weight']:g} × unlikelihood of what repeats"
    if settings["hidden_weight"]:
        weights += f" + {settings['hidden_weight']:g} × hidden states"
    return [
        f"| training | {training['steps']} steps of {settings['batch_size']} examples out of "
        f"{learnt_from(training['examples'], settings)}, {weights} |",
        f"| kept | step {training['best_step']}, validation loss {training['best_validation_loss']:.4f} |",
    ]


def learnt_from(texts: int, settings: Mapping[str, Any]) -> str:
    """How many texts, and which ones were left out."""
    kept = []
    if settings["least_overlap"]:
        kept.append(
            f"of summaries, those with at least {settings['least_overlap']:.0%} of their word pairs in their texts"
        )
    if settings["finished_only"]:
        kept.append("none that was cut at its longest")
    return f"{texts} ({'; '.join(kept)})" if kept else str(texts)


def _history(training: Mapping[str, Any]) -> list[str]:
    """A row a validation: the training loss that was told last before it, its own, and ROUGE-1 against the references."""
    by_step: dict[int, dict[str, float]] = {}
    loss: dict[str, float] = {}
    for each in training["history"]:
        loss = {"loss": each["loss"]} if "loss" in each else loss
        by_step.setdefault(each["step"], {}).update(each | loss)
    rows = [each for each in by_step.values() if "eval_loss" in each]
    if not rows:
        return []
    told = [
        f"| {each['step']} | {_number(each.get('loss'))} | {_number(each['eval_loss'])} | {_number(each.get('eval_rouge1'))} |"
        for each in rows
    ]
    return ["| step | training loss | validation loss | validation ROUGE-1 |", "|---|---|---|---|", *told, ""]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
