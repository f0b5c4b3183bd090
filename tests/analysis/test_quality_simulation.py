"""The simulated rates of the quality gate: what the documentation promises, and that they are those of the gate itself."""

from __future__ import annotations

import numpy as np
import pytest

from summarybench.analysis import quality_simulation
from summarybench.analysis.quality_change import judge, paired_difference
from summarybench.analysis.quality_simulation import paired_scores, simulate, simulate_floor
from summarybench.core.outcomes import QualityVerdict
from summarybench.runs.run_file import entries_of, read_run
from tests.forked import ROOT
from tests.run_files import benchmark, run_of

SCORED = ROOT / "baselines" / "nvidia-h100-80gb-hbm3" / "0005_embedded.json"


@pytest.fixture(scope="module")
def scored():
    return entries_of(read_run(SCORED))


@pytest.fixture(scope="module")
def rates(scored):
    return list(simulate(paired_scores(scored)))


def test_differences_are_those_of_the_loader_whose_summaries_differ_most(scored):
    default, four_bit = ({name: each.rouge1 for name, each in scored[place].texts.items()} for place in (0, 2))
    assert scored[2].extra_info["loader"] == "4-bit"
    assert paired_scores(scored) == [four_bit[name] - default[name] for name in default]


def test_without_two_loaders_of_the_same_documents_there_are_none():
    other = benchmark("llama2-7b-chat-fp16", document_ids=[f"other {number}" for number in range(8)])
    assert paired_scores(entries_of(run_of(benchmark()))) == []
    assert paired_scores(entries_of(run_of(benchmark(), other))) == []


def test_interval_covers_and_no_session_fails_too_often(rates):
    # The standard error of a rate of 1% in 20,000 draws is 0.07%: 0.2% is three of them.
    assert min(each.coverage for each in rates) > 0.94
    assert max(rate for each in rates for rate in each.false_failures.values()) < 0.012


def test_more_documents_find_more(rates):
    found = {each.documents: each.found for each in rates if each.share_changed == 1.0}
    assert found[8][0.03] < found[20][0.03] < found[100][0.03]
    assert found[100][0.03] > 0.9


def test_simulated_p_values_and_verdicts_are_the_gate_s():
    draws = np.random.default_rng(1).normal(-0.03, 0.08, (50, 8))
    draws[0] = -0.001  # within the margin
    p_values = quality_simulation._p_values(draws)
    for draw, p_value in zip(draws, p_values, strict=True):
        difference = paired_difference(list(draw), [0.0] * 8)
        if difference.mean <= -0.015:
            assert p_value == pytest.approx(difference.p_value)
        assert (p_value < 0.01) == (judge(difference) is QualityVerdict.INFERIOR)


def test_equal_model_is_rarely_below_a_floor(scored):
    scores = [each.rouge1 for each in scored[0].texts.values()]
    for each in simulate_floor(scores, 100):
        assert each.false_failures < 0.015
        assert each.found[0.1] < each.found[0.2]
