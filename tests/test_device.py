import sys
from types import SimpleNamespace

import pytest

from fixtures import device
from fixtures.device import GIB, Clock, Device, detect_device, family_of, slugify, stand_in
from fixtures.outcomes import InputError


class NVMLError(Exception):
    """Named as pynvml names its own."""


def fake_nvml(gpus, calls):
    """An NVML with these GPUs, given as (name, compute capability, uuid); None for a machine without a driver."""

    def start():
        if gpus is None:
            raise NVMLError("NVML Shared Library Not Found")
        calls.append("init")

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=start,
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: gpus[index],
        nvmlDeviceGetName=lambda gpu: gpu[0],
        nvmlDeviceGetCudaComputeCapability=lambda gpu: gpu[1],
        nvmlDeviceGetUUID=lambda gpu: gpu[2],
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(total=16 * GIB),
    )


T4 = ("Tesla T4", (7, 5), "GPU-1111-aaaa")
H100 = ("NVIDIA H100 80GB HBM3", (9, 0), "GPU-2222-bbbb")


def detected(monkeypatch, gpus, visible=None):
    calls = []
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(gpus, calls))
    device = detect_device({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert calls == ([] if gpus is None else ["init", "shutdown"])
    return device


@pytest.mark.parametrize(
    ("name", "slug", "family"),
    [
        ("Tesla T4", "tesla-t4", "t4"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm4-40gb", "a100"),
        ("NVIDIA A100-PCIE-40GB", "nvidia-a100-pcie-40gb", "a100"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3", "h100"),
        ("NVIDIA H200", "nvidia-h200", "h200"),
        ("NVIDIA L4", "nvidia-l4", "l4"),
        ("NVIDIA A10G", "nvidia-a10g", "a10g"),
        ("Tesla V100-SXM2-16GB", "tesla-v100-sxm2-16gb", "v100"),
        ("NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090", "rtx4090"),
        ("NVIDIA L40S", "nvidia-l40s", "gpu"),
        ("NVIDIA A10", "nvidia-a10", "gpu"),
    ],
)
def test_a_product_has_a_slug_of_its_own_and_a_family(name, slug, family):
    assert (slugify(name), family_of(name)) == (slug, family)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.20GHz", "intel-xeon-processor"),
        ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "intel-core-i7-8700"),
        ("AMD EPYC 7B13", "amd-epyc-7b13"),
    ],
)
def test_a_cpu_s_slug_leaves_out_trademarks_and_clock_rates(name, slug):
    assert slugify(name) == slug


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "Tesla T4"),
        ("0", "Tesla T4"),
        ("1", "NVIDIA H100 80GB HBM3"),
        ("1,0", "NVIDIA H100 80GB HBM3"),
        (" 1 , 0", "NVIDIA H100 80GB HBM3"),
        ("GPU-2222-bbbb", "NVIDIA H100 80GB HBM3"),
        ("GPU-2222", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_the_first_visible_gpu_is_measured(monkeypatch, visible, name):
    assert detected(monkeypatch, [T4, H100], visible).name == name


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-3333"])
def test_without_a_visible_gpu_the_cpu_is_measured(monkeypatch, visible):
    assert detected(monkeypatch, [T4, H100], visible).kind == "cpu"


@pytest.mark.parametrize("gpus", [None, []], ids=["no-driver", "no-gpu"])
def test_without_a_gpu_the_cpu_is_measured(monkeypatch, gpus):
    device = detected(monkeypatch, gpus)
    assert (device.kind, device.family, device.uuid) == ("cpu", "cpu", "")
    assert device.memory_bytes > 0


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"), ((9, 0), "bfloat16")],
)
def test_bfloat16_is_used_from_compute_capability_8_on(monkeypatch, capability, dtype):
    assert detected(monkeypatch, [("NVIDIA X", capability, "GPU-1")]).compute_dtype == dtype


def test_a_gpu_is_described_as_nvml_has_it(monkeypatch):
    assert detected(monkeypatch, [T4]) == Device(
        kind="cuda",
        name="Tesla T4",
        slug="tesla-t4",
        family="t4",
        memory_bytes=16 * GIB,
        compute_dtype="float16",
        uuid="GPU-1111-aaaa",
    )


def test_a_device_stands_in_for_a_known_family(monkeypatch):
    device = detected(monkeypatch, [H100])
    standing = stand_in(device, "t4")
    assert (standing.family, standing.stands_in, standing.slug) == ("t4", True, device.slug)


@pytest.mark.parametrize("family", [None, "h100"])
def test_a_device_does_not_stand_in_for_itself(monkeypatch, family):
    device = detected(monkeypatch, [H100])
    assert stand_in(device, family) is device


def test_an_unknown_family_is_refused_with_those_there_are(monkeypatch):
    with pytest.raises(InputError, match=r"--gpu-family t5 is not a family .* choose one of a100, .* t4, v100"):
        stand_in(detected(monkeypatch, [H100]), "t5")


def test_the_clock_waits_for_the_device_before_it_is_read():
    calls = []

    def read_seconds():
        calls.append("read")
        return 1.5

    assert Clock(lambda: calls.append("synchronize"), read_seconds)() == 1.5
    assert calls == ["synchronize", "read"]


def test_gpu_whose_driver_does_not_answer_is_not_passed_over(monkeypatch):
    class NvmlError(Exception):
        pass

    def init():
        raise NvmlError("Driver/library version mismatch")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NvmlError, nvmlInit=init))
    monkeypatch.setattr(device, "_has_nvidia_device_file", lambda: True)
    with pytest.raises(InputError, match=r"version mismatch.*make doctor"):
        detect_device({})
    assert detect_device({"CUDA_VISIBLE_DEVICES": ""}).kind == "cpu"
