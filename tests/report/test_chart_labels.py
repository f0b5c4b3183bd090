"""Labels of charts fit into their margins."""

import pytest

from summarybench.report.charts.svg import CHARACTER_WIDTH, LABEL_GAP, wrapped_label


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (29, "fp16-compiled ×32 (batching)"),
        (19, "fp16-compiled ×32\n(batching)"),
        (10, "fp16-\ncompiled\n×32…"),
    ],
)
def test_a_label_is_wrapped_to_its_margin(columns, expected):
    found = wrapped_label("fp16-compiled ×32 (batching)", LABEL_GAP + columns * CHARACTER_WIDTH)
    assert found == expected
    assert max(map(len, found.split("\n"))) <= columns


def test_a_name_without_a_place_to_break_is_broken_all_the_same():
    assert wrapped_label("m" * 30, LABEL_GAP + 20 * CHARACTER_WIDTH) == f"{'m' * 20}\n{'m' * 10}"
