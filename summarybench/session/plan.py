"""`--plan`: what the chosen documents, baseline runs and passes can detect, before anything is measured.

The decision is `statistics.is_regressed`, its threshold on the ratio included. With s_doc and s_run the standard
deviations of one document in one run and of one run,

    se² = s_doc²/n · (1/R_baseline + 1/R_now) + s_run² (1/R_baseline + 1/R_now)

and the standard error is itself an estimate with Welch and Satterthwaite's degrees of freedom ν: se² · χ²_ν / ν. For one
decision the power is then the noncentral t's (Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2,
1995, ch. 31). A first pass that is confirmed is two decisions, and their changes are correlated: the first pass is part
of what is pooled, so that its change is the pooled one plus an independent difference between the passes. Two
approximations: both decisions share one χ² (in truth only its part between runs is common to them), and the spread in
spread.json is taken for the true one.

Each of two passes must also be at or below the threshold on the ratio by itself. The passes' own changes are the pooled one
plus and minus half their difference, which is independent of it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean
from typing import Any

from summarybench.analysis.noise import are_tuned_alike, read_spread
from summarybench.catalogue.models import Experiment
from summarybench.documents.sources import DocumentSource
from summarybench.machine.device import Device
from summarybench.machine.environment import host_of
from summarybench.report.console import Name, console_on, table, tables_that_fit, without_trailing_blanks
from summarybench.runs.baselines import has_same_workload, read_baselines
from summarybench.runs.run_file import Entry
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler
from summarybench.session.settings import Settings
from summarybench.stats.changes import (
    ALARM_CONFIDENCE,
    MINIMUM_COMMON_DOCUMENTS,
    MOST_DOCUMENTS,
    MOST_RUNS,
    REGRESSION_RATIO,
    Change,
    Spread,
    fewest,
    percent,
    replicates_of,
    student_quantile,
)

DETECTION = 0.95
FALSE_ALARMS = 1 - ALARM_CONFIDENCE
TARGET_RATIO = 0.97
LOG_THRESHOLD = math.log(REGRESSION_RATIO)
CONFIRMED, POOLED = (1, 2), (2,)
"""The decisions of `--passes 1` and `--passes 2`, each by how many runs it pools: all of them must be REGRESSED."""
PASSES_OF_A_SESSION = 2
"""As many as `summarybench bench` measures; more runs on a side are pooled without a look at each."""
NODES = 64
"""Of Gauss and Legendre's quadrature: probabilities agree with scipy's noncentral t within 0.0001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How one experiment is measured and decided. `document_deviation` is that of one document in one run."""

    documents: int
    document_deviation: float
    spread: Spread
    baseline_runs: int
    decisions: tuple[int, ...]

    def change(self, runs_now: int) -> Change:
        """A change of nothing, with the uncertainty that this design gives it."""
        return Change(
            log_ratio=0.0,
            document_deviation=self.document_deviation * math.sqrt(1 / self.baseline_runs + 1 / runs_now),
            documents=self.documents,
            spread=self.spread,
            baseline_runs=self.baseline_runs,
            runs_now=runs_now,
        )


def detection_probability(design: Design, log_ratio: float, level: float = FALSE_ALARMS) -> float:
    """How likely a change of this size ends as REGRESSED; `level` is what each decision's p-value is held to."""
    import numpy as np
    from scipy.special import ndtr, ndtri

    pooled = design.change(design.decisions[-1])
    error = pooled.standard_error
    if error == 0:
        return float(log_ratio <= LOG_THRESHOLD)
    points, weights = np.polynomial.legendre.leggauss(NODES)
    points, weights = (points + 1) / 2, weights / 2  # on the unit interval
    scales = _error_scales(pooled.degrees_of_freedom, points)
    quantile = student_quantile(1 - level, pooled.degrees_of_freedom)
    likely = ndtr((_limit(quantile, error * scales) - log_ratio) / error)  # [scale]
    if design.decisions[-1] != PASSES_OF_A_SESSION:
        return float(weights @ likely)
    alone = design.change(1)
    between = math.sqrt(alone.standard_error**2 - error**2)  # deviation of half the difference between the passes
    changes = log_ratio + error * ndtri(np.outer(points, likely))  # [change, scale]: pooled changes that are REGRESSED
    decides_first = 1 in design.decisions
    limit = _limit(quantile, alone.standard_error * scales) if decides_first else LOG_THRESHOLD
    first_is_slow = ndtr((limit - changes) / between)
    second_is_not = ndtr((changes - LOG_THRESHOLD) / between)
    confirmed = np.maximum(first_is_slow - second_is_not, 0)
    return float((weights @ confirmed) @ (weights * likely))


def _error_scales(degrees_of_freedom: float, probabilities: Any) -> Any:
    """Quantiles of estimated ÷ true standard error, √(χ²_ν / ν)."""
    import numpy as np
    from scipy.special import gammaincinv

    if math.isinf(degrees_of_freedom):
        return np.ones_like(probabilities)
    return np.sqrt(2 * gammaincinv(degrees_of_freedom / 2, probabilities) / degrees_of_freedom)


def _limit(quantile: float, errors: Any) -> Any:
    """The log ratios at and below which a decision with these standard errors is REGRESSED."""
    import numpy as np

    return np.minimum(LOG_THRESHOLD, -quantile * errors)


def smallest_slowdown(design: Design, level: float = FALSE_ALARMS) -> float:
    """The smallest slowdown (0.03 for 3%) that ends as REGRESSED with 95% probability."""
    from scipy.optimize import brentq

    def excess(log_ratio: float) -> float:
        return detection_probability(design, log_ratio, level) - DETECTION

    if excess(LOG_THRESHOLD) >= 0:
        return 1 - REGRESSION_RATIO
    far = 2 * LOG_THRESHOLD
    while excess(far) < 0:
        far *= 2
    return 1 - math.exp(brentq(excess, far, LOG_THRESHOLD, xtol=1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What else would detect a slowdown; each is None where nothing of its kind does.

    `documents` with the runs and passes there are; `baseline_runs` with two passes, `runs` on each side, both with the
    documents there are. `is_met` where the design detects it as it is.
    """

    is_met: bool = False
    documents: int | None = None
    baseline_runs: int | None = None
    runs: int | None = None


def need(design: Design, ratio: float = TARGET_RATIO) -> Need:
    """The fewest documents, or runs, that detect a change to this ratio with 95% probability."""

    def detects(other: Design) -> bool:
        return detection_probability(other, math.log(ratio)) >= DETECTION

    def with_documents(number: int) -> bool:
        return detects(replace(design, documents=number))

    if detects(design):
        return Need(is_met=True)
    return Need(
        documents=fewest(design.documents, _enough(design.documents, with_documents), with_documents),
        baseline_runs=fewest(
            design.baseline_runs - 1,
            MOST_RUNS,
            lambda number: detects(replace(design, baseline_runs=number, decisions=POOLED)),
        ),
        runs=fewest(1, MOST_RUNS, lambda number: detects(replace(design, baseline_runs=number, decisions=(number,)))),
    )


def _enough(present: int, decides: Callable[[int], bool]) -> int:
    """A number of documents that decides, if there is one.

    The most need not: documents take degrees of freedom along with their noise, and where the spread has few of its own
    Student's quantile grows faster than the standard error falls.
    """
    number = 2 * present
    while number < MOST_DOCUMENTS and not decides(number):
        number *= 2
    return min(number, MOST_DOCUMENTS)


class NoiseSource(StrEnum):
    """Where the standard deviation of one document in one run is taken from."""

    MEASURED = "measured"
    STORED = "taken from its stored runs"
    OTHERS = "taken from this device's other experiments"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One experiment's plan; `design` is None where there are too few documents for a comparison.

    Documents are rounds: where batches are measured, `documents` counts those.
    """

    experiment: Experiment
    documents: int
    stored_runs: int
    noise: NoiseSource
    design: Design | None


def plan(tests: Mapping[str, Experiment], settings: Settings, device: Device, progress: Progress) -> list[Planned]:
    """What the selected experiments (by nodeid) can detect. Raises InputError for documents or baselines that cannot be used."""
    baselines = read_baselines(settings.baselines_dir / device.slug)
    of_device = read_spread(baselines.folder, is_gpu=device.is_gpu)
    sampler = Sampler(settings, device, progress)
    models = {experiment.model for experiment in tests.values()}
    counts = {model: _count_documents(model, settings, sampler, device) for model in models}
    planned = []
    host = host_of(device)
    for nodeid, experiment in tests.items():
        name = nodeid.rpartition("::")[2]
        entries = baselines.entries(name)
        is_of_host = baselines.hosts_of(name, settings.baseline_runs) <= {host}
        spread = of_device.on(host) if is_of_host else of_device
        tuned_alike = is_of_host and are_kernels_kept(entries[-settings.baseline_runs :])
        alike = spread.deviations_like(experiment.name)
        deviation, noise = document_noise(experiment.name, entries, alike)
        documents = math.ceil(counts[experiment.model] / experiment.batch_size)
        design = Design(
            documents=documents,
            document_deviation=deviation,
            spread=spread.of(experiment.name, tuned_alike=tuned_alike),
            baseline_runs=settings.baseline_runs,
            decisions=CONFIRMED if settings.passes == 1 else POOLED,
        )
        planned.append(
            Planned(
                experiment=experiment,
                documents=documents,
                stored_runs=len(entries),
                noise=noise,
                design=design if documents >= MINIMUM_COMMON_DOCUMENTS else None,
            )
        )
    return planned


def _count_documents(model: str, settings: Settings, sampler: Sampler, device: Device) -> int:
    if (
        settings.document_source_of(model) is DocumentSource.WIKILINGUA
    ):  # far more than are ever asked for, and on a hub
        return settings.documents or settings.default_documents_on(device)
    return sum(1 for _ in sampler.documents([model]))


def are_kernels_kept(stored: Sequence[Entry]) -> bool:
    """Whether a run on the host of these, the newest that count, will have their kernels: a first one's are those of its cache."""
    return not stored or are_tuned_alike(entry.tuned_kernels for entry in stored)


def document_noise(
    experiment: str, entries: Sequence[Entry], measured: Mapping[str, float]
) -> tuple[float, NoiseSource]:
    """The standard deviation of one document in one run: measured, or else the best that there is; 0 where it is unknown.

    `entries` are the experiment's stored ones, oldest first; `measured` has deviations by experiment.
    """
    if experiment in measured:
        return measured[experiment], NoiseSource.MEASURED
    alike = [entry for entry in entries if has_same_workload(entry, entries[-1])]
    common = set.intersection(*(set(entry.timings) for entry in alike)) if alike else set()
    if len(alike) > 1 and len(common) >= MINIMUM_COMMON_DOCUMENTS:
        found = replicates_of([[entry.timings[each] for each in sorted(common)] for entry in alike])
        return math.sqrt(found.document_variance), NoiseSource.STORED
    if measured:
        return math.sqrt(fmean(deviation**2 for deviation in measured.values())), NoiseSource.OTHERS
    return 0.0, NoiseSource.UNKNOWN


# The report ------------------------------------------------------------------------------------------------------

COLUMNS = ("docs", "baseline\nruns\n(stored)", "between\nruns", "one\ndocument", "smallest\nslowdown", "3% needs")


def plan_report(planned: Sequence[Planned], *, width: int, color: bool) -> str:
    """The table of what can be detected, and a line for each thing to know about it."""
    if not planned:
        return (
            "nothing to plan: no selected experiment compares documents with a baseline on this device (--fastest and "
            "continuous batching compare rounds, which are not planned)\n"
        )
    screen = io.StringIO()
    console = console_on(screen, width=width, color=color)
    title = f"Plan: slowdowns found with {DETECTION:.0%} probability, at {FALSE_ALARMS:.0%} false alarms"
    found = [(each, need(each.design) if each.design else None) for each in planned]

    def tables(name: Name) -> list[Any]:
        rows = [[name(_names(each.experiment)), *_cells(each, needed)] for each, needed in found]
        return [table(title, COLUMNS, rows)]

    console.print(*tables_that_fit(console, tables))
    console.print()
    for line in (*_rule_notes(planned), *_experiment_notes(found), *_session_notes(planned)):
        console.print(line, soft_wrap=True)
    return without_trailing_blanks(screen.getvalue())


def _names(experiment: Experiment) -> dict[str, str]:
    return {"experiment": experiment.name, "model": experiment.model, "loader": experiment.loader}


def _cells(planned: Planned, needed: Need | None) -> list[str]:
    design = planned.design
    if design is None or needed is None:
        return [str(planned.documents), "–", "–", "–", "–", "–"]
    is_bound = planned.noise is NoiseSource.UNKNOWN
    bound = "≥ " if is_bound else ""
    return [
        str(design.documents),
        f"{design.baseline_runs} ({planned.stored_runs})",
        f"{percent(design.spread.standard_deviation)} {'assumed' if design.spread.is_assumed else 'measured'}",
        "–" if is_bound else percent(design.document_deviation),
        f"{bound}{smallest_slowdown(design):.1%}",
        "unknown" if is_bound and needed.is_met else f"{bound}{_need_cell(needed, planned.experiment)}",
    ]


def _need_cell(needed: Need, experiment: Experiment) -> str:
    if needed.is_met:
        return "met"
    if needed.documents is not None:
        return f"{needed.documents * experiment.batch_size:,} documents"
    if needed.baseline_runs is not None:
        return f"{needed.baseline_runs} runs, 2 passes"
    return f"over {MOST_RUNS:,} runs" if needed.runs is None else f"{needed.runs} runs a side"


def _rule_notes(planned: Sequence[Planned]) -> Iterator[str]:
    design = next((each.design for each in planned if each.design), None)
    if design is None:
        return
    each_pass = f"each pass alone has to be at or below {REGRESSION_RATIO:.3f} of the baseline"
    if design.decisions == CONFIRMED:
        yield (
            "--passes 1: a REGRESSED experiment is measured once more, and has to be REGRESSED with both passes pooled too; "
            f"{each_pass}"
        )
    else:
        yield f"--passes 2: every experiment is measured in two processes, and the two pooled decide; {each_pass}"


def _experiment_notes(found: Sequence[tuple[Planned, Need | None]]) -> Iterator[str]:
    """Experiments that share a note share a line."""
    names: dict[str, list[str]] = {}
    for planned, needed in found:
        for note in _notes_on(planned, needed):
            names.setdefault(note, []).append(planned.experiment.name)
    for note, experiments in names.items():
        yield f"{'every experiment' if 2 < len(found) == len(experiments) else ', '.join(experiments)}: {note}"


def _notes_on(planned: Planned, needed: Need | None) -> Iterator[str]:
    design = planned.design
    if design is None or needed is None:
        rows = planned.experiment.batch_size
        rounds, more = ("batches", f"{MINIMUM_COMMON_DOCUMENTS * rows} or") if rows > 1 else ("documents", "for")
        yield f"fewer than {MINIMUM_COMMON_DOCUMENTS} {rounds} are never compared; ask {more} more --documents"
        return
    freedom = design.spread.degrees_of_freedom
    if freedom is None:
        yield "the spread between runs is assumed; `summarybench noise` (make spread) measures it"
    else:
        yield f"the spread between runs is {design.spread.origin}, with {freedom:.1f} degrees of freedom"
    if planned.stored_runs < design.baseline_runs:
        yield f"{planned.stored_runs} of {design.baseline_runs} baseline runs are stored so far; --benchmark-save=NAME stores one"
    if planned.noise is NoiseSource.UNKNOWN:
        yield (
            "how much one document varies is unknown: the slowdown is a lower bound; "
            "`summarybench noise` (make spread) measures what is missing"
        )
    elif planned.noise is not NoiseSource.MEASURED:
        yield f"how much one document varies is {planned.noise}; `summarybench noise` (make spread) measures it"
    if not needed.is_met and needed.documents is None:
        yield "no number of documents shows 3%: runs differ by too much"
    if smallest_slowdown(replace(design, documents=2 * design.documents)) > smallest_slowdown(design):
        yield "more documents would detect less: the spread has too few degrees of freedom; `summarybench noise` (make spread) adds to them"


def _session_notes(planned: Sequence[Planned]) -> Iterator[str]:
    designs = [each.design for each in planned if each.design]
    if len(designs) < 2:
        return
    uncorrected = min(1.0, math.fsum(detection_probability(design, 0.0) for design in designs))
    level = FALSE_ALARMS / len(designs)
    slowdowns = [smallest_slowdown(design, level) for design in designs]
    yield (
        f"on unchanged code {len(designs)} experiments would raise an alarm in up to {uncorrected:.1%} of the sessions; Holm's "
        f"correction holds that at {FALSE_ALARMS:.0%}, and one experiment that slows down alone is then found from "
        f"{_range(min(slowdowns), max(slowdowns))} on"
    )


def _range(low: float, high: float) -> str:
    return f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
