"""What a change of a server's speed is attributed to."""

from __future__ import annotations

import pytest

from summarybench.analysis.attribution import Attribution
from summarybench.analysis.served_attribution import refined_for_server, server_differences
from summarybench.core.outcomes import Cause
from summarybench.runs.run_file import Entry

HELD = Attribution(cause=Cause.CODE, detail="probes held")


def served(first=0.1, later=0.01, **facts):
    usual = {"engine_version": "1", "command": "vllm", **facts}
    info = {
        "served": {
            **usual,
            "time_to_first_token_seconds": {"p50": first, "p90": None, "p99": None},
            "seconds_per_output_token": {"p50": later, "p90": None, "p99": None},
        }
    }
    return Entry(name="test_server[x]", extra_info=info, seconds=(1.0,))


@pytest.mark.parametrize(
    ("now", "cause", "said"),
    [
        (served(engine_version="2"), Cause.CODE, "the server's version or flags differ; probes held"),
        (served(command="vllm --quantization fp8"), Cause.CODE, "the server's version or flags differ"),
        (served(first=0.3), Cause.UNKNOWN, "requests waited longer: TTFT +200%, while the time per later token held (+0.0%)"),
        (served(first=0.05), Cause.UNKNOWN, "requests waited less long: TTFT -50%"),
        (served(first=0.3, later=0.03), Cause.UNKNOWN, "the server's version and flags are the same; probes held"),
        (served(first=0.11), Cause.UNKNOWN, "the server's version and flags are the same"),
        (served(command=""), Cause.UNKNOWN, "the server's version is the same, and its flags are unknown; probes held"),
        (served(command="", engine_version="2"), Cause.CODE, "the server's version or flags differ"),
    ],
)  # fmt: skip
def test_change_is_the_servers_its_queues_or_unknown(now, cause, said):
    found = refined_for_server(HELD, [now], [served()])
    assert found.cause is cause
    assert said in found.detail


@pytest.mark.parametrize("cause", [Cause.GPU, Cause.HOST, Cause.UNKNOWN, Cause.WORKLOAD])
def test_what_the_probes_explain_stays(cause):
    found = Attribution(cause=cause, detail="probes moved along")
    assert refined_for_server(found, [served(engine_version="2")], [served()]) is found


def test_engines_of_this_process_keep_their_attribution_and_have_no_server():
    entry = Entry(name="test_summarize[x]", extra_info={}, seconds=(1.0,))
    assert refined_for_server(HELD, [entry], [entry]) is HELD
    assert list(server_differences(entry, served())) == []


def test_differences_are_the_version_and_the_command():
    now = served(engine_version="2", command="vllm --quantization fp8")
    assert list(server_differences(now, served())) == [
        "server_engine_version 2 here, 1 there",
        "server_command vllm --quantization fp8 here, vllm there",
    ]


def test_unknown_command_line_of_a_running_server_is_no_difference():
    running, launched = served(command=""), served()
    assert [*server_differences(running, launched), *server_differences(launched, running)] == []
    found = refined_for_server(HELD, [running], [running])
    assert (found.cause, found.detail) == (
        Cause.UNKNOWN,
        "the server's version is the same, and its flags are unknown; probes held",
    )


def test_server_without_medians_has_no_queue():
    assert "version and flags are the same" in refined_for_server(HELD, [served(first=None)], [served()]).detail
