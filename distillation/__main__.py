"""`python -m distillation`: train a smaller model on a teacher's summaries."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from summarybench.core.exit_codes import run_to_exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Distil and return the exit code.

    Of several processes, only the first prints errors.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    return run_to_exit_code(lambda: _distil(arguments, is_first=is_first), reports=is_first)


def _distil(arguments: Sequence[str] | None, *, is_first: bool) -> int:
    from distillation.command import distil  # reads the catalogue's tables, whose mistakes are errors of this command

    return distil(arguments, is_first=is_first)


if __name__ == "__main__":
    sys.exit(main())
