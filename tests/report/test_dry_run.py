"""The table of --dry-run."""

from __future__ import annotations

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.core.numbers import GIB
from summarybench.report.dry_run import Foreseen, dry_run_report


def foreseen(loader, *, needed_gib, seconds=None, origin="", obstacle=""):
    return Foreseen(
        experiment=next(each for each in EXPERIMENTS if each.name == f"llama2-7b-chat-{loader}"),
        documents=20,
        needed_bytes=needed_gib * GIB,
        memory_bytes=15 * GIB,
        seconds=seconds,
        origin=origin,
        obstacle=obstacle,
    )


def test_known_unknown_and_too_large_experiments_are_told_apart():
    rows = [
        foreseen("default", needed_gib=28),
        foreseen("8-bit", needed_gib=9, seconds=90.0, origin="0001_main.json"),
        foreseen("4-bit", needed_gib=6),
    ]
    lines = dry_run_report(rows, width=120, color=False).splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("llama2-7b-chat-")}
    assert cells["llama2-7b-chat-default"] == ["20", "28.00,", "too", "much", "–", "–"]
    assert cells["llama2-7b-chat-8-bit"] == ["20", "9.00", "1", "min", "30", "s", "0001_main.json"]
    assert cells["llama2-7b-chat-4-bit"] == ["20", "6.00", "–", "–"]
    assert "memory: predicted peak; this device has 15.00 GiB" in lines
    on_a_cpu = dry_run_report(rows, width=120, color=False, counts_process_memory=True)
    assert "memory: predicted peak, beside Python and its libraries; this device has 15.00 GiB" in on_a_cpu
    assert "1 experiment would be reported as out_of_memory and would not run" in lines
    assert "time: 1 min 30 s for 1 experiment, without starting and downloading" in lines
    assert any(
        line.startswith("time: unknown for 1 experiment: this device has no earlier run of the same work")
        for line in lines
    )


def test_a_model_that_cannot_be_loaded_says_why_once_and_has_no_memory():
    rows = [foreseen(loader, needed_gib=0, obstacle="the hub cannot be reached") for loader in ("8-bit", "4-bit")]
    lines = dry_run_report(rows, width=120, color=False).splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("llama2-7b-chat-")] == [["20", "–", "–", "–"]] * 2
    assert lines.count("llama2-7b-chat: unavailable: the hub cannot be reached") == 1
    assert not [line for line in lines if line.startswith(("time:", "memory:"))]
