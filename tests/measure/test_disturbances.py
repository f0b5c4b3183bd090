"""Delays, busy neighbours and another tenant: they slow down what they should, and are gone at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import UnavailableError
from summarybench.machine.clock import Clock
from summarybench.measure import disturbances
from tests.fakes import FakeGpu


class Module:
    """What torch's modules have of hooks."""

    def __init__(self):
        self.hooks = []

    def register_forward_hook(self, hook):
        self.hooks.append(hook)
        return SimpleNamespace(remove=lambda: self.hooks.remove(hook))


def test_delay_waits_for_its_share_of_the_time_since_the_last_token():
    module, seconds = Module(), iter([100.0, 110.0, 111.0, 112.0, 113.0, 123.0, 124.0, 125.5])
    with disturbances.delay(module, 0.2, lambda: next(seconds)) as switch:
        (hook,) = module.hooks
        switch(True)  # at 100
        hook()  # from 110 to 112, its share of 10 seconds
        assert next(seconds) == 113.0
        hook()  # from 123, 11 seconds later, until 125.2
        assert next(seconds, None) is None
    assert module.hooks == []


def test_delay_that_is_switched_off_waits_for_nothing():
    module, seconds = Module(), iter([100.0, 110.0])
    with disturbances.delay(module, 0.2, lambda: next(seconds)) as switch:
        switch(False)
        module.hooks[0]()
        assert next(seconds, None) is None


@pytest.mark.parametrize(("is_on", "token"), [(False, 1.0), (True, 1.25)])
def test_delay_begins_when_the_device_has_finished_and_switched_off_the_device_is_waited_for_too(is_on, token):
    """A GPU that takes a second for a pass whose launches take the host a quarter of one; each look at the clock takes 1/64 s."""
    module, now, busy_until = Module(), 0.0, 0.0

    def synchronize():
        nonlocal now
        now = max(now + 1 / 64, busy_until)

    found = []
    with disturbances.delay(module, 0.25, Clock(synchronize, lambda: now)) as switch:
        switch(is_on)
        for _ in range(2):
            start, busy_until = now, now + 1.0
            now += 0.25
            module.hooks[0]()
            found.append(now - start)
    assert found == [token] * 2


def has_state(pid, wanted):
    """The third field of /proc/<pid>/stat; a signal takes a moment to arrive."""
    for _ in range(500):
        try:
            found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            found = "gone"
        if found in wanted:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def started(monkeypatch):
    """The processes that the spot check starts."""
    processes, start = [], disturbances.subprocess.Popen
    monkeypatch.setattr(
        disturbances.subprocess,
        "Popen",
        lambda *given, **options: processes.append(start(*given, **options)) or processes[-1],
    )
    return processes


def test_neighbour_is_stopped_between_its_rounds_and_gone_at_the_end(started):
    cpu = max(os.sched_getaffinity(0))
    with disturbances.busy_neighbour({cpu}) as switch:
        (neighbour,) = started
        assert os.sched_getaffinity(neighbour.pid) == {cpu}
        assert has_state(neighbour.pid, "T")
        switch(True)
        assert has_state(neighbour.pid, "R")
        switch(False)
        assert has_state(neighbour.pid, "T")
    assert neighbour.returncode == -9


def test_neighbours_are_gone_whatever_happens_beside_them(started):
    with pytest.raises(KeyboardInterrupt), disturbances.neighbours(SLEEP, ["", ""]):
        raise KeyboardInterrupt
    assert [neighbour.returncode for neighbour in started] == [-9, -9]


SLEEP = """
import time
print("a warning that came first")
print("ready", flush=True)
time.sleep(600)
"""


def test_stopped_neighbour_goes_with_its_parent():
    script = f"""
import os, signal
from summarybench.measure import disturbances
start = disturbances.subprocess.Popen
def telling(*given, **options):
    neighbour = start(*given, **options)
    print(neighbour.pid, flush=True)
    return neighbour
disturbances.subprocess.Popen = telling
with disturbances.neighbours({SLEEP!r}, [""]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    assert killed.returncode == -9
    assert has_state(int(killed.stdout), ("gone", "Z", "X"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('loading'); sys.exit('CUDA error: all devices are busy')", r"exit code 1\): CUDA error: all devices"),
        ("sys.exit()", r"exit code 0\): it said nothing"),
        ("import time; print('loading', flush=True); time.sleep(600)", r"exit code -9\): loading"),
    ],
    ids=["fails", "ends", "hangs"],
)
def test_neighbour_that_is_not_ready_stops_the_spot_check_and_is_gone(started, code, said):
    seconds = 1.0 if "sleep" in code else 60.0
    with pytest.raises(UnavailableError, match=said), disturbances.neighbours(code, [""], seconds):
        pytest.fail("the first round began without it")
    assert all(neighbour.returncode is not None for neighbour in started)


def test_other_tenant_settles_after_each_switch_and_has_the_gpu_of_this_process(monkeypatch):
    done = []

    @contextmanager
    def fake_neighbours(code, arguments):
        done.append((code, arguments))
        yield done.append

    monkeypatch.setattr(disturbances, "neighbours", fake_neighbours)
    monkeypatch.setattr(disturbances.time, "sleep", done.append)
    with disturbances.other_tenant(FakeGpu()) as switch:
        switch(True)
        switch(False)
    settled = disturbances.SETTLE_SECONDS
    assert done == [(disturbances.USE_GPU, ["cuda:0"]), True, settled, False, settled]


class FakeTorch:
    """A GPU that begins nothing before it must, and knows how much is queued; it ends its tenant in the end."""

    def __init__(self):
        self.queued, self.most_queued, self.waits, self.devices = [], 0, 0, set()
        self.cuda = SimpleNamespace(Event=self.event, synchronize=self.queued.clear)
        self.uint8 = "uint8"

    def randn(self, *shape, device):
        self.devices.add(device)
        return SimpleNamespace(half=lambda: self)

    def randint(self, high, size, *, dtype, device):
        self.devices.add(device)
        return self

    def empty_like(self, other):
        return SimpleNamespace(copy_=lambda source: self.queue("copy"))

    def mm(self, left, right, out):
        self.queue("product")

    def queue(self, work):
        self.queued.append(work)
        self.most_queued = max(self.most_queued, len(self.queued))

    def event(self, *, blocking):
        assert blocking
        recorded = object()

        def wait():
            self.waits += 1
            if self.waits > 20:
                raise KeyboardInterrupt
            done = self.queued.index(recorded) + 1 if recorded in self.queued else 0
            del self.queued[:done]

        return SimpleNamespace(record=lambda: self.queued.append(recorded), synchronize=wait)


def test_other_tenant_says_when_it_has_used_the_gpu_and_never_has_more_than_a_few_kernels_queued(monkeypatch, capsys):
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(KeyboardInterrupt):
        exec(disturbances.USE_GPU, {"sys": SimpleNamespace(argv=["-c", "1", "cuda:0"])})
    assert (capsys.readouterr().out, torch.devices, torch.waits) == ("ready\n", {"cuda:0"}, 21)
    assert torch.most_queued == 4 * 3 - 1  # four times a copy, a product and their event
