"""Opens a session: checks its input, then makes its folder and journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from summarybench.analysis.confirmation import ConfirmedRun, read_confirmed_run
from summarybench.catalogue.models import Experiment
from summarybench.core.outcomes import InputError, TestOutcome
from summarybench.core.processes import ALONE, Process
from summarybench.core.session_seconds import SessionSeconds
from summarybench.machine.device_lock import DeviceLock
from summarybench.runs.baselines import ANCHOR, read_baselines, refuse_second_anchor
from summarybench.runs.journal import SELECTED
from summarybench.runs.journal_lines import Record
from summarybench.runs.profile_record import describe_profile
from summarybench.runs.resume import EarlierRun, check_same_conditions, read_earlier_run, resumed_records
from summarybench.runs.run_folder import Results, SilentResults
from summarybench.session.comparing import Comparer, basis_of
from summarybench.session.config import Config
from summarybench.session.long_documents import check_long_documents
from summarybench.session.memory import MemoryForecasts
from summarybench.session.outcomes import Outcomes
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler
from summarybench.session.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The experiments of the selected tests, by nodeid.

    `skipped` tests need nothing: they cannot run in this session. `skip_reasons` has the distinct reasons of those for
    this device, and is empty if all of them are for other devices.
    """

    runnable: Mapping[str, Experiment]
    skipped: Mapping[str, Experiment] = field(default_factory=dict)
    skip_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResults:
    """What a session with --resume or --confirm takes over from an earlier run.

    It is empty without these options. `resumed` has the outcomes of tests that are not run again, by nodeid. `records`
    are the journal's first records, and `origin` what the session's own record says about the earlier run.
    """

    resumed: Mapping[str, TestOutcome] = field(default_factory=dict)
    confirmation: ConfirmedRun = field(default_factory=ConfirmedRun)
    records: tuple[tuple[str, Record], ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""


def open_session(
    config: Config,
    selection: Selection,
    *,
    machine_info: Mapping[str, Any],
    commit_info: Mapping[str, Any],
    progress: Progress,
    process: Process = ALONE,
    seconds: SessionSeconds | None = None,
) -> Session:
    """A complete session, opened before anything heavy is imported.

    Its time counts from `seconds` on, if that is given. Raises InputError for documents, baselines, an earlier run or a
    results folder that cannot be used.
    """
    settings, device = config.settings, config.device
    baselines = read_baselines(settings.baselines_dir / device.slug)
    basis = basis_of(config, baselines, dict(machine_info))
    sampler = Sampler(config, progress)
    monitor = device.monitor()
    monitor.note_before_context()
    _check_saving(config)
    for model in {name for each in selection.runnable.values() for name in (each.model, each.draft_model) if name}:
        sampler.check(model)
    if settings.document_options.reads_in_calls:
        check_long_documents(selection.runnable.values(), settings, sampler)
    with progress.stage("reading the model folders"):
        conditions = config.conditions()
    if config.choices:
        progress.say(config.choices)
    if settings.profile:
        progress.say(describe_profile(settings.profile.as_record()))
    earlier = _earlier_results(config, selection, machine_info, conditions)
    record = {
        "machine_info": dict(machine_info),
        "commit_info": dict(commit_info),
        "datetime": datetime.now(UTC).isoformat(),
        **_facts_of(config, selection, conditions),
        **earlier.origin,
    }
    progress.warn(earlier.warning)
    results = _begin_results(config, record, earlier, process)
    lock = DeviceLock(device, results.folder) if process.reports else None
    progress.warn(lock.warning if lock else "")
    return Session(
        config=config,
        process=process,
        progress=progress,
        seconds=seconds or SessionSeconds(),
        baselines=baselines,
        sampler=sampler,
        forecasts=MemoryForecasts(config),
        monitor=monitor,
        results=results,
        lock=lock,
        outcomes=Outcomes(results, earlier.confirmation, earlier.resumed),
        comparer=Comparer(
            settings, basis, results, earlier.confirmation, experiments=len(selection.runnable) + len(selection.skipped)
        ),
    )


def _facts_of(config: Config, selection: Selection, conditions: Mapping[str, Any]) -> Record:
    """What the session's record states about the device, the settings and the selected tests."""
    return {
        "version": _pytest_benchmark_version(),
        "device": config.device.as_record(),
        "settings": conditions,
        SELECTED: {nodeid: each.name for nodeid, each in {**selection.runnable, **selection.skipped}.items()},
        **({"profile": profile.as_record()} if (profile := config.settings.profile) else {}),
        **({"gpu_hour_price": price} if (price := config.settings.gpu_hour_price) else {}),
        **({"choices": config.choices} if config.choices else {}),
    }


def _check_saving(config: Config) -> None:
    """Check that this session's run may become the baseline that was asked for.

    Raises InputError where it could never become one.
    """
    if not config.settings.save_as:
        return
    if config.device.stands_in or config.device.is_limited:
        raise InputError(
            "--benchmark-save with --gpu-family or --memory-limit: runs on an emulated or limited device never become "
            "baselines; leave out one of these options"
        )
    if config.settings.save_as == ANCHOR:
        refuse_second_anchor(config.settings.baselines_dir / config.device.slug)


def _earlier_results(
    config: Config, selection: Selection, machine_info: Mapping[str, Any], conditions: Mapping[str, Any]
) -> EarlierResults:
    """Finished tests when resuming; all but suspected regressions when confirming.

    Raises InputError where the earlier run cannot be read, or was measured under other conditions.
    """
    settings = config.settings
    path = settings.resume or settings.confirm
    if path is None:
        return EarlierResults()
    earlier = read_earlier_run(path)
    check_same_conditions(
        earlier,
        machine_info=machine_info,
        settings=conditions,
        unmeasured=_unmeasured_models(earlier, selection) if settings.resume else (),
    )
    if settings.resume:
        return _taken_over(earlier, selection, earlier.finished, ConfirmedRun(), "resumed_from")
    confirmation = read_confirmed_run(earlier, every=settings.passes > 1)
    kept = {nodeid: each for nodeid, each in earlier.outcomes.items() if nodeid not in confirmation.entries}
    return _taken_over(earlier, selection, kept, confirmation, "confirms")


def _unmeasured_models(earlier: EarlierRun, selection: Selection) -> set[str]:
    """The selected models for which the earlier run measured nothing."""
    models = {nodeid: {each.model, each.draft_model} for nodeid, each in selection.runnable.items()}
    measured = set().union(*(models[nodeid] for nodeid in earlier.begun & models.keys()))
    return {name for names in models.values() for name in names if name} - measured


def _taken_over(
    earlier: EarlierRun,
    selection: Selection,
    kept: Mapping[str, TestOutcome],
    confirmation: ConfirmedRun,
    origin_key: str,
) -> EarlierResults:
    resumed = {nodeid: each for nodeid, each in kept.items() if nodeid in selection.runnable}
    again = selection.runnable.keys() - resumed.keys()
    return EarlierResults(
        resumed=resumed,
        confirmation=confirmation,
        records=tuple(resumed_records(earlier, resumed=resumed, again=again)),
        origin={origin_key: earlier.origin, "dropped_lines": earlier.journal.dropped_lines},
        warning=earlier.warning,
    )


def _begin_results(config: Config, session: Record, earlier: EarlierResults, process: Process) -> Results:
    if not process.reports:
        return SilentResults()
    results = Results(config.settings.results_dir, config.device.slug)
    results.begin(session, earlier.records)
    if config.settings.folder_file is not None:
        results.name_folder_in(config.settings.folder_file)
    return results


def _pytest_benchmark_version() -> str:
    import pytest_benchmark

    return str(pytest_benchmark.__version__)
