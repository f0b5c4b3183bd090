"""The suite's command-line options, each declared once.

Pytest's `--help` and docs/reference/options.md are both made from them.
"""

from __future__ import annotations

from summarybench.catalogue.datasets import DATASETS
from summarybench.catalogue.profiles import PROFILES, REFERENCES
from summarybench.core.option import Option
from summarybench.core.paths import user_path
from summarybench.documents.document import DocumentSource
from summarybench.documents.languages import ENGLISH
from summarybench.documents.long_documents import strategies
from summarybench.documents.prompts import INSTRUCTION
from summarybench.kinds.registry import KINDS
from summarybench.machine.environment import HOST_NAME_VARIABLE

GENERAL_OPTIONS: tuple[Option, ...] = (
    Option(
        "--documents",
        "how many documents to summarize",
        example="--documents 20",
        is_everyday=True,
        default_in_words="100 on a GPU, 8 on a CPU",
        type=int,
        minimum=1,
        metavar="N",
    ),
    Option(
        "--seed",
        "which documents: the same seed draws the same ones everywhere",
        example="--seed 1",
        is_everyday=True,
        default_in_words="0",
        type=int,
        default=0,
        metavar="S",
    ),
    Option(
        "--max-new-tokens",
        "longest summary in tokens",
        example="--max-new-tokens 300",
        is_everyday=True,
        default_in_words="100 on a GPU, 48 on a CPU, 12 on a CPU without AVX-512",
        type=int,
        minimum=1,
        metavar="N",
    ),
    Option(
        "--documents-file",
        "summarize the documents of a file (JSON Lines, JSON, CSV, TSV, parquet; .gz too) or of a folder saved by datasets",
        example="--documents-file articles.csv",
        is_everyday=True,
        type=user_path,
        metavar="PATH",
    ),
    Option(
        "--text-column",
        "the column with the documents",
        example="--text-column body",
        default_in_words="document, article, text or dialogue",
        metavar="COLUMN",
    ),
    Option(
        "--summary-column",
        "the column with the reference summaries",
        example="--summary-column tldr",
        default_in_words="summary, highlights, abstract or target",
        metavar="COLUMN",
    ),
    Option(
        "--dataset",
        f"summarize the documents of a dataset on the Hugging Face hub, at one commit; {', '.join(DATASETS)} need only their name",
        example="--dataset cnn_dailymail",
        metavar="NAME[:CONFIG][@REV]",
    ),
    Option(
        "--split",
        "the split of --dataset, or of a folder saved by datasets",
        example="--split validation",
        default_in_words="test",
        metavar="SPLIT",
    ),
    Option(
        "--instruction",
        "what to ask of the model before each document, as text or as the name of a text file; part of the workload",
        example='--instruction "Summarize in one sentence."',
        default_in_words=f'"{INSTRUCTION}"',
        metavar="TEXT|FILE",
    ),
    Option(
        "--language",
        "the language of the documents, by its code: how summaries are scored, and which of WikiLingua's articles are read. "
        "The instruction stays English without --instruction",
        example="--language de",
        default_in_words="en",
        default=ENGLISH.code,
        metavar="CODE",
    ),
    Option(
        "--show-prompt",
        "measure nothing; print the prompt of each model's first document",
        example="--show-prompt",
        action="store_true",
    ),
    Option(
        "--document-source",
        "where documents come from",
        example="--document-source embedded",
        default_in_words="wikilingua for hub models, embedded for the embedded one",
        choices=[DocumentSource.WIKILINGUA.value, DocumentSource.EMBEDDED.value],
    ),
    Option(
        "--model",
        "measure your own model and no other: a hub id with an optional revision, a local folder, or either with a name; "
        "may be repeated",
        example="--model Qwen/Qwen2.5-0.5B-Instruct",
        is_everyday=True,
        default=[],
        metavar="[NAME=]X[@REV]",
        action="append",
    ),
    Option(
        "--models",
        "measure the models of a TOML file",
        example="--models team.toml",
        type=user_path,
        default=[],
        metavar="FILE",
        action="append",
    ),
    Option(
        "--config",
        "with --weights synthetic: the config.json whose shape the random weights have",
        example="--config qwen3-8b/config.json",
        default=[],
        metavar="[NAME=]FILE",
        action="append",
    ),
    Option(
        "--model-path",
        "take a built-in model's safetensors and tokenizer from a local folder",
        example="--model-path llama2-7b-chat=/models/llama2",
        default=[],
        metavar="NAME=FOLDER",
        action="append",
    ),
    Option(
        "--weights",
        "synthetic: random weights of the true shape, for speed and memory without a download",
        example="--weights synthetic",
        is_everyday=True,
        default="published",
        choices=["published", "synthetic"],
    ),
    Option(
        "--tolerance",
        "a change within this counts as none",
        example="--tolerance 3%",
        is_everyday=True,
        default_in_words="5%",
        default="5%",
        metavar="SHARE",
    ),
    Option(
        "--require-baseline",
        "fail where there is no comparable baseline",
        example="--require-baseline",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--resume",
        "continue a run that was cut short, given by its results folder (such as results/latest); "
        "finished tests are taken over and the others measured; repeat the other options",
        example="--resume results/latest",
        is_everyday=True,
        type=user_path,
        metavar="RUN",
    ),
    Option(
        "--plan",
        "measure nothing; print which slowdowns the chosen documents, baseline runs and passes can detect",
        example="--plan",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--dry-run",
        "measure nothing; print the experiments with their predicted memory and expected time",
        example="--dry-run",
        is_everyday=True,
        action="store_true",
    ),
    Option(
        "--max-prompt-tokens",
        "longer documents are truncated, unless --long-documents says otherwise",
        example="--max-prompt-tokens 1024",
        default_in_words="2048, 128 on a CPU without AVX-512",
        type=int,
        minimum=1,
        metavar="N",
    ),
    Option(
        "--long-documents",
        "what to do with documents that do not fit in one prompt: truncate, map-reduce (summarize the parts, then the summaries) "
        "or refine (carry a summary from part to part); several divided by commas, or all, are measured side by side",
        example="--long-documents all",
        default_in_words="truncate",
        type=strategies,
        default=strategies("truncate"),
        metavar="LIST",
    ),
    Option(
        "--gpu-family",
        "treat this device as one of another family; such a run never becomes a baseline",
        example="--gpu-family t4",
        metavar="FAMILY",
    ),
    Option(
        "--memory-limit",
        "use at most this much of the device's memory; such a run never becomes a baseline",
        example="--memory-limit 14.6",
        type=float,
        metavar="GIB",
    ),
    Option(
        "--no-memory-prediction",
        "try experiments that are predicted not to fit",
        example="--no-memory-prediction",
        action="store_true",
    ),
    Option(
        "--baseline-runs",
        "compare with up to N stored runs: the newest, and older ones with the same versions",
        example="--baseline-runs 1",
        default_in_words="3",
        type=int,
        default=3,
        minimum=1,
        metavar="N",
    ),
    Option(
        "--passes",
        "2: `summarybench bench` (make bench) measures each experiment in two processes before it decides",
        example="--passes 2",
        default_in_words="1, again where it REGRESSED",
        type=int,
        default=1,
        choices=[1, 2],
    ),
    Option(
        "--host-name",
        "the name that reports show for this host; on a CPU, hosts with different names are different hosts. "
        f"The environment variable {HOST_NAME_VARIABLE} sets it too",
        example="--host-name lab-2",
        default_in_words="made from the ID of the GPU or of the machine",
        metavar="NAME",
    ),
    Option(
        "--student",
        "measure a model from `python -m distillation` (make distill) and its teacher; add -m student to measure nothing else",
        example="--student students/smollm2-15l",
        type=user_path,
        default=[],
        metavar="FOLDER",
        action="append",
    ),
    Option(
        "--student-margin",
        "largest loss of ROUGE-1 that a student may have, as a share of its teacher's",
        example="--student-margin 5%",
        default_in_words="10%",
        default="10%",
        metavar="SHARE",
    ),
    Option(
        "--profile",
        f"take over the settings of a published benchmark: {', '.join(PROFILES)}; options that you give replace the profile's",
        example="--profile mlperf-cnndm",
        metavar="NAME",
    ),
    Option(
        "--reference-rouge",
        "with --profile: reference scores that the summaries must reach, in percent (ROUGE-1, ROUGE-2, ROUGE-L, ROUGE-Lsum; - for "
        f"one that is not required), or a name: {', '.join(REFERENCES)}",
        example="--reference-rouge 38.7792,15.9075,24.4957,35.793",
        metavar="SCORES",
    ),
    Option(
        "--reference-length",
        "with --reference-rouge: mean characters of a summary that was scored so",
        example="--reference-length 611",
        type=float,
        metavar="CHARACTERS",
    ),
    Option(
        "--gpu-hour-price",
        "what one GPU costs for an hour, in your currency: reports then show the cost of 1,000 documents and of a million tokens",
        example="--gpu-hour-price 2.50",
        metavar="PRICE",
    ),
    Option(
        "--scorer",
        "also score summaries with a model, once all tests have ended: an NLI classifier or an encoder (BERTScore), from a "
        "folder or from the hub; may be repeated",
        example="--scorer nli=models/nli-base",
        default=[],
        metavar="NAME=X[@REV]",
        action="append",
    ),
    Option(
        "--results-dir",
        "where each run leaves its folder",
        example="--results-dir /data/results",
        default_in_words="results",
        type=user_path,
        metavar="FOLDER",
    ),
    Option(
        "--confirm",
        "measure again what REGRESSED in RUN; a test fails only if both passes together show a regression "
        "and neither pass alone has a ratio above 0.985",
        example="--confirm results/latest",
        type=user_path,
        metavar="RUN",
    ),
)
"""The options that do not belong to one kind of benchmark, everyday options first."""


def all_options() -> tuple[Option, ...]:
    """The general options, and those of the registered kinds."""
    return (*GENERAL_OPTIONS, *(option for kind in KINDS.values() for option in kind.options))
