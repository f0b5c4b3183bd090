"""GPU families are data: what the table may hold, and what is derived from it."""

from __future__ import annotations

import pytest

from summarybench.core.outcomes import InputError
from summarybench.machine.families import GPU_FAMILIES, gpus_from, read_families


def families_file(folder, text):
    path = folder / "families.toml"
    path.write_text(text, encoding="utf-8")
    return path


L40S = "[l40s]\nproduct = 'L40S'\ncompute_capability = 8.9\ntitle = 'NVIDIA L40S'\n"


def test_a_family_is_one_entry(tmp_path):
    (found,) = read_families(families_file(tmp_path, L40S)).items()
    assert (found[0], found[1].compute_capability) == ("l40s", 8.9)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "[l40s]",
            "[cpu]",
            r"families.toml: \[cpu\]: 'cpu' must be a word of letters, digits and underscores, and neither",
        ),
        ("[l40s]", '["l-40"]', r"\[l-40\]: 'l-40' must be a word of letters, digits and underscores"),
        ("'L40S'", "'L40S('", r"\[l40s\]: product: 'L40S\(' must be a regular expression"),
        ("8.9", "'8.9'", r"\[l40s\]: compute_capability: '8.9' must be a number"),
        ("title", "titel", r"\[l40s\]: unknown key 'titel'"),
    ],
)
def test_a_wrong_family_is_named(tmp_path, before, after, said):
    with pytest.raises(InputError, match=said):
        read_families(families_file(tmp_path, L40S.replace(before, after)))


def test_only_gpus_before_compute_capability_8_lack_bfloat16():
    assert set(GPU_FAMILIES) - gpus_from(8.0) == {"t4", "v100"}
    assert gpus_from(9.0) == {"h100", "h200"}
