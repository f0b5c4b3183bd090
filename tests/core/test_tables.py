"""Tables of the package: what is read, and what is said about an entry that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from summarybench.core.outcomes import InputError
from summarybench.core.tables import PACKAGE, entry_of, read_table, shown

WHERE = "models.toml: [tiny]"


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    layers: int
    threshold: float = 6.0
    is_compiled: bool = False
    dtype: str | None = None
    families: frozenset[str] = field(default=frozenset())
    config: Mapping[str, Any] = field(default_factory=dict)


def test_a_table_becomes_a_dataclass_with_its_defaults():
    assert entry_of(Entry, {"name": "tiny", "layers": 2}, WHERE) == Entry(name="tiny", layers=2)


def test_whole_numbers_become_floats_and_lists_become_sets():
    values = {"name": "tiny", "layers": 2, "threshold": 0, "families": ["t4", "t4"], "config": {"a": 1}}
    found = entry_of(Entry, values, WHERE)
    assert found == Entry(name="tiny", layers=2, threshold=0.0, families=frozenset({"t4"}), config={"a": 1})
    assert isinstance(found.threshold, float)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 3}, "unknown key 'layer' (with the value 3); use one of name, layers, threshold"),
        ({"name": None}, "name: None must be a string"),
        ({"layers": "two"}, "layers: 'two' must be an integer"),
        ({"layers": True}, "layers: True must be an integer"),
        ({"layers": 2.5}, "layers: 2.5 must be an integer"),
        ({"is_compiled": 1}, "is_compiled: 1 must be true or false"),
        ({"dtype": 16}, "dtype: 16 must be a string"),
        ({"families": ["t4", 4]}, "families: 4 must be a string"),
        ({"families": "t4"}, "families: 't4' must be a list"),
        ({"config": 1}, "config: 1 must be a table"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file_key_and_value(change, said):
    with pytest.raises(InputError) as raised:
        entry_of(Entry, {"name": "tiny", "layers": 2, **change}, WHERE)
    assert str(raised.value).startswith(f"{WHERE}: {said}")


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match=r"^models.toml: \[tiny\]: the key 'layers' is missing; set it to an integer$"):
        entry_of(Entry, {"name": "tiny"}, WHERE)


def test_an_entry_that_is_no_table_is_refused():
    with pytest.raises(InputError, match="must be a table of keys and values, not 4"):
        entry_of(Entry, 4, WHERE)


def test_keys_that_another_reader_takes_can_be_ignored():
    values = {"name": "tiny", "layers": 2, "rope_parameters": {"rope_theta": 1.0}}
    assert entry_of(Entry, values, WHERE, ignored=["rope_parameters"]) == Entry(name="tiny", layers=2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"models\.toml: cannot be read \(No such file or directory\)$"):
        read_table(tmp_path / "models.toml")


@pytest.mark.parametrize("content", ["[tiny", "a = \xff"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "models.toml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"models.toml: cannot be read as TOML \("):
        read_table(path)


def test_a_file_of_the_package_is_named_from_the_packages_folder():
    assert shown(PACKAGE / "catalogue" / "models.toml") == "summarybench/catalogue/models.toml"
