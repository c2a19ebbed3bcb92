"""All quantities by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from dynsim._errors import InputError
from dynsim.scaling._quantity import Quantity

from ._coherence import COHERENCE
from ._hidden import HIDDEN
from ._hidden_rates import HIDDEN_RATES
from ._loss import Loss
from ._optimal_rates import OPTIMAL_RATES
from ._restoration import RESTORATION
from ._updates import UPDATES

QUANTITIES: Mapping[str, Quantity] = {
    one.name: one
    for one in (*UPDATES, *HIDDEN, *COHERENCE, Loss(), *OPTIMAL_RATES, *HIDDEN_RATES, RESTORATION)
}


def quantity(name: str) -> Quantity:
    """The quantity of that name. Raises `InputError` with the nearest names."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    near = get_close_matches(name, QUANTITIES, n=3, cutoff=0.5) or list(QUANTITIES)
    raise InputError("quantity", name, f"must be one of {', '.join(near)}")
