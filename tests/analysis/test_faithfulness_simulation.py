"""The simulated rates of the faithfulness gate: what the documentation promises, and that they are those of the gate itself."""

from __future__ import annotations

import numpy as np
import pytest

from summarybench.analysis import faithfulness_simulation
from summarybench.analysis.faithfulness_change import NovelChange
from summarybench.analysis.faithfulness_simulation import TRUTHS, simulate_faithfulness
from summarybench.core.outcomes import QualityVerdict


@pytest.fixture(scope="module")
def rates():
    return list(simulate_faithfulness())


def test_no_session_fails_too_often_where_documents_are_independent(rates):
    # The standard error of a rate of 1% in 10,000 draws is 0.1%, and 36 times that of a rate of 1% ÷ 36 is 0.6%.
    independent = [each for each in rates if each.truth != TRUTHS[-1].name]
    assert len(independent) == 15
    assert max(each.false_failures[1] for each in independent) < 0.013
    assert max(each.false_failures[36] for each in independent) < 0.025
    assert min(each.coverage for each in independent) > 0.975


def test_documents_that_change_together_fail_too_often(rates):
    together = [each for each in rates if each.truth == TRUTHS[-1].name]
    assert max(each.false_failures[1] for each in together) > 0.05


def test_more_documents_and_larger_losses_are_found_more_often(rates):
    found = {each.documents: each.found for each in rates if each.truth == TRUTHS[1].name}
    assert found[8][0.4] < found[20][0.4] < found[100][0.4]
    assert found[100][0.1] < found[100][0.2] < found[100][0.4]


@pytest.mark.parametrize("truth", TRUTHS, ids=[each.how for each in TRUTHS])
def test_truths_are_without_a_loss(truth):
    generator = np.random.default_rng(0)
    changes = faithfulness_simulation.DRAW[truth.how](truth, 100, generator)
    assert abs(changes.mean()) < 0.003


def test_loss_that_is_added_is_the_net_loss():
    generator = np.random.default_rng(0)
    changes = faithfulness_simulation.DRAW["independent"](TRUTHS[1], 100, generator)
    lost = faithfulness_simulation._with_loss(changes, 0.2, generator)
    assert lost.mean() - changes.mean() == pytest.approx(0.2, abs=0.002)


def test_simulated_p_values_and_coverage_are_the_gate_s():
    changes = np.random.default_rng(1).integers(-1, 2, (60, 20))
    changes[0, :] = 0
    changes[1, :] = 1
    p_values = faithfulness_simulation._p_values(changes)
    covered = []
    for draw, p_value in zip(changes, p_values, strict=True):
        found = NovelChange(before=0, more=int((draw > 0).sum()), fewer=int((draw < 0).sum()), documents=20)
        if found.is_relevant:
            assert p_value == pytest.approx(found.p_value)
        assert (p_value <= 0.01) == (found.verdict is QualityVerdict.INFERIOR)
        covered.append(found.bounds.low <= 0 <= found.bounds.high)
    assert faithfulness_simulation._coverage(changes) == pytest.approx(np.mean(covered))
