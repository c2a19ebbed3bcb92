"""`python -m experiments.replication`: measures the replication study."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dynsim import InputError
from dynsim._errors import check_integer
from experiments.output import flag, near_names, print_table, progress_bar, writable_folder
from experiments.precision import enable_x64
from experiments.topics._seeds import MOST_RUNS


@dataclass(frozen=True)
class Replication:
    """Measure the claims under fresh seeds: their default version under 20, the full one under 3.

    Studies of the laboratory are measured with --laboratory-seeds. The result is replication.nc of
    --out; the same command goes on after an interruption. Copy it to experiments/data, and the page
    docs/replication.md shows it. With --add it is put into the stored replication instead.
    """

    claim: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """replicate this claim only (may be repeated)"""
    quick_seeds: int = 20
    """number of seeds of the default version; 0 leaves it out"""
    full_seeds: int = 3
    """number of seeds of the full version; 0 leaves it out"""
    laboratory_seeds: int = 0
    """number of seeds of the laboratory's studies, which take minutes to an hour each"""
    from_seed: int = 1
    """leave out the seeds before this one, which are stored already, say; counts are those of seeds
    1, 2, ... all the same, so that a version whose count is below it is left out"""
    out: Path = Path("dynsim-replication")
    """folder for the result and for the studies of every seed"""
    add: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """put the result into experiments/data/replication.nc, beside the claims that it has"""

    def run(self) -> int:
        """Measures, and prints the shares."""
        counts = (self.quick_seeds, self.full_seeds, self.laboratory_seeds)
        for field, count in zip(COUNTS, counts, strict=True):
            check_integer(field, count, 0, MOST_RUNS - 1)
        if not any(counts):
            others = "where `full_seeds` and `laboratory_seeds` are 0"
            raise InputError("quick_seeds", 0, f"must be positive {others}")
        check_integer("from_seed", self.from_seed, 1, max(counts))
        enable_x64()
        from experiments.results import STORED, save

        from .runs import every_claim, joined, plan_of, replicate
        from .shares import claim_rows, coverage, stored_replication

        known = every_claim()
        for name in self.claim:
            if name not in known:
                raise InputError("claim", name, near_names(name, known))
        plan = plan_of(self.claim, *counts, first=self.from_seed)
        for name in plan.unmeasured():
            laboratory = "`laboratory_seeds` for one of the laboratory's"
            since = f" from {self.from_seed} on" if self.from_seed > 1 else ""
            allowed = f"must be measured by a version that has seeds{since}: {laboratory}"
            raise InputError("claim", name, allowed)
        folder = writable_folder("out", self.out)
        with progress_bar(plan.cells(), "replication", alike=False) as bar:
            data = replicate(plan, folder, bar)
        rows = [
            [row.claim, row.version, row.expected, str(row.as_expected)] for row in claim_rows(data)
        ]
        print_table(("claim", "version", "expected", "as expected"), rows)
        for theory in ("simulated", "predicted"):
            print(f"95 % intervals of exponents that hold the {theory} value:", end=" ")
            print(coverage(data, theory))
        print(folder / "replication.nc")
        if self.add:
            before = stored_replication()
            save(data if before is None else joined(before, data), STORED / "replication.nc")
            print(STORED / "replication.nc")
        return 0


COUNTS = ("quick_seeds", "full_seeds", "laboratory_seeds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 for bad input."""
    options = tyro.cli(Replication, args=arguments, prog="python -m experiments.replication")
    try:
        return options.run()
    except InputError as error:
        print(f"replication: error: {error.written(flag)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
