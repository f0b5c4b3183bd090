import math
from dataclasses import replace

import pytest

from summarybench.catalogue.models import CPU, EXPERIMENTS, LOADERS, MODELS
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.machine.families import FAMILIES

NAMES = [experiment.name for experiment in EXPERIMENTS]


def device(family, compute_dtype, memory_gib=14.6):
    made = CpuDevice if family == "cpu" else CudaDevice
    return made(
        kind="cpu" if family == "cpu" else "cuda",
        name=family,
        slug=family,
        family=family,
        memory_bytes=math.ceil(memory_gib * GIB),
        compute_dtype=compute_dtype,
    )


T4 = device("t4", "float16")
H100 = device("h100", "bfloat16")
A_CPU = device("cpu", "float32")


def registered_markers(config, kind):
    """The markers that pytest knows whose description begins so."""
    lines = [line.partition(": ") for line in config.getini("markers")]
    return {name for name, _, description in lines if description.startswith(kind)}


def test_pytest_knows_a_marker_for_every_family_and_no_other(pytestconfig):
    assert registered_markers(pytestconfig, "experiments for ") == FAMILIES


def test_pytest_knows_a_marker_for_every_model_and_no_other(pytestconfig):
    assert registered_markers(pytestconfig, "experiments with ") == {model.marker for model in MODELS.values()}


def test_every_family_has_an_experiment():
    assert frozenset().union(*(experiment.families for experiment in EXPERIMENTS)) == FAMILIES


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=NAMES)
def test_an_experiment_is_made_of_what_exists(experiment):
    assert experiment.model in MODELS
    assert experiment.loader in LOADERS
    assert experiment.families | experiment.on_request <= FAMILIES
    kinds = {"compiled"} if LOADERS[experiment.loader].is_compiled else set()
    assert set(experiment.markers) == {MODELS[experiment.model].marker, *kinds, *experiment.families}


def test_no_two_experiments_have_one_name():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("family", ["t4", "v100"])
def test_gpus_without_bfloat16_have_no_bf16_experiment(family):
    loaders = {each.loader for each in EXPERIMENTS if family in each.families | each.on_request}
    assert loaders == {"default", "fp16", "8-bit", "4-bit", "fp16-compiled", "4-bit-compiled"}


def test_fp8_runs_only_on_gpus_that_convert_it():
    families = frozenset().union(*(each.families | each.on_request for each in EXPERIMENTS if "fp8" in each.loader))
    assert families == {"l4", "h100", "h200", "rtx4090"}


def test_the_embedded_model_runs_unasked_only_on_the_cpu():
    embedded = [each for each in EXPERIMENTS if MODELS[each.model].is_embedded]
    assert frozenset().union(*(each.families for each in embedded)) == CPU
    assert {each.loader for each in embedded if each.families} == {"default", "8-bit", "4-bit"}


def test_only_the_embedded_model_runs_unasked_on_a_cpu():
    assert {each.model for each in EXPERIMENTS if "cpu" in each.families} == {"smollm2-135m-instruct"}


NF4 = {"quantization": "nf4", "double_quantization": False}
INT8 = {"quantization": "llm.int8", "threshold": 6.0}


@pytest.mark.parametrize(
    ("loader", "where", "expected"),
    [
        ("default", T4, {"dtype": "float32"}),
        ("fp16", H100, {"dtype": "float16"}),
        ("bf16", H100, {"dtype": "bfloat16"}),
        ("4-bit", T4, NF4 | {"dtype": "float16", "compute_dtype": "float16"}),
        ("4-bit", H100, NF4 | {"dtype": "bfloat16", "compute_dtype": "bfloat16"}),
        ("4-bit", A_CPU, NF4 | {"dtype": "float32", "compute_dtype": "float32", "threads": 6}),
        ("8-bit", T4, INT8 | {"dtype": "float16"}),
        ("8-bit", H100, INT8 | {"dtype": "float16"}),
        ("8-bit-threshold-0", H100, INT8 | {"dtype": "float16", "threshold": 0.0}),
        ("w8a16", H100, {"quantization": "int8 weights", "dtype": "bfloat16"}),
        ("w4a16", H100, {"quantization": "int4 group 64", "dtype": "float16"}),
        ("fp8", H100, {"quantization": "fp8 e4m3 weights", "dtype": "float16"}),
        ("8-bit", A_CPU, INT8 | {"dtype": "float32", "threads": 6}),
        ("8-bit", device("cpu", "bfloat16"), INT8 | {"dtype": "float32", "threads": 6}),
        ("default", A_CPU, {"dtype": "float32", "threads": 6}),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "family", ""),
)
def test_a_loader_asks_for_what_the_device_computes_in(loader, where, expected):
    on_a_gpu = {"attention": "sdpa without cuDNN"} if where.is_gpu else {}
    assert LOADERS[loader].settings(where, threads=6) == expected | on_a_gpu


CAPTURED = {"attention": "static keys", "compiled": "CUDA graph"}


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        ("fp16-compiled", {"dtype": "float16"}),
        ("4-bit-compiled", NF4 | {"dtype": "float16", "compute_dtype": "float16"}),
    ],
)
@pytest.mark.parametrize("family", ["t4", "v100"])
def test_gpus_without_bfloat16_capture_what_others_compile(loader, expected, family):
    assert LOADERS[loader].settings(device(family, "float16"), threads=6) == expected | CAPTURED
    assert LOADERS[loader].settings(H100, threads=6)["compiled"] == "inductor, CUDA graph"


def test_how_threads_wait_belongs_to_the_workload_only_where_the_suite_chooses_it():
    for has_avx512, chosen in ((True, {}), (None, {}), (False, {"wait_policy": "passive"})):
        where = replace(A_CPU, has_avx512=has_avx512)
        assert LOADERS["default"].settings(where, 6, "passive") == {"dtype": "float32", "threads": 6} | chosen
    assert "wait_policy" not in LOADERS["default"].settings(T4, 6, "passive")
