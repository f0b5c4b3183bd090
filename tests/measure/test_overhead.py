import math

import pytest
from fakes import FakeModel, FakeTime

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.core.outcomes import JudgementError
from summarybench.measure.overhead import Overhead, _Interleaved, assert_harness_costs_nothing
from summarybench.runs.facts import describe_overhead
from summarybench.stats.changes import WITHIN_ONE_PROCESS, paired_change
from summarybench.stats.timings import Timing
from summarybench.stats.typical_change import typical_change

DOCUMENTS = 20
HICCUP = 50.0


def overhead_of(harness_seconds, bare_seconds):
    harness = [Timing(tokens=100, seconds=seconds) for seconds in harness_seconds]
    bare = [Timing(tokens=100, seconds=seconds) for seconds in bare_seconds]
    return Overhead(change=paired_change(harness, bare, WITHIN_ONE_PROCESS), typical=typical_change(harness, bare))


def typical(**other):
    return {
        "ratio": 0.999,
        "low": 0.99,
        "high": 1.01,
        "confidence": 0.95,
        "lower_bound": 0.985,
        "bound_confidence": 0.99,
        "documents": 12,
    } | other


def facts(**other):
    return {"ratio": 0.978, "low": 0.933, "high": 1.024, "confidence": 0.95, "typical": typical(**other)}


# The rule ------------------------------------------------------------------------------------------------------------


def test_a_harness_that_costs_nothing_passes():
    assert_harness_costs_nothing(overhead_of([10.0] * DOCUMENTS, [10.0] * DOCUMENTS))


def test_a_cost_that_a_hiccup_hides_from_all_tokens_fails_by_the_typical_document():
    overhead = overhead_of([12.5] * DOCUMENTS, [10.0] * (DOCUMENTS - 1) + [10.0 + HICCUP])
    assert overhead.change.upper_bound(0.99) > 0.99
    with pytest.raises(JudgementError) as caught:
        assert_harness_costs_nothing(overhead)
    interval = overhead.change.interval()
    assert str(caught.value) == (
        "the harness keeps less than 0.99 of a bare loop's tok/s: "
        f"1.0000 [{interval.low:.4f}, {interval.high:.4f}] over all tokens, 0.8000 [0.8000, 0.8000] in the typical "
        "document; a one-sided 99% upper bound of either below 0.99 fails; "
        "look at what `LoadedModel.generate` does that `generate_bare` does not"
    )


def test_a_cost_of_fewer_than_half_of_the_documents_fails_by_all_tokens():
    overhead = overhead_of([10.0] * 24 + [11.0] * 16, [10.0] * 40)
    assert overhead.typical.upper_bound(0.99) == 1.0
    with pytest.raises(JudgementError, match=r"keeps less than 0\.99 of a bare loop's tok/s: 0\.9615 "):
        assert_harness_costs_nothing(overhead)


def test_six_documents_have_no_bound_of_the_typical_one_to_fail_by():
    overhead = overhead_of([12.5] * 6, [10.0] * 5 + [10.0 + HICCUP])
    assert overhead.typical.upper_bound(0.99) is None
    assert_harness_costs_nothing(overhead)


# What is told --------------------------------------------------------------------------------------------------------


def test_the_run_file_has_both_ratios():
    info = overhead_of([10.0] * DOCUMENTS, [9.0] * DOCUMENTS).as_extra_info()
    assert {key: value for key, value in info.items() if key != "typical"} == pytest.approx(
        {"ratio": 0.9, "low": 0.9, "high": 0.9, "confidence": 0.95}
    )
    assert info["typical"] == pytest.approx(
        typical(ratio=0.9, low=0.9, high=0.9, lower_bound=0.9, documents=DOCUMENTS), rel=1e-12
    )


def test_too_few_documents_have_no_interval_of_the_typical_one():
    found = overhead_of([10.0] * 5, [10.0] * 5).as_extra_info()["typical"]
    assert (found["ratio"], found["low"], found["high"], found["lower_bound"]) == (1.0, None, None, None)


def test_a_line_has_both_ratios_and_what_they_show():
    assert describe_overhead(facts(lower_bound=0.99)) == (
        "the harness keeps 0.9780 [0.9330, 1.0240] over all tokens, 0.9990 [0.9900, 1.0100] in the typical document "
        "of a bare loop's tok/s: at least 0.99 shown (one-sided 99%)"
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"lower_bound": 0.9899}, "(one-sided 99%); about 13 documents would, if they differ as these do"),
        # A bound twice as far away as 0.99: half as wide with four times the documents.
        ({"lower_bound": 0.9811}, "(one-sided 99%); about 48 documents would, if they differ as these do"),
        ({"ratio": 0.99, "lower_bound": 0.98}, "at least 0.99 not shown, the ratio itself is not above it"),
        ({"ratio": 0.97, "lower_bound": None}, "at least 0.99 not shown, the ratio itself is not above it"),
        (
            {"low": None, "high": None, "lower_bound": None, "documents": 5},
            "0.9990 [–] in the typical document of a bare loop's tok/s: "
            "at least 0.99 not shown: fewer than 7 documents show nothing",
        ),
    ],
)
def test_where_it_is_not_shown_the_line_says_what_would(found, told):
    assert describe_overhead(facts(**found)).endswith(told)


# Interleaved ---------------------------------------------------------------------------------------------------------


class Told(FakeModel):
    """Notes which way each call went."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls = []

    def generate(self, prepared, max_new_tokens, on_first_token):
        self.calls.append("harness")
        return super().generate(prepared, max_new_tokens, on_first_token)

    def generate_bare(self, prepared, max_new_tokens):
        self.calls.append("bare")
        return FakeModel.generate(self, prepared, max_new_tokens, lambda: None)


def test_each_document_is_passed_over_once_untimed_and_then_harness_bare_bare_harness():
    time = FakeTime()
    loaded = Told(EXPERIMENTS[0], time)
    model = _Interleaved(loaded, time.clock, 4)
    model.generate(model.prepare([[1, 2, 3, 4]]), 4, lambda: None)
    assert loaded.calls == ["harness"]
    loaded.calls.clear()
    for _ in range(2 * 4):
        model.generate(model.prepare([[1, 2, 3, 4]]), 4, lambda: None)
    assert loaded.calls == ["bare", "harness", "bare", "bare", "harness"] * 2
    assert len(model.bare_seconds) == 4


def test_an_equally_fast_bare_loop_takes_exactly_what_the_harness_takes():
    time = FakeTime()
    model = _Interleaved(FakeModel(EXPERIMENTS[0], time), time.clock, 4)
    model.generate(model.prepare([[1, 2, 3, 4]]), 4, lambda: None)
    rounds = []
    for _ in range(4):
        prepared = model.prepare([[1, 2, 3, 4]])
        start = time.seconds
        model.generate(prepared, 4, lambda: None)
        rounds.append(time.seconds - start)
    assert math.fsum(rounds[1:3]) == pytest.approx(math.fsum(model.bare_seconds))
    assert rounds[0] == pytest.approx(model.bare_seconds[0])
