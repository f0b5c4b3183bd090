"""`summarybench doctor`: check this machine, and how to fix what is wrong.

A function named `check_...` receives the values that it judges and returns a `Finding`. A function named `examine...` reads
those values from the machine.
"""

from __future__ import annotations

import argparse
import codecs
import io
import locale
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from summarybench.commands.doctor_bitsandbytes import examine_bitsandbytes
from summarybench.commands.doctor_finding import Finding, State, attempt, fail, ok
from summarybench.commands.doctor_gpu import examine_gpus, sees_gpu
from summarybench.commands.doctor_hub import check_embedded, check_results_disk, examine_hub, free_bytes
from summarybench.core.inert_text import inert
from summarybench.core.numbers import counted
from summarybench.core.outcomes import ExitCode
from summarybench.core.packages import LEAST_PYTHON
from summarybench.engines.embedded import converted_folder, embedded_gguf_file

RESULTS_FOLDER = Path(__file__).resolve().parents[2] / "results"
COLOURS = {State.OK: "\x1b[32m", State.FAIL: "\x1b[1;31m", State.SKIP: "\x1b[33m"}
COLOUR_OFF = "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add none: the command always examines this machine."""


def run(options: argparse.Namespace) -> int:  # noqa: ARG001
    """Print all findings; returns 1 if a check failed."""
    return report(examine(), sys.stdout)


def examine() -> Iterator[Finding]:
    """Make every check of this machine, one at a time."""
    yield attempt("Python", lambda: check_python(sys.version_info[:3]))
    yield attempt("locale", lambda: check_locale(sys.stdout.encoding, locale.getpreferredencoding()))
    gpu_findings: list[Finding] = []
    for finding in examine_gpus(os.environ.get("CUDA_VISIBLE_DEVICES")):
        gpu_findings.append(finding)
        yield finding
    has_gpu = sees_gpu(gpu_findings)
    # After the GPU checks, because a process that loads bitsandbytes may appear among the GPU's processes.
    yield attempt("bitsandbytes", lambda: examine_bitsandbytes(needs_cuda=has_gpu))
    yield attempt("results", lambda: check_results_disk(RESULTS_FOLDER, free_bytes))
    # Without a GPU only the embedded model runs, and needs no hub. A broken GPU is to be repaired, and will need it.
    has_broken_gpu = any(finding.state is State.FAIL for finding in gpu_findings)
    yield from examine_hub(is_needed=has_gpu or has_broken_gpu)
    yield attempt("embedded model", lambda: check_embedded(converted_folder(), embedded_gguf_file))


def check_python(version: Sequence[int]) -> Finding:
    seen = ".".join(map(str, version[:3]))
    if tuple(version[:2]) >= LEAST_PYTHON:
        return ok("Python", seen)
    least = ".".join(map(str, LEAST_PYTHON))
    return fail(
        "Python", f"{seen}, but {least} or newer is needed", f"make clean, then make setup PYTHON=python{least}"
    )


def check_locale(stdout_encoding: str | None, preferred_encoding: str) -> Finding:
    """Check that standard output and files use UTF-8 by default.

    Summaries can contain any character.
    """
    seen = f"output {stdout_encoding}, files {preferred_encoding}"
    if _is_utf8(stdout_encoding or preferred_encoding) and _is_utf8(preferred_encoding):
        return ok("locale", seen)
    only_output = " and unset PYTHONIOENCODING" if _is_utf8(preferred_encoding) else ""
    return fail("locale", f"not UTF-8: {seen}", f"export LC_ALL=C.UTF-8{only_output}")


def _is_utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def report(findings: Iterable[Finding], out: TextIO) -> ExitCode:
    """Print each finding as soon as it is made, and how many there are at the end.

    Returns FAILED if one failed, and CLEAN otherwise.
    """
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # the report about a wrong locale must not fail because of it
    colours = out.isatty() and "NO_COLOR" not in os.environ
    found = []
    for finding in findings:
        out.write(_lines(finding, colours=colours))
        out.flush()
        found.append(finding)
    failed = sum(each.state is State.FAIL for each in found)
    skipped = ", ".join(each.name for each in found if each.state is State.SKIP)
    if failed:
        out.write(f"{counted(failed, 'check')} failed\n")
    else:
        out.write(f"nothing failed; not checked: {skipped}\n" if skipped else "all is well\n")
    return ExitCode.FAILED if failed else ExitCode.CLEAN


def _lines(finding: Finding, *, colours: bool) -> str:
    mark = f"{finding.state.value:<5}"
    if colours:
        mark = f"{COLOURS[finding.state]}{mark}{COLOUR_OFF}"
    remedy = f"      remedy: {inert(finding.remedy)}\n" if finding.remedy else ""
    return f"{mark} {finding.name:<16} {inert(finding.seen)}\n{remedy}"
