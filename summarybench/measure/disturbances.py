"""Slows a model down on purpose.

It delays the decoding loop, or runs other processes on the model's CPUs or GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Timer
from typing import Any

from summarybench.core.outcomes import UnavailableError
from summarybench.machine.device import Device

START_SECONDS = 120.0
"""How long a neighbour may take to start: one that uses the GPU imports torch first."""
SETTLE_SECONDS = 0.05
"""Several times as long as the work that the other tenant has queued on the GPU when it is stopped."""

READY = "ready"
WITH_ITS_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped process could not look after its parent
if os.getppid() != int(sys.argv[1]): sys.exit("its parent is gone")
"""
SPIN = """
os.sched_setaffinity(0, {int(sys.argv[2])})
print("ready", flush=True)
while True: pass
"""
"""A neighbour that keeps one CPU busy."""
USE_GPU = """
import torch
left = torch.randn(4096, 4096, device=sys.argv[2]).half()
product, source = torch.empty_like(left), torch.randint(256, (256 * 2**20,), dtype=torch.uint8, device=sys.argv[2])
target = torch.empty_like(source)
def work(done):
    torch.mm(left, left, out=product)
    target.copy_(source)
    done.record()
turns = [torch.cuda.Event(blocking=True) for _ in range(4)]  # it sleeps while it waits: the CPUs are not its business
for done in turns: work(done)
torch.cuda.synchronize()
print("ready", flush=True)
while True:
    for done in turns:
        done.synchronize()
        work(done)
"""
"""Another tenant of the GPU: matrix products and copies of a quarter of a millisecond on an H100, at most eight queued."""

Switch = Callable[[bool], None]
"""Turns a disturbance on and off."""


@contextmanager
def delay(model: Any, share: float, clock: Callable[[], float]) -> Iterator[Switch]:
    """Delay each forward pass by a share of its time.

    That is the time since the previous pass, or since the switch was set. Both with and without the delay, the clock is
    read when the device has finished the pass. A GPU with queued work would use the wait to do it, and the token would
    be delayed by less.
    """
    is_on, since = False, 0.0

    def wait(*_: Any) -> None:
        nonlocal since
        now = clock()
        until = now + (share * (now - since) if is_on else 0.0)
        while now < until:  # busy, as code is: a sleep would let the CPU clock down
            now = clock()
        since = now

    def switch(on: bool) -> None:
        nonlocal is_on, since
        is_on, since = on, clock()

    hook = model.register_forward_hook(wait)
    try:
        yield switch
    finally:
        hook.remove()


def busy_neighbour(cpus: Collection[int]) -> AbstractContextManager[Switch]:
    """A process that spins on each of these CPUs."""
    return neighbours(SPIN, [str(cpu) for cpu in cpus])


@contextmanager
def other_tenant(device: Device) -> Iterator[Switch]:
    """A process that keeps the GPU busy.

    It inherits CUDA_VISIBLE_DEVICES, so its first GPU is this one's.
    """
    with neighbours(USE_GPU, [device.torch_name]) as hold:

        def switch(on: bool) -> None:
            hold(on)
            time.sleep(SETTLE_SECONDS)

        yield switch


@contextmanager
def neighbours(code: str, arguments: Sequence[str], start_seconds: float = START_SECONDS) -> Iterator[Switch]:
    """Start a process with this code for each argument.

    The processes are stopped while the switch is off. They end with this context or with this process. The code prints
    a line when it is ready. Raises UnavailableError where it does not do so within `start_seconds`.
    """
    with ExitStack() as stack:
        started = []
        for argument in arguments:
            command = [sys.executable, "-c", WITH_ITS_PARENT + code, str(os.getpid()), argument]
            neighbour = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            stack.enter_context(neighbour)
            stack.callback(neighbour.kill)
            started.append(neighbour)
        for neighbour in started:
            _wait_until_ready(neighbour, start_seconds)

        def switch(on: bool) -> None:
            for neighbour in started:
                neighbour.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

        switch(False)
        yield switch


def _wait_until_ready(neighbour: subprocess.Popen[str], seconds: float) -> None:
    timer = Timer(seconds, neighbour.kill)
    timer.start()
    said = ["it said nothing"]
    try:
        for line in neighbour.stdout or ():
            said.append(line.strip())
            if said[-1] == READY:
                return
    finally:
        timer.cancel()
    raise UnavailableError(f"a neighbour did not start (exit code {neighbour.wait()}): {said[-1]}")
