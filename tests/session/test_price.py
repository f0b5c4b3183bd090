"""The price of a GPU-hour: stated by the run, and no condition of anything."""

from __future__ import annotations

from dataclasses import replace

from summarybench.session.config import resolve
from summarybench.session.opening import Selection, _facts_of
from tests.fakes import FakeGpu
from tests.kill_at_random import UNRESOLVED, settings_in


def config_with(price, tmp_path):
    settings = replace(settings_in(tmp_path, resume=None, save_as=None), gpu_hour_price=price)
    return resolve(settings, UNRESOLVED, FakeGpu())


def test_sessions_with_different_prices_have_the_same_conditions(tmp_path):
    free, priced = (config_with(price, tmp_path).conditions() for price in (None, 2.5))
    assert free == priced


def test_the_run_states_the_price_if_there_is_one(tmp_path):
    facts = [_facts_of(config_with(price, tmp_path), Selection(runnable={}), {}) for price in (None, 2.5)]
    assert [each.get("gpu_hour_price") for each in facts] == [None, 2.5]
