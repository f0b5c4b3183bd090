"""The result of a run in one sentence: by its verdicts, and by the exit code of its session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from summarybench.core.numbers import counted, percent, percent_interval
from summarybench.core.outcomes import ExitCode, Outcome, Verdict
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.speed import GENERATED
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_folder import read_exit_code
from summarybench.stats.slowdowns import slowdown_of

WORST_FIRST = (
    Verdict.REGRESSED,
    Verdict.INVALID,
    Verdict.INCOMPARABLE,
    Verdict.INCONCLUSIVE,
    Verdict.UNCALIBRATED,
    Verdict.IMPROVED,
    Verdict.UNCHANGED,
)
VERDICTS_IN_WORDS = {
    Verdict.REGRESSED: "regressed",
    Verdict.INVALID: "invalid, because the device was throttled or shared",
    Verdict.INCOMPARABLE: "without a comparable baseline",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.UNCALIBRATED: "not decided, because noise is assumed",
    Verdict.IMPROVED: "improved",
    Verdict.UNCHANGED: "unchanged",
    Verdict.NO_BASELINE: "without a baseline",
}
EXIT_CODES_IN_WORDS = {
    ExitCode.CLEAN: "Clean: nothing regressed",
    ExitCode.FAILED: "Failed",
    2: "Interrupted",
    3: "Internal error of pytest",
    ExitCode.WRONG_INPUT: "Wrong input",
    5: "No tests",
    ExitCode.QUALITY: "Quality failed: below its floor, or worse than the baseline",
    ExitCode.NO_VERDICT: "No verdict: a model could not be downloaded, or the machine was throttled, shared or slower",
    ExitCode.NOTHING_MEASURED: "Nothing measured: every test was for another device",
}
"""The result of a session by its exit code; 2 to 5 are pytest's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMeasured:
    """A test without figures: out of memory, unavailable, or failed before the first document was finished."""

    experiment: str
    outcome: str
    detail: str
    tag: str

    @property
    def is_out_of_memory(self) -> bool:
        return self.outcome == Outcome.OUT_OF_MEMORY or "out of memory" in self.detail.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The worst verdict, or how the run ended if that is worse, and a sentence about the whole run."""

    word: str
    sentence: str


def headline_of(experiments: Sequence[ExperimentView], not_measured: Sequence[NotMeasured]) -> Headline:
    """The result of the experiments by their verdicts."""
    failed = [each for each in not_measured if each.outcome == Outcome.FAILED]
    if not experiments:
        word = "FAILED" if failed else "NOTHING MEASURED"
        return Headline(word=word, sentence=f"Nothing was measured{_others(not_measured)}.")
    verdicts = Counter(each.verdict for each in experiments)
    failures = [each for each in experiments if each.failure]
    worst = next((verdict.value for verdict in WORST_FIRST if verdict in verdicts), Verdict.NO_BASELINE.value)
    if worst == Verdict.REGRESSED:
        sentence = _regression(experiments, failures)
    elif failures:
        sentence = _failure(experiments, failures)
    elif set(verdicts) == {Verdict.NO_BASELINE.value}:
        sentence = _first_run(experiments)
    else:
        sentence = _no_regression(experiments, verdicts)
    has_failed = (failed or failures) and worst != Verdict.REGRESSED
    return Headline(word="FAILED" if has_failed else worst, sentence=f"{sentence}{_others(not_measured)}.")


def _regression(experiments: Sequence[ExperimentView], failures: Sequence[ExperimentView]) -> str:
    regressed = [each for each in experiments if each.verdict == Verdict.REGRESSED]
    slowest = min(regressed, key=lambda each: (each.change or {"ratio": 1})["ratio"])
    others = f"; {len(failures)} failed for another reason" if failures else ""
    count = counted(experiments, "experiment")
    return f"{len(regressed)} of {count} regressed: {slowest.label}{_how_much(slowest)}{others}"


def _failure(experiments: Sequence[ExperimentView], failures: Sequence[ExperimentView]) -> str:
    more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    reason = failures[0].failure.partition(":")[0]
    count = counted(experiments, "experiment")
    if reason == Verdict.REGRESSED:
        return f"{len(failures)} of {count} failed: {failures[0].label}: its first token or decoding regressed{more}"
    return f"{len(failures)} of {count} failed: {failures[0].label}: {reason}{more}; no regression of speed"


def _first_run(experiments: Sequence[ExperimentView]) -> str:
    fastest = max(experiments, key=lambda each: float(each.info["generated_tokens_per_second"]))
    speed = f"{GENERATED.text(fastest)} generated tokens per second"
    result = f"{fastest.label} has {speed}" if len(experiments) == 1 else f"{fastest.label} is fastest with {speed}"
    return f"{counted(experiments, 'experiment')} measured, with nothing to compare with yet: {result}"


def _no_regression(experiments: Sequence[ExperimentView], verdicts: Mapping[str, int]) -> str:
    order = (*WORST_FIRST, Verdict.NO_BASELINE)
    found = [(verdicts[each.value], VERDICTS_IN_WORDS[each]) for each in order if each.value in verdicts]
    count = counted(experiments, "experiment")
    if len(found) == 1:
        return f"No regression found: {count} {found[0][1]}"
    return f"No regression found in {count}: {', '.join(f'{number} {words}' for number, words in found)}"


def _how_much(experiment: ExperimentView) -> str:
    change, attribution = experiment.change, experiment.attribution
    if not change:
        return ""
    slower = percent(slowdown_of(change["ratio"]), 1)
    said = f" is {slower} slower {percent_interval(slowdown_of(change['high']), slowdown_of(change['low']))}"
    return said + (f", attributed to {attribution['cause']}" if attribution else "")


def _others(not_measured: Sequence[NotMeasured]) -> str:
    outcomes = Counter(
        "out of memory" if each.is_out_of_memory else each.outcome.replace("_", " ") for each in not_measured
    )
    return "".join(f"; {count} {what}" for what, count in outcomes.items())


def exit_headline(found: StoredRun) -> str:
    """The exit code of the session in words. A regression is named."""
    code = read_exit_code(found.path.parent)
    if code is None:
        return "Unknown: there is no exit_code beside the run file (killed, or a copy)"
    verdicts = [benchmark["extra_info"]["verdict"] for benchmark in found.run["benchmarks"]]
    regressed = f"REGRESSED: {verdicts.count(Verdict.REGRESSED)} of {len(verdicts)} experiments"
    if code == ExitCode.FAILED and Verdict.REGRESSED in verdicts:
        words = regressed
    elif code == ExitCode.NO_VERDICT and any(map(_is_of_machine, found.run["outcomes"])):
        words = f"{regressed}; the machine was slower too"
    else:
        words = EXIT_CODES_IN_WORDS.get(code, "Ended by something other than the suite")
        if code == ExitCode.CLEAN and not any(
            benchmark["extra_info"]["change"] for benchmark in found.run["benchmarks"]
        ):
            words = "Clean: nothing to compare with yet"
    return f"{words} (exit code {code})"


def _is_of_machine(outcome: Mapping[str, Any]) -> bool:
    return bool(outcome.get("machine_only"))
