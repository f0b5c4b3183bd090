"""Shares on the command line, such as `5%`."""

from __future__ import annotations

from summarybench.core.outcomes import InputError


def parse_share(text: str, option: str = "--tolerance") -> float:
    """'5%' or '0.05' → 0.05. Raises InputError naming the option for anything but a number between 0 and 1."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise InputError(f"{option} {text}: give a share between 0 and 1, such as 5% or 0.05")
    return share
