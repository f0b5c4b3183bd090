"""The spread between runs: how replicates are found and pooled, and what a spread.json may hold."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import asdict, replace
from statistics import stdev, variance

import pytest

from summarybench.analysis.noise import (
    ProbeNoise,
    add_replicates,
    groups_of,
    read_probe_noise,
)
from summarybench.commands import noise as replicate
from summarybench.core.outcomes import InputError
from summarybench.machine.environment import VERSIONS
from summarybench.runs.migration import migrated
from summarybench.stats.spread import pooled_spread, replicates_of
from summarybench.stats.timings import Timing
from tests.command import command
from tests.run_files import A100, MACHINE, benchmark, replicates, run_of

NAME = "llama2-7b-chat-4-bit"


def test_folder_without_replicates_has_no_noise_of_its_probes(tmp_path):
    assert read_probe_noise(tmp_path) == ProbeNoise()
    (tmp_path / "spread.json").write_text('{"standard_deviation": 0.015, "degrees_of_freedom": 7, "runs": 8}')
    assert read_probe_noise(tmp_path) == ProbeNoise()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{half",
        "[]",
        "null",
        "0.01",
        "{}",
        '{"standard_deviation": 0.01}',
        '{"degrees_of_freedom": 7}',
        '{"standard_deviation": null, "degrees_of_freedom": 7}',
        '{"standard_deviation": "wide", "degrees_of_freedom": 7}',
        '{"standard_deviation": -0.01, "degrees_of_freedom": 7}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": 0}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": -1}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": null}',
        '{"standard_deviation": NaN, "degrees_of_freedom": 7}',
        '{"standard_deviation": Infinity, "degrees_of_freedom": 7}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": Infinity}',
        '{"compiled": {}}',
        "[" * 100_000,
        '{"compiled": 0.01}',
        '{"compiled": {"standard_deviation": 0.01, "degrees_of_freedom": 0}}',
        '{"standard_deviation": 0.01, "degrees_of_freedom": 7, "compiled": {"standard_deviation": -1, "degrees_of_freedom": 7}}',
    ],
)
def test_spread_that_is_none_is_refused_by_name(tmp_path, content):
    (tmp_path / "spread.json").write_text(content)
    with pytest.raises(InputError, match=r"spread\.json does not hold a measured spread .*; restore it or delete it"):
        read_probe_noise(tmp_path)


def test_controls_and_deviations_of_documents_are_read_too(tmp_path):
    measured = {
        "standard_deviation": 0.015,
        "degrees_of_freedom": 7,
        "controls": {"a": 0.02},
        "control_work": {"a": 1000},
    }
    groups = [
        # 1 · 7 and 2 · 7 degrees for one experiment: (7 · 0.01² + 14 · 0.04²) / 21 = 0.0011
        replicates("x", (1, 2), document_deviation=0.01),
        replicates("x", (1, 2, 3), document_deviation=0.04),
        replicates("y", (1, 2), documents=20, document_deviation=0.03),
    ]
    (tmp_path / "spread.json").write_text(json.dumps(measured | {"replicates": groups}))
    found = read_probe_noise(tmp_path)
    assert (found.controls, found.control_work) == ({"a": 0.02}, {"a": 1000})
    assert found.document_deviations == {"x": pytest.approx(math.sqrt(0.0011)), "y": pytest.approx(0.03)}


@pytest.mark.parametrize(
    "more",
    [
        '"controls": null',
        '"controls": []',
        '"controls": {"a": "wide"}',
        '"control_work": {"a": "much"}',
        '"replicates": null',
        '"replicates": [1]',
        '"replicates": [{}]',
        *(
            f'"replicates": [{json.dumps(replicates("x", (1.0, 2.0), **facts))}]'
            for facts in (
                {"generated_tokens_per_second": [1.0]},
                {"generated_tokens_per_second": [1.0, 0.0]},
                {"speed_deviation": 1e300},
                {"documents": 8.5},
                {"controls": {"a": [1.0]}},
                {"control_work": {"a": 1.0}},
                {"tuned_kernels": [None]},
                {"host": 3},
            )
        ),
    ],
)
def test_replicates_that_are_none_are_refused_by_name(tmp_path, more):
    text = '{"standard_deviation": 0.01, "degrees_of_freedom": 7, ' + more + "}"
    (tmp_path / "spread.json").write_text(text)
    with pytest.raises(InputError, match=r"spread\.json does not hold a measured spread"):
        read_probe_noise(tmp_path)
    if "replicates" in more:
        with pytest.raises(InputError, match=r"spread\.json does not hold a measured spread"):
            add_replicates(tmp_path, [measured(2.0), measured(2.1)])
        assert (tmp_path / "spread.json").read_text() == text


# Replicates -----------------------------------------------------------------------------------------------------------


def measured(seconds, *, name=NAME, when=None, documents=8, machine=None, **info):
    """A run of one experiment with this many seconds a document: the first takes 1% more for each whole second of them."""
    data = (seconds * (1 + int(seconds) / 100), *(seconds,) * (documents - 1))
    made = run_of(benchmark(name, seconds=data, **info), **(machine or {}))
    return made | {"datetime": when or f"at {seconds}", "device": asdict(A100)}


def taken_apart(*runs):
    return replicates_of(
        [[Timing(tokens=100, seconds=each) for each in run["benchmarks"][0]["stats"]["data"]] for run in runs]
    )


def test_group_holds_what_the_two_way_layout_finds_and_where_it_was_measured():
    runs = [measured(2.0), measured(2.1), measured(3.0)]
    (group,) = groups_of(runs)
    found = taken_apart(*runs)
    assert group.pop("first_token") == {"speeds": pytest.approx([4.0] * 3), "document_deviation": pytest.approx(0)}
    assert group.pop("decode")["speeds"] == pytest.approx(
        [8 * 99 / (sum(run["benchmarks"][0]["stats"]["data"]) - 8 * 0.25) for run in runs]
    )
    assert group == {
        "test": "test_summarize",
        "host_id": MACHINE["host"],
        "experiment": NAME,
        "workload": "a workload",
        "weights": "hub",
        "max_new_tokens": 100,
        "host": MACHINE["host"],
        "versions": {name: MACHINE[name] for name in VERSIONS},
        "measured": ["at 2.0", "at 2.1", "at 3.0"],
        "documents": 8,
        "generated_tokens_per_second": [
            pytest.approx(800 / sum(run["benchmarks"][0]["stats"]["data"])) for run in runs
        ],
        "speed_deviation": pytest.approx(math.sqrt(found.speed_variance)),
        "document_deviation": pytest.approx(math.sqrt(found.document_variance)),
        "controls": {},
        "control_work": {},
    }
    assert found.document_variance > 0


@pytest.mark.parametrize(
    "other",
    [
        {"name": "llama2-7b-chat-fp16"},
        {"workload": "another workload"},
        {"machine": {"host": "another"}},
        *({"machine": {version: "another"}} for version in VERSIONS),
        {"verdict": "INVALID"},
        {"documents": 7},
    ],
    ids=["experiment", "workload", "host", *VERSIONS, "invalid", "fewer-than-8-documents"],
)
def test_runs_that_differ_are_no_replicates_of_each_other(other):
    assert list(groups_of([measured(2.0), measured(2.1, **other)])) == []
    assert [group["measured"] for group in groups_of([measured(2.0), measured(2.1, **other), measured(2.2)])] == (
        [["at 2.0", "at 2.2"]] if other != {"documents": 7} else []
    )


def test_only_documents_that_all_runs_share_are_counted():
    (group,) = groups_of([measured(2.0, documents=10), measured(2.1, documents=9)])
    assert group["documents"] == 9


def test_each_experiment_is_a_group_of_its_own():
    runs = [measured(seconds) for seconds in (2.0, 2.1)]
    for run, seconds in zip(runs, (4.0, 4.1), strict=True):
        run["benchmarks"] += measured(seconds, name="llama2-7b-chat-fp16")["benchmarks"]
    assert [group["experiment"] for group in groups_of(runs)] == [NAME, "llama2-7b-chat-fp16"]


def test_one_measurement_that_is_in_two_runs_is_one_replicate():
    # A file that is given twice, or what a resumed run carries: it would show no difference at all.
    again = measured(2.0, when="resumed")
    assert list(groups_of([measured(2.0), again])) == []
    assert [group["measured"] for group in groups_of([measured(2.0), again, measured(2.1)])] == [["at 2.0", "at 2.1"]]


def in_spread_json(folder, kind=None):
    """The noise that a spread.json sums up: of eager runs, or of the kind of compiled ones."""
    contents = json.loads((folder / "spread.json").read_text())
    found = contents if kind is None else contents.get(kind, {})
    return {key: found.get(key) for key in ("standard_deviation", "degrees_of_freedom")}


def spread_of_runs(*groups):
    found = pooled_spread([taken_apart(*runs) for runs in groups])
    return pytest.approx(
        {"standard_deviation": found.standard_deviation, "degrees_of_freedom": found.degrees_of_freedom}, rel=1e-9
    )


NOT_MEASURED = {"standard_deviation": None, "degrees_of_freedom": None}


def test_replicates_are_appended_and_the_spread_is_recomputed_from_all(tmp_path):
    first, second = [measured(2.0), measured(2.1)], [measured(3.0), measured(3.3), measured(3.1)]
    add_replicates(tmp_path, first)
    _, added = add_replicates(tmp_path, second)
    assert in_spread_json(tmp_path) == spread_of_runs(first, second)
    assert [group["measured"] for group in added] == [["at 3.0", "at 3.3", "at 3.1"]]
    contents = json.loads((tmp_path / "spread.json").read_text())
    assert (contents["schema"], len(contents["replicates"])) == (1, 2)


def test_host_with_replicates_enough_has_probes_of_its_own_and_others_have_the_devices(tmp_path):
    rates = (100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0)
    quiet = [measured(2.0 + number / 100, controls={"a": control(rate)}) for number, rate in enumerate(rates)]
    noisy = [
        measured(seconds, machine={"host": "a noisy one"}, controls={"a": control(rate)})
        for seconds, rate in ((2.0, 100.0), (3.0, 200.0))
    ]
    noise, _ = add_replicates(tmp_path, [*quiet, *noisy])
    assert pooled_spread([taken_apart(*quiet)]).degrees_of_freedom == pytest.approx(6.0, abs=0.1)
    here, noisy_one, unseen, unnamed = (noise.on(host) for host in (MACHINE["host"], "a noisy one", "never seen", None))
    assert here.controls == {"a": pytest.approx(stdev(map(math.log, rates)))}
    assert noisy_one == unseen == unnamed == noise
    assert noise.controls["a"] > 5 * here.controls["a"]


def test_noise_says_its_degrees_of_freedom_and_what_they_can_find(folder, capsys):
    runs = [
        write(folder / f"{number}.json", measured(2.0 + number / 100, when=f"2026-11-01T0{number}:00:00"))
        for number in range(7)
    ]
    assert command("noise")(["--from", *runs]) == 0
    noise, found, advice = capsys.readouterr().out.splitlines()[-3:]
    assert noise == (
        f"{NAME}: noise between processes 1.1% (measured, 6.0 degrees of freedom), between nights 2.0% (assumed, 4.0 degrees of freedom)"
    )
    assert re.fullmatch(
        f"{NAME}: with one stored run, one pass finds a slowdown of [0-9.]+% with 95% probability, "
        "and two passes that must agree find one of [0-9.]+%",
        found,
    )
    assert advice.endswith(
        ": smaller slowdowns are found once the noise between nights is measured: repeat this command on three more days, "
        "or store four nights"
    )


def test_noise_of_a_cpu_has_the_priors_that_compare_has(folder, capsys):
    cpu = {"device": asdict(replace(A100, kind="cpu", name="an EPYC", slug="an-epyc"))}
    at = {"machine": {"device": "an EPYC", "driver": None}}
    runs = [
        write(folder / f"{number}.json", measured(seconds, when=f"2026-11-01T0{number}:00:00+00:00", **at) | cpu)
        for number, seconds in enumerate((2.0, 2.1))
    ]
    assert command("noise")(["--from", *runs]) == 0
    said = capsys.readouterr().out
    process, night = re.search(r"between processes ([0-9.]+%) .* between nights ([0-9.]+%) ", said).groups()
    assert night == "5.0%"
    stored = folder / "baselines" / "an-epyc" / "0001_main.json"
    write(stored, measured(2.0, when="2026-11-01T00:00:00+00:00", **at) | cpu)
    later = write(folder / "later.json", measured(2.05, when="2026-11-02T00:00:00+00:00", **at) | cpu)
    command("compare")([later, stored])
    assert f"noise: processes {process} assumed, nights {night} assumed" in capsys.readouterr().out


def test_compiled_loaders_have_a_spread_of_their_own(tmp_path):
    eager = [measured(2.0), measured(2.6)]
    compiled = [
        measured(seconds, name="llama2-7b-chat-fp16-compiled", tuned_kernels="a") for seconds in (1.0, 1.01, 1.02)
    ]
    add_replicates(tmp_path, compiled)
    assert in_spread_json(tmp_path) == NOT_MEASURED, "nothing is known of eager runs"
    both, _ = add_replicates(tmp_path, eager)
    assert in_spread_json(tmp_path) == spread_of_runs(eager)
    assert in_spread_json(tmp_path, "compiled") == spread_of_runs(compiled)
    assert both.deviations_like("mistral-7b-instruct-bf16").keys() == {NAME}
    assert both.deviations_like("mistral-7b-instruct-fp16-compiled").keys() == {"llama2-7b-chat-fp16-compiled"}
    assert read_probe_noise(tmp_path) == both


@pytest.mark.parametrize("tuned", [("a", "a", "b"), ("a", "a", None), (None, None, None)])
def test_compiled_runs_without_the_same_kernels_are_kept_apart_from_those_with_them(tmp_path, tuned):
    name, seconds = "llama2-7b-chat-fp16-compiled", (1.0, 1.1, 1.3)
    alike = [measured(each, name=name, tuned_kernels="a", machine={"host": "one"}) for each in (1.0, 1.001, 1.003)]
    apart = [measured(each, name=name, tuned_kernels=kernels) for each, kernels in zip(seconds, tuned, strict=True)]
    add_replicates(tmp_path, apart)
    assert in_spread_json(tmp_path, "compiled") == NOT_MEASURED
    _, (group,) = add_replicates(tmp_path, alike)
    assert group["tuned_kernels"] == ["a", "a", "a"]
    assert in_spread_json(tmp_path, "compiled") == spread_of_runs(alike)
    assert in_spread_json(tmp_path, "compiled_tuned_apart") == spread_of_runs(apart)
    untold = json.loads((tmp_path / "spread.json").read_text())
    del untold["replicates"][0]["tuned_kernels"]  # as files were before runs told it
    (tmp_path / "spread.json").write_text(json.dumps(untold))
    add_replicates(tmp_path, alike)
    assert in_spread_json(tmp_path, "compiled") == spread_of_runs(alike)
    assert in_spread_json(tmp_path, "compiled_tuned_apart") == spread_of_runs(apart)


def test_run_that_is_in_the_file_already_is_not_counted_twice(tmp_path):
    runs = [measured(2.0), measured(2.1)]
    for _ in range(2):
        add_replicates(tmp_path, runs)
        assert in_spread_json(tmp_path) == spread_of_runs(runs)
    more = [*runs, measured(2.2)]
    add_replicates(tmp_path, more)
    assert in_spread_json(tmp_path) == spread_of_runs(more)


def control(rate, **work):
    return {"before": rate / 2, "after": rate * 2, "standard_deviation": 0.5} | (work or {"work": 10})


def test_deviations_of_the_controls_between_runs_are_pooled(tmp_path):
    # Each rate is the geometric mean of before and after.
    rates = {2.0: (100.0, 7.0), 2.1: (110.0, 7.0), 3.0: (90.0, 7.0), 3.1: (80.0, 7.0), 3.2: (120.0, 7.0)}
    runs = [
        measured(seconds, controls={"a": control(one), "b": control(other)}, workload=str(int(seconds)))
        for seconds, (one, other) in rates.items()
    ]
    spread, _ = add_replicates(tmp_path, runs)
    log_rates = [math.log(one) for one, _ in rates.values()]
    expected = math.sqrt((1 * variance(log_rates[:2]) + 2 * variance(log_rates[2:])) / 3)
    assert spread.controls == {"a": pytest.approx(expected), "b": pytest.approx(0, abs=1e-12)}
    assert spread.control_work == {"a": 10, "b": 10}


@pytest.mark.parametrize("work", [20, None])
def test_runs_whose_control_did_other_work_are_no_group_of_it(work):
    odd = control(1.1, work=work)
    if work is None:
        del odd["work"]
    controls = ({"a": control(1.0), "b": control(1.0)}, {"a": odd, "b": control(1.1)})
    for ordered in (controls, controls[::-1]):
        (group,) = groups_of([measured(2.0, controls=ordered[0]), measured(2.1, controls=ordered[1])])
        assert (group["controls"].keys(), group["control_work"]) == ({"b"}, {"b": 10})


def test_groups_of_other_work_than_the_newest_are_kept_and_not_pooled(tmp_path):
    older = [measured(each, controls={"a": control(each, work=1)}, workload="older") for each in (2.0, 2.9)]
    newer = [measured(each, controls={"a": control(each, work=16)}) for each in (3.0, 3.1)]
    first, _ = add_replicates(tmp_path, older)
    assert (first.controls, first.control_work) == ({"a": pytest.approx(stdev(map(math.log, (2.0, 2.9))))}, {"a": 1})
    untold = json.loads((tmp_path / "spread.json").read_text())
    untold["replicates"].append(dict(untold["replicates"][0], workload="from before works were told"))
    del untold["replicates"][-1]["control_work"]
    (tmp_path / "spread.json").write_text(json.dumps(untold))
    both, _ = add_replicates(tmp_path, newer)
    assert (both.controls, both.control_work) == ({"a": pytest.approx(stdev(map(math.log, (3.0, 3.1))))}, {"a": 16})
    assert len(json.loads((tmp_path / "spread.json").read_text())["replicates"]) == 3


def test_control_that_one_of_the_runs_lacks_is_left_out(tmp_path):
    runs = [measured(2.0, controls={"a": control(1.0), "b": control(1.0)}), measured(2.1, controls={"b": control(1.1)})]
    old = measured(3.1, workload="old")
    del old["benchmarks"][0]["extra_info"]["controls"]
    old = migrated(old)
    spread, _ = add_replicates(tmp_path, [*runs, measured(3.0, workload="old", controls={"a": control(1.0)}), old])
    assert spread.controls == {"b": pytest.approx(stdev([0.0, math.log(1.1)]))}


def test_nothing_measured_twice_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=rf"no experiment was measured at least twice .*: {NAME}: measured once$"):
        add_replicates(tmp_path / "folder", [measured(2.0)])
    assert not (tmp_path / "folder").exists()


FP16 = "llama2-7b-chat-fp16"


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ([measured(2.0, documents=2), measured(2.1, documents=2)], "2 documents, 8 are needed"),
        ([measured(2.0, documents=1), measured(2.1, documents=9)], "1 document in common, 8 are needed"),
        (
            [
                measured(seconds, workload=f"{limit} tokens", workload_settings={"max_new_tokens": limit})
                for seconds, limit in ((2.0, 8), (2.1, 12))
            ],
            "other options: --max-new-tokens 8 and 12",
        ),
        (
            [measured(2.0, workload="old", workload_settings={}), measured(2.1, workload_settings={})],
            "other options: not recorded",
        ),
        ([measured(2.0), measured(2.1, machine={"host": "another"})], "other hosts"),
        ([measured(2.0), measured(2.1, machine={"torch": "2.14.0"})], "other versions: torch 2.13.0 and 2.14.0"),
        (
            [
                measured(2.0, workload="old"),
                measured(2.1),
                measured(2.2, machine={"host": "another", "torch": "2.14.0"}),
            ],
            "other hosts and other versions: torch 2.13.0 and 2.14.0",
        ),
        ([measured(2.0), measured(2.0, when="again")], "measured once"),
        ([], "nothing was measured"),
        ([measured(2.0, verdict="INVALID"), measured(2.1, verdict="INVALID")], "INVALID in every run"),
    ],
)
def test_refusal_names_why_an_experiment_has_no_replicates(tmp_path, runs, why):
    with pytest.raises(InputError) as refused:
        add_replicates(tmp_path, runs)
    assert str(refused.value) == (
        f"no experiment was measured at least twice on one host with the same options and versions: {f'{NAME}: ' if runs else ''}{why}"
    )


def test_refusal_names_the_experiments_of_one_cause_together(tmp_path):
    once = measured(2.0)
    once["benchmarks"] += measured(2.0, name=FP16)["benchmarks"]
    with pytest.raises(InputError, match=rf": {NAME}, {FP16}: measured once$"):
        add_replicates(tmp_path, [once])


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*spread\.json"):
        add_replicates(tmp_path / "file", [measured(2.0), measured(2.1)])


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which results and baselines are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sessions(folder, monkeypatch):
    """Stands for processes that measure: each call takes the next item, a run to leave behind or a bare exit code."""
    calls, ends = [], []

    def run_benchmarks(arguments):
        calls.append(list(arguments))
        end = ends.pop(0)
        if isinstance(end, int):
            return end
        latest = folder / arguments[-1] / "latest"
        latest.mkdir(parents=True)
        (latest / "run.json").write_text(json.dumps(end))
        return 0

    monkeypatch.setattr(replicate, "run_benchmarks", run_benchmarks)
    return calls, ends


def in_file(folder):
    return json.loads((folder / "baselines" / A100.slug / "spread.json").read_text())


def write(path, run):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(run))
    return str(path)


def refused(capsys, code, *arguments):
    assert command("noise")(arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_runs_that_are_there_are_pooled(folder, capsys):
    runs = [measured(2.0), measured(2.1)]
    write(folder / "one" / "run.json", runs[0])
    assert command("noise")(["--from", "one", write(folder / "two.json", runs[1])]) == 0
    spread = pooled_spread([taken_apart(*runs)])
    assert in_file(folder)["standard_deviation"] == pytest.approx(spread.standard_deviation)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{NAME}: 49.9, 47.5 generated tok/s; between runs ")
    assert f"stored in baselines/{A100.slug}/spread.json" in lines


def test_runs_of_two_devices_go_into_two_folders(folder):
    other = {"device": asdict(A100) | {"slug": "tesla-t4"}}
    files = [
        write(folder / f"{number}.json", run)
        for number, run in enumerate([measured(2.0), measured(2.1), measured(3.0) | other, measured(3.1) | other])
    ]
    assert command("noise")(["--from", *files]) == 0
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("baselines/*/spread.json")}
    assert {slug: each["replicates"][0]["measured"] for slug, each in found.items()} == {
        A100.slug: ["at 2.0", "at 2.1"],
        "tesla-t4": ["at 3.0", "at 3.1"],
    }


def test_each_run_is_a_session_with_the_same_options_and_a_results_folder_of_its_own(folder, sessions):
    calls, ends = sessions
    ends += [measured(2.0), measured(2.1)]
    assert command("noise")(["--runs", "2", "--documents", "8", "-k", "4-bit"]) == 0
    assert [call[:-1] for call in calls] == [["--documents", "8", "-k", "4-bit", "--results-dir"]] * 2
    assert len({call[-1] for call in calls}) == 2
    assert in_file(folder)["replicates"][0]["measured"] == ["at 2.0", "at 2.1"]


@pytest.mark.parametrize("runs", ["1", "0", "-3"])
def test_fewer_than_two_runs_are_refused_before_anything_is_measured(sessions, capsys, runs):
    assert f"ERROR: --runs {runs}: give at least 2" in refused(capsys, 4, "--runs", runs)
    assert sessions[0] == []


@pytest.mark.parametrize("given", [["--documents", "2"], ["--documents=2"], ["--documents", "8", "--documents", "2"]])
def test_too_few_documents_are_refused_before_anything_is_measured(sessions, capsys, given):
    said = refused(capsys, 4, "--runs", "2", *given)
    assert said == "ERROR: --documents 2: noise needs at least 8 documents\n"
    assert sessions[0] == []


@pytest.mark.parametrize("given", [["--documents", "8"], ["--documents", "2", "--rounds", "8"], ["--documents", "few"]])
def test_other_numbers_of_documents_are_measured_or_left_to_pytest(sessions, given):
    sessions[1].extend([measured(2.0), measured(2.1)])
    assert command("noise")(["--runs", "2", *given]) == 0


def test_experiment_without_replicates_is_named_beside_those_that_have_them(folder, capsys):
    first, second = measured(2.0), measured(2.1)
    first["benchmarks"] += measured(3.0, name=FP16)["benchmarks"]
    assert command("noise")(["--from", write(folder / "1.json", first), write(folder / "2.json", second)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"no noise measured of {FP16}: measured once"


def test_run_that_measured_nothing_ends_it_with_its_number_and_exit_code(folder, sessions, capsys):
    sessions[1].extend([measured(2.0), 12])
    assert "ERROR: run 2 ended with exit code 12 before anything was measured" in refused(capsys, 4, "--runs", "3")
    assert not (folder / "baselines").exists()


@pytest.mark.parametrize("code", [2, 130])
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_interrupted_run_ends_it_with_130_and_says_what_to_do(sessions, capsys, monkeypatch, code, finished):
    monkeypatch.delenv("SUMMARYBENCH_STARTED_BY", raising=False)
    calls, ends = sessions
    ends += [measured(2.0 + number / 10) for number in range(finished)] + [code]
    said = refused(capsys, 130, "--runs", "3")
    assert len(calls) == finished + 1
    folders = [f"{call[-1]}/latest" for call in calls[:-1]]
    pool = f"{sys.executable} -m summarybench noise --from {' '.join(folders)}"
    assert (
        said
        == {
            0: "interrupted before a run was finished\n",
            1: f"interrupted; one run is finished, {' '.join(folders)}, and --from pools it with others\n",
            2: f"interrupted; pool the runs that are finished: {pool}\n",
        }[finished]
    )
    if finished == 2:
        assert command("noise")(["--from", *folders]) == 0


def test_arguments_for_pytest_are_refused_where_nothing_is_measured(folder, capsys):
    files = [write(folder / f"{number}.json", measured(number)) for number in (2.0, 2.1)]
    assert "so --documents 8 would have no effect" in refused(capsys, 4, "--documents", "8", "--from", *files)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (measured(2.0), "no experiment was measured at least twice"),
        ({"benchmarks": {}}, "is not a run of this suite"),
        ({name: part for name, part in measured(2.0).items() if name != "device"}, "does not say on which device"),
    ],
    ids=["one", "foreign", "no-device"],
)
def test_runs_that_cannot_be_pooled_are_refused_in_one_line(folder, capsys, run, said):
    assert said in refused(capsys, 4, "--from", write(folder / "a.json", run))


def test_missing_run_is_refused_in_one_line(folder, capsys):
    assert "ERROR: cannot read absent: No such file" in refused(capsys, 4, "--from", "absent")
