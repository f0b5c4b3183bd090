"""Options of `python -m distillation`, parsed once into a frozen `DistillSettings`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS
from summarybench.commands.command import Parser
from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import InputError
from summarybench.core.share import parse_share
from summarybench.documents.sources import DocumentSource
from summarybench.session.settings import model_paths_of
from summarybench.session.students import check_student_name

REPEATED_TOKENS = 8
"""In a row, for a text to be repeating itself there: names and phrases, which it may say again, are shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """What the command line asked for. None means: the device's default, or as many as there are."""

    teacher: str
    out: Path
    layers: int | None
    choose_layers: bool
    student_from: Path | None
    model_paths: Mapping[str, Path]
    documents: int | None
    document_source: DocumentSource
    documents_files: tuple[Path, ...]
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
        """Whether training asks for what the teacher would have said at each token."""
        return self.kl_weight > 0 or self.reverse_kl_weight > 0

    @property
    def needs_teacher(self) -> bool:
        """Whether training asks for what the teacher computes, not for its texts alone."""
        return self.needs_logits or self.hidden_weight > 0

    @property
    def learns_from_repeating(self) -> bool:
        """Whether texts that repeat are learnt from: a student's own, where repeating is unlearned. Else they are dropped."""
        return self.own_summaries and self.unlikelihood_weight > 0

    @property
    def repeating_are(self) -> str:
        """How a count of repeating texts is told."""
        return "among them" if self.learns_from_repeating else "dropped"

    @property
    def name(self) -> str:
        """What the student is called in benchmarks: its folder's name."""
        return self.out.name


Limit = tuple[Callable[[float], bool], str]
AT_LEAST_ONE: Limit = (lambda value: value >= 1, "must be at least 1")
NOT_NEGATIVE: Limit = (lambda value: value >= 0, "must not be negative")
POSITIVE: Limit = (lambda value: value > 0, "must be more than 0")
LIMITS: Mapping[str, Limit] = {
    **dict.fromkeys(
        (
            "layers",
            "documents",
            "passages_per_document",
            "summaries_per_document",
            "max_new_tokens",
            "max_prompt_tokens",
            "teacher_batch",
            "batch_size",
            "micro_batch",
            "evaluations",
            "patience",
        ),
        AT_LEAST_ONE,
    ),
    **dict.fromkeys(
        (
            "rewrites_per_document",
            "invented_documents",
            "ce_weight",
            "kl_weight",
            "reverse_kl_weight",
            "unlikelihood_weight",
            "hidden_weight",
            "prompt_weight",
            "steps",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(("sampling_temperature", "temperature", "epochs", "learning_rate"), POSITIVE),
}


def parse_settings(arguments: Sequence[str] | None) -> DistillSettings:
    """The settings of a run. Raises InputError for a value that cannot be meant; argparse's own errors end with 2."""
    option = _parser().parse_args(arguments)
    for name, (holds, rule) in LIMITS.items():
        value = getattr(option, name)
        if value is not None and not holds(value):
            raise InputError(f"--{name.replace('_', '-')} {value}: {rule}")
    if option.teacher not in MODELS:
        raise InputError(f"--teacher {option.teacher}: choose from {', '.join(MODELS)}")
    if (option.layers is None) == (option.student_from is None):
        raise InputError("say what the student is: either --layers N, of the teacher's, or --student-from FOLDER")
    if option.ce_weight == option.kl_weight == option.reverse_kl_weight == 0:
        raise InputError(
            "--ce-weight 0 with --kl-weight 0 leaves nothing to learn from; give one of them, or --reverse-kl-weight"
        )
    if option.hidden_weight and option.layers is None:
        raise InputError(
            f"--hidden-weight {option.hidden_weight:g}: which layers of the teacher a smaller model's are is known with --layers "
            "alone; leave one of them out"
        )
    if option.choose_layers and option.layers is None:
        raise InputError("--choose-layers: give --layers N, how many to keep of the teacher's")
    if option.own_summaries and (option.student_from is None or option.ce_weight):
        raise InputError(
            "--own-summaries: give --student-from FOLDER, a student that can summarize, and --ce-weight 0, or it would learn its "
            "own words"
        )
    given = vars(option)
    given["out"] = option.out.absolute()
    check_student_name(given["out"].name, f"--out {option.out}")
    given["model_paths"] = model_paths_of(given.pop("model_path"))
    given["documents_files"] = tuple(given.pop("documents_file"))
    given["document_source"] = _source(option)
    given["validation_share"] = parse_share(option.validation_share, "--validation-share")
    given["least_overlap"] = parse_share(option.least_overlap, "--least-overlap") if option.least_overlap else 0.0
    return DistillSettings(**given)


def _source(option: argparse.Namespace) -> DocumentSource:
    if option.document_source is not None:
        return DocumentSource(option.document_source)
    return DocumentSource.EMBEDDED if MODELS[option.teacher].is_embedded else DocumentSource.WIKILINGUA


def _adding_defaults(group: Any) -> Callable[..., Any]:
    """Its `add_argument`, by which an option's help ends with the default that is given."""

    def add(*flags: str, **options: Any) -> Any:
        told = " (default: %(default)s)" if options.get("default") not in (None, []) else ""
        return group.add_argument(*flags, **options | {"help": options["help"] + told})

    return add


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=this_invocation().program("distillation"),
        description="Distil a teacher's summaries into a smaller model. The same command goes on with what was cut short.",
    )
    add = _adding_defaults(parser)
    add("--teacher", required=True, metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the student is left; its name is the folder's")
    add("--layers", type=int, metavar="N", help="begin with N evenly spaced layers of the teacher")
    add(
        "--choose-layers",
        action="store_true",
        help="keep those of the teacher's layers that its texts need most, in place of evenly spaced ones",
    )
    add("--student-from", type=Path, metavar="FOLDER", help="begin with this smaller model, of the same tokenizer")
    add("--model-path", action="append", default=[], metavar="NAME=FOLDER", help="take the teacher from a local folder")
    data = parser.add_argument_group("documents, from the train half of each source")
    add = _adding_defaults(data)
    add("--documents", type=int, metavar="N", help="how many to draw at most (default: all there are)")
    add(
        "--document-source",
        choices=[DocumentSource.WIKILINGUA.value, DocumentSource.EMBEDDED.value],
        help="where documents come from (default: wikilingua for hub models, embedded for the embedded one)",
    )
    add(
        "--documents-file",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a further source in WikiLingua's schema; what is not trained on is left in FOLDER/heldout.jsonl",
    )
    add("--seed", type=int, default=0, metavar="S", help="which documents, which samples, in which order")
    add("--validation-share", default="10%", metavar="SHARE", help="of the articles drawn, to stop early by")
    teacher = parser.add_argument_group("what the teacher writes")
    add = _adding_defaults(teacher)
    add(
        "--passages-per-document",
        type=int,
        default=1,
        metavar="N",
        help="more than 1: its 2 to N parts too, each a text",
    )
    add("--summaries-per-document", type=int, default=1, metavar="N", help="the first greedy, the others sampled")
    add(
        "--own-summaries",
        action="store_true",
        help="let the student of --student-from write the texts, and learn by KL what the teacher would have said in its place",
    )
    add("--rewrites-per-document", type=int, default=0, metavar="N", help="sampled paraphrases of each text to learn")
    add(
        "--invented-documents",
        type=int,
        default=0,
        metavar="N",
        help="further documents that it invents, each to say what two sentences of a drawn one say; summarized once",
    )
    add("--sampling-temperature", type=float, default=0.8, metavar="T", help="of what is sampled")
    add(
        "--max-new-tokens",
        type=int,
        default=100,
        metavar="N",
        help="longest summary; a rewriting may be three times it, an invented document four times",
    )
    add("--max-prompt-tokens", type=int, default=2048, metavar="N", help="longer documents are truncated")
    add("--teacher-batch", type=int, metavar="N", help="texts at a time (default: 128 on a GPU, 8 on a CPU)")
    training = parser.add_argument_group("training")
    add = _adding_defaults(training)
    add(
        "--ce-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="weight of the cross-entropy with the teacher's tokens",
    )
    add("--kl-weight", type=float, default=1.0, metavar="W", help="weight of KL(teacher ‖ student) of the logits")
    add(
        "--reverse-kl-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of KL(student ‖ teacher): a student too small for all that its teacher might say learns to say less, not what "
        "the teacher would not",
    )
    add(
        "--unlikelihood-weight",
        type=float,
        default=0.0,
        metavar="W",
        help=f"unlearn, by this weight of -log(1 - p), tokens with which a text says {REPEATED_TOKENS} in a row once more; with "
        "--own-summaries of repeating texts too, which are dropped otherwise",
    )
    add(
        "--hidden-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the relative squared error of what its layers hand on, beside the teacher's; with --layers",
    )
    add("--temperature", type=float, default=1.0, metavar="T", help="that both logits are divided by in the KL")
    add(
        "--prompt-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the prompt's tokens; 0: summaries alone",
    )
    add(
        "--least-overlap",
        metavar="SHARE",
        help="learn from no summary of which fewer word pairs than this are in its text, nor validate by it: a small teacher may "
        "write what would fit any text",
    )
    add(
        "--finished-only",
        action="store_true",
        help="learn from no text that was cut at its longest, nor validate by it: who learns from those does not learn to end",
    )
    add("--epochs", type=float, default=3.0, metavar="E", help="passes over the examples")
    add("--steps", type=int, metavar="N", help="optimizer steps, in place of epochs; 0 leaves the student as it began")
    add("--batch-size", type=int, default=16, metavar="N", help="examples a step, over all devices")
    add(
        "--micro-batch",
        type=int,
        metavar="N",
        help="examples at a time on a device, fewer where memory runs out (default: 32 on a GPU, 2 on a CPU)",
    )
    add("--learning-rate", type=float, default=3e-4, metavar="R", help="the highest; warm-up, then a cosine")
    add("--evaluations", type=int, default=10, metavar="N", help="validations, each with a checkpoint")
    add("--patience", type=int, default=3, metavar="N", help="stop after N validations without a lower loss")
    add("--float32", action="store_true", help="compute in float32 on a GPU too, in place of bfloat16")
    parser.add_argument("--plan", action="store_true", help="say what it will cost, and do nothing of it")
    return parser
