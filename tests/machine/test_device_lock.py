import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from summarybench.core.cache import cache_folder
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.machine.device_lock import DeviceLock

CPU = CpuDevice(kind="cpu", name="a CPU", slug="a-cpu", family="cpu", memory_bytes=GIB, compute_dtype="float32")
GPU = CudaDevice(
    kind="cuda", name="T4", slug="tesla-t4", family="t4", memory_bytes=GIB, compute_dtype="float16", uuid="GPU-1"
)
OTHER_GPU = CudaDevice(
    kind="cuda", name="T4", slug="tesla-t4", family="t4", memory_bytes=GIB, compute_dtype="float16", uuid="GPU-2"
)
HERE = Path("/results/here")
ME = f"another session (process {os.getpid()}, {HERE})"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def held():
    locks = []

    def hold(device):
        locks.append(DeviceLock(device, HERE))
        return locks[-1]

    yield hold
    for lock in locks:
        lock.close()


def test_the_first_session_is_alone(held):
    assert held(CPU).warning == ""


def test_a_second_session_on_one_cpu_is_told_who_disturbs_it(held):
    held(CPU)
    warning = held(CPU).warning
    assert (
        warning == f"warning: {ME} is measuring on this CPU: each disturbs the figures of the other; wait for its end"
    )


def test_a_second_session_on_one_gpu_is_told_that_figures_will_be_invalid(held):
    held(GPU)
    assert held(GPU).warning.startswith(f"warning: {ME} is using this GPU: figures of both will be invalid;")


def test_two_gpus_of_one_product_are_two_devices(held):
    held(GPU)
    assert held(OTHER_GPU).warning == ""


def test_a_device_is_free_again_after_its_session(held):
    held(CPU).close()
    assert held(CPU).warning == ""


def test_a_third_session_is_told_of_the_second_one_when_the_first_has_ended(held):
    first, second = held(CPU), held(CPU)
    first.close()
    assert held(CPU).warning.startswith(f"warning: {ME} is measuring on this CPU")
    second.close()


def test_the_session_that_is_named_still_runs(held):
    held(CPU)
    lock = cache_folder() / "locks" / "a-cpu.lock"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with lock.open("a") as file:
        file.write(json.dumps({"pid": int(ended.stdout), "results": "/results/ended"}) + "\n")
    assert held(CPU).warning.startswith(f"warning: {ME} is measuring on this CPU")


def test_a_holder_that_has_not_written_who_it_is_still_counts(held):
    held(CPU)
    (cache_folder() / "locks" / "a-cpu.lock").write_text("")
    assert held(CPU).warning.startswith("warning: another session is measuring on this CPU")


def test_a_cache_folder_that_cannot_be_written_costs_the_warning_and_nothing_else(held, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert held(CPU).warning == ""
