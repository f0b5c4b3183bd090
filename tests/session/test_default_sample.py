"""How much a session measures where no option says so: by the device and, on a CPU, by whether it has AVX-512."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from summarybench.catalogue.floors import FLOORS
from summarybench.catalogue.models import CPU, EXPERIMENTS
from summarybench.documents.document import DocumentSource
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.device import GIB
from summarybench.session.config import Config, default_sample_on, resolve
from summarybench.session.settings import Settings, UnresolvedOptions
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from tests.conftest import FAKE_MODELS
from tests.fakes import FakeGpu
from tests.kill_at_random import UNRESOLVED, settings_in

WITH_AVX512 = CpuDevice(
    kind="cpu",
    name="a CPU",
    slug="a-cpu",
    family="cpu",
    memory_bytes=16 * GIB,
    compute_dtype="float32",
    has_avx512=True,
)
WITHOUT_AVX512 = replace(WITH_AVX512, has_avx512=False)
FROM_AN_OLDER_RUN = replace(WITH_AVX512, has_avx512=None)
A_GPU = FakeGpu()
CHOSEN = (
    "this CPU has no AVX-512, so quantized models are slow on it: a document has at most 12 new tokens and 128 prompt "
    "tokens (for more: --max-new-tokens 48 --max-prompt-tokens 2048), and OpenMP threads sleep while they wait"
)


@pytest.fixture
def config_on(tmp_path):
    """The configuration of a session on a device, with the default for each option that is not given."""

    def resolved(device, *, documents=None, max_new_tokens=None, max_prompt_tokens=None):
        options = replace(
            UNRESOLVED, documents=documents, max_new_tokens=max_new_tokens, max_prompt_tokens=max_prompt_tokens
        )
        return resolve(settings_in(tmp_path, resume=None, save_as=None), options, device)

    return resolved


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param(A_GPU, (100, 100, 2048), id="gpu"),
        pytest.param(WITH_AVX512, (8, 48, 2048), id="avx512"),
        pytest.param(FROM_AN_OLDER_RUN, (8, 48, 2048), id="cpu-of-an-older-run"),
        pytest.param(WITHOUT_AVX512, (8, 12, 128), id="no-avx512"),
    ],
)
def test_default_sample_depends_on_the_device_alone(config_on, device, expected):
    work = config_on(device)
    assert (work.documents, work.max_new_tokens, work.max_prompt_tokens) == expected
    assert work.defaulted == {"documents", "max_new_tokens", "max_prompt_tokens"}
    assert work.is_default_sample_size


@pytest.mark.parametrize("device", [A_GPU, WITH_AVX512, WITHOUT_AVX512], ids=["gpu", "avx512", "no-avx512"])
def test_default_sample_is_large_enough_for_a_verdict(device):
    assert default_sample_on(device).documents >= MINIMUM_COMMON_DOCUMENTS


@pytest.mark.parametrize("device", [WITH_AVX512, WITHOUT_AVX512], ids=["avx512", "no-avx512"])
def test_default_sample_of_a_cpu_has_a_floor_for_every_loader(device):
    unasked = [each for each in EXPERIMENTS if each.families & CPU]
    new_tokens = default_sample_on(device).max_new_tokens
    assert len(unasked) == 3
    assert all((each.model, each.loader, DocumentSource.EMBEDDED, new_tokens) in FLOORS for each in unasked)


def test_options_win_over_what_the_cpu_would_get(config_on):
    work = config_on(WITHOUT_AVX512, documents=3, max_new_tokens=48, max_prompt_tokens=500)
    assert (work.documents, work.max_new_tokens, work.max_prompt_tokens) == (3, 48, 500)
    assert work.defaulted == frozenset()
    assert not work.is_default_sample_size


def test_unresolved_options_do_not_get_behind_the_configuration():
    unresolved = {each.name for each in fields(UnresolvedOptions)}
    assert unresolved.isdisjoint(each.name for each in fields(Settings))
    assert not any("UnresolvedOptions" in str(each.type) for each in fields(Config))


@pytest.mark.parametrize("device", [A_GPU, WITH_AVX512, WITHOUT_AVX512], ids=["gpu", "avx512", "no-avx512"])
def test_configuration_has_a_value_for_every_option(config_on, device):
    assert not [each.name for each in fields(Config) if getattr(config_on(device), each.name) is None]
    assert None not in config_on(device).kind_options.values()


@pytest.mark.parametrize("device", [A_GPU, WITH_AVX512, FROM_AN_OLDER_RUN], ids=["gpu", "avx512", "older-run"])
def test_nothing_is_chosen_elsewhere(monkeypatch, config_on, device):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert config_on(device).choices == ""


def test_choices_name_only_what_no_option_decided(monkeypatch, config_on):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert config_on(WITHOUT_AVX512).choices == CHOSEN
    because = "this CPU has no AVX-512, so quantized models are slow on it"
    assert config_on(WITHOUT_AVX512, max_new_tokens=48).choices == (
        f"{because}: a document has at most 128 prompt tokens (for more: --max-prompt-tokens 2048), and OpenMP threads "
        "sleep while they wait"
    )
    asked = config_on(WITHOUT_AVX512, max_new_tokens=48, max_prompt_tokens=2048)
    assert asked.choices == f"{because}: OpenMP threads sleep while they wait"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert asked.choices == ""


def test_session_without_avx512_measures_less_and_says_so_once_at_its_start(project):
    session = project.bench("-k", "4-bit", ATEN_CPU_CAPABILITY="avx2")
    info = session.infos["4-bit"]
    assert (info["max_new_tokens"], info["max_prompt_tokens"]) == (12, 128)
    assert len(info["document_ids"]) == 8
    assert max(info["prompt_tokens"]) <= 128
    assert session.run["choices"] == CHOSEN
    start, _, report = session.output.partition("smollm2-135m-instruct-4-bit: started")
    assert start.splitlines().count(CHOSEN) == 1
    assert report.splitlines().count(CHOSEN) == 1


A_MACHINE_WITH_AVX2 = """
    from summarybench.machine import detection

    detection.cpu_facts = lambda: {"model name": "a CPU", "flags": "fpu sse4_2 fma avx avx2"}
"""


def test_what_the_machine_says_of_its_cpu_is_enough(project):
    project.use(FAKE_MODELS.replace("    pretend_avx512()\n", "") + A_MACHINE_WITH_AVX2)
    session = project.bench("-k", "4-bit")
    assert session.infos["4-bit"]["max_new_tokens"] == 12
    assert session.run["choices"] == CHOSEN


def test_fakes_are_measured_alike_on_every_machine(project):
    project.use(FAKE_MODELS + A_MACHINE_WITH_AVX2)
    assert project.bench("-k", "4-bit").infos["4-bit"]["max_new_tokens"] == 48


def test_quiet_session_says_what_was_chosen_too(project):
    assert CHOSEN in project.bench("-q", "-k", "4-bit", ATEN_CPU_CAPABILITY="avx2").output.splitlines()


def test_two_sessions_without_avx512_are_one_workload(project):
    options = ("-k", "4-bit", "--benchmark-save=main")
    first, again = (project.bench(*options, ATEN_CPU_CAPABILITY="avx2").infos["4-bit"] for _ in range(2))
    assert again["workload"] == first["workload"]
    assert (again["change"]["documents"], again["change"]["ratio"]) == (8, pytest.approx(1.0))


def test_session_with_avx512_is_what_it_was(project):
    session = project.bench("-k", "4-bit", ATEN_CPU_CAPABILITY="avx512")
    info = session.infos["4-bit"]
    assert (info["max_new_tokens"], info["max_prompt_tokens"]) == (48, 2048)
    assert "choices" not in session.run
    assert "AVX-512" not in session.output


SHOW_WAIT_POLICY = """
    import os

    @pytest.fixture(scope="session", autouse=True)
    def show(bench_session):
        print("OpenMP waits:", os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "PASSIVE"),
        ({"ATEN_CPU_CAPABILITY": "avx2", "OMP_WAIT_POLICY": "active"}, "active"),
        ({"ATEN_CPU_CAPABILITY": "avx512"}, "None"),
    ],
    ids=["no-avx512", "no-avx512-but-asked-to-spin", "avx512"],
)
def test_threads_sleep_only_without_avx512_and_only_unasked(project, environment, expected):
    project.use(FAKE_MODELS + SHOW_WAIT_POLICY)
    assert f"OpenMP waits: {expected}" in project.bench("-s", "-k", "4-bit", **environment).output
