"""Keys of the run file are declared once: the reader checks them, and the reference page shows them."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

import pytest

from summarybench.commands.docs_reference import reference_tables
from summarybench.core.strict_json import InvalidValueError
from summarybench.runs.declared_keys import Key, declared_keys
from summarybench.runs.device_files import HistoryFile, ReplicatesRecord, SpreadFile
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.schema import Benchmark, DocumentRecord, ExperimentRecord, Run, SessionRecord
from summarybench.runs.validation import check_record


class Inner(TypedDict):
    """Inside."""

    count: Annotated[int, Key("a number", unit="tokens")]


class Outer(Inner):
    """Outside."""

    inner: Annotated[list[Inner] | None, Key("some")]
    note: NotRequired[Annotated[str | int | None, Key("a note", at_least=None)]]


class Undeclared(TypedDict):
    """Without a meaning."""

    count: int


def test_keys_are_declared_with_type_unit_and_meaning_and_may_be_optional():
    assert [(each.name, each.is_required, each.key.unit) for each in declared_keys(Outer)] == [
        ("count", True, "tokens"),
        ("inner", True, ""),
        ("note", False, ""),
    ]


def test_key_without_a_meaning_is_refused():
    with pytest.raises(TypeError, match=r"Undeclared\.count has no Key: declare it as Annotated"):
        declared_keys(Undeclared)


@pytest.mark.parametrize(
    "record",
    [
        {"count": 1, "inner": None},
        {"count": 0, "inner": [{"count": 2}], "note": "x"},
        {"count": 0, "inner": [], "note": -3, "unknown": object},
        {"count": 0, "inner": [], "note": None},
    ],
)
def test_record_that_fits_its_declaration_is_accepted(record):
    check_record(record, Outer, "it")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], "it is [], and must be an object"),
        ({"inner": None}, "it.count is missing"),
        ({"count": 1}, "it.inner is missing"),
        ({"count": "1", "inner": None}, 'it.count is "1", and must be an integer'),
        ({"count": 1, "inner": [{"count": -2}]}, "it.inner[0].count is -2, and must be at least 0"),
        ({"count": 1, "inner": {}}, "it.inner is {}, and must be a list"),
        ({"count": 1, "inner": None, "note": 1.5}, "it.note is 1.5, and must be a string or an integer or null"),
        ({"count": 1, "inner": None, "note": float("inf")}, "it.note is inf, and must be a finite number"),
    ],
)
def test_record_that_does_not_fit_is_refused_by_its_key(record, said):
    with pytest.raises(InvalidValueError) as refused:
        check_record(record, Outer, "it")
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "record",
    [
        Run,
        Benchmark,
        ExtraInfo,
        SessionRecord,
        DocumentRecord,
        ExperimentRecord,
        SpreadFile,
        ReplicatesRecord,
        HistoryFile,
    ],
)
def test_reference_has_every_key_with_its_meaning(record):
    tables = reference_tables()
    text = tables["run-file"] + tables["journal"] + tables["device-files"]
    section = text.partition(f"### {record.__name__}\n")[2].partition("\n### ")[0]
    for declared in declared_keys(record):
        assert f"| `{declared.name}` |" in section
        assert declared.key.meaning in section
