from dataclasses import fields, replace

import pytest

from summarybench.runs.workload import Workload, differences

WORKLOAD = Workload(
    model="llama2-7b-chat",
    revision="f5db02d",
    weights="hub",
    loader="4-bit",
    loader_settings={"dtype": "float16", "double_quantization": False},
    prompt_template="0123456789abcdef",
    document_source="wikilingua",
    document_revision="ea3db35",
    max_prompt_tokens=2048,
    max_new_tokens=100,
    batch_size=1,
)


def test_equal_workloads_have_one_fingerprint_whatever_the_order_of_settings():
    reordered = dict(reversed(WORKLOAD.loader_settings.items()))
    assert replace(WORKLOAD, loader_settings=reordered).fingerprint == WORKLOAD.fingerprint


def test_the_fingerprint_stays_what_it_was_in_stored_baselines():
    assert WORKLOAD.fingerprint == "9243bcb0e1afabed7258ae34d255952c7b542db35b6a5e6e4027562c730f9813"


def test_english_and_one_process_are_left_out_and_other_languages_are_stated():
    assert WORKLOAD.as_dict().keys().isdisjoint({"language", "processes"})
    assert replace(WORKLOAD, language="de").as_dict()["language"] == "de"


@pytest.mark.parametrize("name", [field.name for field in fields(Workload)])
def test_every_field_changes_the_fingerprint(name):
    value = getattr(WORKLOAD, name)
    other = {"dtype": "float32"} if name == "loader_settings" else value + type(value)(1)
    assert replace(WORKLOAD, **{name: other}).fingerprint != WORKLOAD.fingerprint


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        pytest.param({"a": 1, "b": {"c": 2}}, {"b": {"c": 2}, "a": 1}, [], id="equal"),
        pytest.param(
            {"max_new_tokens": 48}, {"max_new_tokens": 100}, ["--max-new-tokens 48 here, 100 there"], id="flat"
        ),
        pytest.param(
            {"loader_settings": {"dtype": "float16", "threshold": 6.0}},
            {"loader_settings": {"dtype": "float32", "threshold": 6.0}},
            ["dtype float16 here, float32 there"],
            id="nested",
        ),
        pytest.param({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a 1 here, 2 there", "b 1 here, 2 there"], id="sorted"),
        pytest.param({"revision": "a1"}, {"revision": "b2"}, ["the model's weights or tokenizer changed"], id="digest"),
        pytest.param(
            {"model_folders": {"x": "a1"}},
            {"model_folders": {"x": "b2"}},
            ["the files of x changed"],
            id="files",
        ),
        pytest.param({"threads": 2}, {}, ["threads 2 here, None there"], id="missing-there"),
        pytest.param({"language": "de"}, {}, ["--language de here, en there"], id="default-there"),
        pytest.param({}, {"threads": 2}, ["threads None here, 2 there"], id="missing-here"),
    ],
)
def test_each_difference_is_named_with_both_values(now, before, expected):
    assert differences(now, before) == expected


def test_workloads_differ_in_what_was_replaced():
    now, before = replace(WORKLOAD, max_new_tokens=48).as_dict(), WORKLOAD.as_dict()
    assert differences(now, before) == ["--max-new-tokens 48 here, 100 there"]
