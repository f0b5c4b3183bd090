"""Load on a server: what is in flight when, that one failure stops nothing, and figures worked out by hand."""

from __future__ import annotations

import asyncio
from argparse import ArgumentTypeError
from dataclasses import dataclass

import pytest

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.measure.load import (
    INTERACTIVE,
    Arrivals,
    Concurrency,
    Failure,
    Objective,
    concurrencies,
    figures_of,
    loads_of,
    objective_of,
    rates,
    send_all,
)
from summarybench.measure.rate_search import RateStep, search_rate


@dataclass(frozen=True)
class Answer:
    """Answered between `start_seconds` and `end_seconds`."""

    start_seconds: float
    first_token_seconds: float
    end_seconds: float
    generated_tokens: int = 11


class Server:
    """Answers after a moment, and counts what is in flight."""

    def __init__(self, failing=()):
        self.in_flight = self.most_in_flight = 0
        self.sent = []
        self._failing = failing

    async def answer(self, request):
        self.sent.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.002)
        self.in_flight -= 1
        if request in self._failing:
            raise UnavailableError(f"request {request} failed\nand said more")
        return Answer(0.0, 1.0, 2.0)


@pytest.mark.parametrize("in_flight", [1, 3, 50])
def test_closed_loop_keeps_so_many_in_flight_and_sends_each_request_once_in_order(in_flight):
    server = Server()
    found = asyncio.run(send_all(range(20), server.answer, Concurrency(in_flight=in_flight)))
    assert server.most_in_flight == min(in_flight, 20)
    assert server.sent == list(range(20))
    assert len(found) == 20


def test_failed_request_is_a_failure_in_its_place_and_the_others_go_on():
    finished = []
    found = asyncio.run(
        send_all(
            range(5), Server(failing={2}).answer, Concurrency(in_flight=2), lambda index, _: finished.append(index)
        )
    )
    assert found[2] == Failure(reason="request 2 failed")
    assert [index for index, each in enumerate(found) if not isinstance(each, Failure)] == [0, 1, 3, 4]
    assert sorted(finished) == list(range(5))


def test_fault_of_the_program_is_not_taken_for_a_failed_request():
    async def broken(_):
        raise KeyError("a fault")

    with pytest.raises(ExceptionGroup):
        asyncio.run(send_all([1], broken, Concurrency(in_flight=1)))


def test_open_loop_sends_without_waiting_for_answers():
    server = Server()
    asyncio.run(send_all(range(30), server.answer, Arrivals(per_second=50_000)))
    assert server.most_in_flight > 10
    assert server.sent == list(range(30))


def test_arrivals_are_the_same_for_a_seed_and_have_the_rate():
    arrivals = Arrivals(per_second=4.0)
    seconds = arrivals.seconds(4_000)
    assert seconds == arrivals.seconds(4_000) != Arrivals(per_second=4.0, seed=1).seconds(4_000)
    assert seconds[0] == 0.0
    assert seconds == sorted(seconds)
    assert 3_999 / seconds[-1] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("wrong", [lambda: Concurrency(in_flight=0), lambda: Arrivals(per_second=0.0)])
def test_load_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"at least one|above zero"):
        wrong()


def test_figures_of_two_requests_and_a_failure_by_hand():
    answers = [Answer(0.0, 0.5, 2.5), Answer(1.0, 2.0, 5.0), Failure(reason="no")]
    found = figures_of(answers, objective=Objective(name="own", first_token_seconds=0.5, seconds_per_token=0.2))
    assert (found.requests, found.failed, found.seconds) == (3, 1, 5.0)
    assert found.generated_tokens_per_second == 22 / 5
    assert found.documents_per_second == 2 / 5
    assert found.first_token.p50 == 0.75
    assert found.per_later_token.p50 == pytest.approx(0.25)  # 0.2 and 0.3 s
    assert found.end_to_end.p50 == 3.25
    assert found.end_to_end.p99 is None  # two requests carry none
    assert found.mean_in_flight == pytest.approx((2.5 + 4.0) / 5)
    assert (found.goodput_per_second, found.objective_share) == (1 / 5, 1 / 3)


def test_rounds_add_up_without_the_time_between_them():
    found = figures_of([Answer(0.0, 0.5, 2.0)], [Answer(10.0, 10.5, 13.0), Failure(reason="no")])
    assert (found.requests, found.failed, found.seconds) == (3, 1, 5.0)
    assert found.generated_tokens_per_second == 22 / 5
    assert found.end_to_end.p50 == 2.5


def test_percentiles_need_as_many_requests_as_they_claim():
    found = figures_of([Answer(0.0, 0.1, 1.0)] * 99)
    assert found.end_to_end.p90 == 1.0
    assert found.end_to_end.p99 is None
    assert figures_of([Answer(0.0, 0.1, 1.0)] * 100).end_to_end.p99 == 1.0


def test_an_answer_of_one_token_meets_every_token_objective():
    assert INTERACTIVE.is_met_by(Answer(0.0, 0.4, 0.4, generated_tokens=1))
    assert not INTERACTIVE.is_met_by(Answer(0.0, 0.6, 0.6, generated_tokens=1))


def test_a_round_without_an_answer_has_no_figures():
    with pytest.raises(ValueError, match="no request was answered"):
        figures_of([Failure(reason="no")])


# What options ask for ----------------------------------------------------------------------------------------------


def test_loads_are_named_by_what_is_in_flight_or_arrives():
    found = loads_of(concurrencies("1,8,all"), rates("0.5,2"), 20, is_swept=True)
    assert found == {
        "-concurrency1": Concurrency(in_flight=1),
        "-concurrency8": Concurrency(in_flight=8),
        "-all-at-once": Concurrency(in_flight=20),
        "-rate0.5": Arrivals(per_second=0.5),
        "-rate2": Arrivals(per_second=2.0),
        "-sweep": Concurrency(in_flight=20),
    }


@pytest.mark.parametrize("text", ["0", "1,x", "", "-1", "1.5"])
def test_concurrency_that_is_none_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="numbers of at least 1 or 'all'"):
        concurrencies(text)


@pytest.mark.parametrize("text", ["0", "x", "", "-1", "inf", "nan"])
def test_rate_that_is_none_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="requests per second above 0"):
        rates(text)


def test_objectives_are_named_or_two_limits_in_milliseconds():
    assert objective_of("interactive") == INTERACTIVE
    assert objective_of("800:50") == Objective(name="800:50", first_token_seconds=0.8, seconds_per_token=0.05)


@pytest.mark.parametrize("text", ["fast", "800", "800:50:1", "0:50", "800:-1", "nan:5"])
def test_objective_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="--slo"):
        objective_of(text)


# The greatest rate -------------------------------------------------------------------------------------------------


class Limited:
    """A server that meets the objective up to a rate."""

    def __init__(self, up_to):
        self.rates = []
        self._up_to = up_to

    def __call__(self, load):
        self.rates.append(load.per_second)
        seconds = 0.1 if load.per_second <= self._up_to else 9.0
        figures = figures_of([Answer(0.0, seconds, seconds + 0.1)] * 100, objective=INTERACTIVE)
        return RateStep(arrivals_per_second=load.per_second, figures=figures)


@pytest.mark.parametrize("up_to", [1.0, 2.3, 7.0, 15.0])
def test_search_finds_the_greatest_rate_within_five_percent(up_to):
    server = Limited(up_to)
    found = search_rate(server, 16.0)
    assert up_to / 1.05 <= found.greatest_rate <= up_to
    assert len(server.rates) == 7


def test_search_ends_where_the_lowest_rate_is_too_much():
    server = Limited(0.5)
    assert search_rate(server, 16.0).greatest_rate == 0.0
    assert server.rates == [1.0]


def test_rate_with_a_failed_request_is_not_within():
    answers = [Answer(0.0, 0.1, 0.2)] * 999 + [Failure(reason="no")]
    assert not RateStep(arrivals_per_second=1.0, figures=figures_of(answers, objective=INTERACTIVE)).is_within


def test_rate_without_an_answer_is_not_within():
    assert not RateStep(arrivals_per_second=1.0, figures=None, first_failure="no").is_within
