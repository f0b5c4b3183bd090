"""`summarybench compare` with the noise of nights and hosts: what fails, and what unchanged code never does."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.command import command
from tests.conftest import ROOT
from tests.known_noise import write_replicates
from tests.run_files import MACHINE, benchmark, run_of

compare = command("compare")
H100 = ROOT / "baselines" / "nvidia-h100-80gb-hbm3"
COMPILED = "llama2-7b-chat-fp16-compiled"


def written(path, run, *, measured):
    path.write_text(json.dumps(run | {"datetime": f"{measured}+00:00"}))
    return path


def at_speed(run, ratio):
    """A copy of a run at this ratio of its speed."""
    changed = json.loads(json.dumps(run))
    for each in changed["benchmarks"]:
        info = each["extra_info"]
        each["stats"]["data"] = [seconds / ratio for seconds in each["stats"]["data"]]
        info["time_to_first_token_seconds"] = [seconds / ratio for seconds in info["time_to_first_token_seconds"]]
    return changed


@pytest.fixture
def h100(tmp_path):
    """A copy of the folder of stored H100 runs."""
    return Path(shutil.copytree(H100, tmp_path / H100.name))


def stored(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


# Hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "before", "ratio"),
    [
        ("0001_main.json", "0008_throughput.json", "llama2-7b-chat-fp16: INCONCLUSIVE: 0.689"),
        ("0001_main.json", "0007_matrix.json", "llama2-7b-chat-4-bit: INCONCLUSIVE: 0.714"),
        ("0004_main-8-bit.json", "0007_matrix.json", "llama2-7b-chat-8-bit: INCONCLUSIVE: 0.740"),
    ],
)
def test_unchanged_code_on_a_slower_host_does_not_fail(h100, capsys, now, before, ratio):
    assert compare([str(h100 / now), str(h100 / before)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(ratio))
    assert " here, host-" in line
    assert "hosts " in line


COMPILED_BY_LAYER = [f"llama2-7b-chat-{each}-compiled" for each in ("fp16", "8-bit", "4-bit", "w8a16")]


def lines_of_slower(folder, tmp_path, capsys, ratio):
    """The exit code and the verdicts of a stored compiled run against itself at this ratio of its speed, a night later."""
    before = folder / "0011_compiled-by-layer.json"
    now = written(tmp_path / "run.json", at_speed(stored(folder, before.name), ratio), measured="2026-11-27T20:42:07")
    code = compare([str(now), str(before)])
    return code, [line for line in capsys.readouterr().out.splitlines() if line.startswith("llama2-")]


def test_stored_compiled_run_made_a_sixth_slower_on_its_own_host_fails(h100, tmp_path, capsys):
    code, lines = lines_of_slower(h100, tmp_path, capsys, 0.83)
    assert code == 1
    assert [line.partition(" [")[0] for line in lines] == [
        f"{name}: REGRESSED: 0.830 times the speed of 0011_compiled-by-layer.json" for name in COMPILED_BY_LAYER
    ]


def test_15_percent_against_a_run_without_a_record_of_its_kernels_says_what_would_decide(h100, tmp_path, capsys):
    # Unchanged code was 14% slower with other kernels on one host: 182.4 and 156.6 tok/s in spread.json.
    code, lines = lines_of_slower(h100, tmp_path, capsys, 0.85)
    assert code == 0
    assert [line.partition(" [")[0] for line in lines] == [
        f"{name}: INCONCLUSIVE: 0.850 times the speed of 0011_compiled-by-layer.json" for name in COMPILED_BY_LAYER
    ]
    assert {line.partition("; ")[2] for line in lines} == {
        "not decided because 0011_compiled-by-layer.json does not record its tuned kernels; a newer baseline would decide: "
        "`summarybench adopt` (make adopt)"
    }


def test_run_that_is_15_percent_slower_on_its_own_host_fails(h100, tmp_path, capsys):
    run = stored(h100, "0011_compiled-by-layer.json")
    for each in run["benchmarks"]:
        each["extra_info"]["tuned_kernels"] = "5285f9360d45"  # as runs of today record it
    before = written(h100 / "0013_main.json", run, measured="2026-11-26T20:42:07")
    now = written(tmp_path / "run.json", at_speed(run, 0.85), measured="2026-11-27T20:42:07")
    assert compare([str(now), str(before)]) == 1
    assert f"{COMPILED}: REGRESSED: 0.850 times the speed of 0013_main.json" in capsys.readouterr().out


def test_ten_nights_of_half_a_percent_find_3_percent(h100, tmp_path, capsys):
    run = stored(h100, "0008_throughput.json")
    rng = np.random.default_rng(5)
    for night, factor in enumerate(rng.normal(0, 0.005, 10), start=1):
        measured = f"2026-12-{night:02}T03:00:00"
        before = written(h100 / f"{night + 12:04}_nightly.json", at_speed(run, math.exp(factor)), measured=measured)
    slower, unchanged = (
        written(tmp_path / f"{ratio}.json", at_speed(run, ratio), measured="2026-12-11T03:00:00")
        for ratio in (0.97, 1.0)
    )
    assert compare([str(slower), "--baselines", str(h100.parent)]) == 1
    said = capsys.readouterr().out
    assert "llama2-7b-chat-fp16: REGRESSED: " in said
    assert before.name in said
    assert compare([str(unchanged), "--baselines", str(h100.parent)]) == 0


# Nights -----------------------------------------------------------------------------------------------------------


def first_and_second_night(folder, ratio, name="llama2-7b-chat-4-bit", **info):
    """The exit code of the second night's comparison with the first."""
    run = run_of(benchmark(name, **info))
    written(folder / "0001_main.json", run, measured="2026-11-01T03:00:00")
    now = folder.parent / "run.json"
    written(now, at_speed(run, ratio), measured="2026-11-02T03:00:00")
    return compare([str(now), str(folder / "0001_main.json")])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "baselines").mkdir()
    return tmp_path / "baselines"


@pytest.mark.parametrize(("ratio", "verdict", "code"), [(0.5, "REGRESSED", 1), (0.9, "UNCALIBRATED", 0)])
def test_a_first_night_fails_what_is_twice_as_slow_and_not_what_is_a_tenth_slower(folder, capsys, ratio, verdict, code):
    assert first_and_second_night(folder, ratio) == code
    said = capsys.readouterr().out
    assert f"llama2-7b-chat-4-bit: {verdict}: {ratio:.3f} times the speed of 0001_main.json [" in said
    assert "noise: processes 5.0% assumed, nights 2.0% assumed" in said
    assert ("`summarybench noise` (make noise) measures how much runs differ" in said) is (code == 0)


def test_noise_of_minutes_does_not_stand_for_that_of_nights(folder, capsys):
    write_replicates(folder, 0.0003, experiment=COMPILED, tuned_kernels=["a"] * 10)
    assert first_and_second_night(folder, 0.97, COMPILED, tuned_kernels="a") == 0
    said = capsys.readouterr().out
    assert f"{COMPILED}: UNCALIBRATED: 0.970 times the speed of" in said
    assert "noise: processes 0.03% measured, nights 2.0% assumed" in said
    assert "make noise) on three more days, or four stored nights, measure how much nights differ" in said


def test_a_quiet_host_finds_10_percent_beside_a_noisy_one_with_the_same_gpu(folder, capsys):
    write_replicates(folder, 0.10, host="a noisy one")
    for night in range(7):
        factor = (1.004 if night % 2 else 1.0) + night / 1e6  # a run that is stored twice counts once
        run = at_speed(run_of(benchmark()), factor)
        written(folder / f"000{night + 1}_main.json", run, measured=f"2026-11-0{night + 1}T03:00:00")
    now = written(folder.parent / "run.json", at_speed(run_of(benchmark()), 0.9), measured="2026-11-08T03:00:00")
    assert compare([str(now), str(folder / "0007_main.json")]) == 1
    assert "REGRESSED: 0.9" in capsys.readouterr().out
    elsewhere = run_of(benchmark(), host="a new one")
    written(folder.parent / "run.json", at_speed(elsewhere, 0.9), measured="2026-11-08T03:00:00")
    assert compare([str(now), str(folder / "0007_main.json")]) == 0


# Lengths ----------------------------------------------------------------------------------------------------------


def with_lengths(tokens, first, later):
    """Eight documents of so many tokens, with seconds to the first token and for each later one."""
    seconds = first + (tokens - 1) * later
    return run_of(
        benchmark(
            seconds=(seconds,) * 8,
            generated_tokens=[tokens] * 8,
            time_to_first_token_seconds=[first] * 8,
        )
    )


def test_longer_outputs_do_not_hide_slower_decoding(folder, capsys):
    # 24 → 48 tokens, and each later token takes 25% longer.
    write_replicates(folder, 0.01, host=MACHINE["host"])
    written(folder / "0001_main.json", with_lengths(24, 4.0, 0.04), measured="2026-11-01T03:00:00")
    now = written(folder.parent / "run.json", with_lengths(48, 4.0, 0.05), measured="2026-11-01T05:00:00")
    assert compare([str(now), str(folder / "0001_main.json")]) == 1
    speed, *_, decode = (
        line for line in capsys.readouterr().out.splitlines() if "tokens/s:" in line or "4-bit:" in line
    )
    assert 48 / (4 + 47 * 0.05) > 24 / (4 + 23 * 0.04)  # the measured speed has risen
    assert "4-bit: REGRESSED: 0.955 times the speed of" in speed
    assert "outputs of another length (48.0 tokens here, 24.0 there) change it by a further +" in speed
    assert "decode tokens/s: REGRESSED: 20.0 here, 25.0 there: 0.800 times the speed of" in decode


def test_slower_first_token_fails_where_the_speed_hides_it(folder, capsys):
    write_replicates(folder, 0.01, host=MACHINE["host"])
    written(folder / "0001_main.json", with_lengths(100, 0.2, 0.02), measured="2026-11-01T03:00:00")
    now = written(folder.parent / "run.json", with_lengths(100, 0.22, 0.02), measured="2026-11-01T05:00:00")
    assert compare([str(now), str(folder / "0001_main.json")]) == 1
    said = capsys.readouterr().out
    assert "llama2-7b-chat-4-bit: UNCHANGED: 0.991 times the speed of" in said
    assert "  time to first token: REGRESSED: 0.220 s here, 0.200 s there: 0.909 times the speed of" in said
    assert "  decode tokens/s: UNCHANGED: 50.0 here, 50.0 there: 1.000 times the speed of" in said
