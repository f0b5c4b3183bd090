"""--profile: what it sets, what the user's options replace, and what is refused."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest

from summarybench.catalogue.published import published_by_mlperf
from summarybench.core.outcomes import InputError
from summarybench.runs.profile_record import describe_profile
from summarybench.session.document_options import document_options_of
from summarybench.session.options import all_options
from summarybench.session.profiles import chosen_profile, with_profile


def options(**given: Any) -> Namespace:
    return Namespace(**{each.key: each.default for each in all_options()} | given)


def test_without_a_profile_nothing_changes():
    given = options()
    assert with_profile(given) is given
    assert chosen_profile(given) is None


def test_the_profile_sets_documents_limits_and_objective():
    found = with_profile(options(profile="mlperf-cnndm"))
    assert (found.max_prompt_tokens, found.max_new_tokens, found.slo) == (2048, 128, "server")
    assert str(document_options_of(found).dataset).startswith("abisee/cnn_dailymail")
    assert document_options_of(found).dataset.split == "validation"
    assert chosen_profile(options(profile="mlperf-cnndm")).overridden == ()


def test_options_of_the_user_replace_the_profile_s_and_are_said():
    given = options(profile="mlperf-cnndm", max_new_tokens=16, slo="800:50", documents_file="mine.parquet")
    found = with_profile(given)
    assert (found.max_prompt_tokens, found.max_new_tokens, found.slo, found.dataset) == (2048, 16, "800:50", None)
    assert describe_profile(chosen_profile(given).as_record()) == (
        "profile mlperf-cnndm: MLPerf-shaped, not a submission; --max-new-tokens 16 instead of 128, --slo 800:50 instead of "
        "server, --documents-file mine.parquet instead of --dataset cnn_dailymail; no reference scores were given "
        "(--reference-rouge), so quality is not checked"
    )


def test_reference_scores_are_given_in_percent_or_by_name():
    given = options(profile="mlperf-cnndm", reference_rouge="42.9865,20.1235,29.9881,-", reference_length=300.0)
    found = chosen_profile(given).as_record()["reference"]
    assert (round(found["rouge1"], 6), round(found["rouge2"], 6), found["characters"]) == (0.429865, 0.201235, 300.0)
    assert (round(found["rougeL"], 6), found["rougeLsum"]) == (0.299881, None)
    known = chosen_profile(options(profile="mlperf-cnndm", reference_rouge="llama3.1-8b")).as_record()["reference"]
    assert (round(known["rougeLsum"], 5), round(known["rougeL"], 6), known["characters"]) == (
        0.35793,
        0.244957,
        610.985,
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": "mlperf"}, "--profile mlperf: no such profile; there is mlperf-cnndm"),
        (
            {"profile": "mlperf-cnndm", "reference_rouge": "0.38,0.15,0.24,0.35"},
            "--reference-rouge 0.38,0.15,0.24,0.35: give ROUGE-1",
        ),
        ({"profile": "mlperf-cnndm", "reference_rouge": "nan,2,2,2"}, "--reference-rouge nan,2,2,2: give ROUGE-1"),
        ({"profile": "mlperf-cnndm", "reference_rouge": "38,15,35"}, "--reference-rouge 38,15,35: give ROUGE-1"),
        ({"profile": "mlperf-cnndm", "reference_rouge": "-,-,-,-"}, "--reference-rouge -,-,-,-: give ROUGE-1"),
        ({"reference_rouge": "llama3.1-8b"}, "--reference-rouge is for --profile; give it too"),
        (
            {"profile": "mlperf-cnndm", "reference_length": 5.0},
            "--reference-length is for --reference-rouge; give it too",
        ),
        (
            {"profile": "mlperf-cnndm", "reference_rouge": "llama3.1-8b", "reference_length": float("nan")},
            "--reference-length nan: give the mean characters",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(given, message):
    with pytest.raises(InputError) as error:
        chosen_profile(options(**given))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_published_rows_say_where_and_when_they_were_measured():
    assert [str(each) for each in published_by_mlperf()] == [
        "H200, FP8: 64.5 documents/s Offline (Llama-3.1-8B, MLPerf Inference v5.1, 2025-09-09)",
        "H100, vLLM, FP8: 45.1 documents/s Offline (Llama-3.1-8B, MLPerf Inference v5.1, 2025-09-09)",
    ]
