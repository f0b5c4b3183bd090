"""Which experiments belong to which device."""

from __future__ import annotations

import pytest

from fixtures.device import GIB, Device
from fixtures.models import EXPERIMENTS
from fixtures.outcomes import InputError
from fixtures.selection import belongs, check_marker_expression


def gpu(family, gib):
    return Device(
        kind="cuda", name="A GPU", slug="a-gpu", family=family, memory_bytes=int(gib * GIB), compute_dtype="bfloat16"
    )


def belonging(device, *, named):
    return {each.name for each in EXPERIMENTS if belongs(each, device, named=named)}


def test_gpu_of_no_known_family_gets_whatever_fits_its_memory():
    assert belonging(gpu("gpu", 12), named=False) == {
        "llama2-7b-chat-8-bit",
        "llama2-7b-chat-4-bit",
        "mistral-7b-instruct-8-bit",
        "mistral-7b-instruct-4-bit",
        "llama2-7b-chat-8-bit-compiled",
        "llama2-7b-chat-4-bit-compiled",
        "llama2-7b-chat-w8a16-compiled",
        "mistral-7b-instruct-8-bit-compiled",
        "mistral-7b-instruct-4-bit-compiled",
        "mistral-7b-instruct-w8a16-compiled",
    }


def test_embedded_model_runs_on_a_gpu_only_when_named():
    unasked, named = (belonging(gpu("t4", 14.6), named=named) for named in (False, True))
    assert not any(name.startswith("smollm2") for name in unasked)
    assert named - unasked == {f"smollm2-135m-instruct-{loader}" for loader in ("default", "fp16", "8-bit", "4-bit")}


def test_experiment_that_cannot_fit_a_known_family_still_belongs_to_it():
    assert "llama2-7b-chat-default" in belonging(gpu("t4", 14.6), named=False)


@pytest.mark.parametrize("expression", ["", "t4", "a100 and mistral", "not (embedded or slow)"])
def test_known_markers_are_accepted(expression):
    check_marker_expression(expression, {"t4", "a100", "mistral", "embedded", "slow"})


def test_unknown_marker_without_a_neighbour_lists_what_there_is():
    with pytest.raises(InputError, match="there is no marker 'quantum'; choose from a100, a10g, cpu, embedded"):
        check_marker_expression("quantum", {"t4"})
