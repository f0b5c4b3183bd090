"""Names that become a part of a path, and links that lead out of a folder."""

from __future__ import annotations

import pytest

from summarybench.core.names import check_name, check_within
from summarybench.core.outcomes import InputError


@pytest.mark.parametrize("name", ["main", "0.9", "a_b-c", "überlauf", "x" * 100])
def test_plain_name_is_accepted(name):
    assert check_name(name, "NAME=") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-rf", "a/b", "../a", "/a", "a\n", "a\nb", "\x1b[31m", "a\x00", "a b", "x" * 101]
)
def test_name_that_is_more_than_one_part_of_a_path_is_refused(name):
    with pytest.raises(InputError, match="use only letters, digits, dots, dashes and underscores, at most 100"):
        check_name(name, "NAME=")


def test_link_is_followed_within_the_folder_only(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "latest").symlink_to("here")
    (inside / "away").symlink_to(outside)
    check_within(inside / "latest", inside)
    with pytest.raises(InputError, match=r"away/file leads to .*outside/file, out of .*inside; replace the link"):
        check_within(inside / "away" / "file", inside)
    with pytest.raises(InputError, match="out of"):
        check_within(inside / ".." / "outside", inside)
