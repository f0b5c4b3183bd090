"""What NVML does not answer, or no longer answers."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import DeviceLostError
from summarybench.machine import nvml
from summarybench.machine.nvml import NoNvmlError, NvmlGpu, opened_nvml
from tests.machine.test_device import NVMLError, NvmlGpuIsLostError, NvmlUnknownError, fake_nvml


def answering(*answers):
    """A GPU that gives these answers to one query, one after the other; an exception is raised."""
    left = iter(answers)

    def query(handle):
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = SimpleNamespace(
        NVMLError=NVMLError, NVMLError_GpuIsLost=NvmlGpuIsLostError, NVMLError_Unknown=NvmlUnknownError, query=query
    )
    return NvmlGpu(module, "handle")


def test_what_a_product_does_not_offer_is_none():
    gpu = answering(NVMLError("Not Supported"), 7, NVMLError("Not Supported"), 70_000)
    assert [gpu.ask("query"), gpu.ask("query"), gpu.watts("query"), gpu.watts("query")] == [None, 7, None, 70.0]


def test_a_lost_gpu_is_reported_and_never_asked_in_vain_again():
    gpu = answering(NvmlUnknownError("?"), NvmlGpuIsLostError("GPU is lost"), NvmlUnknownError("?"))
    assert gpu.ask("query") is None, "an unknown error alone does not mean that the GPU is lost"
    for said in ("GPU is lost", "?"):
        with pytest.raises(DeviceLostError, match=f"the GPU was lost: {re.escape(said)}"):
            gpu.ask("query")


def test_nvml_is_closed_after_a_fault(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([], calls))
    with pytest.raises(NVMLError), opened_nvml():
        raise NVMLError("boom")
    assert calls == ["init", "shutdown"]


def test_a_machine_without_nvml_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(None, []))
    with pytest.raises(NoNvmlError, match="NVML Shared Library Not Found"), opened_nvml():
        pass


@pytest.mark.parametrize("gpus", [None, []], ids=["no-driver", "no-answer"])
def test_a_driver_that_does_not_say_its_version_has_an_unknown_one(monkeypatch, gpus):
    def refuse():
        raise NVMLError("Unknown Error")

    module = fake_nvml(gpus, [])
    module.nvmlSystemGetDriverVersion = refuse
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert nvml.driver_version() == "unknown"
    assert nvml.what_the_driver_offers().startswith("the driver does not report its CUDA version (")
