"""Check whether bitsandbytes loads its native library.

A child process loads it, because loading can hang or crash.
"""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from summarybench.commands.doctor_finding import Finding, State, attempt, fail, ok
from summarybench.core.deadline import within
from summarybench.core.numbers import trimmed

LOADING_SECONDS = 120.0  # includes loading torch, which is slow from a cold disk
DETAILS = "python -m bitsandbytes says more"
ROOT = Path(__file__).resolve().parents[2]


def examine_bitsandbytes(*, needs_cuda: bool) -> Finding:
    return ask_child(f"from summarybench.commands import doctor_bitsandbytes as it; it.answer(needs_cuda={needs_cuda})")


def ask_child(code: str, seconds: float = LOADING_SECONDS) -> Finding:
    """The finding that `code` writes.

    It is a failed one if the process crashes or takes longer than `seconds`.
    """

    def run() -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=seconds, check=False)  # noqa: S603 - ours

    try:
        # run() waits for a killed process. One that hangs in the driver may not end, and is then abandoned.
        done = within(seconds + 1, run)
    except (TimeoutError, subprocess.TimeoutExpired):
        return fail(
            "bitsandbytes", f"not loaded within {trimmed(seconds)} s", f"check whether nvidia-smi hangs too; {DETAILS}"
        )
    if done.returncode:
        end = f"exit status {done.returncode}" if done.returncode > 0 else signal.Signals(-done.returncode).name
        return fail(
            "bitsandbytes", f"loading it ended its process ({end})", f"check whether nvidia-smi works; {DETAILS}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Finding(**{**found, "state": State(found["state"])})


def answer(*, needs_cuda: bool) -> None:
    """In the child: write the finding as the last line of standard output."""

    def look() -> Finding:
        from bitsandbytes import __version__, cextension

        return check_bitsandbytes(__version__, cextension.lib, needs_cuda=needs_cuda)

    finding = attempt("bitsandbytes", look)
    sys.stdout.write(f"\n{json.dumps(dataclasses.asdict(finding))}\n")


def check_bitsandbytes(version: str, library: Any, *, needs_cuda: bool) -> Finding:
    """Judge bitsandbytes.cextension.lib.

    If loading failed, it is a stand-in with every attribute that one asks for; only vars() shows the difference.
    """
    facts = vars(library)
    if "formatted_error" in facts:
        seen = f"{version}, native library not loaded: {' '.join(facts['error_msg'].split())}"
        return fail("bitsandbytes", seen, f"{_advice(facts)}; {DETAILS}")
    seen = f"{version}, {Path(library._lib._name).name}"
    if needs_cuda and not library.compiled_with_cuda:
        remedy = f"it follows torch: install a torch that can use this GPU ({DETAILS})"
        return fail("bitsandbytes", f"{seen}: the library for CPUs, although there is a GPU", remedy)
    return ok("bitsandbytes", seen)


def _advice(facts: Mapping[str, Any]) -> str:
    """The steps in bitsandbytes' own message, or better advice.

    Its steps are numbered and follow 'To fix this'.

    For a CUDA version without a build, version 0.50.2 advises to compile for the CPU; the list of its builds helps more.
    """
    steps = re.findall(r"^\d\. (.+)$", facts["formatted_error"].partition("To fix this")[2].partition("\n\n")[0], re.M)
    if steps:
        return f"make sure that: {'; '.join(steps)}"
    if "No compatible" in facts["error_msg"] and facts["available_versions"]:
        versions = ", ".join(facts["available_versions"])
        return f"install a torch built for a CUDA version it ships for ({versions}), or set BNB_CUDA_VERSION"
    return "pip install --force-reinstall --no-deps bitsandbytes"
