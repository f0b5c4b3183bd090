"""The records of the files beside a device's stored runs: the measured noise, and the references that a person accepted."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key


class SpreadRecord(TypedDict):
    """The noise between runs of one kind of loader."""

    standard_deviation: Annotated[float, Key("relative standard deviation between runs")]
    degrees_of_freedom: Annotated[float, Key("of the estimate", at_least=1)]


class OtherSpeeds(TypedDict):
    """The first token or the decoding of several runs, as speeds. The list has one item per run."""

    speeds: Annotated[list[float], Key("speed over the rounds in common", unit="1/s", at_least=SMALLEST_POSITIVE)]
    document_deviation: Annotated[float, Key("relative standard deviation of one document in one run")]


class ReplicatesRecord(TypedDict):
    """The replicates of one experiment on one host with one set of versions. Lists have one item per run."""

    experiment: Annotated[str, Key("the experiment's name", may_be_empty=False)]
    workload: Annotated[str, Key("fingerprint of the workload", may_be_empty=False)]
    weights: NotRequired[Annotated[str, Key("source of the weights")]]
    max_new_tokens: NotRequired[Annotated[int, Key("the limit of generated tokens", unit="tokens", at_least=1)]]
    host: NotRequired[Annotated[str | None, Key("anonymous ID of the host; null if unknown")]]
    versions: NotRequired[Annotated[dict[str, str | None], Key("versions of the environment")]]
    test: NotRequired[Annotated[str, Key("name of the test; test_summarize if absent")]]
    host_id: NotRequired[Annotated[str | None, Key("anonymous ID of this host: of its GPU, or of the machine")]]
    measured: Annotated[list[str], Key("when each run began")]
    documents: Annotated[int, Key("rounds in common that were paired", at_least=2)]
    generated_tokens_per_second: Annotated[
        list[float], Key("throughput over the rounds in common", unit="tokens/s", at_least=SMALLEST_POSITIVE)
    ]
    speed_deviation: Annotated[float, Key("relative standard deviation between runs")]
    document_deviation: Annotated[float, Key("relative standard deviation of one document in one run")]
    tuned_kernels: NotRequired[
        Annotated[list[str | None], Key("digest of the kernels that the compiler chose; null if unknown")]
    ]
    first_token: NotRequired[Annotated[OtherSpeeds, Key("1 ÷ the time to the first token; absent in older files")]]
    decode: NotRequired[Annotated[OtherSpeeds, Key("decoding; absent in older files")]]
    controls: Annotated[
        dict[str, list[float]], Key("mean of each machine probe", unit="1/s", at_least=SMALLEST_POSITIVE)
    ]
    control_work: NotRequired[Annotated[dict[str, float], Key("amount that one repetition of each probe does")]]


class SpreadFile(TypedDict):
    """`spread.json`: the measured noise between runs, and the replicates that it comes from."""

    schema: NotRequired[Annotated[int, Key("version of this file", at_least=1)]]
    standard_deviation: NotRequired[Annotated[float, Key("of eager runs")]]
    degrees_of_freedom: NotRequired[Annotated[float, Key("of eager runs", at_least=1)]]
    compiled: NotRequired[Annotated[SpreadRecord | None, Key("of compiled runs with the same tuned kernels")]]
    compiled_tuned_apart: NotRequired[Annotated[SpreadRecord | None, Key("of compiled runs with different kernels")]]
    controls: NotRequired[Annotated[dict[str, float], Key("relative standard deviation of each machine probe")]]
    control_work: NotRequired[Annotated[dict[str, float], Key("amount that one repetition of each probe does")]]
    replicates: NotRequired[Annotated[list[ReplicatesRecord], Key("what was measured")]]


class SeriesRecord(TypedDict):
    """What all nights of a series have in common."""

    test: Annotated[str, Key("name of the test, with the experiment in brackets", may_be_empty=False)]
    workload: Annotated[str, Key("fingerprint of the workload")]
    sample: Annotated[str, Key("digest of the rounds that were timed")]
    host: Annotated[str, Key("anonymous ID of the host")]


class AcceptedRecord(TypedDict):
    """A reference that a person has accepted."""

    series: Annotated[SeriesRecord, Key("the series")]
    since: Annotated[str, Key("its first date: UTC, ISO 8601", may_be_empty=False)]


class HistoryFile(TypedDict):
    """`history.json`: the references that a person has accepted."""

    schema: Annotated[int, Key("version of this file", at_least=1)]
    accepted: Annotated[list[AcceptedRecord], Key("each reference")]
