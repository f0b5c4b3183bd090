"""Where a series changes: dated to the value at which the new mean begins."""

from __future__ import annotations

import numpy as np

from summarybench.stats.change_points import change_points, shifts_at


def test_step_is_dated_to_its_first_value():
    assert change_points([5.0] * 10 + [4.0] * 10, 0.1) == [10]


def test_two_steps_are_two_change_points():
    assert change_points([5.0] * 8 + [4.0] * 8 + [4.5] * 8, 0.1) == [8, 16]


def test_noise_is_rarely_dated():
    rng = np.random.default_rng(3)
    assert sum(bool(change_points(list(rng.normal(0, 1, 40)), 1.0)) for _ in range(100)) <= 5


def test_few_values_have_no_change_point():
    assert change_points([1.0, 1.0, 9.0], 0.1) == []


def test_shift_is_the_difference_of_the_means_between_neighbouring_change_points():
    assert shifts_at([5.0, 5.0, 3.0, 3.0, 4.0], [2, 4]) == {2: -2.0, 4: 1.0}
