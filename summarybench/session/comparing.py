"""Compares each measurement with the stored runs, and journals both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from summarybench.analysis.comparison import Comparison
from summarybench.analysis.confirmation import ConfirmedRun
from summarybench.analysis.device_noise import measures_gpu, read_device_noise
from summarybench.analysis.history import SeriesKey, read_accepted, series_with
from summarybench.analysis.judge import Judge
from summarybench.analysis.quality_session import level_of_one_test
from summarybench.analysis.teacher_change import TeacherChange, beside_teacher
from summarybench.core.outcomes import BrokenOutputError, JudgementError, Verdict
from summarybench.kinds.kind import Kind
from summarybench.kinds.toolbox import Measurement
from summarybench.machine.telemetry import problem
from summarybench.runs.baselines import Baselines, StoredRun, find_anchor, find_baseline, pick_run
from summarybench.runs.comparison_records import HistoryRecord
from summarybench.runs.run_file import Entry, entries_of
from summarybench.runs.run_folder import Results
from summarybench.session.config import Config
from summarybench.session.settings import Settings
from summarybench.session.students import Student


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a session compares its measurements with.

    `picked` is the stored run that --benchmark-compare names, if it names one. `accepted` has the first date of each series
    whose reference a person has accepted.
    """

    baselines: Baselines
    picked: StoredRun | None
    judge: Judge
    accepted: Mapping[SeriesKey, str] = field(default_factory=dict)

    def runs_for(self, entry: Entry, count: int) -> tuple[StoredRun, ...]:
        """The stored runs to compare an experiment with.

        The picked run, or else at most `count` of the newest comparable ones.
        """
        return (
            (self.picked,) if self.picked else find_baseline(entry, self.baselines.runs, count, self.judge.environment)
        )


def basis_of(config: Config, baselines: Baselines, environment: Mapping[str, Any]) -> Basis:
    """Read what the session compares with.

    Raises InputError where --benchmark-compare names no stored run, or where the measured noise or the accepted references
    cannot be read.
    """
    asked = config.settings.compare_with
    return Basis(
        baselines=baselines,
        picked=pick_run(baselines, asked) if asked else None,
        judge=Judge(
            environment=environment,
            night=datetime.now(UTC).date().isoformat(),
            noise=read_device_noise(baselines, is_gpu=measures_gpu(config.device, baselines)),
            tolerance=config.settings.tolerance,
            slug=config.device.slug,
        ),
        accepted=read_accepted(baselines.folder),
    )


class Comparer:
    """Decides on each measurement of a session.

    `figures` has the `extra_info` of what was measured so far, by nodeid. `experiments` is the number of selected tests.
    """

    def __init__(
        self, settings: Settings, basis: Basis, results: Results, confirmation: ConfirmedRun, *, experiments: int
    ) -> None:
        self.figures: dict[str, Mapping[str, Any]] = {}
        self._settings = settings
        self._basis = basis
        self._results = results
        self._confirmation = confirmation
        has_anchor = any(stored.is_anchor for stored in basis.baselines.runs)
        self._quality_level = level_of_one_test(experiments, has_anchor=has_anchor)

    def compare(self, measurement: Measurement, kind: Kind) -> Comparison:
        """The verdict against the baseline.

        The experiment is journalled with it before anything is asserted. Raises BrokenOutputError if most summaries are
        empty or repeating, and JudgementError for a student without its teacher. Every kind of benchmark comes through here,
        so none can forget to check that.
        """
        entry = measurement.entry
        student = self._settings.students.get(entry.extra_info["model"])
        teacher_change = self._beside_teacher(entry, student)
        comparison = replace(
            self._decide(measurement), is_required=self._settings.require_baseline, teacher=teacher_change
        ).at_quality_level(self._quality_level)
        extra_info = {
            **entry.extra_info,
            **_figures_of_baseline(kind, entry, comparison),
            **comparison.as_extra_info(),
            **self._confirmation.as_extra_info(measurement.nodeid),
            "history": self._history(entry, comparison),
        }
        if student:
            extra_info |= {
                "teacher": student.teacher,
                "student_provenance": dict(student.provenance),
                "teacher_change": comparison.teacher.as_extra_info() if comparison.teacher else None,
            }
        self._results.journal.append("experiment", _benchmark_fields(entry, measurement.nodeid, extra_info))
        self.figures[measurement.nodeid] = extra_info
        if entry.broken_output:
            raise BrokenOutputError(entry.broken_output)
        if student and teacher_change is None:
            raise JudgementError(
                f"nothing says whether this student is good enough: its teacher {student.teacher} was not measured with the same "
                "loader in this session; select both, as -m student does"
            )
        return comparison

    def _decide(self, measurement: Measurement) -> Comparison:
        if fault := problem(measurement.measured.telemetry):
            return Comparison(verdict=Verdict.INVALID, detail=fault)
        entry, first = measurement.entry, self._confirmation.entries.get(measurement.nodeid)
        passes = (entry,) if first is None else (first, entry)
        stored = self._basis.runs_for(entry, self._settings.baseline_runs)
        anchor = find_anchor(entry, self._basis.baselines.runs)
        return self._confirmation.hold(self._basis.judge.compare(passes, stored, anchor))

    def _history(self, entry: Entry, comparison: Comparison) -> HistoryRecord | None:
        """What the stored nights say, this run counted as one of them."""
        if comparison.verdict is Verdict.INVALID:
            return None
        now = StoredRun(path=self._results.folder / "run.json", run=self._results.run)
        series = series_with(now, entry, self._basis.baselines, self._basis.accepted)
        return series.as_record() if series else None

    def _beside_teacher(self, entry: Entry, student: Student | None) -> TeacherChange | None:
        if student is None:
            return None
        measured = entries_of(self._results.run)
        return beside_teacher(entry, student.teacher, measured, self._settings.student_margin)


def _figures_of_baseline(kind: Kind, entry: Entry, comparison: Comparison) -> dict[str, Any]:
    """The kind's figures in the newest run that this one is compared with.

    They are None where there is no such run.
    """
    before = comparison.baseline.entry(entry.name) if comparison.change and comparison.baseline else None
    return {f"baseline_{key}": before.extra_info.get(key) if before else None for key in kind.baseline_figures}


def _benchmark_fields(entry: Entry, nodeid: str, extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a pytest-benchmark entry, apart from `stats`."""
    return {
        "group": None,
        "name": entry.name,
        "fullname": nodeid,
        "params": {"loaded_model": entry.experiment},
        "param": entry.experiment,
        "extra_info": dict(extra_info),
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
    }
