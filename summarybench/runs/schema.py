"""The records of a run file and of a journal. Each key is declared here or, for one experiment, in extra_info.py.

A run file is pytest-benchmark's JSON. docs/reference/run-file.md is made from these declarations.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from summarybench.core.outcomes import Outcome
from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key
from summarybench.runs.extra_info import ExtraInfo, ModelScores
from summarybench.runs.profile_record import ProfileRecord

SCHEMA = 1
"""The version that each experiment states. It is raised when a key changes its meaning, and not when one is added."""


class MachineInfo(TypedDict):
    """What may differ between comparable runs. Reports show each difference."""

    device: Annotated[str, Key("product name of the GPU or CPU", may_be_empty=False)]
    device_memory_bytes: Annotated[int | None, Key("memory of the device", unit="bytes")]
    driver: Annotated[str | None, Key("version of the GPU's driver; null for a CPU")]
    cuda: Annotated[str | None, Key("CUDA version that torch was built with")]
    cpu: Annotated[str | None, Key("product name of the CPU")]
    cpu_count: Annotated[int | None, Key("CPUs that the process may use")]
    host: Annotated[str | None, Key("older ID of this host, which changes with its network name; null if unknown")]
    host_id: Annotated[str | None, Key("anonymous ID of this host: of its GPU, or of the machine; null if unknown")]
    host_name: Annotated[str | None, Key("name of this host in reports; null if unknown")]
    python: Annotated[str | None, Key("version of Python")]
    torch: Annotated[str | None, Key("version of torch")]
    transformers: Annotated[str | None, Key("version of transformers")]
    bitsandbytes: Annotated[str | None, Key("version of bitsandbytes")]
    accelerate: Annotated[str | None, Key("version of accelerate")]


class CommitInfo(TypedDict):
    """The commit that was measured, as pytest-benchmark records it."""

    id: Annotated[str, Key("hash of the commit; `unknown` outside a repository")]
    time: NotRequired[Annotated[str | None, Key("when it was committed")]]
    author_time: NotRequired[Annotated[str | None, Key("when it was written")]]
    dirty: NotRequired[Annotated[bool | None, Key("whether files were changed since")]]
    project: NotRequired[Annotated[str | None, Key("name of the repository")]]
    branch: NotRequired[Annotated[str | None, Key("name of the branch")]]


class DeviceFacts(TypedDict):
    """The device that the run was measured on."""

    kind: Annotated[str, Key("`cuda` or `cpu`", may_be_empty=False)]
    name: Annotated[str, Key("product name", may_be_empty=False)]
    slug: Annotated[str, Key("name of its folder of baselines", is_name=True)]
    family: Annotated[str, Key("device family, such as `a100`")]
    memory_bytes: Annotated[int, Key("memory, or the limit that the session was given", unit="bytes")]
    compute_dtype: Annotated[str, Key("16-bit type that it multiplies natively, or `float32`")]
    uuid: NotRequired[Annotated[str, Key("the GPU's UUID")]]
    index: NotRequired[Annotated[int, Key("number of the GPU, as nvidia-smi counts")]]
    gpus_in_machine: NotRequired[Annotated[int, Key("GPUs of the machine")]]
    power_limit_watts: NotRequired[Annotated[float | None, Key("power limit", unit="W")]]
    pcie: NotRequired[Annotated[str | None, Key("PCIe generation and lanes")]]
    compute_mode: NotRequired[Annotated[str | None, Key("compute mode, as nvidia-smi names it")]]
    stands_in: Annotated[bool, Key("whether --gpu-family emulated another family")]
    is_limited: Annotated[bool, Key("whether --memory-limit restricted its memory")]
    is_remote: NotRequired[
        Annotated[bool, Key("whether --server-device named it; the other keys then describe the client's machine")]
    ]
    has_avx512: NotRequired[
        Annotated[bool | None, Key("whether a CPU's AVX-512 is used; null for a GPU or if unknown")]
    ]


class SessionSecondsRecord(TypedDict):
    """Where the session's time went."""

    seconds: Annotated[float, Key("duration of the session", unit="s", at_least=SMALLEST_POSITIVE)]
    loading_seconds: Annotated[float, Key("loading models", unit="s")]
    compile_seconds: Annotated[float, Key("compiling", unit="s")]
    generating_seconds: Annotated[float, Key("generating, warm-up included", unit="s")]
    other_seconds: Annotated[float, Key("everything else", unit="s")]
    other_share: Annotated[float, Key("share of everything else", at_most=1)]


class Settings(TypedDict):
    """The settings that must be equal for two sessions to be parts of one run. A kind's options come on top."""

    documents: NotRequired[Annotated[int, Key("how many documents were asked for")]]
    seed: NotRequired[Annotated[int, Key("seed of the sample", at_least=None)]]
    max_new_tokens: NotRequired[Annotated[int, Key("the limit of generated tokens", unit="tokens")]]
    max_prompt_tokens: NotRequired[Annotated[int, Key("the limit of prompt tokens", unit="tokens")]]
    document_source: NotRequired[Annotated[str | None, Key("where the documents come from; null for the default")]]
    documents_file_sha256: NotRequired[Annotated[str | None, Key("digest of the file with the documents")]]
    text_column: NotRequired[Annotated[str, Key("the column of documents, if an option or the catalogue names it")]]
    summary_column: NotRequired[Annotated[str, Key("the column of reference summaries, likewise")]]
    dataset: NotRequired[Annotated[str, Key("the dataset of the hub and its split")]]
    split: NotRequired[Annotated[str, Key("the split of a saved dataset, if an option names it")]]
    instruction: NotRequired[Annotated[str, Key("the instruction, if it is not the default")]]
    language: NotRequired[Annotated[str, Key("code of the documents' language, if it is not English")]]
    long_documents: NotRequired[Annotated[list[str], Key("what is done with long documents, if not only truncating")]]
    weights: NotRequired[Annotated[str, Key("`published` or `synthetic`")]]
    model_folders: NotRequired[Annotated[dict[str, Any], Key("digest of each folder with weights, by model")]]
    own_models: NotRequired[Annotated[dict[str, Any], Key("commit or shape of each model of --model without a folder")]]
    gpu_family: NotRequired[Annotated[str | None, Key("the emulated device family")]]
    memory_limit_gib: NotRequired[Annotated[float | None, Key("limit of the device's memory", unit="GiB")]]
    predict_memory: NotRequired[Annotated[bool, Key("whether experiments that are predicted not to fit are left out")]]


class Origin(TypedDict):
    """An earlier run that this run continues or confirms."""

    run: Annotated[str, Key("name of its results folder")]
    commit: Annotated[str | None, Key("its commit")]
    datetime: Annotated[str | None, Key("when it began")]


class OutcomeRecord(TypedDict):
    """What became of one selected test."""

    nodeid: Annotated[str, Key("pytest's id of the test", may_be_empty=False)]
    experiment: Annotated[str, Key("the experiment's name")]
    outcome: Annotated[str, Key("the outcome", choices=Outcome)]
    detail: Annotated[str, Key("the reason, in one line; empty if it passed")]
    quality_only: Annotated[bool, Key("whether it failed for the quality of its summaries alone")]
    machine_only: Annotated[bool, Key("whether it failed for a slowdown of the machine alone")]
    wrong_input: Annotated[bool, Key("whether it failed because an option or a file cannot be used with this model")]
    is_final: Annotated[bool, Key("whether the test ran to its end; --resume repeats the others")]
    carried_from: NotRequired[Annotated[str, Key("name of the earlier run that it was taken over from")]]


class Stats(TypedDict):
    """pytest-benchmark's statistics of the rounds. Only `data` is read again."""

    data: Annotated[list[float], Key("duration of each round", unit="s", at_least=SMALLEST_POSITIVE)]


class ExperimentRecord(TypedDict):
    """One measured experiment in the journal: a benchmark of the run file without its statistics."""

    name: Annotated[str, Key("name of the test, with the experiment in brackets", may_be_empty=False)]
    fullname: Annotated[str, Key("pytest's id of the test")]
    extra_info: Annotated[ExtraInfo, Key("facts and figures")]
    carried_from: NotRequired[Annotated[str, Key("name of the earlier run that measured it")]]


class Benchmark(TypedDict):
    """One measured experiment. pytest-benchmark's keys `group`, `params`, `param` and `options` are not read again."""

    name: Annotated[str, Key("name of the test, with the experiment in brackets", may_be_empty=False)]
    fullname: Annotated[str, Key("pytest's id of the test")]
    extra_info: Annotated[ExtraInfo, Key("facts and figures")]
    stats: Annotated[Stats, Key("durations of the rounds")]


class RunHeader(TypedDict):
    """What a session records when it begins."""

    machine_info: Annotated[MachineInfo, Key("environment")]
    commit_info: Annotated[CommitInfo, Key("commit of the working tree")]
    datetime: Annotated[str, Key("when the session began: UTC, ISO 8601; empty if unknown")]
    version: NotRequired[Annotated[str, Key("version of pytest-benchmark")]]
    device: Annotated[DeviceFacts | None, Key("the device; null if it was not recorded")]
    settings: NotRequired[Annotated[Settings, Key("settings of the session")]]
    profile: NotRequired[Annotated[ProfileRecord, Key("the profile of --profile")]]
    gpu_hour_price: NotRequired[
        Annotated[float, Key("price of one GPU for an hour, in the user's currency", at_least=SMALLEST_POSITIVE)]
    ]
    choices: NotRequired[Annotated[str, Key("settings that the suite chose because of the CPU, in words")]]
    resumed_from: NotRequired[Annotated[Origin, Key("the interrupted run that this run continues")]]
    confirms: NotRequired[Annotated[Origin, Key("the first pass that this run confirms")]]


class Run(RunHeader):
    """A whole run file."""

    dropped_lines: Annotated[int, Key("lines of the journal that a crash cut off")]
    session: NotRequired[Annotated[SessionSecondsRecord, Key("time spent; absent if the session was cut short")]]
    benchmarks: Annotated[list[Benchmark], Key("the measured experiments")]
    outcomes: Annotated[list[OutcomeRecord], Key("one per selected test")]


# The journal -----------------------------------------------------------------------------------------------------


class SessionRecord(RunHeader):
    """The first record of a journal."""

    dropped_lines: NotRequired[Annotated[int, Key("lines that a crash cut off in the run that this run continues")]]
    selected: NotRequired[Annotated[dict[str, str], Key("experiment of each selected test, by nodeid")]]


class ScoresRecord(TypedDict):
    """What one --scorer gave the summaries of one experiment."""

    nodeid: Annotated[str, Key("pytest's id of the test", may_be_empty=False)]
    scorer: Annotated[str, Key("the scorer's name", may_be_empty=False)]
    model_scores: Annotated[ModelScores, Key("its scores")]


class DocumentRecord(TypedDict):
    """One timed document."""

    nodeid: Annotated[str, Key("pytest's id of the test", may_be_empty=False)]
    experiment: Annotated[str, Key("the experiment's name")]
    document_id: Annotated[str, Key("hash of the document's url and section name", may_be_empty=False)]
    document_tokens: Annotated[int, Key("the document's tokens in its prompts", unit="tokens")]
    prompt_tokens: Annotated[int, Key("the whole prompt's tokens; of the last call", unit="tokens")]
    generated_tokens: Annotated[int, Key("the summary's tokens", unit="tokens")]
    truncated: Annotated[bool, Key("whether the document was cut to fit the prompt limit")]
    hit_cap: Annotated[bool, Key("whether the summary was cut at the token limit")]
    start_seconds: Annotated[float, Key("start of the round, on the session's clock", unit="s", at_least=None)]
    first_token_seconds: Annotated[float, Key("time of the first token, on the same clock", unit="s", at_least=None)]
    end_seconds: Annotated[float, Key("end of the summary, on the same clock", unit="s", at_least=None)]
    summary: Annotated[str, Key("the generated text")]
    host_rate_per_second: Annotated[
        float | None, Key("host probe just before the round; null if not taken", unit="1/s")
    ]
    batch: Annotated[int | None, Key("number of the round")]
    rows: Annotated[int | None, Key("batch size of the round")]
    unread_tokens: Annotated[int | None, Key("tokens of the document that were cut off", unit="tokens")]
    earlier_calls: Annotated[int | None, Key("calls of the model before the one whose answer is the summary")]
    earlier_prompt_tokens: Annotated[int | None, Key("tokens of their prompts", unit="tokens")]
    earlier_generated_tokens: Annotated[int | None, Key("tokens of their answers", unit="tokens")]
    carried_from: NotRequired[Annotated[str, Key("name of the earlier run that measured it")]]
