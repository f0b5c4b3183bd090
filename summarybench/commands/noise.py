"""`summarybench noise`: measure the noise between runs of the same experiments in fresh processes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from summarybench.analysis.attribution import WORDS
from summarybench.analysis.device_noise import measures_gpu, read_device_noise, spread_of
from summarybench.analysis.noise import ProbeNoise, add_replicates, are_tuned_alike
from summarybench.analysis.replicate_runs import why_no_replicates
from summarybench.commands.bench import run_benchmarks
from summarybench.commands.command import add_baselines_argument
from summarybench.core.invocation import this_invocation
from summarybench.core.numbers import decimal, deviation, percent
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.machine.device import DeviceRecord
from summarybench.runs.baselines import SPREAD_FILE, read_baselines
from summarybench.runs.device_files import ReplicatesRecord
from summarybench.runs.run_file import Run, device_of, read_run
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.noise_parts import Level, NoiseParts
from summarybench.stats.power import CONFIRMED, Design, smallest_slowdown

ONE_PASS = (1,)
INTERRUPTED_SESSION = frozenset({2, 130})
"""pytest's exit code for Ctrl-C, and the exit code of a process that Ctrl-C killed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=5, metavar="K", help="how many fresh processes (default: 5)")
    parser.add_argument(
        "--from",
        type=user_path,
        nargs="+",
        default=[],
        dest="existing",
        metavar="RUN",
        help="use these finished runs instead of measuring",
    )
    add_baselines_argument(parser, "where spread.json is kept")


def run(options: argparse.Namespace) -> int:
    """Measure, store and print the noise. Raises InputError if that is impossible, KeyboardInterrupt after Ctrl-C."""
    if options.runs < 2:
        raise InputError(f"--runs {options.runs}: give at least 2, because noise is the difference between runs")
    if options.existing and options.for_pytest:
        raise InputError(
            f"--from uses finished runs, so {shlex.join(options.for_pytest)} would have no effect; leave it out"
        )
    _refuse_few_documents(options.for_pytest)
    runs = [_read(path) for path in options.existing] or list(_measure(options.runs, options.for_pytest))
    devices = {device.slug: device for device in map(device_of, runs)}
    for slug, device in sorted(devices.items()):
        folder, of_device = options.baselines / slug, [run for run in runs if device_of(run).slug == slug]
        spread, added = add_replicates(folder, of_device)
        print("\n".join((*_lines(folder / SPREAD_FILE, spread, added), *_findings(folder, device, added))))
        for why in why_no_replicates(of_device):
            print(f"no noise measured of {why}")
    return ExitCode.CLEAN


def _refuse_few_documents(for_pytest: Sequence[str]) -> None:
    """Raise InputError where no run would have enough documents. With --rounds, the rounds are compared instead."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--documents", nargs="?")
    parser.add_argument("--rounds", nargs="?")
    given = parser.parse_known_args(for_pytest)[0]
    documents = given.documents or ""
    if documents.isdecimal() and int(documents) < MINIMUM_COMMON_DOCUMENTS and given.rounds is None:
        raise InputError(f"--documents {documents}: noise needs at least {MINIMUM_COMMON_DOCUMENTS} documents")


def _measure(count: int, for_pytest: Sequence[str]) -> Iterator[Run]:
    """Run the benchmarks `count` times, each in a fresh process. Raises InputError if one measures nothing."""
    parent = Path("results") / f"noise-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, count + 1):
        print(f"run {number} of {count}: {parent}/{number}", flush=True)
        folder = parent / str(number)
        code = run_benchmarks([*for_pytest, "--results-dir", str(folder)])
        if code in INTERRUPTED_SESSION:
            raise KeyboardInterrupt(_after_interruption([parent / str(each) / "latest" for each in range(1, number)]))
        if not (folder / "latest").exists():
            raise InputError(f"run {number} ended with exit code {code} before anything was measured; see above")
        yield _read(folder / "latest")


def _after_interruption(finished: Sequence[Path]) -> str:
    if not finished:
        return "interrupted before a run was finished"
    if len(finished) == 1:
        return f"interrupted; one run is finished, {finished[0]}, and --from pools it with others"
    return f"interrupted; pool the runs that are finished: {this_invocation().command('noise', '--from', *finished)}"


def _read(path: Path) -> Run:
    return read_run(path / "run.json" if path.is_dir() else path)


def _lines(path: Path, spread: ProbeNoise, added: Sequence[ReplicatesRecord]) -> Iterator[str]:
    for group in added:
        speeds = ", ".join(decimal(speed, 1) for speed in group["generated_tokens_per_second"])
        yield (
            f"{group['experiment']}: {speeds} generated tok/s; between runs {percent(group['speed_deviation'], 2)}, "
            f"of one document in one run {percent(group['document_deviation'], 2)} ({group['documents']} documents)"
        )
    for name, between in spread.controls.items():
        yield f"machine probe {WORDS.get(name, name)}: {percent(between, 2)} between runs"
    yield f"stored in {path}"


def _findings(folder: Path, device: DeviceRecord, added: Sequence[ReplicatesRecord]) -> Iterator[str]:
    """What each part of the noise rests on, and the slowdown that a night can find at it."""
    baselines = read_baselines(folder)
    device_noise = read_device_noise(baselines, is_gpu=measures_gpu(device, baselines))
    for group in added:
        host, alike = group.get("host_id") or "", are_tuned_alike(group.get("tuned_kernels", ()))
        parts = device_noise.parts(group["experiment"], tuned_alike=alike, host=host)
        known = ", ".join(
            f"between {level} {deviation(parts.added(level))} ({'measured' if part.is_measured else 'assumed'}, "
            f"{decimal(part.degrees_of_freedom, 1)} degrees of freedom)"
            for level, part in ((Level.PROCESS, parts.process), (Level.NIGHT, parts.night))
        )
        one, confirmed = (smallest_slowdown(_design(group, parts, decisions)) for decisions in (ONE_PASS, CONFIRMED))
        yield f"{group['experiment']}: noise {known}"
        yield (
            f"{group['experiment']}: with one stored run, one pass finds a slowdown of {percent(one, 1)} with 95% probability, "
            f"and two passes that must agree find one of {percent(confirmed, 1)}"
        )
        if not parts.night.is_measured:
            yield (
                f"{group['experiment']}: smaller slowdowns are found once the noise between nights is measured: repeat this command on "
                "three more days, or store four nights"
            )


def _design(group: ReplicatesRecord, parts: NoiseParts, decisions: tuple[int, ...]) -> Design:
    """A night with as many documents as were measured here, against one stored night."""
    return Design(
        documents=group["documents"],
        document_deviation=group["document_deviation"],
        spread=spread_of(parts),
        baseline_runs=1,
        decisions=decisions,
    )
