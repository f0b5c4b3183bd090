"""The options of `python -m distillation`, parsed once into a `DistillSettings`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distillation.examples import REPEATED_TOKENS
from distillation.settings import DistillSettings
from summarybench.catalogue.models import MODELS
from summarybench.commands.command import Parser
from summarybench.core.invocation import this_invocation
from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError
from summarybench.core.paths import user_path
from summarybench.core.share import parse_share
from summarybench.documents.document import DocumentSource
from summarybench.documents.rows import Columns
from summarybench.session.settings import model_paths_of
from summarybench.session.students import check_student_name

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
"""Valid range of each numeric option, and how an error message states it."""


def parse_settings(arguments: Sequence[str] | None) -> DistillSettings:
    """Parse the command line; None means `sys.argv`.

    Raises InputError for invalid or contradictory options.
    """
    options = _parser().parse_args(arguments)
    _check_ranges(options)
    _check_combinations(options)
    values = vars(options)
    values["given_out"], values["out"] = options.out, options.out.absolute()
    check_student_name(values["out"].name, f"--out {options.out}")
    values["model_paths"] = model_paths_of(values.pop("model_path"))
    values["documents_files"] = tuple(values.pop("documents_file"))
    values["columns"] = _columns(options)
    del values["text_column"], values["summary_column"]
    values["document_source"] = _document_source(options)
    values["validation_share"] = parse_share(options.validation_share, "--validation-share")
    values["least_overlap"] = parse_share(options.least_overlap, "--least-overlap") if options.least_overlap else 0.0
    return DistillSettings(**values)


def _check_ranges(options: argparse.Namespace) -> None:
    for name, (is_valid, rule) in LIMITS.items():
        value = getattr(options, name)
        if value is not None and not is_valid(value):
            raise InputError(f"--{name.replace('_', '-')} {value}: {rule}")


def _check_combinations(options: argparse.Namespace) -> None:
    if options.teacher not in MODELS:
        raise InputError(f"--teacher {options.teacher}: choose from {', '.join(MODELS)}")
    if (options.layers is None) == (options.student_from is None):
        raise InputError("give the student's starting point: either --layers N or --student-from FOLDER")
    if options.ce_weight == options.kl_weight == options.reverse_kl_weight == 0:
        raise InputError(
            "--ce-weight 0 with --kl-weight 0 leaves no loss to train on; raise one of them, or --reverse-kl-weight"
        )
    if options.hidden_weight and options.layers is None:
        raise InputError(
            f"--hidden-weight {trimmed(options.hidden_weight)}: needs --layers N, because the layers of a --student-from model cannot be "
            "matched to the teacher's; leave one of the two out"
        )
    if options.choose_layers and options.layers is None:
        raise InputError("--choose-layers: give --layers N, the number of layers to keep")
    if options.own_summaries and (options.student_from is None or options.ce_weight):
        raise InputError(
            "--own-summaries: give --student-from FOLDER, a model that can already summarize, and --ce-weight 0, because "
            "cross-entropy would train the student on its own words"
        )


def _columns(options: argparse.Namespace) -> Columns:
    columns = Columns(text=options.text_column, summary=options.summary_column)
    if columns.are_given and not options.documents_files:
        lonely = "--text-column" if columns.text else "--summary-column"
        raise InputError(f"{lonely} is for --documents-file; give one too")
    return columns


def _document_source(options: argparse.Namespace) -> DocumentSource:
    if options.document_source is not None:
        return DocumentSource(options.document_source)
    return DocumentSource.EMBEDDED if MODELS[options.teacher].is_embedded else DocumentSource.WIKILINGUA


# The parser ------------------------------------------------------------------------------------------------------

Add = Callable[..., Any]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=this_invocation().program("distillation"),
        description="Train a smaller model on a teacher's summaries. Run the same command again to continue an interrupted run.",
    )
    _add_student_options(_adding_defaults(parser))
    documents = parser.add_argument_group("documents, from the train half of each source")
    _add_document_options(_adding_defaults(documents))
    _add_text_options(_adding_defaults(parser.add_argument_group("texts that the teacher writes")))
    _add_loss_options(_adding_defaults(parser.add_argument_group("losses and examples")))
    _add_training_options(_adding_defaults(parser.add_argument_group("training")))
    parser.add_argument("--plan", action="store_true", help="print the expected time and memory, and train nothing")
    return parser


def _adding_defaults(group: Any) -> Add:
    """The group's `add_argument`, with the default appended to each help text."""

    def add(*flags: str, **options: Any) -> Any:
        default = " (default: %(default)s)" if options.get("default") not in (None, []) else ""
        return group.add_argument(*flags, **options | {"help": options["help"] + default})

    return add


def _add_student_options(add: Add) -> None:
    add("--teacher", required=True, metavar="MODEL", help=f"the model to learn from: one of {', '.join(MODELS)}")
    add("--out", type=user_path, required=True, metavar="FOLDER", help="folder for the student, which also names it")
    add("--layers", type=int, metavar="N", help="start from N evenly spaced layers of the teacher")
    add(
        "--choose-layers",
        action="store_true",
        help="keep the layers that the teacher's predictions depend on most, instead of evenly spaced ones",
    )
    add(
        "--student-from",
        type=user_path,
        metavar="FOLDER",
        help="start from this smaller model, which must use the teacher's tokenizer",
    )
    add("--model-path", action="append", default=[], metavar="NAME=FOLDER", help="load the teacher from a local folder")


def _add_document_options(add: Add) -> None:
    add("--documents", type=int, metavar="N", help="use at most N documents (default: all)")
    add(
        "--document-source",
        choices=[DocumentSource.WIKILINGUA.value, DocumentSource.EMBEDDED.value],
        help="where documents come from (default: wikilingua for hub models, embedded for the embedded one)",
    )
    add(
        "--documents-file",
        type=user_path,
        action="append",
        default=[],
        metavar="PATH",
        help="another source: a file with a column of documents and one of summaries, or in WikiLingua's schema; its other half is "
        "saved as heldout.jsonl in the student's folder",
    )
    add(
        "--text-column",
        metavar="COLUMN",
        help="the column of --documents-file with the documents (default: document, article, text or dialogue)",
    )
    add(
        "--summary-column",
        metavar="COLUMN",
        help="the column of --documents-file with the reference summaries (default: summary, highlights, abstract or target)",
    )
    add("--seed", type=int, default=0, metavar="S", help="seed of document selection, sampling and training order")
    add(
        "--validation-share",
        default="10%",
        metavar="SHARE",
        help="share of the articles to validate with; training stops early by their loss",
    )


def _add_text_options(add: Add) -> None:
    add(
        "--passages-per-document",
        type=int,
        default=1,
        metavar="N",
        help="above 1, split each document into 2 to N parts too, each a text to summarize",
    )
    add(
        "--summaries-per-document",
        type=int,
        default=1,
        metavar="N",
        help="summaries of each text: the first is greedy, the others are sampled",
    )
    add(
        "--own-summaries",
        action="store_true",
        help="let the student of --student-from write the texts, and train it on the teacher's logits for them",
    )
    add("--rewrites-per-document", type=int, default=0, metavar="N", help="sampled paraphrases of each training text")
    add(
        "--invented-documents",
        type=int,
        default=0,
        metavar="N",
        help="synthetic documents: the teacher writes N, each around two sentences of a training document, and summarizes them",
    )
    add("--sampling-temperature", type=float, default=0.8, metavar="T", help="temperature of sampled texts")
    add(
        "--max-new-tokens",
        type=int,
        default=100,
        metavar="N",
        help="longest summary in tokens; a paraphrase may be three times as long, a synthetic document four times",
    )
    add("--max-prompt-tokens", type=int, default=2048, metavar="N", help="longer documents are truncated")
    add("--teacher-batch", type=int, metavar="N", help="texts generated at a time (default: 128 on a GPU, 8 on a CPU)")


def _add_loss_options(add: Add) -> None:
    def add_weight(name: str, default: float, meaning: str) -> None:
        add(name, type=float, default=default, metavar="W", help=f"weight of {meaning}")

    add_weight("--ce-weight", 1.0, "the cross-entropy with the generated tokens")
    add_weight("--kl-weight", 1.0, "KL(teacher ‖ student) of the logits")
    add_weight(
        "--reverse-kl-weight", 0.0, "KL(student ‖ teacher), which penalizes tokens that the teacher finds unlikely"
    )
    add_weight(
        "--unlikelihood-weight",
        0.0,
        f"-log(1 - p) for tokens in repeated sequences of {REPEATED_TOKENS}, in place of the other losses; with --own-summaries, "
        "repeating texts are trained on instead of dropped",
    )
    add_weight(
        "--hidden-weight",
        0.0,
        "the relative squared error of each layer's output against the teacher's; needs --layers",
    )
    add("--temperature", type=float, default=1.0, metavar="T", help="divides the logits in both KL terms")
    add_weight("--prompt-weight", 0.0, "the prompt's tokens; 0 trains on the generated text alone")
    add(
        "--least-overlap",
        metavar="SHARE",
        help="use no summary that shares fewer of its word pairs with its text: a small teacher writes some that would fit any text",
    )
    add(
        "--finished-only",
        action="store_true",
        help="use no text that reached the token limit: it does not show the student where to end",
    )


def _add_training_options(add: Add) -> None:
    add("--epochs", type=float, default=3.0, metavar="E", help="passes over the examples")
    add("--steps", type=int, metavar="N", help="optimizer steps, instead of --epochs; 0 leaves the student untrained")
    add("--batch-size", type=int, default=16, metavar="N", help="examples per optimizer step, over all devices")
    add(
        "--micro-batch",
        type=int,
        metavar="N",
        help="examples at a time on each device, halved when memory runs out (default: 32 on a GPU, 2 on a CPU)",
    )
    add(
        "--learning-rate",
        type=float,
        default=3e-4,
        metavar="R",
        help="peak learning rate, after a warm-up and before a cosine decay",
    )
    add("--evaluations", type=int, default=10, metavar="N", help="number of validations, each with a checkpoint")
    add("--patience", type=int, default=3, metavar="N", help="stop after N validations without a lower loss")
    add("--float32", action="store_true", help="compute in float32 on a GPU, instead of bfloat16")
