"""GPU families: markers for groups of products, read from families.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown

FAMILIES_FILE = Path(__file__).with_name("families.toml")
CPU_FAMILY = "cpu"
UNKNOWN_GPU_FAMILY = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFamily:
    """Products that share experiments.

    `product` is a regular expression for their names in NVML.
    """

    product: str
    compute_capability: float
    title: str


def read_families(path: Path = FAMILIES_FILE) -> dict[str, GpuFamily]:
    """Read the families, by marker.

    Raises InputError that names the file, the entry and the value.
    """
    found: dict[str, GpuFamily] = {}
    for marker, values in read_table(path).items():
        where = f"{shown(path)}: [{marker}]"
        if not marker.isidentifier() or marker in (CPU_FAMILY, UNKNOWN_GPU_FAMILY):
            raise InputError(
                f"{where}: {marker!r} must be a word of letters, digits and underscores, and neither {CPU_FAMILY!r} nor "
                f"{UNKNOWN_GPU_FAMILY!r}"
            )
        found[marker] = entry_of(GpuFamily, values, where)
        try:
            re.compile(found[marker].product)
        except re.error as error:
            raise InputError(
                f"{where}: product: {found[marker].product!r} must be a regular expression ({error})"
            ) from error
    return found


GPU_FAMILIES: Mapping[str, GpuFamily] = read_families()
BFLOAT16_CAPABILITY = 8.0
"""GPUs multiply bfloat16 from this compute capability on; the suite uses inductor's kernels from there on too."""
FAMILIES = frozenset({CPU_FAMILY, *GPU_FAMILIES})


def gpus_from(compute_capability: float) -> frozenset[str]:
    """The families with at least this compute capability."""
    return frozenset(
        marker for marker, family in GPU_FAMILIES.items() if family.compute_capability >= compute_capability
    )


def major_and_minor(compute_capability: float) -> tuple[int, int]:
    """A compute capability as NVML and torch state it: 8.9 is (8, 9)."""
    major, minor = divmod(round(10 * compute_capability), 10)
    return major, minor


def family_of(product: str) -> str:
    """The family marker of a product name from NVML; 'gpu' for an unknown product."""
    for marker, family in GPU_FAMILIES.items():
        if re.search(family.product, product):
            return marker
    return UNKNOWN_GPU_FAMILY


def family_markers() -> dict[str, str]:
    """The description of each family's marker, for `pytest --markers`."""
    gpus = {marker: f"experiments for an {family.title}" for marker, family in GPU_FAMILIES.items()}
    return {**gpus, CPU_FAMILY: "experiments for a machine without a GPU"}
