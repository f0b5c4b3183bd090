"""Prices on the command line, such as `2.50`. They have no currency: what is computed from them is in the user's."""

from __future__ import annotations

import math

from summarybench.core.outcomes import InputError

LARGEST_PRICE = 1e9
SMALLEST_PRICE = 1e-6


def parse_price(text: str, option: str = "--gpu-hour-price") -> float:
    """'2.50' → 2.5. Raises InputError naming the option for anything but a positive number."""
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not SMALLEST_PRICE <= price <= LARGEST_PRICE:
        raise InputError(
            f"{option} {text}: give the price of one GPU for an hour as a positive number without a currency, such as 2.50"
        )
    return price
