"""Whole sessions against a scripted server: what is measured, what each misbehaviour becomes, and what is compared."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import Project, newest_results
from tests.scripted_server import HOSTILE, serving

REAL_TIME = """
    from tests.fakes import leave_out_pages, pretend_avx512, probes

    leave_out_pages()
    pretend_avx512()

    def load_model():
        '''No model is loaded here: the server has it.'''
"""
NAME = "my-model-server-concurrency1"


@pytest.fixture
def served(project: Project) -> Project:
    project.use(REAL_TIME)
    return project


def measure(project: Project, address: str, *arguments: str, **environment: str):
    usual = ("-m", "server", "--server", address, "--document-source", "embedded", "--max-new-tokens", "12")
    small = () if "--documents" in arguments else ("--documents", "4")
    few = () if "--concurrency" in arguments else ("--concurrency", "1")
    return project.bench(*usual, *small, *few, *arguments, **environment)


def test_each_concurrency_is_an_experiment_with_the_servers_counts_and_latencies(served):
    with serving() as server:
        session = measure(served, server.address, "--concurrency", "1,2,all", "--rounds", "2")
    assert session.exit_code == 0, session.output
    infos = session.by_experiment
    assert list(infos) == [NAME, "my-model-server-concurrency2", "my-model-server-all-at-once"]
    for name, in_flight in zip(infos, (1, 2, 4), strict=True):
        info = infos[name]
        assert (info["batch_size"], info["served"]["concurrency"]) == (in_flight, in_flight)
        assert info["generated_tokens"] == [12] * 4
        assert info["served"]["requests"] == 8
        assert info["served"]["failed_requests"] == 0
        rounds = info["sample_rounds"]
        assert [each["generated_tokens"] for each in rounds] == [48, 48]
        seconds = sum(each["seconds"] for each in rounds)
        assert info["generated_tokens_per_second"] == pytest.approx(96 / seconds)
        assert info["documents_per_second"] == pytest.approx(8 / seconds)
        first_tokens = info["served"]["time_to_first_token_seconds"]
        assert 0 < first_tokens["p50"] < info["served"]["end_to_end_seconds"]["p50"]
        assert first_tokens["p90"] is None  # eight requests carry none
        assert 0 < info["served"]["mean_in_flight"] <= in_flight
    assert infos["my-model-server-all-at-once"]["served"]["changed_summaries"] == 0


def test_profiler_adds_no_round(served):
    with serving() as server:
        session = measure(served, server.address, "--rounds", "2", "--benchmark-cprofile=tottime")
        counted = server.counted
    assert session.exit_code == 0, session.output
    info = session.by_experiment[NAME]
    assert counted == 1 + 3 * 4  # one to warm up, two rounds of four documents, and one of the profiler
    assert (len(info["sample_rounds"]), info["served"]["requests"]) == (2, 8)
    assert session.run["benchmarks"][0]["stats"]["rounds"] == 2


def test_what_is_scored_is_the_text_that_was_timed(served):
    with serving() as server:
        session = measure(served, server.address)
        asked = [body for path, _, body in server.requests if path == "/v1/chat/completions"]
    rows = [json.loads(line) for line in (session.folder / "results/latest/journal.jsonl").read_text().splitlines()]
    summaries = [each["summary"] for each in rows if each.get("summary")]
    assert len(summaries) == 4
    assert all(any(each in body["messages"][0]["content"] for body in asked) for each in summaries)
    assert len(session.by_experiment[NAME]["rouge1_scores"]) == 4


def test_workload_says_who_answers_and_who_renders_the_prompt(served):
    with serving(owned_by="vllm", version="0.24.0") as server:
        session = measure(served, server.address)
    settings = session.by_experiment[NAME]["workload_settings"]["loader_settings"]
    assert settings == {
        "engine": "vllm",
        "engine_version": "0.24.0",
        "served_model": "my-org/My-Model",
        "prompt": "chat",
        "temperature": 0.0,
        "seed": 0,
    }
    assert session.by_experiment[NAME]["weights"] == "server"


def test_eight_rounds_of_one_engine_and_version_are_compared(served):
    rounds = ("--rounds", "8")
    with serving(owned_by="vllm", version="1") as server:
        first = measure(served, server.address, *rounds, "--benchmark-save=main")
        assert first.exit_code == 0, first.output
        info = measure(served, server.address, *rounds).by_experiment[NAME]
    assert info["change"]["documents"] == 8
    assert "8 rounds" in info["verdict_detail"]
    with serving(owned_by="vllm", version="2") as server:
        other = measure(served, server.address, *rounds).by_experiment[NAME]
    assert other["change"] is None
    assert "engine_version 2 here, 1 there" in other["verdict_detail"]


def test_prompt_cache_has_no_prompt_of_an_earlier_pass_or_session(served):
    with serving(owned_by="vllm") as server:
        for _ in range(2):
            assert measure(served, server.address, "--rounds", "2").exit_code == 0
        asked = [body for _, _, body in server.requests if body and body["max_tokens"] > 1]
    cached_by = [(body["cache_salt"], body["messages"][0]["content"]) for body in asked]
    assert len(cached_by) >= 2 * 2 * 4
    assert len(set(cached_by)) == len(cached_by)


def test_label_replaces_the_version_so_that_versions_are_compared(served):
    labelled = ("--rounds", "8", "--server-label", "mine")
    with serving(owned_by="vllm", version="1") as server:
        assert measure(served, server.address, *labelled, "--benchmark-save=main").exit_code == 0
    with serving(owned_by="vllm", version="2") as server:
        info = measure(served, server.address, *labelled).by_experiment["my-model-server-mine-concurrency1"]
    assert info["change"]["documents"] == 8
    assert info["served"]["engine_version"] == "2"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (500, "HTTP 500 Internal Server Error: scripted 500"),
        (429, "HTTP 429 Too Many Requests: scripted 429"),
        ("cut", "the connection broke"),
        ("malformed", "malformed answer"),
        ("redirect", "redirected to another address, which is refused"),
        ("huge", "exceeded the"),
        ("no usage", "the server does not count tokens"),
        ("overcount", "the server counts 13 generated tokens, but was asked for at most 12"),
        ("silent", "silent for 2 s"),
        ("drip", "silent for 2 s"),
    ],
)
def test_failed_request_is_one_line_and_the_finished_documents_are_kept(served, fault, said):
    with serving(faults={"3": fault}) as server:
        session = measure(served, server.address, "--server-timeout", "2")
    assert session.exit_code == 1, session.output
    (outcome,) = session.run["outcomes"]
    assert outcome["outcome"] == "failed"
    assert outcome["detail"].startswith("1 of 4 requests failed: http://127.0.0.1:")
    assert said in outcome["detail"]
    assert "Traceback" not in session.output
    info = session.by_experiment[NAME]
    assert len(info["document_ids"]) == 3
    assert info["served"]["failed_requests"] == 1


def test_round_without_an_answer_is_named_with_the_first_failure(served):
    faults = {"5": 500} | {str(number): 503 for number in range(6, 20)}  # one to warm up, then four documents a round
    with serving(faults=faults) as server:
        session = measure(served, server.address, "--rounds", "3")
    (outcome,) = session.run["outcomes"]
    assert outcome["detail"].startswith("all 4 requests of round 2 failed: http://")
    assert outcome["detail"].endswith("HTTP 500 Internal Server Error: scripted 500")


def test_server_that_refuses_everything_is_one_line(served):
    with serving(faults={"*": 503}) as server:
        session = measure(served, server.address)
    assert session.exit_code == 1
    assert "all 4 requests failed: " in session.run["outcomes"][0]["detail"]
    assert "Traceback" not in session.output


def test_empty_answers_are_answers_and_fail_as_broken_output(served):
    with serving(faults={"*": "empty"}) as server:
        session = measure(served, server.address)
    assert session.exit_code == 1
    assert "4 of 4 summaries are empty or repeating" in session.run["outcomes"][0]["detail"]


def test_hostile_text_is_inert_in_every_output(served):
    served.use(REAL_TIME.replace("    leave_out_pages()\n", ""))
    with serving(faults={"*": "hostile"}, model="x\x1b[2J<script>alert(2)</script>") as server:
        session = measure(served, server.address)
    results = session.folder / "results" / "latest"
    page, markdown = ((results / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "\x1b" not in session.output + markdown + page
    assert "<script>alert" not in page
    assert "<script>alert" not in markdown
    assert HOSTILE not in session.output


def test_unreachable_server_is_wrong_input(served, one_error_line):
    session = measure(served, "http://127.0.0.1:9/v1")
    assert session.exit_code == 4
    assert "--server http://127.0.0.1:9/v1/models: no server answers" in one_error_line(session)


def test_unreachable_server_whose_model_is_named_is_unavailable(served):
    session = measure(served, "http://127.0.0.1:9/v1", "--server-model", "my-org/My-Model")
    assert session.exit_code == 11
    assert "no server answers" in session.run["outcomes"][0]["detail"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--server-command", "vllm"), "--server and --server-command: give the address"),
        (("--api-key-env", "NO_SUCH_KEY"), "--api-key-env NO_SUCH_KEY: the variable is not set"),
        (("--api-key-env", "sk-a-key-itself"), "--api-key-env: the variable is not set or empty; give the name"),
        (("--api-key-env", "LINES"), "--api-key-env LINES: the key contains a line break"),
        (("--server-label", "A B"), "--server-label 'A B': give lower-case letters"),
    ],
)
def test_contradicting_options_are_wrong_input(served, one_error_line, arguments, said):
    with serving() as server:
        session = measure(served, server.address, *arguments, LINES="sk-a-key-itself\n")
    assert session.exit_code == 4, session.output
    assert said in one_error_line(session)
    assert "sk-a-key-itself" not in session.output


def test_same_server_twice_is_no_fleet(served, one_error_line):
    session = measure(served, "http://127.0.0.1:9/v1", "--server", "http://127.0.0.1:9/v1/")
    assert session.exit_code == 4
    assert "--server http://127.0.0.1:9/v1: given 2 times" in one_error_line(session)


def test_key_that_the_server_repeats_is_hidden_whatever_its_variable_is_called(served, one_error_line):
    with serving(faults={"*": "echo key"}) as server:
        session = measure(served, server.address, "--api-key-env", "MINE", MINE="correct-horse-9")
    assert session.exit_code == 1, session.output
    assert "HTTP 401 Unauthorized: no account has the key ***" in session.output
    files = [path.read_bytes() for path in session.folder.rglob("*") if path.is_file()]
    assert not any(b"correct-horse-9" in each for each in (*files, session.output.encode()))


def test_device_of_a_remote_server_has_baselines_of_its_own(served, one_error_line):
    remote = ("--server-device", "nvidia-h200", "--rounds", "8")
    with serving() as server:
        stored = measure(served, server.address, *remote, "--benchmark-save=main")
        assert [path.parent.name for path in stored.stored] == ["nvidia-h200"], stored.output
        assert json.loads(stored.stored[0].read_bytes())["machine_info"]["device_memory_bytes"] is None
        info = measure(served, server.address, *remote).by_experiment[NAME]
        assert info["change"]["documents"] == 8
        other = measure(served, server.address, *remote, "-m", "server or embedded")
    assert other.exit_code == 4
    assert "measures this machine, and not nvidia-h200" in one_error_line(other)


def test_runs_of_the_servers_own_machine_and_of_another_one_are_compared_in_both_directions(served):
    rounds = ("--rounds", "8")
    with serving() as server:
        local = measure(served, server.address, *rounds, "--benchmark-save=local").stored[0]
        remote = measure(
            served, server.address, *rounds, "--server-device", local.parent.name, "--benchmark-save=remote"
        )
        assert remote.by_experiment[NAME]["change"]["documents"] == 8, remote.output
        assert " of 0001_local.json [" in remote.output
        local.unlink()
        again = measure(served, server.address, *rounds)
        assert again.by_experiment[NAME]["change"]["documents"] == 8, again.output
        assert " of 0002_remote.json [" in again.output


def test_assumed_noise_of_another_machines_gpu_is_that_of_gpus(served):
    rounds = ("--rounds", "8")
    with serving() as server:
        local = measure(served, server.address, *rounds, "--benchmark-save=local").stored[0]
        run = json.loads(local.read_bytes())
        run["machine_info"]["driver"] = "580.95.05"
        local.write_text(json.dumps(run), encoding="utf-8")
        session = measure(served, server.address, *rounds, "--server-device", local.parent.name)
    assert " of 0001_local.json [" in session.output
    assert "noise: processes 5.0% assumed" in session.output


def test_baseline_of_another_device_in_the_folder_of_the_named_one_is_incomparable(served):
    rounds = ("--rounds", "8")
    with serving() as server:
        local = measure(served, server.address, *rounds, "--benchmark-save=local").stored[0]
        name = json.loads(local.read_bytes())["machine_info"]["device"]
        local.parent.rename(local.parent.parent / "nvidia-h200")
        session = measure(served, server.address, *rounds, "--server-device", "nvidia-h200")
    assert session.by_experiment[NAME]["verdict"] == "INCOMPARABLE"
    assert f"0001_local.json was measured on another device: {name} there, nvidia-h200 here" in session.output


def test_device_of_a_server_that_the_suite_starts_is_known(served, one_error_line):
    session = served.bench("-m", "server", "--server-device", "nvidia-h200")
    assert session.exit_code == 4
    assert "--server-device is for --server" in one_error_line(session)


def test_concurrency_that_is_none_is_wrong_input(served):
    session = measure(served, "http://127.0.0.1:9/v1", "--concurrency", "0")
    assert session.exit_code == 4
    assert "'0': give numbers of at least 1 or 'all'" in session.output


def test_key_is_sent_and_stored_nowhere(served):
    with serving() as server:
        session = measure(served, server.address, "--api-key-env", "MY_KEY", MY_KEY="sk-very-secret")
        keys = {headers.get("Authorization", headers.get("authorization")) for _, headers, _ in server.requests}
    assert session.exit_code == 0, session.output
    assert keys == {"Bearer sk-very-secret"}
    files = [path.read_bytes() for path in session.folder.rglob("*") if path.is_file()]
    assert not any(b"sk-very-secret" in each for each in (*files, session.output.encode()))


def test_open_loop_and_sweep_are_experiments_with_goodput_and_a_greatest_rate(served):
    with serving() as server:
        session = measure(
            served, server.address, "--rate", "50", "--sweep", "--slo", "60000:60000", "--concurrency", "all"
        )
    assert session.exit_code == 0, session.output
    infos = session.by_experiment
    assert list(infos) == [f"my-model-server-{end}" for end in ("all-at-once", "rate50", "sweep")]
    arriving, swept = infos["my-model-server-rate50"], infos["my-model-server-sweep"]
    assert arriving["served"]["arrivals_per_second"] == 50.0
    assert arriving["workload_settings"]["loader_settings"]["arrivals_per_second"] == 50.0
    assert arriving["served"]["within_objective"] == 1.0
    assert arriving["served"]["goodput_per_second"] == pytest.approx(arriving["documents_per_second"])
    search = swept["served"]["rate_search"]
    assert search["saturated_documents_per_second"] == swept["documents_per_second"]
    assert [each["is_within"] for each in search["steps"]] == [True] * 7
    assert search["greatest_rate_per_second"] == max(each["arrivals_per_second"] for each in search["steps"])


def test_search_goes_on_below_a_rate_without_an_answer(served):
    # Four documents to warm up, four in the round and four at the lowest rate; then nothing is answered at the next rate.
    faults = {str(number): 503 for number in range(13, 17)}
    with serving(faults=faults) as server:
        session = measure(served, server.address, "--sweep", "--slo", "60000:60000", "--rounds", "1", "-k", "sweep")
    assert session.exit_code == 0, session.output
    info = session.by_experiment["my-model-server-sweep"]
    assert info["served"]["failed_requests"] == 0
    search = info["served"]["rate_search"]
    assert [each["is_within"] for each in search["steps"]] == [True, False, *[True] * 5]
    lowest, failed = search["steps"][:2]
    assert lowest["first_failure"] is None
    assert failed["first_failure"].endswith("HTTP 503 Service Unavailable: scripted 503")
    assert (failed["documents_per_second"], failed["within_objective"]) == (0.0, 0.0)
    assert failed["time_to_first_token_seconds"] == {"p50": None, "p90": None, "p99": None}
    assert search["greatest_rate_per_second"] < failed["arrivals_per_second"]
    (line,) = [each for each in session.output.splitlines() if "503" in each]
    assert line.startswith("my-model-server-sweep: requests failed at ")


def test_server_that_answers_nothing_in_a_search_leaves_the_measurement(served):
    faults = {str(number): 503 for number in range(9, 100)}
    with serving(faults=faults) as server:
        session = measure(served, server.address, "--sweep", "--rounds", "1", "-k", "sweep")
    assert "Traceback" not in session.output
    search = session.by_experiment["my-model-server-sweep"]["served"]["rate_search"]
    assert (search["greatest_rate_per_second"], len(search["steps"])) == (0.0, 1)
    assert "HTTP 503 Service Unavailable: scripted 503" in session.output


BESIDE_ENGINES = """
    import time
    import pytest
    from summarybench.machine.clock import Clock
    from tests.fakes import FakeModel, FakeTime, pretend_avx512, probes

    pretend_avx512()

    class RealTime(FakeTime):
        def pass_by(self, seconds):
            time.sleep(seconds / 1000)

        clock = Clock(lambda: None)

    TIME = RealTime()

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: FakeModel(experiment, TIME, summary="a few words of a summary")
"""


@pytest.mark.slow
def test_report_shows_servers_beside_engines_and_latency_against_throughput(served):
    served.use(BESIDE_ENGINES)
    with serving(model="HuggingFaceTB/SmolLM2-135M-Instruct") as server:
        options = ("--server", server.address, "--documents", "4", "--max-new-tokens", "12", "--concurrency", "1,2")
        session = served.bench_in_own_python("-m", "server or embedded", "-k", "server or 4-bit", *options)
    assert session.exit_code == 0, session.output
    results = session.folder / "results" / "latest"
    page, markdown = ((results / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    table = session.output.partition("Engines and servers, same documents")[2].partition("Device")[0]
    for text in (table, markdown.partition("Engines and servers, same documents")[2]):
        assert "4-bit" in text
        assert "concurrency2" in text
    assert "Latency against throughput" in page
    assert "server, concurrency 2: " in page  # the tooltip of its point


def test_fleet_shares_the_documents_and_has_a_scaling_efficiency(served):
    with serving() as one, serving() as other:
        session = measure(served, one.address, "--server", other.address, "--concurrency", "2")
        counted = one.counted, other.counted
    assert session.exit_code == 0, session.output
    info = session.by_experiment["my-model-server-concurrency2"]
    # 4 documents in a round, and 2 to warm up; the first server has its 2 documents twice alone, too.
    assert counted == (2 + 1 + 4, 2 + 1)
    fleet = info["served"]["fleet"]
    assert fleet["servers"] == 2
    assert fleet["scaling_efficiency"] == pytest.approx(
        info["documents_per_second"] / 2 / fleet["documents_per_second_alone"]
    )
    assert info["workload_settings"]["loader_settings"]["servers"] == 2


def test_fleet_whose_first_server_does_not_answer_alone_fails_with_its_measurement_kept(served):
    faults = {str(number): 503 for number in range(4, 20)}  # the first one's part to warm up is 1, and of the round 2
    with serving(faults=faults) as one, serving() as other:
        session = measure(served, one.address, "--server", other.address, "--concurrency", "2", "--rounds", "1")
    assert session.exit_code == 1
    (outcome,) = session.run["outcomes"]
    assert outcome["outcome"] == "failed"
    assert outcome["detail"].startswith("all 2 requests to the fleet's first server alone failed: http://")
    assert outcome["detail"].endswith("HTTP 503 Service Unavailable: scripted 503")
    info = session.by_experiment["my-model-server-concurrency2"]
    assert info["served"]["failed_requests"] == 0
    assert info["served"]["fleet_failure"] == outcome["detail"]
    assert "fleet" not in info["served"]
    assert "Traceback" not in session.output


def test_fleet_of_two_models_is_wrong_input(served, one_error_line):
    with serving() as one, serving(model="another/model") as other:
        session = measure(served, one.address, "--server", other.address)
        assert session.exit_code == 4
        assert f"--server {other.address}: offers another/model, but {one.address} offers" in one_error_line(session)
        named = measure(served, one.address, "--server", other.address, "--server-model", "my-org/My-Model")
    assert "does not offer my-org/My-Model, but another/model; one fleet serves one model" in named.output


def test_fleet_of_two_engines_is_wrong_input(served):
    with serving(owned_by="vllm", version="1") as one, serving(owned_by="vllm", version="2") as other:
        session = measure(served, one.address, "--server", other.address)
    assert session.exit_code == 4
    assert "one fleet serves one model with one engine" in session.output


def test_overhead_of_the_client_is_measured_against_a_bare_loop(served):
    with serving(owned_by="vllm") as server:
        session = measure(served, server.address, "-m", "server and overhead")
        asked = [body for path, _, body in server.requests if path == "/v1/chat/completions"]
    name = "my-model-server"
    info = session.by_experiment[name]  # whether the client is fast enough is no matter of this machine
    assert list(session.by_experiment) == [name]
    assert info["overhead"]["typical"]["documents"] == 4
    assert info["served_overhead"]["bare_first_token_seconds"] > 0
    assert info["served_overhead"]["client_cpu_share"] > 0
    # Which way of prompting works, two to warm up, four for each document, and 512 under load.
    assert len(asked) == 1 + 2 + 4 * 4 + 512
    salts = [each.pop("cache_salt") for each in asked if each["max_tokens"] > 1]
    assert len(set(salts[: 2 + 4 * 4])) == 2 + 4 * 4  # a prompt cache helps neither side
    bodies = {json.dumps(each, sort_keys=True) for each in asked if each["max_tokens"] > 1}
    assert len(bodies) == 4  # both sides send the same four requests
    assert "client TTFT ms" in session.output


def test_profiler_adds_no_turn_to_the_overhead(served):
    with serving(owned_by="vllm") as server:
        session = measure(served, server.address, "-m", "server and overhead", "--benchmark-cprofile=tottime")
    assert "Traceback" not in session.output
    info = session.by_experiment["my-model-server"]
    assert info["overhead"]["typical"]["documents"] == len(info["generated_tokens"]) == 4


def test_overhead_is_kept_where_no_request_of_the_load_is_answered(served):
    faults = {str(number): 503 for number in range(1 + 2 + 4 * 4, 1000)}  # two to warm up, and four for each document
    with serving(owned_by="vllm", faults=faults) as server:
        session = measure(served, server.address, "-m", "server and overhead")
    info = session.by_experiment["my-model-server"]
    assert info["overhead"]["typical"]["documents"] == 4
    assert info["served_overhead"]["client_cpu_share"] is None
    (line,) = [each for each in session.output.splitlines() if "503" in each]
    assert line.startswith("my-model-server: no request of the load was answered: http://")
    assert "Traceback" not in session.output


def test_secret_in_a_command_is_refused_before_anything_is_stored(served, one_error_line):
    session = served.bench(
        "-m", "server", "--server-command", "vllm serve {model} --port {port} --api-key sk-very-secret"
    )
    assert session.exit_code == 4
    assert "--server-command: leave out --api-key and its value" in one_error_line(session)
    assert not (served.folder / "results").exists()


def test_kind_runs_only_when_named(served):
    served.use("")
    listed = served.bench("--collect-only", "-q").output
    assert "test_server[" not in listed


# Servers that the session starts --------------------------------------------------------------------------------------


def scripted_command(**script) -> str:
    return f"{sys.executable} -m tests.scripted_server {{port}} '{json.dumps(script)}'"


def launch(project: Project, command: str, *arguments: str):
    embedded = ("-m", "server and embedded", "--server-command", command, "--documents", "3", "--max-new-tokens", "8")
    return project.bench_in_own_python(*embedded, "--concurrency", "1,2", *arguments)


@pytest.mark.slow
def test_started_server_is_measured_with_our_tokens_and_ended(served):
    served.use("from tests.fakes import leave_out_pages, pretend_avx512, probes\nleave_out_pages()\npretend_avx512()\n")
    session = launch(served, scripted_command(owned_by="vllm", version="0.24.0", chat_only=False))
    assert session.exit_code == 0, session.output
    infos = session.by_experiment
    assert list(infos) == [f"smollm2-135m-instruct-server-concurrency{number}" for number in (1, 2)]
    first, second = infos.values()
    assert first["workload_settings"]["loader_settings"]["prompt"] == "tokens"
    assert first["served"]["prompts_counted_otherwise"] == 0
    assert first["peak_memory_bytes"] > 1_000_000
    assert first["load_seconds"] == second["load_seconds"]  # one server for both


@pytest.mark.slow
def test_server_that_dies_in_a_round_is_the_reason(served):
    served.use("from tests.fakes import leave_out_pages, pretend_avx512, probes\nleave_out_pages()\npretend_avx512()\n")
    session = launch(served, scripted_command(faults={"3": "die"}))
    assert session.exit_code != 0
    details = [each["detail"] for each in session.run["outcomes"]]
    assert any("the server ended with exit code 3" in each for each in details), details
    assert "Traceback" not in session.output


@pytest.mark.slow
def test_server_that_has_died_is_started_again_for_the_next_experiment(served):
    served.use("from tests.fakes import leave_out_pages, pretend_avx512, probes\nleave_out_pages()\npretend_avx512()\n")
    # Two to warm up and three documents; then one and three. The fifth request may take the one beside it along.
    session = launch(served, scripted_command(faults={"5": "die"}), "--concurrency", "2,1", "--rounds", "1")
    outcomes = {each["experiment"]: each for each in session.run["outcomes"]}
    died, fine = (outcomes[f"smollm2-135m-instruct-server-concurrency{number}"] for number in (2, 1))
    assert died["outcome"] == "failed"
    assert re.match(
        r"[12] of 3 requests failed: the server ended with exit code 3; its log \(.*\) is empty", died["detail"]
    )
    assert fine["outcome"] == "passed", fine["detail"]
    assert len(session.by_experiment["smollm2-135m-instruct-server-concurrency1"]["document_ids"]) == 3


@pytest.mark.slow
def test_program_that_is_not_there_is_unavailable_and_tried_once(served):
    served.use("from tests.fakes import leave_out_pages, pretend_avx512, probes\nleave_out_pages()\npretend_avx512()\n")
    session = launch(served, "no-such-server --port {port}")
    assert session.exit_code == 11
    details = {each["detail"] for each in session.run["outcomes"]}
    assert len(details) == 1
    assert "no-such-server: No such file or directory" in details.pop()


def test_interrupted_session_ends_at_once_and_keeps_what_it_had_finished(served):
    with serving(seconds_to_first_token=0.2) as server:
        arguments = [
            *("-m", "server", "--server", server.address, "--document-source", "embedded", "--max-new-tokens", "12"),
            *("--documents", "4", "--concurrency", "1,2", "--rounds", "40"),
        ]
        process = served.start(*arguments, stdout=subprocess.PIPE)
        while server.counted < 10:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert server.counted < 100
    run = json.loads((served.folder / "results" / "latest" / "run.json").read_text(encoding="utf-8"))
    assert [each["is_final"] for each in run["outcomes"]] == [False, False]


def test_killed_session_is_resumed_with_what_it_had_finished(served):
    with serving(seconds_to_first_token=0.05) as server:
        arguments = [
            *("-m", "server", "--server", server.address, "--document-source", "embedded", "--max-new-tokens", "12"),
            *("--documents", "4", "--concurrency", "1,2", "--rounds", "4"),
        ]
        process = served.start(*arguments, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (
            journal := newest_results(served.folder) / "journal.jsonl"
        ).exists() or '"outcome"' not in journal.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        resumed = served.bench(*arguments, "--resume", "results/latest")
    assert resumed.exit_code == 0, resumed.output
    assert set(resumed.by_experiment) == {NAME, "my-model-server-concurrency2"}
    assert resumed.by_experiment[NAME]["carried_from"]


@pytest.mark.slow
def test_random_weights_need_only_a_shape_and_are_kept_at_the_full_length(served):
    served.use("from tests.fakes import leave_out_pages, pretend_avx512, probes\nleave_out_pages()\npretend_avx512()\n")
    session = launch(
        served,
        f"{scripted_command(owned_by='vllm', version='1', chat_only=False)} {{shape}}",
        *("--weights", "synthetic", "--concurrency", "1"),
    )
    assert session.exit_code == 0, session.output
    (info,) = session.by_experiment.values()
    assert info["weights"] == "synthetic"
    assert info["rouge1"] is None
    settings = info["workload_settings"]["loader_settings"]
    assert (settings["full_length"], settings["prompt"]) == (True, "tokens")


@pytest.mark.slow
def test_embedded_model_is_served_without_any_option(served):
    served.use("from tests.fakes import leave_out_pages, probes\nleave_out_pages()\n")
    session = served.bench_in_own_python(
        *(
            "-m",
            "server",
            "--documents",
            "2",
            "--max-new-tokens",
            "4",
            "--max-prompt-tokens",
            "64",
            "--concurrency",
            "1,2",
        )
    )
    assert session.exit_code == 0, session.output
    infos = session.by_experiment
    assert list(infos) == [f"smollm2-135m-instruct-server-concurrency{number}" for number in (1, 2)]
    for info in infos.values():
        settings = info["workload_settings"]["loader_settings"]
        assert (settings["engine"], settings["prompt"]) == ("transformers", "text")
        assert info["served"]["prompts_counted_otherwise"] == 0
        assert info["generated_tokens"] == [4, 4]


def test_stream_that_arrives_all_at_once_is_said_to_come_from_a_buffer(served):
    said = "the parts of an answer arrived all at once, so TTFT, TPOT and goodput are not the server's"
    with serving(seconds_per_token=0.0, is_buffered=True) as server:
        buffered = measure(served, server.address)
    with serving() as server:
        streamed = measure(served, server.address)
    assert f"{NAME}: {said}" in " ".join(buffered.output.split())
    assert said not in " ".join(streamed.output.split())
