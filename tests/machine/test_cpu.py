import os

import pytest

from summarybench.machine.cpu import cpu_facts, has_avx512, has_bfloat16, let_threads_sleep_while_waiting, wait_policy

AVX2 = "fpu sse4_2 fma avx avx2 f16c"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
SAPPHIRE_RAPIDS = f"{AVX512} avx512_bf16 avx512_vnni amx_bf16"
GRAVITON3 = {"Features": "fp asimd sve bf16 i8mm"}


def flags(text):
    return {"model name": "a CPU", "flags": text}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(flags(AVX512), True, id="avx512"),
        pytest.param(flags(AVX2), False, id="avx2"),
        pytest.param(
            flags(f"{AVX2} avx512f avx512cd avx512er avx512pf"), False, id="first-generation-that-torch-leaves-out"
        ),
        pytest.param(GRAVITON3, False, id="arm"),
        pytest.param({}, False, id="unknown"),
    ],
)
def test_avx512_is_what_torch_would_use(facts, expected):
    assert has_avx512(facts, {}) is expected


@pytest.mark.parametrize(
    ("capability", "expected"), [("avx2", False), ("default", False), ("avx512", True), ("nonsense", True)]
)
def test_aten_cpu_capability_decides_where_torch_heeds_it(capability, expected):
    assert has_avx512(flags(AVX512), {"ATEN_CPU_CAPABILITY": capability}) is expected


def test_this_cpu_is_read_as_torch_reads_it():
    import torch

    assert has_avx512(cpu_facts(), os.environ) == (torch.backends.cpu.get_cpu_capability() == "AVX512")


@pytest.mark.parametrize(
    ("facts", "capability", "expected"),
    [
        pytest.param(flags(SAPPHIRE_RAPIDS), None, True, id="avx512"),
        pytest.param(flags(SAPPHIRE_RAPIDS), "avx2", False, id="avx512-held-to-avx2"),
        pytest.param(flags(AVX512), None, False, id="avx512-without-bfloat16"),
        pytest.param(flags(AVX2), None, False, id="avx2"),
        pytest.param(GRAVITON3, None, True, id="arm"),
        pytest.param({}, None, False, id="unknown"),
    ],
)
def test_bfloat16_needs_instructions_that_torch_may_use(facts, capability, expected):
    environment = {} if capability is None else {"ATEN_CPU_CAPABILITY": capability}
    assert has_bfloat16(facts, environment) is expected


def test_threads_are_told_to_sleep_while_they_wait():
    environment = {}
    let_threads_sleep_while_waiting(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    assert wait_policy(environment) == "passive"


def test_a_wait_policy_that_is_set_already_is_left_as_it_is():
    environment = {"OMP_WAIT_POLICY": "active"}
    let_threads_sleep_while_waiting(environment)
    assert environment == {"OMP_WAIT_POLICY": "active"}
    assert wait_policy(environment) == "active"


def test_without_a_wait_policy_it_is_the_library_s_default():
    assert wait_policy({}) == "default"
