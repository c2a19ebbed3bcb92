"""Seeds of a run of a study: two runs share no random numbers."""

from __future__ import annotations

from dynsim._errors import check_integer
from dynsim.claims._seeds import MOST_RUNS
from dynsim.claims._seeds import run_seed as run_seed


def check_run(seed: int) -> None:
    """Raises `InputError` unless a run can have this seed."""
    check_integer("seed", seed, 0, MOST_RUNS - 1)
