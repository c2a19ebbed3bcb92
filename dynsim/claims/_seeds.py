"""Seeds of a run: two runs of the same claims share no random numbers."""

from __future__ import annotations

SEEDS_OF_A_RUN = 10_000
MOST_RUNS = 2**31 // SEEDS_OF_A_RUN


def run_seed(run: int, number: int = 0) -> int:
    """The seed with this number, below 10,000, in a run.

    Run 0 has the numbers themselves as seeds, run N those from 10,000 N on.
    """
    assert 0 <= number < SEEDS_OF_A_RUN
    return SEEDS_OF_A_RUN * run + number
