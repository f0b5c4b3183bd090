"""What the change of a server's speed is attributed to: its version and flags, its queue, or the machine of its client."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from summarybench.analysis.attribution import Attribution
from summarybench.core.numbers import percent
from summarybench.core.outcomes import Cause
from summarybench.runs.run_file import Entry
from summarybench.runs.workload import differences

QUEUE_GROWTH = 0.2
"""A queue is named if the time to the first token changed by more than this, and by this much more than later tokens did."""
DECODE_HOLDS = 0.05
"""The time per later token holds if it changed by less than this."""


def server_differences(now: Entry, before: Entry) -> Iterator[str]:
    """The server's version and command line that differ, as `differences` names them; nothing for other engines.

    The command line of a server that the suite did not start is unknown, and so is no difference.
    """
    here, there = now.extra_info.get("served"), before.extra_info.get("served")
    if here is not None and there is not None:
        keys = ("engine_version", "command") if _has_command(now) and _has_command(before) else ("engine_version",)
        for key in keys:
            yield from differences({f"server_{key}": dict(here)[key]}, {f"server_{key}": dict(there)[key]})


def _has_command(entry: Entry) -> bool:
    served = entry.extra_info.get("served")
    return served is not None and bool(dict(served)["command"])


def refined_for_server(found: Attribution, passes: Sequence[Entry], stored: Sequence[Entry]) -> Attribution:
    """The attribution of an experiment with a server, from the one that the machine probes give.

    Probes that explain the change are the machine's, which is the client's if the suite did not start the server. The code
    is the cause only if the server's version or flags differ: what else happened inside it, or on another machine, is
    unknown. A queue is named where the first token comes later and the others do not.
    """
    if "served" not in passes[-1].extra_info or found.cause is not Cause.CODE:
        return found
    if any(server_differences(passes[-1], stored[0])):  # the detail lists them among the environment's differences
        return replace(found, detail=f"the server's version or flags differ; {found.detail}")
    if queue := _queue(passes, stored):
        return Attribution(cause=Cause.UNKNOWN, detail=f"{queue}; {found.detail}")
    has_flags = all(map(_has_command, (passes[-1], stored[0])))
    same = "version and flags are the same" if has_flags else "version is the same, and its flags are unknown"
    return replace(found, cause=Cause.UNKNOWN, detail=f"the server's {same}; {found.detail}")


def _queue(passes: Sequence[Entry], stored: Sequence[Entry]) -> str:
    """A phrase with both changes if requests waited longer (or less long) while decoding held; otherwise empty."""
    first = _log_ratio(passes, stored, "time_to_first_token_seconds")
    later = _log_ratio(passes, stored, "seconds_per_output_token")
    if first is None or later is None:
        return ""
    if abs(first) < math.log1p(QUEUE_GROWTH) or abs(later) > math.log1p(DECODE_HOLDS):
        return ""
    waited = "longer" if first > 0 else "less long"
    return (
        f"requests waited {waited}: TTFT {percent(math.expm1(first), signed=True)}, while the time per later token held "
        f"({percent(math.expm1(later), 1, signed=True)}); other work on the server, or another limit of requests at once"
    )


def _log_ratio(passes: Sequence[Entry], stored: Sequence[Entry], key: str) -> float | None:
    """The logarithm of the medians' ratio; None where a run does not have the figure."""
    now, before = ([_median_of(each, key) for each in entries] for entries in (passes, stored))
    known_now, known_before = [each for each in now if each], [each for each in before if each]
    return math.log(median(known_now) / median(known_before)) if known_now and known_before else None


def _median_of(entry: Entry, key: str) -> float | None:
    served = entry.extra_info.get("served")
    found = None if served is None else dict(served)[key]
    return found["p50"] if isinstance(found, dict) else None
