"""A run file that was damaged is refused with its key, or it reads to the same figures; it never fails in another way."""

from __future__ import annotations

import copy
import json
import random
from functools import cache

import pytest

from summarybench.analysis.judge import Judge
from summarybench.core.outcomes import InputError
from summarybench.core.strict_json import InvalidValueError
from summarybench.runs.baselines import StoredRun, save_baseline
from summarybench.runs.kind_facts import KIND, KindFacts, KindFigure, Unit
from summarybench.runs.run_file import entries_of, read_run, run_text
from summarybench.runs.validation import check_run
from tests.forked import ROOT
from tests.known_noise import KnownNoise
from tests.run_files import benchmark, faithfulness_of_documents, outcome, run_of

STORED = sorted((ROOT / "baselines").glob("*/0*.json"))
MUTATIONS = 40
"""For each stored run, seeded by its name."""
OTHER_TYPES = ({"a": 1}, ["a"], "text", None, True, 3.5)


def figures(path, run):
    """What is computed from a run: each experiment's rounds, texts and figures, and its comparison with itself."""
    stored = StoredRun(path=path, run=run)
    judge = Judge(environment=stored.environment, night="2026-11-29", noise=KnownNoise(), tolerance=0.05, slug="a-gpu")
    for entry in entries_of(run):
        found = judge.compare([entry], [stored])
        yield entry.name, list(entry.timings.items()), list(entry.first_token_seconds.items())
        yield list(entry.texts.items()), entry.broken_output, entry.rounds_are
        yield found.verdict, found.detail


def places(value, path=()):
    """The path of each key and list item inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@cache
def contents_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def is_experiment(place):
    return place[0] == "benchmarks" and len(place) <= 2


def damaged(run, generator):
    """A copy with one change: something is missing, of another type, too long or short, or an impossible number.

    Whole experiments stay: a run without one of them is a run too.
    """
    run = copy.deepcopy(run)
    *where, key = place = generator.choice([each for each in places(run) if not is_experiment(each)])
    parent = run
    for each in where:
        parent = parent[each]
    value = parent[key]
    changes = [lambda: parent.pop(key)]
    changes += [
        lambda other=other: parent.__setitem__(key, other) for other in OTHER_TYPES if type(other) is not type(value)
    ]
    if isinstance(value, list):
        changes += [value.clear, lambda: value.append(copy.deepcopy(value[-1]) if value else "x")]
    if isinstance(value, int | float) and not isinstance(value, bool):
        numbers = (float("nan"), float("inf"), 1e300, 10**30, -abs(value) - 1)
        changes += [lambda number=number: parent.__setitem__(key, number) for number in numbers]
    generator.choice(changes)()
    return run, place


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_damaged_run_is_refused_by_its_key_or_reads_to_the_same_figures(path, tmp_path):
    generator = random.Random(path.stem)
    expected = list(figures(path, read_run(path)))
    for _ in range(MUTATIONS):
        run, place = damaged(contents_of(path), generator)
        file = tmp_path / path.name
        file.write_text(json.dumps(run), encoding="utf-8")
        try:
            read = read_run(file)
        except InputError as error:
            message = str(error)
            assert message.startswith(f"{file} is not a run of this suite: "), place
            assert "\n" not in message
            assert names_the_key(message, place), (place, message)
        else:
            assert list(figures(path, read)) == expected, place


def names_the_key(message, place):
    """Whether the message names the innermost key, or what must agree with it."""
    key = next(each for each in reversed(place) if isinstance(each, str))
    agreeing = {"document_ids": "one per document", "batch_document_ids": "document", "rounds": "stats.data"}
    return key in message or agreeing.get(key, "batch_document_ids") in message


def scores_by_model(**scores):
    return {"kind": "nli", "source": "x", "digest": "d", "means": {}, "scores": scores}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generated_tokens": None}, "extra_info.generated_tokens is null, and must be a list"),
        ({"generated_tokens": [1.5] * 8}, "extra_info.generated_tokens[0] is 1.5, and must be an integer"),
        ({"generated_tokens": [True] * 8}, "extra_info.generated_tokens[0] is true, and must be an integer"),
        ({"generated_tokens": [10**30] * 8}, "must be at most 1e+18"),
        ({"cap_hits": -1}, "extra_info.cap_hits is -1, and must be at least 0"),
        ({"document_ids": ["a"] * 8}, "extra_info.document_ids names a document twice"),
        ({"document_ids": [""] * 8}, "extra_info.document_ids[0] is empty, and must not be"),
        ({"rouge1_scores": [0.5] * 7 + [1.1]}, "extra_info.rouge1_scores[7] is 1.1, and must be at most 1"),
        ({"rouge1_scores": []}, "extra_info.rouge1 is 0.25, with 0 items in rouge1_scores"),
        ({"attribution": {"cause": "MOON"}}, 'extra_info.attribution.cause is "MOON", and must be one of GPU, HOST'),
        ({"rouge1_interval": [0.1]}, "extra_info.rouge1_interval has 1 item, and must have 2"),
        ({"experiment": ""}, "extra_info.experiment is empty, and must not be"),
        (
            {"time_to_first_token_seconds": [2.5] * 8},
            "time_to_first_token_seconds[0] is 2.5, later than the end of its round",
        ),
        (
            {"degenerate": {"empty": 5, "repeating": 4}},
            "extra_info.degenerate counts more summaries than the 8 documents",
        ),
        (
            {"degenerate_document_ids": {"empty": ["x"], "repeating": []}},
            "names a document that is not among document_ids",
        ),
        (
            {"faithfulness": faithfulness_of_documents(coverage=[1.0] * 7)},
            "extra_info.faithfulness.coverage has 7 items, and must have one per document: 8",
        ),
        (
            {"summary_characters": [10] * 7},
            "extra_info.summary_characters has 7 items, and must have one per document: 8",
        ),
        (
            {"model_scores": {"nli": scores_by_model(entailment=[0.5] * 9)}},
            "extra_info.model_scores.nli.scores.entailment has 9 items, and must have one per document: 8",
        ),
        (
            {"faithfulness": faithfulness_of_documents(novel_dates=[0, 0, 1, 0, 0, 0, 0, 0])},
            "extra_info.faithfulness.novel_dates[2] is 1, and dates[2] is 0",
        ),
        (
            {"faithfulness": faithfulness_of_documents(names=[None] * 8)},
            "extra_info.faithfulness.novel_names[0] is 0, and names[0] is None",
        ),
        ({"weights_bytes": "x" * 99}, f'extra_info.weights_bytes is "{"x" * 59}…, and must be an integer'),
        ({"batch_document_ids": [["document 1"]] * 8}, "batch_document_ids must have each of document_ids once"),
        ({"kind": {"name": "toy", "unit": "batch"}}, "kind.unit is batch, but the experiment lacks batch_document_ids"),
        ({"kind": {"name": "toy", "unit": "week"}}, 'kind.unit is "week", and must be one of document, batch, round'),
        ({"kind": {"name": "toy", "compared_count": "words"}}, "extra_info.words is missing or no integer"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_value_that_cannot_be_is_named_with_its_key(changes, said):
    with pytest.raises(InvalidValueError) as refused:
        check_run(run_of(benchmark(**changes)))
    assert said in str(refused.value)
    assert str(refused.value).startswith("benchmarks[0].extra_info.")


@pytest.mark.parametrize("name", ["first_tokens", "steps", "drafted_tokens"])
def test_drafts_are_counted_for_each_document(name):
    run = read_run(ROOT / "baselines" / "nvidia-h200" / "0009_lookup.json")
    info = next(each["extra_info"] for each in run["benchmarks"] if "lookup" in each["extra_info"])
    info["lookup"][name].pop()
    with pytest.raises(
        InvalidValueError, match=rf"extra_info\.lookup\.{name} has 15 items, and must have one per document: 16"
    ):
        check_run(run)


def test_number_of_rounds_must_be_that_of_the_durations():
    one = benchmark()
    one["stats"]["data"].pop()
    with pytest.raises(
        InvalidValueError,
        match=r"benchmarks\[0\]\.stats\.data has 7 items, and must have one per document: document_ids has 8",
    ):
        check_run(run_of(one))


def test_numbers_that_json_does_not_have_are_refused_in_keys_that_nobody_declares():
    one = benchmark()
    one["stats"]["iqr"] = float("nan")
    with pytest.raises(InvalidValueError, match=r"benchmarks\[0\]\.stats\.iqr is nan, and must be a finite number"):
        check_run(run_of(one))


def test_outcome_of_another_version_is_refused_by_its_name():
    with pytest.raises(
        InvalidValueError, match=r'outcomes\[0\]\.outcome is "exploded", and must be one of passed, failed'
    ):
        check_run(run_of(benchmark(), outcomes=(outcome("x", "exploded"),)))


def test_keys_that_nobody_declares_are_kept(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(run_text(run_of(benchmark(words_per_summary=[3.0]))))
    assert read_run(path)["benchmarks"][0]["extra_info"]["words_per_summary"] == [3.0]


WORDS = KindFigure(key="words.mean", heading="words", unit="", format=".1f", meaning="Mean words of a summary.")
TOY = KindFacts(name="toy", unit=Unit.DOCUMENT, figures=(WORDS,)).as_record()


@pytest.mark.parametrize("words", [{"mean": 12.5}, {"mean": None}, {}, None])
def test_figure_that_a_kind_declares_may_be_unknown(words):
    check_run(run_of(benchmark(**{KIND: TOY, "words": words})))


def test_figure_that_a_kind_declares_must_fit_its_format():
    with pytest.raises(
        InvalidValueError, match=r'extra_info\.words\.mean is "many", which the kind\'s format does not fit'
    ):
        check_run(run_of(benchmark(**{KIND: TOY, "words": {"mean": "many"}})))


@pytest.mark.parametrize("mean", [["many"], [1.5, "many"], [[1.5]]])
def test_each_value_of_a_list_must_fit_the_format(mean):
    with pytest.raises(
        InvalidValueError, match=r"extra_info\.words\.mean is \[.* which the kind's format does not fit"
    ):
        check_run(run_of(benchmark(**{KIND: TOY, "words": {"mean": mean}})))


def test_figure_that_is_divided_first_must_fit_its_format_then():
    halves = KindFigure(key="halves", heading="halves", unit="", format="d", divisor=2, meaning="Pairs of words.")
    kind = KindFacts(name="toy", unit=Unit.DOCUMENT, figures=(halves,)).as_record()
    with pytest.raises(InvalidValueError, match=r"extra_info\.halves is 3, which the kind's format does not fit"):
        check_run(run_of(benchmark(**{KIND: kind, "halves": 3})))


def test_rounds_over_the_sample_are_any_kind_s(tmp_path):
    kind = KindFacts(name="toy", unit=Unit.ROUND).as_record()
    rounds = [{"seconds": 2.0, "generated_tokens": 300}] * 3
    one = benchmark(seconds=(2.0,) * 3, kind=kind, sample_rounds=rounds)
    run = run_of(one)
    check_run(run)
    (entry,) = entries_of(run)
    assert [(each.tokens, each.seconds) for each in entry.timings.values()] == [(300, 2.0)] * 3


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('"note": ' + "[" * 500 + "]" * 500, "more than 32 levels deep"),
        ('"note": ' + "[" * 100_000 + "]" * 100_000, "more than 32 levels deep"),
        ('"note": NaN', "extra_info.note is nan, and must be a finite number"),
        ('"note": -1e999', "extra_info.note is -inf, and must be a finite number"),
        ('"note": "\\ud800"', 'extra_info.note is "\\ud800", and must be valid Unicode'),
        ('"note": 1' + "0" * 30, "extra_info.note is 1000000000000000000000000000000, and must be at most 1e+18"),
        ('"note": 1' + "0" * 5000, "is not JSON"),
        ('"note": \x00', "is not JSON"),
    ],
    ids=["deep", "deeper-than-python", "nan", "infinity", "half-a-surrogate-pair", "huge", "too-huge", "nul"],
)
def test_what_json_should_not_hold_is_refused_in_one_line_even_in_keys_that_nobody_declares(tmp_path, written, said):
    path = tmp_path / "run.json"
    path.write_text(run_text(run_of(benchmark(note="here"))).replace('"note": "here"', written))
    with pytest.raises(InputError) as refused:
        read_run(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_experiment_and_outcome_that_a_run_has_twice_are_refused():
    with pytest.raises(
        InvalidValueError, match=r'benchmarks\[1\] measures "test_summarize\[llama2.*an earlier one does too'
    ):
        check_run(run_of(benchmark(), benchmark()))
    with pytest.raises(InvalidValueError, match=r"outcomes\[1\] has an outcome for"):
        check_run(run_of(benchmark(), outcomes=(outcome("x", "passed"), outcome("x", "failed"))))


def test_run_that_nobody_could_read_again_is_not_stored(tmp_path):
    with pytest.raises(InputError, match=r"not stored as a baseline: .*extra_info\.cap_hits is -1"):
        save_baseline(tmp_path / "a-gpu", "main", run_of(benchmark(cap_hits=-1)))
    assert not (tmp_path / "a-gpu").exists()
