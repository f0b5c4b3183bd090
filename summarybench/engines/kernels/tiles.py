"""The part of a weight matrix that one program of a kernel reads at a time.

Nothing is tuned at run time: the tiles are constants, chosen from measurements on an H200, so that two processes run
the same kernels. A second tile serves matrices whose rows are longer than LONG_ROW (the down projection of a 7B model):
there are fewer of those rows, and a program of few warps per row keeps more of the GPU busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LONG_ROW = 8192
ROWS_MULTIPLE = 8
"""Every matrix has a multiple of this many rows, so no kernel masks rows."""
TOKENS_A_PROGRAM = 64
"""How much of the cache one program of the attention kernel reads."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` of the matrix by `columns` weights, for `warps` warps of at most `registers` registers a thread (0: any)."""

    rows: int
    columns: int
    warps: int
    registers: int = 0

    def columns_for(self, row_length: int, multiple: int = 1) -> int:
        """As many columns as a row has, up to the next power of two, at least `multiple` and at most `columns`."""
        return max(multiple, min(self.columns, 1 << (row_length - 1).bit_length()))

    @property
    def options(self) -> dict[str, int]:
        """What Triton is asked for at the launch."""
        return {"num_warps": self.warps, **({"maxnreg": self.registers} if self.registers else {})}


@dataclass(frozen=True, slots=True)
class Tiles:
    """One tile for short rows and one for long rows."""

    short: Tile
    long: Tile

    def for_rows_of(self, length: int) -> Tile:
        return self.long if length > LONG_ROW else self.short


def overlap_options(overlaps: bool) -> dict[str, Any]:
    """What Triton is asked for at the launch of a kernel that overlaps with the one before it, or does not.

    A kernel that overlaps starts when all programs of the one before it have started. It loads weights, which no kernel
    writes, and waits for the other's end before it touches anything else. Only then may the next kernel start in turn, so
    at most two run at a time, and what was written two kernels ago may be read without waiting. In a captured step every
    kernel overlaps or none does: a mixture was slower than either. Needs compute capability 9.0.
    """
    return {"OVERLAPS": overlaps, **({"launch_pdl": True} if overlaps else {})}
