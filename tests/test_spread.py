"""The spread between runs: how replicates are found and pooled, and what a spread.json may hold."""

from __future__ import annotations

import pytest

from fixtures.outcomes import InputError
from fixtures.spread import ASSUMED_CPU_SPREAD, ASSUMED_GPU_SPREAD, DeviceSpread, read_spread
from fixtures.statistics import Spread


@pytest.mark.parametrize(("is_gpu", "assumed"), [(True, ASSUMED_GPU_SPREAD), (False, ASSUMED_CPU_SPREAD)])
def test_spread_is_assumed_by_kind_until_it_is_measured(tmp_path, is_gpu, assumed):
    assert read_spread(tmp_path, is_gpu=is_gpu) == DeviceSpread(runs=assumed)
    assert assumed.is_assumed
    (tmp_path / "spread.json").write_text('{"standard_deviation": 0.015, "degrees_of_freedom": 7, "runs": 8}')
    measured = read_spread(tmp_path, is_gpu=is_gpu)
    assert measured.runs == Spread(standard_deviation=0.015, degrees_of_freedom=7)
    assert not measured.runs.is_assumed


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{half",
        "[]",
        "null",
        "0.01",
        "{}",
        '{"standard_deviation": 0.01}',
        '{"degrees_of_freedom": 7}',
        '{"standard_deviation": null, "degrees_of_freedom": 7}',
        '{"standard_deviation": "wide", "degrees_of_freedom": 7}',
        '{"standard_deviation": -0.01, "degrees_of_freedom": 7}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": 0}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": -1}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": null}',
        '{"standard_deviation": NaN, "degrees_of_freedom": 7}',
        '{"standard_deviation": Infinity, "degrees_of_freedom": 7}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": Infinity}',
    ],
)
def test_spread_that_is_none_is_refused_by_name(tmp_path, content):
    (tmp_path / "spread.json").write_text(content)
    with pytest.raises(InputError, match=r"spread\.json does not hold a measured spread .*; restore it or delete it"):
        read_spread(tmp_path, is_gpu=True)
