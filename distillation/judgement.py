"""The table of a run's students beside their teachers, and the targets of each student.

Beside the run's figures, it computes the perplexity of each summary under the teacher, which notices broken language
that ROUGE misses. The summaries are those that were timed and scored, from the run's documents.parquet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.loading import Teacher, compute_dtype, find_teacher, load_teacher
from summarybench.core.files import write_atomically
from summarybench.core.numbers import decimal, gib, percent, span
from summarybench.core.outcomes import InputError, QualityVerdict
from summarybench.documents.document import Document
from summarybench.documents.prompts import build_prompt
from summarybench.engines.loading import quiet_libraries
from summarybench.machine.detection import detect_device
from summarybench.machine.device import Device
from summarybench.report.experiment import Source, experiments_of
from summarybench.report.figures import cost, faithfulness, students
from summarybench.runs.baselines import StoredRun
from summarybench.runs.documents_table import read_documents_table
from summarybench.runs.run_file import Run, read_run

LEAST_SPEED_RATIO = 1.7
MOST_WEIGHTS_RATIO = 0.65
LEAST_ROUGE1_RATIO = 0.9
MOST_PERPLEXITY_RATIO = 1.5
"""The targets, as ratios of student to teacher with the same loader."""
NOT_COMPARED = "not compared"


def judge_run(folder: Path, model_paths: Mapping[str, Path]) -> str:
    """The table of a run's students and teachers, as markdown.

    It is also written to students.md in the run's folder.

    Raises InputError if the run has no student or no documents.parquet, UnavailableError if a teacher could not be
    downloaded.
    """
    run = _read(folder)
    infos = [each["extra_info"] for each in run["benchmarks"]]
    teachers = {info["teacher"] for info in infos if info.get("teacher")}
    if not teachers:
        raise InputError(f"{folder}: has no student; measure one: pytest benchmarks -m student --student FOLDER")
    quiet_libraries(show_progress=False)
    device, rows = detect_device(), read_documents_table(folder / "documents.parquet")
    perplexities: dict[str, float] = {}
    for name in sorted(teachers):
        teacher = find_teacher(name, model_paths)
        selected = [info for info in infos if name in (info["model"], info.get("teacher"))]
        perplexities |= _perplexities(selected, rows, teacher, device)
    text = "\n".join(_table(infos, perplexities, StoredRun(path=folder / "run.json", run=run))) + "\n"
    write_atomically(folder / "students.md", text)
    return text


def _read(folder: Path) -> Run:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such results folder; give the folder of a run, such as results/latest")
    return read_run(folder / "run.json")


def _perplexities(
    infos: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], teacher: Teacher, device: Device
) -> dict[str, float]:
    """The perplexity of each experiment's summaries under the teacher.

    That is exp of the mean negative log-likelihood per token.
    """
    model = load_teacher(teacher, compute_dtype(device, float32=False), device.torch_name)
    perplexities = {}
    for info in infos:
        limit = min(info["max_prompt_tokens"], teacher.chat.context_tokens - info["max_new_tokens"])
        likelihoods = [
            _likelihood(model, teacher, row, limit)
            for row in rows
            if row["experiment"] == info["experiment"] and row["summary"].strip() and row["text"]
        ]
        tokens = sum(count for _, count in likelihoods)
        perplexities[info["experiment"]] = (
            math.exp(-sum(each for each, _ in likelihoods) / tokens) if tokens else math.inf
        )
    return perplexities


def _likelihood(model: Any, teacher: Teacher, row: Mapping[str, Any], limit: int) -> tuple[float, int]:
    """The log-likelihood of one summary in nats, and its number of tokens."""
    import torch
    from torch.nn import functional

    document = Document(url=row["url"], section=row["section"], text=row["text"], reference=row["reference"])
    prompt = list(build_prompt(document, teacher.chat, limit).token_ids)
    summary = list(teacher.chat.tokenizer(row["summary"], add_special_tokens=False)["input_ids"])
    ids = torch.tensor([[*prompt, *summary]], device=model.device)
    with torch.inference_mode():
        logits = model(ids, logits_to_keep=len(summary) + 1).logits[0, :-1].float()  # [summary tokens, vocabulary]
    return -float(functional.cross_entropy(logits, ids[0, -len(summary) :], reduction="sum")), len(summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCheck:
    """One experiment of a student, compared with its teacher's.

    Ratios are student ÷ teacher.

    `quality` is the verdict on ROUGE-1, and `faithfulness` the worst one on new numbers, dates and names; None with too few
    documents. `more_degenerate` counts empty and repeating summaries in excess of the teacher's.
    """

    speed_ratio: float
    weights_ratio: float
    rouge1_ratio: float | None
    quality: str | None
    faithfulness: str | None
    perplexity_ratio: float
    more_degenerate: int

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """The missed targets, one phrase each."""
        rouge1 = self.rouge1_ratio if self.rouge1_ratio is not None else 0.0
        checks = (
            (
                self.speed_ratio >= LEAST_SPEED_RATIO,
                f"tok/s {decimal(self.speed_ratio, 2)}× (at least {LEAST_SPEED_RATIO}×)",
            ),
            (
                self.weights_ratio <= MOST_WEIGHTS_RATIO,
                f"weights {percent(self.weights_ratio)} (at most {percent(MOST_WEIGHTS_RATIO)})",
            ),
            (rouge1 >= LEAST_ROUGE1_RATIO, f"ROUGE-1 {percent(rouge1)} (at least {percent(LEAST_ROUGE1_RATIO)})"),
            (self.quality != QualityVerdict.INFERIOR, f"ROUGE-1 {QualityVerdict.INFERIOR}"),
            (self.faithfulness != QualityVerdict.INFERIOR, f"faithfulness {QualityVerdict.INFERIOR}"),
            (
                self.perplexity_ratio <= MOST_PERPLEXITY_RATIO,
                f"perplexity {decimal(self.perplexity_ratio, 2)}× (at most {MOST_PERPLEXITY_RATIO}×)",
            ),
            (self.more_degenerate <= 0, f"{self.more_degenerate} more empty or repeating summaries"),
        )
        return tuple(phrase for is_reached, phrase in checks if not is_reached)

    @property
    def verdict(self) -> str:
        if self.shortfalls:
            return "MISSED: " + "; ".join(self.shortfalls)
        judged = {"ROUGE-1": self.quality, "faithfulness": self.faithfulness}
        return f"REACHED ({', '.join(f'{what} {verdict or NOT_COMPARED}' for what, verdict in judged.items())})"


def check_targets(
    info: Mapping[str, Any], teacher: Mapping[str, Any], perplexities: Mapping[str, float]
) -> TargetCheck:
    """Compare one experiment of a student with its teacher's.

    `perplexities` are by experiment.
    """
    change = info["teacher_change"]
    quality, faithfulness = change["quality_change"], change.get("faithfulness_change")
    return TargetCheck(
        speed_ratio=change["generated_tokens_per_second"]["ratio"],
        weights_ratio=change["weights_ratio"],
        rouge1_ratio=change["rouge1_ratio"],
        quality=None if quality is None else quality["verdict"],
        faithfulness=None if faithfulness is None else faithfulness["verdict"],
        perplexity_ratio=perplexities[info["experiment"]] / perplexities[teacher["experiment"]],
        more_degenerate=_degenerate(info) - _degenerate(teacher),
    )


def _degenerate(info: Mapping[str, Any]) -> int:
    return sum((info["degenerate"] or {}).values())


HEADER = (
    "experiment",
    "layers",
    "texts",
    "steps",
    "generated tok/s",
    "weights GiB",
    "peak GiB",
    "ROUGE-1 (95% interval)",
    "perplexity under the teacher",
    "empty",
    "repeating",
)
VERDICT = "verdict against the teacher"
SHOWN = (
    faithfulness.NOVEL_NUMBERS,
    faithfulness.NOVEL_DATES,
    faithfulness.NOVEL_NAMES,
    faithfulness.LENGTH_RATIO,
    cost.COST_PER_DOCUMENTS,
    students.STUDENT_SECONDS,
    students.STUDENT_LENGTH,
)
"""Figures that the table has in common with the reports. The cost is left out without a price."""


def _table(infos: Sequence[Mapping[str, Any]], perplexities: Mapping[str, float], stored: StoredRun) -> Iterator[str]:
    by_name = {info["experiment"]: info for info in infos}
    judged = [each for each in experiments_of([Source(stored=stored)]) if each.name in perplexities]
    shown = [each for each in SHOWN if each is not cost.COST_PER_DOCUMENTS or stored.gpu_hour_price]
    headings = (*HEADER, *(each.heading for each in shown), VERDICT)
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for experiment in judged:
        info = by_name[experiment.name]
        change = info.get("teacher_change")
        verdict = "–" if not change else check_targets(info, by_name[change["teacher"]], perplexities).verdict
        cells = [*_cells(info, perplexities[experiment.name]), *(each.text(experiment) for each in shown), verdict]
        yield "| " + " | ".join(cells) + " |"


def _cells(info: Mapping[str, Any], perplexity: float) -> list[str]:
    interval, provenance = info["rouge1_interval"], info.get("student_provenance")
    rouge1 = decimal(info["rouge1"], 3)
    return [
        info["experiment"],
        "all" if provenance is None else str(len(provenance["layers"]) or provenance["student_from"]),
        *("–" if provenance is None else f"{provenance['training'][count]:,}" for count in ("examples", "steps")),
        decimal(info["generated_tokens_per_second"], 1),
        gib(info["weights_bytes"]),
        gib(info["peak_memory_bytes"]),
        rouge1 + (f" ({span(interval[0], interval[1], 3)})" if interval else ""),
        decimal(perplexity, 2),
        *(str((info["degenerate"] or {}).get(kind, "–")) for kind in ("empty", "repeating")),
    ]
