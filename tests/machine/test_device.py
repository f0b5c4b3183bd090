import os
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.machine import cpu_device, detection
from summarybench.machine.clock import Clock
from summarybench.machine.control_groups import Limits
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice, check_same_gpu
from summarybench.machine.detection import detect_device
from summarybench.machine.device import (
    GIB,
    Device,
    DeviceRecord,
    emulate_family,
    is_same_device,
    limit_memory,
    slugify,
)
from summarybench.machine.families import family_of
from tests.fakes import FakeCpu, FakeGpu


class NVMLError(Exception):
    """Named as pynvml names its own."""


class NvmlGpuIsLostError(NVMLError): ...


class NvmlUnknownError(NVMLError): ...


def fake_nvml(gpus, calls):
    """An NVML with these GPUs, given as (name, compute capability, uuid); None for a machine without a driver."""

    def start():
        if gpus is None:
            raise NVMLError("NVML Shared Library Not Found")
        calls.append("init")

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVMLError_GpuIsLost=NvmlGpuIsLostError,
        NVMLError_Unknown=NvmlUnknownError,
        nvmlInit=start,
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: gpus[index],
        nvmlDeviceGetName=lambda gpu: gpu[0],
        nvmlDeviceGetCudaComputeCapability=lambda gpu: gpu[1],
        nvmlDeviceGetUUID=lambda gpu: gpu[2],
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(total=16 * GIB),
        nvmlDeviceGetEnforcedPowerLimit=lambda gpu: 70_000,
        nvmlDeviceGetMaxPcieLinkGeneration=lambda gpu: 3,
        nvmlDeviceGetMaxPcieLinkWidth=lambda gpu: 16,
        nvmlDeviceGetComputeMode=lambda gpu: 0,
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
    ("name", "other", "is_same"),
    [
        ("NVIDIA H200", "NVIDIA H200", True),
        ("NVIDIA H200", "nvidia-h200", True),
        ("nvidia-h200", "nvidia-h200", True),
        ("NVIDIA H200", "nvidia-h100-80gb-hbm3", False),
        ("NVIDIA H200", "Tesla T4", False),
        ("nvidia-h200", "nvidia-h200-nvl", False),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel(R) Xeon(R) CPU @ 2.80GHz", False),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon", True),
    ],
)
def test_a_slug_names_the_device_that_has_it_and_two_names_are_compared_whole(name, other, is_same):
    assert (is_same_device(name, other), is_same_device(other, name)) == (is_same, is_same)


def test_what_a_product_does_not_tell_is_unknown_and_no_fault(monkeypatch):
    def refuse(gpu):
        raise NVMLError("Not Supported")

    nvml = fake_nvml([T4], [])
    for query in ("EnforcedPowerLimit", "MaxPcieLinkGeneration", "MaxPcieLinkWidth", "ComputeMode"):
        setattr(nvml, f"nvmlDeviceGet{query}", refuse)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    device = detect_device({})
    assert (device.name, device.power_limit_watts, device.pcie, device.compute_mode) == ("Tesla T4", None, None, None)


def test_a_gpu_on_which_nothing_may_compute_is_refused_with_the_remedy(monkeypatch):
    nvml = fake_nvml([T4], [])
    nvml.nvmlDeviceGetComputeMode = lambda gpu: 2
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(InputError, match=r"'prohibited': allow it with 'nvidia-smi -c DEFAULT'"):
        detect_device({})


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


@pytest.mark.parametrize("visible", ["", " ", "-1"])
def test_the_cpu_is_measured_where_all_gpus_are_hidden_on_purpose(monkeypatch, visible):
    assert detected(monkeypatch, [T4, H100], visible).kind == "cpu"


@pytest.mark.parametrize("visible", ["7", "GPU-3333", "7,0", ",0", "-1,0", "all"])
def test_naming_a_gpu_that_is_not_there_is_refused_and_not_the_cpu_measured(monkeypatch, visible):
    line = f"CUDA_VISIBLE_DEVICES={visible!r} does not begin with a GPU of this machine (0 to 1, "
    with pytest.raises(InputError, match=re.escape(line) + ".* unset it; empty, it selects the CPU"):
        detected(monkeypatch, [T4, H100], visible)


def test_mig_slice_is_refused_in_one_line(monkeypatch):
    with pytest.raises(InputError, match=r"CUDA_VISIBLE_DEVICES=MIG-1a2b: a MIG slice shares .*sudo nvidia-smi -mig 0"):
        detected(monkeypatch, [H100], "MIG-1a2b")


@pytest.mark.parametrize(("visible", "index"), [(None, 0), ("1,0", 1), ("GPU-2222", 1)])
def test_device_knows_which_of_the_machine_s_gpus_it_is(monkeypatch, visible, index):
    found = detected(monkeypatch, [T4, H100], visible)
    assert (found.index, found.gpus_in_machine) == (index, 2)


def test_gpu_that_nvml_does_not_describe_is_named_and_nvml_closed(monkeypatch):
    def capability(gpu):
        raise NVMLError("Not Supported")

    calls = []
    nvml = fake_nvml([T4], calls)
    nvml.nvmlDeviceGetCudaComputeCapability = capability
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(
        InputError, match=r"NVML does not describe the GPU \(Not Supported\): run 'summarybench doctor' \(make doctor\)"
    ):
        detect_device({})
    assert calls == ["init", "shutdown"]


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
    assert detected(monkeypatch, [T4]) == CudaDevice(
        kind="cuda",
        name="Tesla T4",
        slug="tesla-t4",
        family="t4",
        memory_bytes=16 * GIB,
        compute_dtype="float16",
        uuid="GPU-1111-aaaa",
        index=0,
        gpus_in_machine=1,
        power_limit_watts=70.0,
        pcie="generation 3, 16 lanes",
        compute_mode="default",
        capability=(7, 5),
    )


def test_a_device_stands_in_for_a_known_family(monkeypatch):
    device = detected(monkeypatch, [H100])
    standing = emulate_family(device, "t4")
    assert (standing.family, standing.stands_in, standing.slug) == ("t4", True, device.slug)


@pytest.mark.parametrize("family", [None, "h100"])
def test_a_device_does_not_stand_in_for_itself(monkeypatch, family):
    device = detected(monkeypatch, [H100])
    assert emulate_family(device, family) is device


def test_an_unknown_family_is_refused_with_those_there_are(monkeypatch):
    with pytest.raises(InputError, match=r"--gpu-family t5 is not a family .* choose one of a100, .* t4, v100"):
        emulate_family(detected(monkeypatch, [H100]), "t5")


def test_a_record_holds_the_facts_that_every_run_file_has(monkeypatch):
    record = detected(monkeypatch, [T4]).as_record()
    assert list(record) == [
        "kind",
        "name",
        "slug",
        "family",
        "memory_bytes",
        "compute_dtype",
        "uuid",
        "index",
        "gpus_in_machine",
        "power_limit_watts",
        "pcie",
        "compute_mode",
        "stands_in",
        "is_limited",
        "is_remote",
        "has_avx512",
    ]
    assert DeviceRecord(**record).slug == "tesla-t4"
    assert FakeGpu().as_record().keys() == record.keys()


@pytest.mark.parametrize("kind", [CpuDevice, CudaDevice, FakeGpu, FakeCpu])
def test_every_kind_of_device_answers_every_question(kind):
    asked = [name for name, type_ in Device.__annotations__.items() if type_.startswith("ClassVar")]
    assert len(asked) > 5
    assert [name for name in asked if not hasattr(kind, name)] == []


def test_only_gpus_with_bfloat16_train_in_it_and_compile_decoding():
    a_gpu = CudaDevice(kind="cuda", name="G", slug="g", family="gpu", memory_bytes=GIB, compute_dtype="float16")
    a_cpu = CpuDevice(kind="cpu", name="C", slug="c", family="cpu", memory_bytes=GIB, compute_dtype="bfloat16")
    devices = (a_gpu, replace(a_gpu, compute_dtype="bfloat16"), a_cpu)
    assert [each.training_dtype for each in devices] == ["float32", "bfloat16", "float32"]
    assert [each.compiles_decoding for each in devices] == [False, True, False]


def test_emulated_family_has_its_own_16_bit_type_and_kernels(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    h200 = CudaDevice(kind="cuda", name="H", slug="h", family="h200", memory_bytes=GIB, compute_dtype="bfloat16")
    t4, a100 = h200.emulating("t4"), h200.emulating("a100")
    assert [each.compute_dtype for each in (h200, t4, a100)] == ["bfloat16", "float16", "bfloat16"]
    assert [each.compute_capability() for each in (h200, t4, a100)] == [(9, 0), (7, 5), (8, 0)]
    assert not t4.compiles_decoding


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
    monkeypatch.setattr(detection, "_has_nvidia_device_file", lambda: True)
    with pytest.raises(InputError, match=r"version mismatch.*summarybench doctor"):
        detect_device({})
    assert detect_device({"CUDA_VISIBLE_DEVICES": ""}).kind == "cpu"


def test_a_lost_gpu_beside_the_measured_one_is_left_out(monkeypatch):
    calls = []
    nvml = fake_nvml([T4, H100], calls)

    def handle(index):
        if index == 0:
            raise NvmlGpuIsLostError("GPU is lost")
        return H100

    nvml.nvmlDeviceGetHandleByIndex = handle
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert (detect_device({}).name, detect_device({}).index) == (H100[0], 1)


def test_memory_that_nvml_does_not_state_is_torchs(monkeypatch):
    nvml = fake_nvml([("NVIDIA GB10", (12, 1), "GPU-3333-cccc")], [])

    def memory_info(gpu):
        raise NVMLError("Not Supported")

    nvml.nvmlDeviceGetMemoryInfo = memory_info
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = SimpleNamespace(total_memory=120 * GIB)
    torch = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda _: properties))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert detect_device({}).memory_bytes == 120 * GIB


def test_a_container_with_less_memory_than_its_host_has_that(monkeypatch):
    monkeypatch.setattr(detection, "limits", lambda: Limits(memory_bytes=GIB))
    monkeypatch.setattr(cpu_device, "limits", lambda: Limits(free_memory_bytes=GIB // 2))
    device = detect_device({"CUDA_VISIBLE_DEVICES": ""})
    assert (device.memory_bytes, device.free_memory_bytes()) == (GIB, GIB // 2)


# NVML's GPU and torch's -----------------------------------------------------------------------------------------------


def fake_torch(monkeypatch, *, version, cuda, is_available, driver=(570, 12080)):
    """A torch of this build beside a driver of this version and CUDA."""
    nvml = fake_nvml([T4], [])
    nvml.nvmlSystemGetDriverVersion = lambda: f"{driver[0]}.1"
    nvml.nvmlSystemGetCudaDriverVersion_v2 = lambda: driver[1]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = SimpleNamespace(uuid="1111-aaaa", name="Tesla T4", total_memory=16 * GIB)
    cuda_module = SimpleNamespace(is_available=lambda: is_available, get_device_properties=lambda _: properties)
    torch = SimpleNamespace(__version__=version, version=SimpleNamespace(cuda=cuda), cuda=cuda_module)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


@pytest.mark.parametrize(
    ("version", "cuda", "said"),
    [
        ("2.13.0", "13.0", "it is built for CUDA 13.0, and driver 570.1 offers CUDA 12.8; update the driver"),
        (
            "2.13.0+cpu",
            None,
            "it is built without CUDA, and driver 570.1 offers CUDA 12.8; update the driver, or install",
        ),
    ],
    ids=["driver-too-old", "cpu-build"],
)
def test_torch_that_cannot_use_the_gpu_is_said_with_driver_and_build(monkeypatch, version, cuda, said):
    gpu = detected(monkeypatch, [T4])
    fake_torch(monkeypatch, version=version, cuda=cuda, is_available=False)
    with pytest.raises(UnavailableError, match=re.escape(f"torch {version} cannot use the Tesla T4: {said}")):
        gpu.clock()


def test_cuda_counts_gpus_as_nvidia_smi_does_unless_told_otherwise(monkeypatch):
    gpu = detected(monkeypatch, [T4])
    fake_torch(monkeypatch, version="2.13.0", cuda="12.6", is_available=True)
    gpu.clock()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    gpu.clock()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def torch_properties(uuid, gib=16):
    return SimpleNamespace(uuid=uuid, name="A GPU", total_memory=int(gib * GIB))


@pytest.mark.parametrize("uuid", ["1111-aaaa", "GPU-1111-aaaa"])
def test_torch_s_gpu_is_matched_by_uuid_with_and_without_its_prefix(monkeypatch, uuid):
    check_same_gpu(detected(monkeypatch, [T4, H100]), torch_properties(uuid))


def test_another_gpu_first_in_torch_s_order_is_refused(monkeypatch):
    gpu = detected(monkeypatch, [T4, H100])
    with pytest.raises(
        UnavailableError, match=r"torch's first GPU is the A GPU \(2222-bbbb\).*CUDA_DEVICE_ORDER=PCI_BUS_ID"
    ):
        check_same_gpu(gpu, torch_properties("2222-bbbb"))


def test_slice_of_a_gpu_is_refused(monkeypatch):
    with pytest.raises(UnavailableError, match=r"torch sees 8\.0 of the 16\.0 GiB of the Tesla T4: a MIG slice"):
        check_same_gpu(detected(monkeypatch, [T4]), torch_properties("1111-aaaa", gib=8))


@pytest.mark.parametrize("gib", [0.99, 16.1, 0, -3, float("nan"), float("inf")])
def test_memory_limit_that_the_device_cannot_have_is_refused(monkeypatch, gib):
    line = f"--memory-limit {gib:g}: give between 1 and the 16.0 GiB of the Tesla T4"
    with pytest.raises(InputError, match=re.escape(line)):
        limit_memory(detected(monkeypatch, [T4]), gib)


@pytest.mark.parametrize("gib", [1, 14.6, 16])
def test_memory_limit_within_the_device_holds_it_to_that(monkeypatch, gib):
    limited = limit_memory(detected(monkeypatch, [T4]), gib)
    assert (limited.memory_bytes, limited.is_limited) == (int(gib * GIB), True)


def test_memory_is_released_with_the_workspace_that_cublas_keeps(monkeypatch):
    calls = []
    torch = SimpleNamespace(
        _C=SimpleNamespace(_cuda_clearCublasWorkspaces=lambda: calls.append("workspaces")),
        cuda=SimpleNamespace(empty_cache=lambda: calls.append("cache")),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    detected(monkeypatch, [T4]).release_memory()
    assert calls == ["workspaces", "cache"]
