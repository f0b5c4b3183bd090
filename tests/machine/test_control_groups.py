"""The limits of containers, from copies of Linux's files."""

from __future__ import annotations

import pytest

from summarybench.machine import environment
from summarybench.machine.control_groups import Limits, limits
from summarybench.machine.device import GIB


@pytest.fixture
def machine(tmp_path):
    """Writes files of control groups, and returns the limits that they set."""

    def of(own_groups, files):
        mount = tmp_path / "cgroup"
        for name, text in files.items():
            path = mount / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        (tmp_path / "own").write_text(own_groups)
        return limits(mount, tmp_path / "own")

    return of


def test_a_container_of_version_2_has_its_limits_at_the_root(machine):
    found = machine(
        "0::/\n",
        {
            "memory.max": 4 * GIB,
            "memory.current": 3 * GIB,
            "memory.stat": f"anon 1\ninactive_file {GIB}",
            "cpu.max": "150000 100000",
        },
    )
    assert found == Limits(memory_bytes=4 * GIB, free_memory_bytes=2 * GIB, cpus=1.5)


def test_the_strictest_group_around_the_process_counts(machine):
    found = machine(
        "0::/user.slice/job\n",
        {
            "user.slice/memory.max": 2 * GIB,
            "user.slice/memory.current": GIB,
            "user.slice/job/memory.max": "max",
            "user.slice/job/cpu.max": "max 100000",
        },
    )
    assert found == Limits(memory_bytes=2 * GIB, free_memory_bytes=GIB)


def test_a_container_of_version_1_does_not_see_its_own_path(machine):
    found = machine(
        "9:memory:/docker/0123\n5:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n",
        {
            "memory/memory.limit_in_bytes": GIB,
            "memory/memory.usage_in_bytes": GIB // 2,
            "memory/memory.stat": f"total_inactive_file {GIB // 4}",
            "cpu,cpuacct/cpu.cfs_quota_us": 200_000,
            "cpu,cpuacct/cpu.cfs_period_us": 100_000,
        },
    )
    assert found == Limits(memory_bytes=GIB, free_memory_bytes=GIB * 3 // 4, cpus=2.0)


@pytest.mark.parametrize(
    ("own_groups", "files"),
    [
        ("9:memory:/\n", {"memory/memory.limit_in_bytes": 9_223_372_036_854_771_712}),
        ("5:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": -1, "cpu,cpuacct/cpu.cfs_period_us": 100_000}),
        ("0::/\n", {"memory.max": "max", "cpu.max": "max 100000"}),
        ("0::/gone\n", {}),
        ("", {}),
    ],
)
def test_without_a_limit_there_is_none(machine, own_groups, files):
    assert machine(own_groups, files) == Limits()


@pytest.mark.parametrize(("quota", "cpus"), [(None, 4), (2.9, 2), (0.5, 1), (64.0, 4)])
def test_no_more_cpus_are_used_than_the_quota_allows(monkeypatch, quota, cpus):
    monkeypatch.setattr(environment, "limits", lambda: Limits(cpus=quota))
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert environment.usable_cpus() == cpus
