"""Hosts: what identifies them, what reports call them, and how two environments differ."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from summarybench.machine import environment
from summarybench.machine.environment import (
    Host,
    describe_environment,
    environment_differences,
    gpu_host_id,
    host_id_of,
    host_in,
)
from summarybench.runs.migration import migrated
from tests.fakes import FakeGpu

GPU = FakeGpu()
CPU = FakeGpu(kind="cpu", uuid="")


@pytest.fixture
def machine_id(tmp_path, monkeypatch):
    """The file that holds the machine's ID."""
    path = tmp_path / "machine-id"
    path.write_text("5ca1ab1e\n")
    monkeypatch.setattr(environment, "MACHINE_ID_FILES", (tmp_path / "missing", path))
    return path


def test_a_gpu_identifies_its_host_whatever_the_container_is_called(monkeypatch):
    before = host_id_of(GPU)
    monkeypatch.setattr(platform, "node", lambda: "another-container")
    assert host_id_of(GPU) == before == gpu_host_id("1111")
    assert host_id_of(replace(GPU, uuid="GPU-2222")) != before


def test_a_cpu_is_identified_by_the_machine_s_id(machine_id, monkeypatch):
    before = host_id_of(CPU)
    monkeypatch.setattr(platform, "node", lambda: "another-container")
    assert host_id_of(CPU) == before
    machine_id.write_text("another machine")
    assert host_id_of(CPU) != before


def test_a_name_identifies_a_cpu_and_only_names_a_gpu(machine_id):
    assert host_id_of(CPU, "lab-1") != host_id_of(CPU, "lab-2")
    machine_id.write_text("another machine")
    assert host_id_of(CPU, "lab-1") == host_id_of(CPU, "lab-1") != host_id_of(CPU)
    assert host_id_of(GPU, "lab-1") == host_id_of(GPU)


def test_without_a_machine_id_the_network_name_stands_in(machine_id, monkeypatch):
    machine_id.unlink()
    ids = []
    for name in ("one", "two"):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        ids.append(host_id_of(CPU))
    assert ids[0] != ids[1]


def test_neither_uuid_nor_machine_id_can_be_read_from_the_id(machine_id):
    described = str(describe_environment(GPU)) + str(describe_environment(CPU))
    assert "1111" not in described
    assert "5ca1ab1e" not in described


def test_a_host_is_shown_by_the_given_name_or_by_one_made_from_its_id():
    assert host_in(describe_environment(GPU, "lab-2")) == Host(id=gpu_host_id("1111"), name="lab-2")
    assert host_in(describe_environment(GPU)).name == f"host-{gpu_host_id('1111')[:6]}"


def test_an_older_run_s_host_is_found_by_its_gpu():
    run = {"machine_info": {"device": "a GPU", "host": "0123456789ab"}, "benchmarks": []}
    by_gpu = migrated(run | {"device": {"uuid": "GPU-1111"}})["machine_info"]
    assert host_in(by_gpu) == host_in(describe_environment(GPU))
    assert host_in(migrated(run)["machine_info"]) == Host(id="0123456789ab", name="host-012345")


def test_hosts_differ_by_their_ids_and_are_shown_by_their_names():
    here = {"host": "old-1", "host_id": "1", "host_name": "lab-1", "torch": "2.12"}
    assert list(environment_differences(here, here | {"host": "old-2", "host_name": "renamed"})) == []
    assert list(environment_differences(here, here | {"host_id": "2", "host_name": "lab-2", "torch": "2.11"})) == [
        "host lab-1 here, lab-2 there",
        "torch 2.12 here, 2.11 there",
    ]


def test_device_that_one_run_names_by_its_slug_is_no_difference_and_what_it_does_not_state_is_unknown():
    local = {"device": "NVIDIA H200", "driver": "580.1", "device_memory_bytes": 150, "bitsandbytes": "0.50"}
    remote = {"device": "nvidia-h200", "driver": None, "device_memory_bytes": None, "bitsandbytes": None}
    assert list(environment_differences(remote, local)) == [
        "bitsandbytes None here, 0.50 there",
        "device_memory_bytes unknown here, 150 there",
        "driver unknown here, 580.1 there",
    ]
    assert list(environment_differences(remote, {**remote, "device": "Tesla T4"})) == [
        "device nvidia-h200 here, Tesla T4 there"
    ]
