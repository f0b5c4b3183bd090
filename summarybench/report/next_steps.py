"""What to do after a session: one line for each verdict that needs an action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from summarybench.analysis.history import Trend
from summarybench.core.invocation import Invocation
from summarybench.core.numbers import counted, deviation, percent, significant
from summarybench.core.outcomes import Cause, ExitCode, Outcome, Verdict
from summarybench.machine.device import Device
from summarybench.runs.baselines import why_unfit
from summarybench.runs.comparable import has_enough_rounds
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.run_file import Run
from summarybench.runs.run_folder import shown
from summarybench.runs.schema import Benchmark
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.sequential import FEWEST_NIGHTS, SOUGHT_RATIO
from summarybench.stats.slowdowns import slowdown_of

PAGES = ("report.html", "report.md")
"""The pages that a run's folder may have, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished session.

    `arguments` are the ones that the user gave to pytest or to `summarybench bench`. `is_new_gpu` is true if no run of this
    device was stored before. `is_saved` is true if the session stored this run as a baseline.
    """

    run: Run
    folder: Path
    device: Device
    arguments: Sequence[str]
    invocation: Invocation
    exit_code: int
    is_new_gpu: bool
    is_saved: bool

    @property
    def may_become_baseline(self) -> bool:
        is_real = not (self.device.stands_in or self.device.is_limited)
        return is_real and self.exit_code == ExitCode.CLEAN and why_unfit(self.run) is None

    def again_with(self, option: str) -> str:
        """The command of this session with an option that takes its folder."""
        return self.invocation.benchmarks(*self.arguments, option, shown(self.folder))


def next_steps(finished: Finished) -> Iterator[str]:
    """One line for each step, with its purpose and the command."""
    verdicts = _experiments_by_verdict(finished.run["benchmarks"])
    if regressed := verdicts.get(Verdict.REGRESSED):
        yield f"next: {_are(regressed, Verdict.REGRESSED)}: {_after_regression(finished)}"
    # After wrong input alone, there is nothing to continue, and the same options would fail again.
    if finished.exit_code != ExitCode.WRONG_INPUT and (unfinished := _unfinished(finished.run)):
        yield f"next: after removing the cause, measure only {_named(unfinished)}: {finished.again_with('--resume')}"
    if undecided := verdicts.get(Verdict.INCONCLUSIVE):
        line = "the line" if len(undecided) == 1 else "each line"
        yield (
            f"next: {_are(undecided, Verdict.INCONCLUSIVE)}: {line} above says what would decide, if anything. "
            f"`{finished.invocation.command('noise')}` measures how much runs differ on this machine, and --plan predicts what a run "
            "can detect"
        )
    if uncalibrated := verdicts.get(Verdict.UNCALIBRATED):
        yield (
            f"next: {_are(uncalibrated, Verdict.UNCALIBRATED)}: `{finished.invocation.command('noise')}` measures the noise that "
            f"is assumed above; each night stored with `{finished.invocation.command('adopt', shown(finished.folder), 'nightly')}` "
            "measures more of it"
        )
    yield from _saving(finished)
    page = next((path for name in PAGES if (path := finished.folder / name).is_file()), None)
    if page is not None:
        yield f"report: {shown(page)}"


def _after_regression(finished: Finished) -> str:
    if "confirms" in finished.run:
        compare = finished.invocation.command("compare", shown(finished.folder))
        return f"both passes show it; the report names the cause, and `{compare}` lists what differs from the baseline"
    bench = finished.invocation.command("bench")
    return f"`{bench}` measures a regression again automatically; to do so by hand: {finished.again_with('--confirm')}"


def _saving(finished: Finished) -> Iterator[str]:
    """How to make this run a baseline, and how to contribute the first run of a GPU."""
    device = finished.device
    comparable = [benchmark for benchmark in finished.run["benchmarks"] if has_enough_rounds(benchmark["extra_info"])]
    suspicious = [name for each in comparable if (name := _slowed_over_the_nights(each))]
    shortcomings = list(_shortcomings(finished.run["benchmarks"]))
    verdicts = _experiments_by_verdict(comparable)
    adopt = finished.invocation.command("adopt", shown(finished.folder), "main")
    wanting = [
        name
        for verdict in (Verdict.NO_BASELINE, Verdict.INCOMPARABLE, Verdict.IMPROVED)
        for name in verdicts.get(verdict, ())
    ]
    if device.is_gpu and finished.is_new_gpu and not (device.stands_in or device.is_limited):
        store = "" if finished.is_saved else f"{adopt}, then "
        if not finished.may_become_baseline or shortcomings:
            store = (
                f"save a clean run of at least {MINIMUM_COMMON_DOCUMENTS} documents with --benchmark-save=main, then "
            )
        yield (
            f"next: no run of '{device.slug}' is stored yet; to contribute the first: {store}"
            f"{finished.invocation.command('docs')}, then open a pull request with baselines/{device.slug}/ and the rewritten pages"
        )
    elif suspicious:
        yield (
            f"next: {_named(suspicious)} slowed over the stored nights; `{finished.invocation.command('history')}` says since when, "
            "and how to accept it"
        )
    elif wanting and finished.may_become_baseline and not finished.is_saved:
        if shortcomings:
            yield f"next: measure again for a baseline of {_named(wanting)}; this run would be a poor one: {'; '.join(shortcomings)}"
        else:
            of_history = _what_the_nights_find(
                [each for each in comparable if each["extra_info"]["experiment"] in wanting]
            )
            yield f"next: to make this run the baseline of {_named(wanting)}: {adopt}{of_history}"
    elif finished.run["benchmarks"] and not comparable and not finished.is_saved:  # a saved run has a note of it
        yield (
            f"next: a baseline needs at least {MINIMUM_COMMON_DOCUMENTS} documents (or batches, or rounds) of an experiment, and this "
            "run has fewer; measure more of them before you store one"
        )


def _what_the_nights_find(benchmarks: Sequence[Benchmark]) -> str:
    """What the history could detect over the stored nights of these experiments; empty if none has stored nights."""
    from summarybench.stats.sequential_simulation import nights_to_detect

    records = [record for each in benchmarks if (record := each["extra_info"].get("history")) and record["nights"] > 1]
    if not records:
        return ""
    deviations = [each["standard_deviation"] for each in records if each["standard_deviation"] is not None]
    if len(deviations) < len(records):
        nights = min(each["nights"] for each in records)
        return f"; its history has {nights} nights with this one, and tests from the {FEWEST_NIGHTS + 1}th on"
    needed = nights_to_detect(float(significant(max(deviations), 2)))
    slower = percent(slowdown_of(SOUGHT_RATIO))
    if needed is None:
        return f"; in its history, {slower} slower is out of reach: a night varies by {deviation(max(deviations))}"
    return f"; its history would show a slowdown of {slower} within {counted(needed, 'night')}"


def _shortcomings(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    """Why a clean run would be a poor baseline, which is stored as a whole: one phrase for each reason."""
    infos = [benchmark["extra_info"] for benchmark in benchmarks]
    if few := [info["experiment"] for info in infos if len(info["document_ids"]) < MINIMUM_COMMON_DOCUMENTS]:
        yield f"{_named(few)} with fewer than {MINIMUM_COMMON_DOCUMENTS} documents"
    if lucky := [info["experiment"] for info in infos if _is_faster_by_the_machine(info)]:
        yield f"{_named(lucky)} faster because the machine was"
    if undecided := [info["experiment"] for info in infos if info["verdict"] == Verdict.INCONCLUSIVE]:
        yield f"{_named(undecided)} {Verdict.INCONCLUSIVE}"


def _is_faster_by_the_machine(info: ExtraInfo) -> bool:
    attribution = info["attribution"]
    return info["verdict"] == Verdict.IMPROVED and attribution is not None and Cause(attribution["cause"]).is_machine


def _slowed_over_the_nights(benchmark: Benchmark) -> str:
    """The experiment's name if its series of nights has slowed; empty if not. Its run is not proposed as a baseline."""
    info = benchmark["extra_info"]
    record = info.get("history")
    return info["experiment"] if record and record["trend"] == Trend.SLOWED else ""


def _experiments_by_verdict(benchmarks: Sequence[Benchmark]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        found.setdefault(benchmark["extra_info"]["verdict"], []).append(benchmark["extra_info"]["experiment"])
    return found


def _unfinished(run: Run) -> list[str]:
    """The experiments that --resume would measure. summarybench/runs/resume.py decides this."""
    again = (Outcome.INVALID, Outcome.UNAVAILABLE)
    outcomes = run["outcomes"]
    return [each["experiment"] for each in outcomes if each["outcome"] in again or not each.get("is_final", True)]


def _are(experiments: Sequence[str], verdict: Verdict) -> str:
    return f"{_named(experiments)} {'is' if len(experiments) == 1 else 'are'} {verdict}"


def _named(experiments: Sequence[str]) -> str:
    return ", ".join(experiments) if len(experiments) <= 2 else f"{len(experiments)} experiments"
