"""How much GPU time and energy summaries take, derived from the seconds and joules of a run file.

A price for an hour of one GPU turns GPU time into money. The price is never part of a workload: runs with different prices
stay comparable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from summarybench.runs.extra_info import ExtraInfo

SECONDS_PER_HOUR = 3600
JOULES_PER_WATT_HOUR = 3600
_PARALLEL_GPUS = re.compile(
    r"(?:--(?:tensor-parallel|pipeline-parallel|data-parallel|tp|pp|dp)(?:-size)?|-tp|-pp|-dp)[ =](\d+)\b"
)
"""Options of vLLM and SGLang that spread one server over several GPUs. The numbers are multiplied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """What summaries took: seconds × GPUs, and joules. `gpus` is how many were counted. Energy is None if unknown."""

    gpus: int
    gpu_seconds_per_document: float
    gpu_seconds_per_token: float
    joules_per_document: float | None
    joules_per_token: float | None

    def cost_of_documents(self, count: int, gpu_hour_price: float | None) -> float | None:
        """Money for so many documents, in the currency of the price; None without a price."""
        return _money(self.gpu_seconds_per_document * count, gpu_hour_price)

    def cost_of_tokens(self, count: int, gpu_hour_price: float | None) -> float | None:
        """Money for so many generated tokens; None without a price."""
        return _money(self.gpu_seconds_per_token * count, gpu_hour_price)

    def watt_hours_of_documents(self, count: int) -> float | None:
        return _watt_hours(self.joules_per_document, count)

    def watt_hours_of_tokens(self, count: int) -> float | None:
        return _watt_hours(self.joules_per_token, count)


def consumption_of(info: ExtraInfo, *, is_gpu: bool) -> Consumption:
    """The GPU time and energy of one experiment.

    Seconds are those of the rounds. A pass over the whole sample counts from its first request to its last answer, and
    several processes count from their common start to the end of the last one. Loading and compiling are left out. On a CPU,
    the whole machine counts as one GPU.
    """
    gpus = _gpus(info) if is_gpu else 1
    documents_per_second, tokens_per_second = _throughput(info)
    joules = None if _is_energy_of_one_of_many(info, gpus) else info["joules_per_token"]
    return Consumption(
        gpus=gpus,
        gpu_seconds_per_document=gpus / documents_per_second,
        gpu_seconds_per_token=gpus / tokens_per_second,
        joules_per_document=None if joules is None else joules * tokens_per_second / documents_per_second,
        joules_per_token=joules,
    )


def _gpus(info: ExtraInfo) -> int:
    """Processes have a GPU each. A server has one, or as many as its command says; servers of a fleet are alike."""
    if "served" not in info:
        return info.get("processes", 1)
    servers = info["served"]["fleet"]["servers"] if "fleet" in info["served"] else 1
    return servers * prod(max(1, int(each)) for each in _PARALLEL_GPUS.findall(info["served"]["command"]))


def _throughput(info: ExtraInfo) -> tuple[float, float]:
    """Documents and generated tokens per second of everything that ran at once."""
    if "scaling" not in info:
        return info["documents_per_second"], info["generated_tokens_per_second"]
    processes = info["scaling"]["per_process"]
    seconds = max(each["seconds"] for each in processes)
    documents, tokens = (sum(each[key] for each in processes) for key in ("documents", "generated_tokens"))
    return documents / seconds, tokens / seconds


def _is_energy_of_one_of_many(info: ExtraInfo, gpus: int) -> bool:
    """Whether the energy counter was that of one GPU among several. Processes each read their own."""
    return "served" in info and gpus > 1


def _money(gpu_seconds: float, gpu_hour_price: float | None) -> float | None:
    return None if gpu_hour_price is None else gpu_seconds / SECONDS_PER_HOUR * gpu_hour_price


def _watt_hours(joules: float | None, count: int) -> float | None:
    return None if joules is None else joules * count / JOULES_PER_WATT_HOUR
