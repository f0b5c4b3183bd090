"""Load on a server: when requests are sent, and the latencies, the throughput and the goodput that come of it."""

from __future__ import annotations

import asyncio
import math
import random
from argparse import ArgumentTypeError
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Protocol, TypeVar

from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError, SuiteError, first_line
from summarybench.stats.intervals import percentile

Request = TypeVar("Request")


class Answered(Protocol):
    """What is needed of an answered request; all seconds are readings of one clock."""

    @property
    def generated_tokens(self) -> int: ...

    @property
    def start_seconds(self) -> float: ...

    @property
    def first_token_seconds(self) -> float: ...

    @property
    def end_seconds(self) -> float: ...


Answer = TypeVar("Answer", bound=Answered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that failed, and why in one line."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """A closed loop: so many requests are in flight, and the next one is sent when one is answered."""

    in_flight: int

    def __post_init__(self) -> None:
        if self.in_flight < 1:
            raise ValueError(f"at least one request must be in flight: {self.in_flight}")

    def divided_by(self, servers: int) -> Concurrency:
        """One server's part of the load, at least one request."""
        return Concurrency(in_flight=max(1, self.in_flight // servers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """An open loop: requests arrive as a Poisson process, whatever the server makes of those before them."""

    per_second: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.per_second < math.inf:
            raise ValueError(f"the rate of arrivals must be above zero: {self.per_second}")

    def divided_by(self, servers: int) -> Arrivals:
        """One server's part of the load."""
        return replace(self, per_second=self.per_second / servers)

    def seconds(self, count: int) -> list[float]:
        """When each of so many requests is sent, from the start of the round; the first one at once."""
        draws = random.Random(self.seed)  # noqa: S311  (no secret: the same arrivals for everybody)
        found, now = [], 0.0
        for _ in range(count):
            found.append(now)
            now += draws.expovariate(self.per_second)
        return found


Load = Concurrency | Arrivals

ALL_AT_ONCE, SWEEP = "all", "-sweep"
"""The concurrency of the whole sample, and the end of the name of the experiment that searches a rate."""


def concurrencies(text: str) -> tuple[int | str, ...]:
    """The numbers of requests in flight that --concurrency asks for; `all` is the whole sample.

    Raises ArgumentTypeError for anything else.
    """
    found: list[int | str] = []
    for word in text.split(","):
        if word.strip() == ALL_AT_ONCE:
            found.append(ALL_AT_ONCE)
        elif word.strip().isdigit() and int(word) >= 1:
            found.append(int(word))
        else:
            raise ArgumentTypeError(
                f"{word!r}: give numbers of at least 1 or '{ALL_AT_ONCE}', such as 1,8,{ALL_AT_ONCE}"
            )
    return tuple(dict.fromkeys(found))


def rates(text: str) -> tuple[float, ...]:
    """The requests per second that --rate asks for. Raises ArgumentTypeError for anything but numbers above 0."""
    try:
        found = tuple(dict.fromkeys(float(each) for each in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 < each < math.inf for each in found):
        raise ArgumentTypeError(f"{text!r}: give requests per second above 0, such as 0.5,2")
    return found


def loads_of(
    in_flight: Iterable[int | str], arrivals: Iterable[float], documents: int, *, is_swept: bool
) -> dict[str, Load]:
    """The loads of a session, by the end of the experiment's name. `documents` is the size of the sample."""
    found: dict[str, Load] = {}
    for each in in_flight:
        if isinstance(each, int):
            found[f"-concurrency{each}"] = Concurrency(in_flight=each)
        else:
            found["-all-at-once"] = Concurrency(in_flight=documents)
    for rate in arrivals:
        found[f"-rate{trimmed(rate)}"] = Arrivals(per_second=rate)
    if is_swept:
        found[SWEEP] = Concurrency(in_flight=documents)
    return found


async def send_all(
    requests: Sequence[Request],
    send: Callable[[Request], Awaitable[Answer]],
    load: Load,
    on_finished: Callable[[int, Answer | Failure], None] = lambda _, __: None,
) -> list[Answer | Failure]:
    """Send every request once under this load; the answers and failures in the order of the requests.

    A SuiteError of one request is its failure, and the others go on. `on_finished` is called with a request's index when it
    is finished.
    """
    found: list[Answer | Failure] = [Failure(reason="not sent")] * len(requests)

    async def send_one(index: int) -> None:
        try:
            found[index] = await send(requests[index])
        except SuiteError as error:
            found[index] = Failure(reason=first_line(error))
        on_finished(index, found[index])

    async with asyncio.TaskGroup() as tasks:
        if isinstance(load, Arrivals):
            loop = asyncio.get_running_loop()
            start = loop.time()
            for index, seconds in enumerate(load.seconds(len(requests))):
                await asyncio.sleep(start + seconds - loop.time())
                tasks.create_task(send_one(index))
        else:
            waiting = iter(range(len(requests)))

            async def work() -> None:
                for index in waiting:
                    await send_one(index)

            for _ in range(min(load.in_flight, len(requests))):
                tasks.create_task(work())
    return found


# Figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A service-level objective: the most seconds to the first token, and for each token after it."""

    name: str
    first_token_seconds: float
    seconds_per_token: float

    def is_met_by(self, answer: Answered) -> bool:
        return (
            answer.first_token_seconds - answer.start_seconds <= self.first_token_seconds
            and seconds_per_later_token(answer) <= self.seconds_per_token
        )

    @property
    def in_words(self) -> str:
        return f"first token within {_in_ms(self.first_token_seconds)}, each later one within {_in_ms(self.seconds_per_token)}"


def _in_ms(seconds: float) -> str:
    return f"{trimmed(seconds * 1000)} ms"


INTERACTIVE = Objective(name="interactive", first_token_seconds=0.5, seconds_per_token=0.030)
SERVER = Objective(name="server", first_token_seconds=2.0, seconds_per_token=0.100)
"""MLPerf Inference's limits for Llama-3.1-8B: interactive and server (mlcommons.org, inference rules v5.1)."""
OBJECTIVES = {each.name: each for each in (INTERACTIVE, SERVER)}


def objective_of(text: str) -> Objective:
    """The objective that --slo names: a preset, or its own two limits in milliseconds, such as 800:50.

    Raises InputError for anything else.
    """
    if text in OBJECTIVES:
        return OBJECTIVES[text]
    try:
        first, later = (float(each) / 1000 for each in text.split(":"))
    except ValueError:
        first = later = 0.0
    if not (0 < first < math.inf and 0 < later < math.inf):
        raise InputError(
            f"--slo {text!r}: give {' or '.join(OBJECTIVES)}, or the most milliseconds to the first token and for each later "
            "one, such as 800:50"
        )
    return Objective(name=text, first_token_seconds=first, seconds_per_token=later)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Seconds at the 50th, 90th and 99th percentile; None where too few requests carry one."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFigures:
    """What one or more rounds of requests say. Seconds count from a round's first request sent to its last answer.

    `goodput_per_second` counts the documents that met the objective, and is None without one.
    """

    requests: int
    failed: int
    seconds: float
    generated_tokens_per_second: float
    documents_per_second: float
    first_token: Percentiles
    per_later_token: Percentiles
    end_to_end: Percentiles
    mean_in_flight: float
    goodput_per_second: float | None
    objective_share: float | None


def seconds_per_later_token(answer: Answered) -> float:
    """The mean seconds of a token after the first; 0 for an answer of one token, which has none."""
    later = answer.generated_tokens - 1
    return (answer.end_seconds - answer.first_token_seconds) / later if later > 0 else 0.0


def figures_of(*rounds: Sequence[Answered | Failure], objective: Objective | None = None) -> LoadFigures:
    """The figures of one or more rounds together. Raises ValueError where a round has no answer."""
    answers = [each for a_round in rounds for each in a_round]
    answered = answered_of(answers)
    seconds = fsum(round_seconds(each) for each in rounds)
    meeting = sum(objective.is_met_by(each) for each in answered) if objective else None
    return LoadFigures(
        requests=len(answers),
        failed=len(answers) - len(answered),
        seconds=seconds,
        generated_tokens_per_second=sum(each.generated_tokens for each in answered) / seconds,
        documents_per_second=len(answered) / seconds,
        first_token=_percentiles([each.first_token_seconds - each.start_seconds for each in answered]),
        per_later_token=_percentiles([seconds_per_later_token(each) for each in answered if each.generated_tokens > 1]),
        end_to_end=_percentiles([each.end_seconds - each.start_seconds for each in answered]),
        mean_in_flight=fsum(each.end_seconds - each.start_seconds for each in answered) / seconds,
        goodput_per_second=None if meeting is None else meeting / seconds,
        objective_share=None if meeting is None else meeting / len(answers),
    )


def answered_of(answers: Sequence[Answer | Failure]) -> list[Answer]:
    return [each for each in answers if not isinstance(each, Failure)]


def round_seconds(answers: Sequence[Answered | Failure]) -> float:
    """From the first request sent to the last answer. Raises ValueError where no request was answered."""
    answered = answered_of(answers)
    if not answered:
        raise ValueError("no request was answered: there is nothing to compute")
    return max(each.end_seconds for each in answered) - min(each.start_seconds for each in answered)


def _percentiles(seconds: Sequence[float]) -> Percentiles:
    return Percentiles(p50=percentile(seconds, 50), p90=percentile(seconds, 90), p99=percentile(seconds, 99))
