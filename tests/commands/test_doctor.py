import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.commands import doctor, doctor_bitsandbytes, doctor_finding, doctor_gpu, doctor_hub
from summarybench.commands.doctor_finding import Finding, State
from summarybench.core.outcomes import UnavailableError
from summarybench.machine.device import GIB

ROOT = Path(__file__).parents[2]
LLAMA, MISTRAL = MODELS["llama2-7b-chat"], MODELS["mistral-7b-instruct"]
TOKEN = "hf_SecretSecretSecretSecret"


class NVMLError(Exception):
    """Stands for the root of pynvml's errors."""


class NotSupportedError(NVMLError): ...


class FunctionNotFoundError(NVMLError): ...


class LibraryNotFoundError(NVMLError): ...


class LibRmVersionMismatchError(NVMLError): ...


T4 = {"name": "Tesla T4", "uuid": "GPU-1111", "free": 14.6, "capability": (7, 5)}
H100 = {"name": "NVIDIA H100 80GB HBM3", "uuid": "GPU-2222", "free": 78.5, "capability": (9, 0)}


def fake_nvml(*gpus, **replaced):
    """An NVML with these GPUs, all idle and cool; `replaced` are functions that answer otherwise."""
    return SimpleNamespace(
        **{
            "NVMLError": NVMLError,
            "NVMLError_NotSupported": NotSupportedError,
            "NVMLError_FunctionNotFound": FunctionNotFoundError,
            "NVMLError_LibraryNotFound": LibraryNotFoundError,
            "NVMLError_LibRmVersionMismatch": LibRmVersionMismatchError,
            "NVML_TEMPERATURE_GPU": 0,
            "nvmlClocksThrottleReasonHwSlowdown": 0x08,
            "nvmlClocksThrottleReasonSwThermalSlowdown": 0x20,
            "nvmlClocksThrottleReasonHwThermalSlowdown": 0x40,
            "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": 0x80,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "580.65.06",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
            "nvmlDeviceGetCount": lambda: len(gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
            "nvmlDeviceGetName": lambda gpu: gpu["name"],
            "nvmlDeviceGetUUID": lambda gpu: gpu["uuid"],
            "nvmlDeviceGetCudaComputeCapability": lambda gpu: gpu["capability"],
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(free=int(gpu["free"] * GIB), total=80 * GIB),
            "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=0),
            "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [],
            "nvmlDeviceGetTemperature": lambda gpu, sensor: 34,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x01 | 0x04,  # idle, and at its power cap
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: 0x01,
            "nvmlDeviceGetPowerManagementLimit": lambda gpu: 700_000,
            "nvmlDeviceGetPowerManagementDefaultLimit": lambda gpu: 700_000,
            "nvmlDeviceGetMigMode": lambda gpu: [0, 0],
            **replaced,
        }
    )


def raising(error):
    def call(*_, **__):
        raise error

    return call


def the_gpu(nvml):
    return doctor_gpu.visible_gpus(nvml, None)[0]


def printed(findings):
    out = io.StringIO()
    exit_code = doctor.report(findings, out)
    return exit_code, out.getvalue()


OK = Finding(name="first", state=State.OK, seen="1")
SKIPPED = Finding(name="second", state=State.SKIP, seen="not here")
FAILED = Finding(name="third", state=State.FAIL, seen="3", remedy="make it 4")


# The checklist


def test_a_clean_checklist_ends_well():
    assert printed([OK, SKIPPED]) == (
        0,
        "ok    first            1\nskip  second           not here\nnothing failed; not checked: second\n",
    )


def test_a_failed_check_is_followed_by_its_remedy_and_counted():
    exit_code, output = printed([OK, FAILED])
    assert exit_code == 1
    assert output.splitlines()[1:] == ["FAIL  third            3", "      remedy: make it 4", "1 check failed"]


def test_failed_checks_are_summed_up():
    assert printed([FAILED, OK, FAILED])[1].splitlines()[-1] == "2 checks failed"


def test_a_finding_is_written_before_the_next_check_is_made():
    out, seen = io.StringIO(), []

    def findings():
        yield OK
        seen.append(out.getvalue())
        yield OK

    doctor.report(findings(), out)
    assert seen == ["ok    first            1\n"]


@pytest.mark.parametrize(("is_terminal", "coloured"), [(True, True), (False, False)])
def test_colour_is_for_terminals(monkeypatch, is_terminal, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = io.StringIO()
    out.isatty = lambda: is_terminal
    doctor.report([OK, FAILED], out)
    assert ("\x1b[" in out.getvalue()) is coloured


def test_no_color_is_obeyed(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    out.isatty = lambda: True
    doctor.report([FAILED], out)
    assert "\x1b[" not in out.getvalue()


def test_an_output_that_is_not_utf8_is_written_all_the_same():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    doctor.report([Finding(name="GPU 0", state=State.OK, seen="34 °C")], out)
    out.flush()
    assert b"34 ?C" in raw.getvalue()


def test_a_check_that_raises_is_a_failed_finding_that_names_the_fault():
    finding = doctor_finding.attempt("locale", raising(ValueError("no such thing\nat all")))
    assert finding.state is State.FAIL
    assert (finding.name, finding.seen) == ("locale", "could not be checked: ValueError: no such thing")
    assert finding.remedy


def test_a_finding_of_a_check_is_handed_on():
    assert doctor_finding.attempt("first", lambda: OK) is OK


# Python and its surroundings


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 2), (4, 0, 0)])
def test_python_3_11_and_newer_will_do(version):
    assert doctor.check_python(version).state is State.OK


def test_an_older_python_fails():
    finding = doctor.check_python((3, 10, 13))
    assert (finding.state, finding.seen) == (State.FAIL, "3.10.13, but 3.11 or newer is needed")
    assert "PYTHON=" in finding.remedy


@pytest.mark.parametrize(("stdout", "preferred"), [("utf-8", "UTF-8"), ("UTF8", "utf_8"), (None, "utf-8")])
def test_utf8_is_known_by_any_of_its_names(stdout, preferred):
    assert doctor.check_locale(stdout, preferred).state is State.OK


@pytest.mark.parametrize(
    ("stdout", "preferred", "remedy"),
    [
        ("ascii", "ANSI_X3.4-1968", "export LC_ALL=C.UTF-8"),
        ("utf-8", "latin-1", "export LC_ALL=C.UTF-8"),
        ("latin-1", "utf-8", "export LC_ALL=C.UTF-8 and unset PYTHONIOENCODING"),
        ("no-such-encoding", "utf-8", "export LC_ALL=C.UTF-8 and unset PYTHONIOENCODING"),
    ],
)
def test_a_locale_that_is_not_utf8_fails(stdout, preferred, remedy):
    finding = doctor.check_locale(stdout, preferred)
    assert (finding.state, finding.remedy) == (State.FAIL, remedy)
    assert stdout in finding.seen
    assert preferred in finding.seen


# Driver and CUDA


def test_every_name_asked_of_nvml_is_one_of_pynvml():
    assert [name for name in vars(fake_nvml()) if not hasattr(pynvml, name)] == []


def test_the_slowdown_bits_are_nvml_s():
    names = [name for name in vars(fake_nvml()) if name.startswith("nvmlClocks")]
    assert len(names) == 4
    assert {name: getattr(pynvml, name) for name in names} == {name: getattr(fake_nvml(), name) for name in names}


def test_a_driver_is_shown_with_its_version():
    assert doctor_gpu.check_driver(fake_nvml(T4), ["/dev/nvidia0"]) == Finding(
        name="driver", state=State.OK, seen="580.65.06"
    )


@pytest.mark.parametrize("error", [LibraryNotFoundError("not found"), NVMLError("Driver Not Loaded")])
def test_a_machine_without_a_gpu_needs_no_driver(error):
    finding = doctor_gpu.check_driver(fake_nvml(nvmlInit=raising(error)), [])
    assert (finding.state, finding.seen) == (
        State.SKIP,
        "no NVIDIA GPU; the embedded experiments run on the CPU",
    )


@pytest.mark.parametrize(
    ("error", "device_files", "remedy"),
    [
        (LibraryNotFoundError("not found"), ["/dev/nvidia0"], "ldconfig"),
        (LibRmVersionMismatchError("mismatch"), ["/dev/nvidia0"], "reboot"),
        (LibRmVersionMismatchError("mismatch"), [], "reboot"),
        (NVMLError("Driver Not Loaded"), ["/dev/nvidia0"], "modprobe nvidia"),
    ],
)
def test_a_gpu_without_a_working_driver_fails(error, device_files, remedy):
    finding = doctor_gpu.check_driver(fake_nvml(nvmlInit=raising(error)), device_files)
    assert (finding.state, finding.seen) == (State.FAIL, f"NVML cannot be used: {error}")
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 0 ", [1, 0]),
        ("0,7,1", [0]),
        ("GPU-2222", [1]),
        ("", []),
        ("-1", []),
        ("MIG-3", []),
    ],
)
def test_gpus_are_visible_as_cuda_reads_it(visible, indices):
    assert [gpu.index for gpu in doctor_gpu.visible_gpus(fake_nvml(T4, H100), visible)] == indices


def test_a_lost_gpu_is_left_out_as_cuda_leaves_it_out():
    def handle(index):
        if index == 0:
            raise NVMLError("GPU is lost")
        return H100

    nvml = fake_nvml(T4, H100, nvmlDeviceGetHandleByIndex=handle)
    assert [gpu.index for gpu in doctor_gpu.visible_gpus(nvml, None)] == [1]
    assert doctor_gpu.visible_gpus(nvml, "0,1") == []


def test_memory_that_nvml_does_not_state_is_no_fault():
    nvml = fake_nvml(T4, nvmlDeviceGetMemoryInfo=raising(NotSupportedError()))
    (found,) = [each for each in doctor_gpu._examine_visible(nvml, None) if each.name == "GPU memory"]
    assert (found.state, "the suite asks torch" in found.seen) == (State.SKIP, True)


@pytest.mark.parametrize("visible", ["", "-1"])
def test_gpus_may_be_hidden_on_purpose(visible):
    assert doctor_gpu.check_visible([], visible).state is State.SKIP


def test_no_gpu_behind_a_driver_is_no_fault():
    assert doctor_gpu.check_visible([], None).state is State.SKIP


def test_naming_a_mig_slice_fails():
    finding = doctor_gpu.check_visible([], "MIG-3")
    assert (finding.state, finding.seen) == (State.FAIL, "CUDA_VISIBLE_DEVICES='MIG-3' names a MIG slice")
    assert "nvidia-smi -mig 0" in finding.remedy


def test_gpu_cut_into_slices_fails():
    nvml = fake_nvml(H100, nvmlDeviceGetMigMode=lambda gpu: [1, 1])
    finding = doctor_gpu.check_gpu(nvml, the_gpu(nvml))
    assert (finding.state, finding.seen.rpartition(", ")[2]) == (State.FAIL, "MIG on")
    assert "nvidia-smi -mig 0" in finding.remedy


@pytest.mark.parametrize("visible", ["7", "GPU-3333"])
def test_naming_a_gpu_that_is_not_there_fails(visible):
    finding = doctor_gpu.check_visible([], visible)
    assert (finding.state, finding.seen) == (State.FAIL, f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU")
    assert "nvidia-smi -L" in finding.remedy


def test_visible_gpus_are_listed():
    nvml = fake_nvml(T4, H100)
    finding = doctor_gpu.check_visible(doctor_gpu.visible_gpus(nvml, None), None)
    assert (finding.state, finding.seen) == (State.OK, "2 visible: Tesla T4, NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("driver", "torch"), [(13000, "13.0"), (13000, "13.2"), (13020, "13.0"), (13000, "12.8"), (12040, "12.8")]
)
def test_any_minor_version_of_the_driver_s_major_one_runs(driver, torch):
    assert doctor_gpu.check_cuda(driver, torch).state is State.OK


def test_a_driver_of_an_older_major_version_fails():
    finding = doctor_gpu.check_cuda(12090, "13.0")
    assert finding.state is State.FAIL
    assert finding.seen == "driver 12.9, torch's build 13.0: the driver is too old"
    assert finding.remedy == "update the driver, or install a torch built for CUDA 12"


def test_a_cpu_build_of_torch_beside_a_gpu_fails():
    finding = doctor_gpu.check_cuda(13000, None)
    assert (finding.state, finding.seen) == (State.FAIL, "the driver has CUDA 13.0, but torch is built without CUDA")
    assert "torch built for CUDA 13" in finding.remedy


def test_libcuda_is_loaded_by_its_name():
    loaded = []
    assert doctor_gpu.check_libcuda(loaded.append).state is State.OK
    assert loaded == ["libcuda.so.1"]


def test_a_libcuda_that_does_not_load_fails():
    finding = doctor_gpu.check_libcuda(raising(OSError("libcuda.so.1: cannot open shared object file")))
    assert (finding.state, finding.seen) == (State.FAIL, "libcuda.so.1: cannot open shared object file")
    assert "ldconfig" in finding.remedy
    assert "container toolkit" in finding.remedy


# Each GPU


def test_a_gpu_at_rest_is_ok():
    nvml = fake_nvml(H100)
    assert doctor_gpu.check_gpu(nvml, the_gpu(nvml)) == Finding(
        name="GPU 0",
        state=State.OK,
        seen="NVIDIA H100 80GB HBM3: utilisation 0%, no processes, 34 °C, not throttled, power limit 700 W, MIG off",
    )


@pytest.mark.parametrize(
    ("replaced", "seen", "remedy"),
    [
        ({"nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=6)}, "utilisation 6%", "idle"),
        (
            {"nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=12), SimpleNamespace(pid=34)]},
            "2 compute processes (pid 12, 34)",
            "CUDA_VISIBLE_DEVICES",
        ),
        (
            {"nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=12)]},
            "1 compute process (pid 12)",
            "CUDA_VISIBLE_DEVICES",
        ),
        ({"nvmlDeviceGetTemperature": lambda gpu, sensor: 80}, "80 °C", "cool down"),
        (
            {"nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x48},
            "throttled: hardware slowdown, hardware thermal slowdown",
            "cooling",
        ),
        ({"nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x20}, "throttled: software thermal slowdown", "cool"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x80}, "throttled: power brake", "power supply"),
        (
            {
                "nvmlDeviceGetCurrentClocksEventReasons": raising(FunctionNotFoundError()),
                "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: 0x08,
            },
            "throttled: hardware slowdown",
            "cooling",
        ),
        (
            {"nvmlDeviceGetPowerManagementLimit": lambda gpu: 500_000},
            "power limit 500 W of 700 W",
            "sudo nvidia-smi -i 0 -pl 700",
        ),
        ({"nvmlDeviceGetTemperature": raising(NVMLError("GPU is lost"))}, "cannot be read (GPU is lost)", "nvidia-smi"),
    ],
)
def test_a_gpu_that_is_not_itself_fails(replaced, seen, remedy):
    nvml = fake_nvml(H100, **replaced)
    finding = doctor_gpu.check_gpu(nvml, the_gpu(nvml))
    assert finding.state is State.FAIL
    assert seen in finding.seen
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "replaced",
    [
        {"nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=5)},
        {"nvmlDeviceGetTemperature": lambda gpu, sensor: 79},
        {"nvmlDeviceGetPowerManagementLimit": lambda gpu: 750_000},
    ],
)
def test_a_gpu_at_its_limits_is_ok(replaced):
    nvml = fake_nvml(H100, **replaced)
    assert doctor_gpu.check_gpu(nvml, the_gpu(nvml)).state is State.OK


def test_all_that_is_wrong_with_a_gpu_is_said_at_once():
    nvml = fake_nvml(
        H100,
        nvmlDeviceGetTemperature=lambda gpu, sensor: 91,
        nvmlDeviceGetPowerManagementLimit=lambda gpu: 500_000,
    )
    assert doctor_gpu.check_gpu(nvml, the_gpu(nvml)).remedy.count("; ") == 1


def test_what_a_product_does_not_offer_is_no_fault():
    queries = (
        "UtilizationRates",
        "ComputeRunningProcesses",
        "Temperature",
        "CurrentClocksEventReasons",
        "PowerManagementLimit",
        "MigMode",
    )
    nvml = fake_nvml(T4, **{f"nvmlDeviceGet{query}": raising(NotSupportedError()) for query in queries})
    finding = doctor_gpu.check_gpu(nvml, the_gpu(nvml))
    assert finding.state is State.OK
    assert finding.seen.count("not offered by this product") == len(queries)


def test_an_empty_large_gpu_fits_every_experiment():
    finding = doctor_gpu.check_memory(H100["name"], H100["capability"], 78 * GIB, 80 * GIB)
    assert finding.state is State.OK
    assert finding.seen == f"78.0 of 80.0 GiB free: all {len(EXPERIMENTS)} experiments fit"


def test_what_does_not_fit_now_is_named_and_is_no_fault():
    finding = doctor_gpu.check_memory(H100["name"], H100["capability"], 8.5 * GIB, 80 * GIB)
    fitting, too_large = finding.seen.split(" fit; ")
    assert finding.state is State.OK
    assert fitting.startswith(
        "8.5 of 80.0 GiB free: llama2-7b-chat (4-bit, 4-bit-compiled, w8a16-compiled, w4a16-compiled, fp8-compiled), "
        "mistral-7b-instruct (8-bit, 4-bit, 8-bit-compiled, 4-bit-compiled, w8a16-compiled, w4a16-compiled, fp8-compiled)"
    )
    assert too_large.startswith(
        "llama2-7b-chat (default, fp16, bf16, 8-bit, default-compiled, fp16-compiled, 8-bit-compiled), "
        "mistral-7b-instruct (default, fp16, bf16, default-compiled, fp16-compiled)"
    )


def test_experiments_for_other_products_are_not_spoken_of():
    assert "bf16" not in doctor_gpu.check_memory(T4["name"], T4["capability"], 8 * GIB, 15 * GIB).seen


ON_ANY_GPU = {"default", "fp16", "8-bit", "4-bit"}
FROM_7_0 = ON_ANY_GPU | {"fp16-compiled", "4-bit-compiled"}
FROM_8_0 = FROM_7_0 | {"bf16", "default-compiled", "8-bit-compiled", "w8a16-compiled", "w4a16-compiled"}


@pytest.mark.parametrize(
    ("capability", "loaders"),
    [
        ((6, 1), ON_ANY_GPU),
        ((7, 0), FROM_7_0),
        ((8, 0), FROM_8_0),
        ((12, 1), FROM_8_0 | {"fp8-compiled"}),
    ],
)
def test_a_gpu_of_no_known_family_is_held_against_what_it_can_run(capability, loaders):
    count = len(loaders) * len({each.model for each in EXPERIMENTS})
    empty = doctor_gpu.check_memory("NVIDIA X", capability, 78 * GIB, 80 * GIB)
    assert empty.seen == f"78.0 of 80.0 GiB free: all {count} experiments fit"
    crowded = doctor_gpu.check_memory("NVIDIA X", capability, 8.5 * GIB, 80 * GIB)
    named = [each for models in re.findall(r"\((.*?)\)", crowded.seen) for each in models.split(", ")]
    assert len(named) == count
    assert set(named) == loaders


def test_a_gpu_that_nothing_fits_fails():
    finding = doctor_gpu.check_memory(H100["name"], H100["capability"], GIB // 2, 80 * GIB)
    assert finding.state is State.FAIL
    assert finding.seen == f"0.5 of 80.0 GiB free: none of {len(EXPERIMENTS)} experiments fits"
    assert "nvidia-smi" in finding.remedy


# bitsandbytes


def native_library(path, *, compiled_with_cuda):
    return SimpleNamespace(_lib=SimpleNamespace(_name=path), compiled_with_cuda=compiled_with_cuda)


def not_loaded(error):
    """What bitsandbytes itself puts in the place of a library that it could not load."""
    from bitsandbytes.cextension import ErrorHandlerMockBNBNativeLibrary

    return ErrorHandlerMockBNBNativeLibrary(error)


@pytest.mark.parametrize(
    ("needs_cuda", "file"), [(False, "libbitsandbytes_cpu.so"), (True, "libbitsandbytes_cuda130.so")]
)
def test_the_native_library_is_named(needs_cuda, file):
    library = native_library(f"/site-packages/bitsandbytes/{file}", compiled_with_cuda=needs_cuda)
    finding = doctor_bitsandbytes.check_bitsandbytes("0.50.2", library, needs_cuda=needs_cuda)
    assert (finding.state, finding.seen) == (State.OK, f"0.50.2, {file}")


def test_the_cpu_s_library_beside_a_gpu_fails():
    library = native_library("libbitsandbytes_cpu.so", compiled_with_cuda=False)
    finding = doctor_bitsandbytes.check_bitsandbytes("0.50.2", library, needs_cuda=True)
    assert finding.state is State.FAIL
    assert "libbitsandbytes_cpu.so" in finding.seen
    assert "torch" in finding.remedy


def test_a_library_without_its_dependencies_fails_with_bitsandbytes_own_steps():
    library = not_loaded("libcudart.so.13: cannot open shared object file: No such file or directory")
    finding = doctor_bitsandbytes.check_bitsandbytes("0.50.2", library, needs_cuda=True)
    assert finding.state is State.FAIL
    assert "libcudart.so.13: cannot open shared object file" in finding.seen
    assert "toolkit on your system; The" in finding.remedy
    assert "LD_LIBRARY_PATH" in finding.remedy
    assert "\n" not in finding.remedy


def test_a_build_that_is_not_shipped_fails_with_those_that_are():
    library = not_loaded("No compatible CUDA binary found at /x/libbitsandbytes_cuda990.so")
    library.available_versions = ["12.8", "13.0"]
    finding = doctor_bitsandbytes.check_bitsandbytes("0.50.2", library, needs_cuda=True)
    assert finding.state is State.FAIL
    assert "(12.8, 13.0)" in finding.remedy


def test_any_other_library_that_did_not_load_is_to_be_installed_anew():
    finding = doctor_bitsandbytes.check_bitsandbytes("0.50.2", not_loaded("invalid ELF header"), needs_cuda=False)
    assert (finding.state, finding.seen) == (State.FAIL, "0.50.2, native library not loaded: invalid ELF header")
    assert "--force-reinstall" in finding.remedy


def test_bitsandbytes_is_loaded_in_a_process_of_its_own():
    code = (
        "import sys; from summarybench.commands.doctor_bitsandbytes import examine_bitsandbytes;"
        "print(examine_bitsandbytes(needs_cuda=False).state.value, {'torch', 'bitsandbytes'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert (done.stdout, done.stderr) == ("ok set()\n", "")


def test_what_the_child_found_is_on_its_last_line():
    code = """print('chatter\\n{"name": "bitsandbytes", "state": "FAIL", "seen": "0.50.2, °C", "remedy": "mend it"}')"""
    assert doctor_bitsandbytes.ask_child(code) == Finding(
        name="bitsandbytes", state=State.FAIL, seen="0.50.2, °C", remedy="mend it"
    )


def test_a_bitsandbytes_that_hangs_is_given_up():
    start = time.monotonic()
    finding = doctor_bitsandbytes.ask_child("import time; time.sleep(60)", seconds=0.5)
    assert (finding.state, finding.seen) == (State.FAIL, "not loaded within 0.5 s")
    assert finding.remedy
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("code", "end"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"), ("raise SystemExit(3)", "exit status 3")],
)
def test_a_bitsandbytes_that_crashes_is_a_finding(code, end):
    finding = doctor_bitsandbytes.ask_child(code)
    assert (finding.state, finding.seen) == (State.FAIL, f"loading it ended its process ({end})")
    assert finding.remedy


# Disk and hub


@pytest.fixture
def hub_cache(tmp_path):
    """A function that finds files in a small cache which holds one model completely."""
    files = {"config.json": "{}", "model-1.safetensors": "", "model-2.safetensors": ""}
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    for name, text in {**files, "model.safetensors.index.json": json.dumps(index)}.items():
        (tmp_path / name).write_text(text)
    return lambda spec, name: str(tmp_path / name) if (tmp_path / name).is_file() else None


def test_a_model_with_all_its_shards_is_cached(hub_cache):
    assert doctor_hub.is_cached(LLAMA, hub_cache)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors.index.json", "model-2.safetensors"])
def test_a_model_that_lost_a_file_is_not_cached(hub_cache, lost):
    Path(hub_cache(LLAMA, lost)).unlink()
    assert not doctor_hub.is_cached(LLAMA, hub_cache)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weight_map": 1}', "null"])
def test_a_damaged_index_counts_as_not_cached(hub_cache, text):
    Path(hub_cache(LLAMA, "model.safetensors.index.json")).write_text(text)
    assert not doctor_hub.is_cached(LLAMA, hub_cache)


def test_a_cache_that_cannot_be_read_counts_as_empty():
    assert not doctor_hub.is_cached(LLAMA, raising(PermissionError("denied")))


@pytest.mark.parametrize(("missing", "needed"), [([LLAMA, MISTRAL], 29), ([LLAMA], 14.5)])
def test_the_cache_needs_room_for_what_is_missing(tmp_path, missing, needed):
    enough = doctor_hub.check_cache_disk(tmp_path, missing, lambda folder: int(needed * GIB))
    short = doctor_hub.check_cache_disk(tmp_path, missing, lambda folder: int(needed * GIB) - 1)
    assert (enough.state, short.state) == (State.OK, State.FAIL)
    assert f"{needed:g} GiB needed for the weights of {' and '.join(spec.name for spec in missing)}" in short.seen
    assert "HF_HOME" in short.remedy


def test_models_that_are_cached_need_no_room(tmp_path):
    assert doctor_hub.check_cache_disk(tmp_path, [], lambda folder: 0).state is State.OK


def test_the_space_of_a_folder_to_be_made_is_that_of_its_parent(tmp_path):
    asked = []

    def free_bytes(folder):
        asked.append(folder)
        return 2 * GIB

    finding = doctor_hub.check_results_disk(tmp_path / "results" / "new", free_bytes)
    assert (finding.state, asked) == (State.OK, [tmp_path])


def test_results_need_a_gibibyte(tmp_path):
    finding = doctor_hub.check_results_disk(tmp_path, lambda folder: GIB // 2)
    assert (finding.state, finding.seen) == (State.FAIL, f"0.5 GiB free for {tmp_path}, 1 GiB needed for runs")
    assert "--results-dir" in finding.remedy


HUB = "https://huggingface.co"


def test_a_hub_that_answers_is_asked_once():
    asked = []

    def ask(url):
        asked.append(url)
        return 200

    finding = doctor_hub.check_hub(HUB, offline=False, missing=[LLAMA], ask=ask)
    assert (finding.state, finding.seen, asked) == (State.OK, f"{HUB} answers", [HUB])


@pytest.mark.parametrize(
    ("ask", "seen"),
    [
        (raising(OSError("Name or service not known")), "cannot be reached: Name or service not known"),
        (lambda url: 503, "answers with HTTP status 503"),
    ],
)
def test_a_hub_that_cannot_be_used_fails(ask, seen):
    finding = doctor_hub.check_hub(HUB, offline=False, missing=[], ask=ask)
    assert (finding.state, finding.seen) == (State.FAIL, f"{HUB} {seen}")
    for way in ("HTTPS_PROXY", "--model-path", "-m embedded"):
        assert way in finding.remedy


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(doctor_hub, "HUB_SECONDS", 0.01)
    finding = doctor_hub.check_hub(HUB, offline=False, missing=[], ask=lambda url: time.sleep(0.5))
    assert (finding.state, finding.seen) == (State.FAIL, f"{HUB} cannot be reached: no answer within 0.01 s")


def test_a_hub_that_is_not_needed_is_not_asked_offline():
    assert doctor_hub.check_hub(HUB, offline=True, missing=[], ask=raising(AssertionError())).state is State.SKIP


def test_offline_without_the_models_fails():
    finding = doctor_hub.check_hub(HUB, offline=True, missing=[LLAMA], ask=raising(AssertionError()))
    assert (finding.state, finding.seen) == (State.FAIL, "HF_HUB_OFFLINE is set, but llama2-7b-chat not in the cache")
    assert "unset HF_HUB_OFFLINE" in finding.remedy


def test_a_token_is_said_to_be_set_and_no_more():
    assert doctor_hub.check_token(lambda: TOKEN) == Finding(name="token", state=State.OK, seen="set")


@pytest.mark.parametrize(
    ("get_token", "seen"),
    [(lambda: None, "none"), (raising(ValueError(f"bad token {TOKEN}")), "cannot be read (ValueError)")],
)
def test_no_token_fails(get_token, seen):
    finding = doctor_hub.check_token(get_token)
    assert (finding.state, finding.seen) == (State.FAIL, seen)
    assert "hf auth login" in finding.remedy


class HubHTTPError(OSError):
    def __init__(self, message, status_code):
        super().__init__(message)
        self.response = SimpleNamespace(status_code=status_code)


class RepositoryNotFoundError(HubHTTPError): ...


class GatedRepoError(RepositoryNotFoundError): ...


ERRORS = SimpleNamespace(RepositoryNotFoundError=RepositoryNotFoundError, GatedRepoError=GatedRepoError)


def licence(auth_check, obstacle=""):
    return doctor_hub.check_licence(LLAMA, obstacle=obstacle, auth_check=auth_check, errors=ERRORS)


def test_an_accepted_licence_is_ok():
    asked = []
    finding = licence(asked.append)
    assert (finding.name, finding.state, asked) == ("licence, llama2", State.OK, [LLAMA.repository])


@pytest.mark.parametrize(
    ("error", "seen", "remedy"),
    [
        (GatedRepoError("gated", 403), "not accepted", f"accept it at {LLAMA.licence_url}"),
        (RepositoryNotFoundError("gone", 404), "not found with this token", "hf auth login"),
        (HubHTTPError("expired", 401), "HubHTTPError (HTTP status 401)", "hf auth whoami"),
        (ConnectionError("reset"), "ConnectionError", "hf auth whoami"),
        (TimeoutError(), "no answer within 5 s", "try again"),
    ],
)
def test_a_model_that_may_not_be_downloaded_fails(error, seen, remedy):
    finding = licence(raising(error))
    assert (finding.state, finding.seen) == (State.FAIL, f"{LLAMA.repository}: {seen}")
    assert remedy in finding.remedy


def test_a_licence_is_not_asked_for_where_it_cannot_be():
    finding = licence(raising(AssertionError()), obstacle="no token")
    assert (finding.state, finding.seen) == (State.SKIP, "no token")


def test_the_hub_s_errors_are_those_that_are_caught():
    from huggingface_hub import errors

    assert issubclass(errors.GatedRepoError, errors.RepositoryNotFoundError)


def use_hub(monkeypatch, cache, *, auth_check, token=TOKEN, head=lambda url, timeout: SimpleNamespace(status_code=200)):
    import huggingface_hub as hub

    monkeypatch.setattr(hub, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(hub, "auth_check", auth_check)
    monkeypatch.setattr(hub.constants, "ENDPOINT", HUB)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub, "get_token", lambda: token)


def states(findings):
    return {finding.name: finding.state for finding in findings}


def test_each_hub_model_s_licence_is_asked_for(monkeypatch, tmp_path):
    asked = []
    use_hub(monkeypatch, tmp_path, auth_check=asked.append)
    found = states(doctor_hub.examine_hub())
    assert asked == [LLAMA.repository, MISTRAL.repository]
    assert list(found) == ["hub cache", "hub", "token", "licence, llama2", "licence, mistral"]
    assert {found[name] for name in list(found)[1:]} == {State.OK}


@pytest.mark.parametrize(
    "trouble", [{"token": None}, {"head": raising(OSError("no route to host"))}], ids=["no-token", "no-hub"]
)
def test_licences_are_skipped_without_token_or_hub(monkeypatch, tmp_path, trouble):
    use_hub(monkeypatch, tmp_path, auth_check=raising(AssertionError()), **trouble)
    found = states(doctor_hub.examine_hub())
    assert (found["licence, llama2"], found["licence, mistral"]) == (State.SKIP, State.SKIP)


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (
            {"token": None, "head": raising(OSError("no route to host"))},
            {
                "hub": f"{HUB} cannot be reached: no route to host",
                "token": "none",
                "licence, llama2": "the hub cannot be asked",
                "licence, mistral": "the hub cannot be asked",
            },
        ),
        ({}, {"licence, llama2": f"{LLAMA.repository}: OSError", "licence, mistral": f"{MISTRAL.repository}: OSError"}),
    ],
)
def test_without_a_gpu_no_trouble_with_the_hub_is_a_fault(monkeypatch, tmp_path, trouble, expected):
    use_hub(monkeypatch, tmp_path, auth_check=raising(OSError()), **trouble)
    monkeypatch.setattr(doctor_hub, "free_bytes", lambda folder: 100 * GIB)
    findings = list(doctor_hub.examine_hub(is_needed=False))
    assert {finding.name: finding.seen for finding in findings if finding.state is State.SKIP} == {
        name: f"{seen}; only the hub models need it" for name, seen in expected.items()
    }
    assert printed(findings)[0] == 0


def test_a_token_that_is_set_never_appears(monkeypatch, tmp_path):
    """Some clients quote the header that they could not send."""
    quoting = raising(ValueError(f"Illegal header value b'Bearer {TOKEN}'"))
    use_hub(monkeypatch, tmp_path, auth_check=quoting)
    exit_code, output = printed(doctor_hub.examine_hub())
    assert exit_code == 1
    assert "ok    token            set" in output
    assert "ValueError" in output
    assert not any(part in output for part in (TOKEN, "Bearer", TOKEN[3:9]))


# The embedded model


def test_a_converted_model_needs_no_wheel(tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).touch()
    finding = doctor_hub.check_embedded(tmp_path, raising(AssertionError()))
    assert (finding.state, finding.seen) == (State.OK, f"converted: {tmp_path}")


@pytest.mark.parametrize("left", ["model.safetensors", "config.json"])
def test_an_incomplete_conversion_fails(tmp_path, left):
    (tmp_path / left).touch()
    finding = doctor_hub.check_embedded(tmp_path, raising(AssertionError()))
    assert finding.state is State.FAIL
    assert finding.remedy.startswith(f"rm -r {tmp_path}")


def test_an_undamaged_wheel_is_ok(tmp_path):
    finding = doctor_hub.check_embedded(tmp_path / "none", lambda: Path("/x/model.gguf"))
    assert (finding.state, finding.seen) == (State.OK, "model.gguf is undamaged; the first run converts it")


def test_a_missing_wheel_fails_with_its_own_remedy(tmp_path):
    missing = raising(UnavailableError("the embedded model's wheel is not installed; run 'make setup', or pip install"))
    assert doctor_hub.check_embedded(tmp_path / "none", missing) == Finding(
        name="embedded model",
        state=State.FAIL,
        seen="the embedded model's wheel is not installed",
        remedy="run 'make setup', or pip install",
    )


# The whole


def examined_gpus(monkeypatch, nvml, visible=None):
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(doctor_gpu, "torch_cuda_version", lambda: "13.0")
    monkeypatch.setattr(doctor_gpu.ctypes, "CDLL", lambda name: name)
    findings = list(doctor_gpu.examine_gpus(visible))
    return states(findings), doctor_gpu.sees_gpu(findings)


def test_every_visible_gpu_is_looked_at_and_nvml_closed(monkeypatch):
    closed = []
    nvml = fake_nvml(T4, H100, nvmlShutdown=lambda: closed.append(True))
    found, has_gpu = examined_gpus(monkeypatch, nvml)
    assert list(found) == ["driver", "GPUs", "CUDA", "libcuda", "GPU 0", "GPU 1", "GPU memory"]
    assert set(found.values()) == {State.OK}
    assert (has_gpu, closed) == (True, [True])


def test_a_gpu_that_is_hidden_is_not_looked_at(monkeypatch):
    found, has_gpu = examined_gpus(monkeypatch, fake_nvml(T4), visible="")
    assert found == {
        "driver": State.OK,
        "GPUs": State.SKIP,
        "CUDA": State.SKIP,
        "libcuda": State.SKIP,
        "GPU memory": State.SKIP,
    }
    assert not has_gpu


def test_without_a_driver_libcuda_is_still_tried(monkeypatch):
    found, has_gpu = examined_gpus(monkeypatch, fake_nvml(nvmlInit=raising(LibRmVersionMismatchError("mismatch"))))
    assert found == {
        "driver": State.FAIL,
        "libcuda": State.OK,
        "GPUs": State.SKIP,
        "CUDA": State.SKIP,
        "GPU memory": State.SKIP,
    }
    assert not has_gpu


def test_a_gpu_that_is_lost_midway_stops_nothing(monkeypatch):
    lost = raising(NVMLError("GPU is lost"))
    nvml = fake_nvml(T4, nvmlSystemGetCudaDriverVersion_v2=lost, nvmlDeviceGetMemoryInfo=lost, nvmlShutdown=lost)
    found, _ = examined_gpus(monkeypatch, nvml)
    assert [name for name, state in found.items() if state is State.FAIL] == ["CUDA", "GPU memory"]


def test_a_missing_nvml_package_is_a_finding(monkeypatch):
    found, has_gpu = examined_gpus(monkeypatch, None)  # None in sys.modules: importing it raises ImportError
    assert (found, has_gpu) == ({"driver": State.FAIL}, False)


def test_a_missing_hub_package_is_a_finding(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert states(doctor_hub.examine_hub()) == {"hub": State.FAIL}


@pytest.mark.parametrize(
    ("gpu_findings", "needed"),
    [
        ([("driver", State.SKIP), ("GPUs", State.SKIP)], False),  # no GPU
        ([("driver", State.OK), ("GPUs", State.SKIP)], False),  # hidden on purpose
        ([("driver", State.OK), ("GPUs", State.OK)], True),
        ([("driver", State.OK), ("GPUs", State.OK), ("GPU 0", State.FAIL)], True),
        ([("driver", State.FAIL), ("GPUs", State.SKIP)], True),
        ([("driver", State.OK), ("GPUs", State.FAIL)], True),
    ],
)
def test_the_hub_is_needed_unless_there_is_no_gpu(monkeypatch, gpu_findings, needed):
    asked = []
    findings = [Finding(name=name, state=state, seen="") for name, state in gpu_findings]
    monkeypatch.setattr(doctor, "examine_gpus", lambda visible: iter(findings))
    monkeypatch.setattr(doctor, "examine_bitsandbytes", lambda needs_cuda: OK)
    monkeypatch.setattr(doctor, "examine_hub", lambda is_needed: asked.append(is_needed) or iter([OK]))
    names = [finding.name for finding in doctor.examine()]
    assert asked == [needed]
    assert names[:2] == ["Python", "locale"]
    assert names[-4:] == ["first", "results", "first", "embedded model"]


def run_command(tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "-m", "summarybench", "doctor"],
        cwd=ROOT,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path),
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN": TOKEN,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONUTF8": "1",
            **environment,
        },
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_the_command_runs_where_there_is_neither_gpu_nor_hub(tmp_path):
    done = run_command(tmp_path)
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert "could not be checked" not in done.stdout
    assert TOKEN not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("skip  CUDA") for line in lines)
    assert any(line.startswith("skip  hub  ") and line.endswith("; only the hub models need it") for line in lines)
    assert any(line.startswith("ok    token") for line in lines)
    assert done.returncode == any(line.startswith("FAIL") for line in lines)


BROKEN_DRIVER = """
class NVMLError(Exception): ...
class NVMLError_LibRmVersionMismatch(NVMLError): ...

def nvmlInit():
    raise NVMLError_LibRmVersionMismatch("mismatch")
"""


def test_the_command_fails_where_there_is_a_broken_gpu_and_no_hub(tmp_path):
    (tmp_path / "pynvml.py").write_text(BROKEN_DRIVER)
    done = run_command(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert "could not be checked" not in done.stdout
    assert TOKEN not in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("skip  CUDA") for line in lines)
    assert any(line.startswith("FAIL  hub  ") for line in lines)  # offline, and no model in the cache
    assert any(line.startswith("ok    token") for line in lines)
    assert lines[-1].endswith("failed")
    assert done.returncode == 1
