"""The limits of a container or a service: Linux's control groups, version 1 or 2.

A container sees the host's memory and CPUs. It is killed where it takes more memory than its group may have, and stopped
for a while where it takes more CPU time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNT, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED_BYTES = 2**60
"""Version 1 states a number of this size where there is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The strictest limits of this process's groups; None for each that there is not.

    `free_memory_bytes` is what the group with the least room can still allocate. `cpus` is the CPU time per second.
    """

    memory_bytes: int | None = None
    free_memory_bytes: int | None = None
    cpus: float | None = None


def limits(mount: Path = MOUNT, own_groups: Path = OWN_GROUPS) -> Limits:
    """The limits now. A file that is missing or cannot be read sets none."""
    memory: list[int] = []
    free: list[int] = []
    cpus: list[float] = []
    for controllers, folder in _folders(mount, own_groups):
        if "memory" in controllers and (limit := _memory_limit(folder)) is not None:
            memory.append(limit)
            free.append(max(0, limit - _memory_used(folder)))
        if "cpu" in controllers and (quota := _cpu_quota(folder)) is not None:
            cpus.append(quota)
    return Limits(
        memory_bytes=min(memory, default=None), free_memory_bytes=min(free, default=None), cpus=min(cpus, default=None)
    )


def _folders(mount: Path, own_groups: Path) -> Iterator[tuple[frozenset[str], Path]]:
    """The controllers and the folder of each group of this process, and of the groups around it."""
    lines: list[str] = []
    with suppress(OSError, ValueError):
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, _, group_of = line.partition(":")
        names, _, path = group_of.partition(":")
        if names:  # version 1: one hierarchy for each controller, mounted under its name
            controllers = frozenset(names.split(","))
            roots = [mount / name for name in (names, *sorted(controllers))]
        else:  # version 2: one hierarchy for all
            controllers, roots = frozenset({"memory", "cpu"}), [mount]
        root = next((each for each in roots if each.is_dir()), None)
        if root is not None:
            group = root / path.lstrip("/")
            inside = [each for each in (group, *group.parents) if each.is_relative_to(root)]
            yield from ((controllers, each) for each in inside if each.is_dir())


def _memory_limit(folder: Path) -> int | None:
    found = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    return found if found is not None and found < UNLIMITED_BYTES else None


def _memory_used(folder: Path) -> int:
    """Bytes in use, without the page cache that the kernel gives up first."""
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    return max(0, used - _inactive_file_bytes(folder))


def _inactive_file_bytes(folder: Path) -> int:
    text = _text(folder / "memory.stat")
    found = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(found.get("total_inactive_file") or found.get("inactive_file") or 0)


def _cpu_quota(folder: Path) -> float | None:
    """CPU seconds per second that the group may use."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    quota, period = quota or _text(folder / "cpu.cfs_quota_us"), period or _text(folder / "cpu.cfs_period_us")
    if not quota.lstrip("-").isdigit() or not period.isdigit() or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8").strip()
    return ""
