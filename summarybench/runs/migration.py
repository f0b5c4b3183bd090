"""Fill in what older run files and journals do not state, so that nothing else needs to know how old a file is.

Each function here derives what one kind of record lacks. A key that is there is never changed. What an older version did
not record and nothing implies becomes null, empty or zero, as the schema says for unknown values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

from summarybench.core.inert_text import inert_record
from summarybench.machine.environment import VERSIONS, default_host_name, gpu_host_id
from summarybench.machine.probes import EVERY_PROBE, OF_THE_GPU
from summarybench.runs.built_in_kinds import KINDS_BY_TEST
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.kind_facts import KIND, LINE_BREAKS_IN, KindFacts, Unit
from summarybench.runs.schema import DocumentRecord, Run, RunHeader

EARLIER_CALLS = ("earlier_calls", "earlier_prompt_tokens", "earlier_generated_tokens")
"""What a timed document states about its calls before the last one."""
NO_TELEMETRY: Mapping[str, Any] = {
    "throttled_share": {},
    "temperature_celsius_max": None,
    "sm_clock_mhz": [None, None],
    "power_watts_mean": None,
    "power_limit_watts": None,
    "foreign_processes": None,
    "note": None,
}

UNKNOWN: Mapping[str, Any] = {
    "batch_document_ids": None,  # before there were batches, each document was a round
    "rouge1_floor": None,
    "predicted_memory_bytes": None,
    "model_bandwidth_utilization": None,
    "weights_read_bytes": None,
    "cache_bytes_per_token": None,
    "copy_bandwidth_bytes_per_second": None,
    "joules_per_token": None,
    "degenerate": None,
    "faithfulness": None,
    "compile_seconds": None,
    "tuned_kernels": None,
    "controls": {},
    "telemetry": NO_TELEMETRY,
    "attribution": None,
    "anchor": None,
    "first_pass": None,
    "first_token_change": None,
    "decode_change": None,
    "quality_change": None,
    "faithfulness_change": None,
}
"""What an experiment states if its version did not record it."""


def migrated(run: Mapping[str, Any]) -> Run:
    """A copy of a run in which every key that the schema requires is there, unless nothing implies its value.

    Its texts are inert, so that nothing that shows or stores a run has to make them so. The caller has checked the run's
    shape (`validation.check_shape`); other values may still be of any type.
    """
    found: dict[str, Any] = _with({**run, **migrated_header(run)}, dropped_lines=0)
    found["benchmarks"] = [_benchmark(each) for each in run["benchmarks"]]
    if "outcomes" in run:
        found["outcomes"] = _outcomes(run["outcomes"])
    return cast(Run, inert_record(found, line_breaks_in=LINE_BREAKS_IN))


def migrated_header(session: Mapping[str, Any]) -> RunHeader:
    """A copy of what a run or a journal states about its session, with every key that the schema requires."""
    found: dict[str, Any] = _with(dict(session), datetime="", device=None)
    found["commit_info"] = _commit_info(session.get("commit_info"))
    if "machine_info" in session:
        found["machine_info"] = _machine_info(session["machine_info"], session.get("device"))
    return cast(RunHeader, found)


def migrated_document(record: Mapping[str, Any]) -> DocumentRecord:
    """A timed document with null for what its version did not record."""
    added = ("host_rate_per_second", "batch", "rows", "unread_tokens", *EARLIER_CALLS)
    return cast(DocumentRecord, _with(dict(record), **dict.fromkeys(added)))


def _machine_info(found: Any, device: Any) -> Any:
    """Null for versions and facts that were not recorded. The device's name cannot be derived.

    Runs from before `host_id` state their GPU's UUID, which identifies the host, or an older ID.
    """
    known = _with(found, **dict.fromkeys(("device_memory_bytes", "cpu", "cpu_count", "host", *VERSIONS)))
    if not isinstance(known, dict):
        return known
    uuid = device.get("uuid") if isinstance(device, dict) else None
    identity = gpu_host_id(uuid) if isinstance(uuid, str) and uuid else known["host"]
    name = default_host_name(identity) if isinstance(identity, str) else None
    return _with(known, host_id=identity, host_name=name)


def _commit_info(found: Any) -> Any:
    """`unknown` outside a repository."""
    return _with({} if found is None else found, id="unknown")


def _outcomes(found: Any) -> Any:
    """Outcomes from before --resume are final, and those from before attribution blame no machine."""
    if not isinstance(found, list):
        return found
    return [
        _with(each, detail="", quality_only=False, machine_only=False, wrong_input=False, is_final=True)
        for each in found
    ]


# One experiment --------------------------------------------------------------------------------------------------


def _benchmark(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    return {**benchmark, "extra_info": migrated_extra_info(benchmark["name"], benchmark["extra_info"])}


def migrated_extra_info(name: str, info: Mapping[str, Any]) -> ExtraInfo:
    """One experiment's facts with every key that the schema requires; `name` is the test's."""
    found = {**info, **{key: deepcopy(value) for key, value in UNKNOWN.items() if key not in info}}
    for key, value in _derived(name, info):
        found.setdefault(key, value)
    found["first_pass"] = _first_pass(found["first_pass"])
    found["workload_settings"] = _with(found["workload_settings"], loader_settings={})
    found[KIND] = _with(found[KIND], **_unstated_facts(name, found[KIND]))
    if "overhead" in info:
        found["overhead"] = _with(info["overhead"], typical=None)
    return cast(ExtraInfo, found)


def _derived(name: str, info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the name of the test and other keys imply."""
    yield KIND, kind_of_older_entry(name, info).as_record()
    yield "host_rate_per_second", [None] * len(info["document_ids"])
    yield "degenerate_document_ids", _degenerate_ids(info.get("degenerate"))
    yield "workload_settings", {}
    yield "speed_probes", list(_speed_probes(info.get("workload_settings")))
    if rounds := _sample_rounds(info.get("continuous")):
        yield "sample_rounds", rounds
    for mean in ("rouge1", "rouge2", "rougeLsum"):
        scores = f"{mean}_scores"
        if scores in info:
            yield mean, _mean(info[scores])
        elif info.get(mean) is None:
            yield from ((mean, None), (scores, []))


def kind_of_older_entry(name: str, info: Mapping[str, Any]) -> KindFacts:
    """The kind of an experiment that does not state it: by the name of its test, with the unit that was recorded."""
    test = _test_of(name)
    kind = test.removeprefix("test_") or test
    facts = KINDS_BY_TEST.get(test) or KindFacts(name=kind, title=kind.replace("_", " "))
    is_by_sample = "continuous" in info or "sample_rounds" in info
    unit = Unit.ROUND if is_by_sample else Unit.BATCH if info.get("batch_document_ids") else Unit.DOCUMENT
    return replace(facts, unit=unit)


def _unstated_facts(name: str, stated: Any) -> dict[str, Any]:
    """What a kind declares about facts that were added after it was recorded; the defaults for other kinds."""
    facts = KINDS_BY_TEST.get(_test_of(name))
    if facts is None or not isinstance(stated, dict) or stated.get("name") != facts.name:
        facts = KindFacts(name="")
    record = facts.as_record()
    return {key: value for key, value in record.items() if key != "name"}


def _test_of(name: str) -> str:
    """The name of a test without its parameters."""
    return name.partition("[")[0]


def _degenerate_ids(counts: Any) -> dict[str, list[str]] | None:
    """Where no summary is degenerate, no document has one. Otherwise the counts do not say which."""
    if not isinstance(counts, dict) or any(counts.values()):
        return None
    return {"empty": [], "repeating": []}


def _speed_probes(workload_settings: Any) -> Sequence[str]:
    """The probes that the speed depends on: only the GPU's own ones for CUDA-graph decoding, which states `compiled`."""
    settings = workload_settings.get("loader_settings") if isinstance(workload_settings, dict) else None
    return OF_THE_GPU if isinstance(settings, dict) and "compiled" in settings else EVERY_PROBE


def _sample_rounds(continuous: Any) -> list[dict[str, Any]] | None:
    """Seconds and tokens of each round. Before other kinds could have such rounds, only `continuous` recorded them."""
    try:
        return [{key: each[key] for key in ("seconds", "generated_tokens")} for each in continuous["rounds"]]
    except (TypeError, KeyError):
        return None


def _mean(scores: Any) -> float | None:
    """The mean, as newer versions record it; None for documents that were not scored."""
    known = [each for each in scores if each is not None] if isinstance(scores, list) else []
    return sum(known) / len(known) if known and all(isinstance(each, int | float) for each in known) else None


def _first_pass(found: Any) -> Any:
    """A first pass keeps what its experiment recorded: null for keys that the experiment lacked."""
    if not isinstance(found, dict):
        return found
    stated = {key: value for key, value in found.items() if value is not None or key != "controls"}
    return _with(stated, batch_document_ids=None, change=None, attribution=None, controls={})


def _with(record: Any, **missing: Any) -> Any:
    """A copy of the record with these keys at its end if it lacks them. What is not a record is returned as it is."""
    if not isinstance(record, dict):
        return record
    return record | {key: value for key, value in missing.items() if key not in record}
