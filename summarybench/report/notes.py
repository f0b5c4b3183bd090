"""The lines below the tables: verdicts with their reasons, what went wrong, and the limits of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.confirmation import judged_changes
from summarybench.analysis.faithfulness_change import describe_faithfulness
from summarybench.analysis.history import Trend
from summarybench.analysis.judge import SAVE_ANEW, SAVE_ONE
from summarybench.analysis.quality_change import describe, quality_against_16_bit, quality_against_batch_size_1
from summarybench.analysis.quality_session import (
    ConfirmedLosses,
    confirmed_losses,
    faithfulness_changes_of,
    in_words,
    judged_faithfulness_changes,
    judged_quality_changes,
    quality_changes_of,
)
from summarybench.analysis.quantities import Quantity
from summarybench.catalogue.published import published_by_mlperf, published_rows
from summarybench.core.numbers import MISSING, counted, estimate, gib, percent
from summarybench.core.outcomes import NOT_RUN, Outcome, Verdict
from summarybench.core.session_seconds import session_line
from summarybench.documents.document import Reason
from summarybench.documents.languages import ENGLISH, LANGUAGES
from summarybench.machine.device import DeviceRecord
from summarybench.report.experiment import ExperimentView, strategy_of
from summarybench.report.figures.speed import DOCUMENT_TOKENS
from summarybench.report.history import finding_of
from summarybench.runs.comparable import has_enough_rounds
from summarybench.runs.comparison_records import (
    ChangeRecord,
    FaithfulnessChangeRecord,
    JudgementRecord,
    QualityChangeRecord,
)
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.facts import describe_fidelity, describe_overhead
from summarybench.runs.profile_record import describe_profile
from summarybench.runs.run_file import Run, entries_of
from summarybench.runs.schema import OutcomeRecord

NOTHING_LOST = ConfirmedLosses()

REASONS = {reason.name.lower(): reason.value for reason in Reason}
"""The reasons for dropping a document, by their names in run files."""

SHORTEST_SECONDS_PER_TOKEN = 0.0001
"""No server decodes a single answer at 10,000 tokens per second: a shorter median comes from a buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line. `verdict` is the word in it that reports may show in a colour of its own."""

    before: str = ""
    verdict: str = ""
    after: str = ""

    def __str__(self) -> str:
        return f"{self.before}{self.verdict}{self.after}"


def notes_of(
    run: Run, device: DeviceRecord, experiments: Sequence[ExperimentView], *, is_saved: bool = False
) -> Iterator[Note]:
    """What the tables of a run leave out, one line each. No line asks for a baseline if `is_saved`: the run is one."""
    losses = confirmed_losses([each.info for each in experiments])
    for each, confirmed in zip(experiments, losses, strict=True):
        yield from _experiment_notes(each, device, confirmed, is_saved=is_saved)
    entries = entries_of(run)
    for experiment, found in (*quality_against_16_bit(entries), *quality_against_batch_size_1(entries)):
        yield _quality_note(experiment, found.as_extra_info())
    infos = [each.info for each in experiments]
    yield from map(_plain, _document_notes(infos))
    if not is_saved:
        yield from map(_plain, _baseline_notes(infos, device))
    yield from map(_plain, _profile_notes(run))
    if any(each.is_synthetic for each in experiments):
        yield _plain(
            "synthetic weights: speed and memory are those of the real model; its summaries are noise, so quality is not reported"
        )
    yield from map(_plain, _unpacked_notes(infos))
    yield from map(_plain, _language_notes(infos))
    reported = {
        info["experiment"]: _reported_of(info, confirmed) for info, confirmed in zip(infos, losses, strict=True)
    }
    yield from map(_plain, outcome_notes(run["outcomes"], reported))
    if device.gpus_in_machine > 1:
        yield _plain(f"measured on GPU {device.index} of {device.gpus_in_machine}: {device.name} ({device.uuid})")
    yield from map(_plain, _session_notes(run))
    yield from map(_plain, _false_alarm_notes(run))
    yield from map(_plain, _limit_notes(device))


def quiet_notes(run: Run) -> Iterator[str]:
    """One line for each verdict, and one for each experiment without a verdict."""
    reported: dict[str, list[str]] = {}
    infos = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
    for info, confirmed in zip(infos, confirmed_losses(infos), strict=True):
        reported[info["experiment"]] = _reported_of(info, confirmed)
        yield f"{info['experiment']}: {info['verdict']}: {info['verdict_detail']}"
        for quantity, record in _other_judgements(info):
            yield f"  {quantity}: {record['verdict']}: {record['verdict_detail']}"
        if found := suspicion(info):
            yield f"{info['experiment']}: history: {found}"
        for quality in judged_quality_changes(info):
            yield str(_quality_note(info["experiment"], quality, confirmed))
        for change in judged_faithfulness_changes(info):
            yield str(_faithfulness_note(info["experiment"], change, confirmed))
    yield from _profile_notes(run)
    yield from outcome_notes(run["outcomes"], reported)


def outcome_notes(outcomes: Sequence[OutcomeRecord], reported: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What went wrong, unless a verdict has already said so. Experiments with the same reason share a line.

    `reported` holds what other notes say about each experiment.
    """
    experiments: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        is_reported = any(detail in outcome["detail"] for detail in reported.get(outcome["experiment"], ()))
        if outcome["outcome"] not in (Outcome.PASSED, Outcome.SKIPPED) and not is_reported:
            experiments.setdefault((outcome["outcome"], outcome["detail"]), []).append(outcome["experiment"])
    for (what, detail), names in experiments.items():
        outcome_in_words = "" if detail.startswith(NOT_RUN) else f"{what.replace('_', ' ')}: "
        yield f"{', '.join(names)}: {outcome_in_words}{detail}"


def _plain(text: str) -> Note:
    return Note(before=text)


def _reported_of(info: ExtraInfo, confirmed: ConfirmedLosses) -> list[str]:
    """What the notes on an experiment's verdicts say."""
    others = [record["verdict_detail"] for _, record in _other_judgements(info)]
    qualities, changes = judged_quality_changes(info), judged_faithfulness_changes(info)
    stated = sum(map(confirmed.has, qualities)) + sum(map(confirmed.of_faithfulness, changes))
    return [
        info["verdict_detail"],
        *others,
        *map(describe, qualities),
        *map(describe_faithfulness, changes),
        *([in_words(confirmed)] if confirmed.losses and len(confirmed.losses) == stated else []),
    ]


def _other_judgements(info: ExtraInfo) -> Iterator[tuple[Quantity, JudgementRecord]]:
    """The judgements beside the one on the speed, where the kind has them."""
    for quantity, record in (
        (Quantity.FIRST_TOKEN, info["first_token_change"]),
        (Quantity.DECODE, info["decode_change"]),
    ):
        if record is not None:
            yield quantity, record


# One experiment ------------------------------------------------------------------------------------------------------


def _experiment_notes(
    experiment: ExperimentView, device: DeviceRecord, confirmed: ConfirmedLosses, *, is_saved: bool
) -> Iterator[Note]:
    info = experiment.info
    if info["verdict"] != Verdict.NO_BASELINE:
        detail = info["verdict_detail"].removesuffix(SAVE_ANEW) if is_saved else info["verdict_detail"]
        yield Note(before=f"{experiment.name}: ", verdict=info["verdict"], after=f": {detail}")
    yield from _change_notes(info)
    if info["environment_differences"]:
        yield _plain(f"  environment: {'; '.join(info['environment_differences'])}")
    for quality in quality_changes_of(info):
        yield _quality_note(experiment.name, quality, confirmed)
    for change in faithfulness_changes_of(info):
        yield _faithfulness_note(experiment.name, change, confirmed)
    for note_of in NOTES_ON_RECORDS:
        for note in note_of(info, confirmed):
            yield note if isinstance(note, Note) else _plain(f"{experiment.name}: {note}")
    if note := _published_note(experiment, device):
        yield _plain(f"{experiment.name}: {note}")


def _change_notes(info: ExtraInfo) -> Iterator[Note]:
    """The cause of a change, the first pass, the judgements on first token and decoding, and the comparison with the anchor."""
    if found := info["attribution"]:
        yield _plain(f"  {found['cause']}: {found['detail']}")
    if first := info["first_pass"]:
        after = f" {_ratio(first['change'])}; the verdict above pools both passes"
        yield Note(before="  first pass: ", verdict=first["verdict"], after=after)
    for quantity, record in _other_judgements(info):
        yield Note(before=f"  {quantity}: ", verdict=record["verdict"], after=f": {record['verdict_detail']}")
        if cause := record["attribution"]:
            yield _plain(f"    {cause['cause']}: {cause['detail']}")
    if slowed := suspicion(info):
        yield _plain(f"  history: {slowed}")
    if anchor := info["anchor"]:
        yield Note(before=f"  against {anchor['file']}: ", verdict=anchor["verdict"], after=f" {_ratio(anchor)}")


def suspicion(info: ExtraInfo) -> str:
    """That the experiment's nights have slowed, and since when; empty if they have not."""
    record = info.get("history")
    if not record or record["trend"] != Trend.SLOWED:
        return ""
    return f"{finding_of(record)}; `summarybench history` (make history) shows the series"


def _ratio(change: ChangeRecord | None) -> str:
    if change is None:
        return MISSING
    return estimate(change["ratio"], change["low"], change["high"], 3)


def _quality_note(experiment: str, facts: QualityChangeRecord, confirmed: ConfirmedLosses = NOTHING_LOST) -> Note:
    said = describe(facts, is_confirmed=confirmed.has(facts))
    return Note(before=f"{experiment}: quality ", verdict=facts["verdict"], after=f" {said}")


def _faithfulness_note(experiment: str, facts: FaithfulnessChangeRecord, confirmed: ConfirmedLosses) -> Note:
    said = describe_faithfulness(facts, is_confirmed=confirmed.of_faithfulness(facts) > 0)
    return Note(before=f"{experiment}: faithfulness ", verdict=facts["verdict"], after=f" {said}")


def _published_note(experiment: ExperimentView, device: DeviceRecord) -> str:
    """The first published table's figure for this device family, model and loader; empty if it has none."""
    info = experiment.info
    if strategy_of(experiment.entry):
        return ""
    for row in published_rows():
        if (row.family, row.model, row.loader) == (device.family, info["model"], info["loader"]):
            published = DOCUMENT_TOKENS.format.text(row.document_tokens_per_second)
            here = DOCUMENT_TOKENS.text(experiment)
            return f"published for {device.family}: {published} document tok/s ({row.documents} documents); here {here}"
    return ""


# What some kinds record ----------------------------------------------------------------------------------------------


def _largest_batch_notes(info: ExtraInfo, _: ConfirmedLosses) -> Iterator[str]:
    if "largest_safe_batch" in info:
        tried = ", ".join(f"{size} {'ran' if ran else 'ran out of memory'}" for size, ran in info["batch_tries"])
        yield f"batch sizes tried: {tried}"


def _teacher_notes(info: ExtraInfo, confirmed: ConfirmedLosses) -> Iterator[Note | str]:
    """A student's quality and faithfulness, or that its teacher was not measured."""
    change = info.get("teacher_change")
    if change is not None and (quality := change["quality_change"]):
        yield _quality_note(info["experiment"], quality, confirmed)
    if change is not None and (faithfulness := change.get("faithfulness_change")):
        yield _faithfulness_note(info["experiment"], faithfulness, confirmed)
    if "teacher" in info and change is None:
        yield f"its teacher {info['teacher']} was not measured in this session; select both, for example with -m student"


def _overhead_notes(info: ExtraInfo, _: ConfirmedLosses) -> Iterator[str]:
    if overhead := info.get("overhead"):
        yield describe_overhead(overhead)


def _fidelity_notes(info: ExtraInfo, confirmed: ConfirmedLosses) -> Iterator[Note | str]:
    if fidelity := info.get("fidelity"):
        yield describe_fidelity(fidelity)
        if quality := fidelity["quality_change"]:
            yield _quality_note(info["experiment"], quality, confirmed)


def _burst_notes(info: ExtraInfo, _: ConfirmedLosses) -> Iterator[str]:
    served = info.get("served")
    typical = served["seconds_per_output_token"]["p50"] if served else None
    if typical is not None and typical < SHORTEST_SECONDS_PER_TOKEN:
        yield (
            "the parts of an answer arrived all at once, so TTFT, TPOT and goodput are not the server's; switch off response "
            "buffering in the server or in the gateway before it"
        )


NOTES_ON_RECORDS: tuple[Callable[[ExtraInfo, ConfirmedLosses], Iterator[Note | str]], ...] = (
    _largest_batch_notes,
    _teacher_notes,
    _overhead_notes,
    _fidelity_notes,
    _burst_notes,
)
"""Each describes one record of a run file, for the experiments that have it."""


# The whole run -------------------------------------------------------------------------------------------------------


def _language_notes(infos: Sequence[ExtraInfo]) -> Iterator[str]:
    """How summaries in each language other than English are scored."""
    scored = [info for info in infos if info["rouge1"] is not None]
    codes = {info["workload_settings"].get("language", ENGLISH.code) for info in scored}
    for language in (LANGUAGES[code] for code in sorted(codes & LANGUAGES.keys())):
        if not language.is_english:
            yield f"language {language.code}: summaries are scored as {language.name}, {language.scored_by}"


def _unpacked_notes(infos: Sequence[ExtraInfo]) -> Iterator[str]:
    """The experiments whose own quantization transformers has unpacked, one line for each method."""
    names: dict[str, list[str]] = {}
    for info in infos:
        settings = info["workload_settings"]["loader_settings"]
        if settings.get("unpacked"):
            names.setdefault(str(settings["quantization"]), []).append(info["experiment"])
    for method, experiments in names.items():
        yield (
            f"{', '.join(experiments)}: transformers has unpacked the {method} weights to 16 bits, since this device or an installed "
            "package has no kernels for them: speed and memory are those of 16-bit weights"
        )


def _document_notes(infos: Sequence[ExtraInfo]) -> Iterator[str]:
    """What was dropped of each source of documents, by reason."""
    found = ((info["workload_settings"].get("document_source", ""), info.get("dropped_documents")) for info in infos)
    for source, dropped in dict.fromkeys((source, tuple(sorted(counts.items()))) for source, counts in found if counts):
        counts = ", ".join(f"{count} {REASONS.get(reason, reason)}" for reason, count in dropped)
        yield f"{source} documents: dropped {counts}"


def _baseline_notes(infos: Sequence[ExtraInfo], device: DeviceRecord) -> Iterator[str]:
    without = [info for info in infos if info["verdict"] == Verdict.NO_BASELINE]
    if len(without) == 1:
        yield without[0]["verdict_detail"]
    elif without:
        advice = SAVE_ONE if any(map(has_enough_rounds, without)) else ""
        yield f"no baseline for {len(without)} experiments on '{device.slug}'{advice}"


def _profile_notes(run: Run) -> Iterator[str]:
    """What the profile is and is not, and the figures that were published for it."""
    if profile := run.get("profile"):
        yield describe_profile(profile)
        rows = [str(each) for each in published_by_mlperf() if each.profile == profile["name"]]
        if rows:
            yield f"published for it, per GPU: {'; '.join(rows)}"


def _session_notes(run: Run) -> Iterator[str]:
    """The choices that the suite made for a CPU, where the time went, what was resumed, and what a crash destroyed."""
    if choices := run.get("choices"):
        yield choices
    session = run.get("session")
    if session and session["generating_seconds"]:
        yield session_line(session)
    how = "resumed from" if "resumed_from" in run else "second pass of"
    if origin := run.get("resumed_from") or run.get("confirms"):
        ran = [outcome for outcome in run["outcomes"] if outcome["outcome"] != Outcome.SKIPPED]
        carried = [outcome["experiment"] for outcome in ran if "carried_from" in outcome]
        infos = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
        measured = [info["experiment"] for info in infos if "carried_from" not in info]
        what = f"carried {', '.join(carried) or 'nothing'}; measured now: {', '.join(measured) or 'nothing'}"
        if len(carried) == len(ran):
            what += " (everything was finished already)"
        yield f"{how} {origin['run']} (commit {str(origin['commit'])[:12]}): {what}"
    if dropped := run.get("dropped_lines"):
        yield f"journal: dropped {counted(dropped, 'line')} that a crash had cut off"


def _false_alarm_notes(run: Run) -> Iterator[str]:
    """How often a session with so many comparisons raises a false alarm."""
    comparisons = sum(len(judged_changes(benchmark["extra_info"])) for benchmark in run["benchmarks"])
    level = percent(FALSE_ALARM_LEVEL)
    if "confirms" in run:
        yield f"false alarms: at most {level} of sessions (Holm, {counted(comparisons, 'comparison')})"
    elif comparisons > 1:
        together = percent(1 - (1 - FALSE_ALARM_LEVEL) ** comparisons, 1)
        yield (
            f"false alarms: up to {level} for each comparison, so up to {together} of sessions with {comparisons} comparisons; "
            f"`summarybench bench` (make bench) measures regressions again and keeps them at {level} of sessions (Holm)"
        )


def _limit_notes(device: DeviceRecord) -> Iterator[str]:
    """Why the run can never become a baseline."""
    if device.is_limited:
        yield f"memory was limited to {gib(device.memory_bytes, 1)} GiB, so this run cannot become a baseline"
    if device.stands_in:
        yield f"{device.name} emulates {device.family}: its memory capacity is comparable, its speed is not"
