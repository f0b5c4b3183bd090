"""What is judged of an experiment: its speed at the baseline's output lengths, its first token and its decoding.

Every quantity is a speed: tokens ÷ seconds of each round. Below 1, a ratio of two is slower.
"""

from __future__ import annotations

import math
from enum import StrEnum

from summarybench.runs.kind_facts import Unit
from summarybench.runs.run_file import Entry, round_key, rounds_of
from summarybench.stats.timings import Timing


class Quantity(StrEnum):
    """What a verdict is about."""

    SPEED = "generated tokens/s"
    FIRST_TOKEN = "time to first token"  # noqa: S105  (no password)
    """Its speed is 1 ÷ the seconds to the first token."""
    DECODE = "decode tokens/s"
    """Tokens after the first ÷ the seconds after the first."""


def judged_quantities(entry: Entry) -> tuple[Quantity, ...]:
    """The quantities of an experiment. Only single documents have a first token of their own."""
    if entry.kind.unit is Unit.DOCUMENT and entry.compared_count is None:
        return tuple(Quantity)
    return (Quantity.SPEED,)


def timings_of(entry: Entry, quantity: Quantity, lengths_of: Entry) -> dict[str, Timing]:
    """Tokens and seconds of each round that both entries measured, at the output lengths of `lengths_of`.

    Rounds without a token after the first have no decoding.
    """
    first = {} if quantity is Quantity.SPEED else entry.first_token_seconds
    if quantity is Quantity.FIRST_TOKEN:
        return {each: Timing(tokens=1, seconds=seconds) for each, seconds in first.items() if seconds > 0}
    at_lengths = _at_lengths(entry, lengths_of)
    if quantity is Quantity.SPEED:
        return at_lengths
    return {
        each: Timing(tokens=timing.tokens - 1, seconds=timing.seconds - first[each])
        for each, timing in at_lengths.items()
        if timing.tokens > 1 and timing.seconds > first[each]
    }


def _at_lengths(entry: Entry, lengths_of: Entry) -> dict[str, Timing]:
    """The time that each round would have taken for the tokens of `lengths_of`: to its first token, and for each later one.

    A round of equal lengths keeps exactly what was measured. The rounds of a batch end with its longest summary. Rounds over
    the whole sample are taken as they are: their documents come and go.
    """
    timings = entry.timings
    if entry.is_at_once or entry is lengths_of:
        return timings
    there, steps_there = lengths_of.timings, _decoding_steps(lengths_of)
    steps, first = _decoding_steps(entry), entry.first_token_seconds
    decoded = sum(count - 1 for count in steps.values())
    decoding = math.fsum(timing.seconds - first[each] for each, timing in timings.items())
    found = {}
    for each, timing in timings.items():
        if each not in there:
            continue
        if (timing.tokens, steps[each]) == (there[each].tokens, steps_there[each]) or decoded < 1:
            found[each] = timing
            continue
        later = steps[each] - 1
        per_step = (timing.seconds - first[each]) / later if later else decoding / decoded
        seconds = first[each] + (steps_there[each] - 1) * per_step
        found[each] = Timing(tokens=there[each].tokens, seconds=seconds)
    return found


def _decoding_steps(entry: Entry) -> dict[str, int]:
    """The tokens of the longest summary of each round."""
    info = entry.extra_info
    tokens = dict(zip(info["document_ids"], info["generated_tokens"], strict=True))
    return {round_key(ids): max(tokens[each] for each in ids) for ids in rounds_of(info)}
