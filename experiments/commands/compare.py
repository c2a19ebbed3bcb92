"""`dynsim compare`: networks, mean field, flow and linearised dynamics of one setup together."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dynsim import Setup
from experiments.output import (
    again,
    flag,
    named,
    number,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
)

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, AnyNetwork, Json, WrittenFiles

if TYPE_CHECKING:
    from dynsim import Comparison
    from dynsim.comparison._result import Parting


@dataclass(frozen=True)
class Compare:
    """Follow one setup by every route, draw them together, and say where they part.

    Networks (mean and 95 % band), mean field (with its error), flow (for sgd and smoothed-sign, at
    time = step) and linearised dynamics of the linear model, or of an mlp: what a route does not
    cover it says. The options of train.
    """

    setup: Annotated[AnyNetwork, tyro.conf.arg(name="")]
    seeds: int = 8
    """networks to average over, at least 2: the band is their 95 % interval"""
    particles: int | None = None
    """token particles of the mean-field solver (default: as for predict)"""
    replicas: int | None = None
    """independent mean-field solutions that are averaged (default: as for predict)"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Follows every route and prints where two of them part."""
        from dynsim import compare
        from dynsim.comparison._compare import check_compared
        from experiments.precision import enable_x64

        setup = self.setup.description(transformers=False)
        check_compared(setup)
        self.files.check()
        enable_x64()
        with progress_bar(1.0, "compare") as bar:
            result = compare(
                setup,
                self.seeds,
                particles=self.particles,
                replicas=self.replicas,
                progress=bar.update,
            )
        config = setup.resolved() | {
            "seeds": self.seeds,
            "particles": self.particles,
            "replicas": self.replicas,
        }
        written = write_files(self.files, "compare", result.to_xarray, config)
        if self.json:
            print_json(with_files(_document(result, config), written))
        else:
            _print(result)
            print_files(written)
            if self.files.wanted:
                print_next("twice as long", _longer(self.files, 2 * setup.steps))
            else:
                print_next("the curves", again("--plot", "compare.png"))
        return 0


def _longer(files: WrittenFiles, steps: int) -> list[str]:
    """This command for so many steps, with its files beside those that were written."""
    more: list[object] = ["--steps", steps]
    if files.plot is not None:
        name = f"{files.plot.stem}_{steps}_steps{files.plot.suffix}"
        more += ["--plot", files.plot.with_name(name)]
    if files.out is not None:
        more += ["--out", files.out / f"{steps}_steps"]
    return again(*more)


def _document(result: Comparison, config: dict[str, Any]) -> dict[str, Any]:
    """Curves by route and quantity, why routes are missing, and where two of them part."""
    from dynsim.comparison._result import quantities_of
    from experiments.results import provenance

    routes = {
        route: {
            "status": curves.outcome,
            **{
                quantity: {
                    "value": curves.value[row],
                    "low": curves.low[row],
                    "high": curves.high[row],
                }
                for row, quantity in enumerate(quantities_of(result.setup))
            },
        }
        for route, curves in result.curves.items()
    }
    return {
        "config": config,
        "step": list(range(result.setup.steps)),
        "routes": routes,
        "why": {route: named(why, flag) for route, why in result.missing.items()},
        "partings": [asdict(one) for one in result.partings],
        "provenance": provenance(config),
    }


def in_one_sentence(result: Comparison) -> str:
    """Which routes part first and which the furthest, and in what; or that none do."""
    routes = ", ".join(result.curves)
    first = [one for one in result.partings if one.first_step is not None]
    if not first:
        return f"{routes} agree over all {result.setup.steps} steps, as far as these bands tell."
    earliest = min(first, key=lambda one: (one.first_step, -one.steps_apart))
    furthest = max(first, key=_distance)
    at_most = "" if furthest is earliest else f"; {_named(furthest)} end the furthest apart"
    return (
        f"{_named(earliest)} part from step {earliest.first_step} on{at_most}; "
        f"{len(result.partings) - len(first)} of {len(result.partings)} comparisons agree "
        "throughout."
    )


def _distance(one: Parting) -> float:
    """How far apart two routes end: |ln(second/first)|, infinite where there is no such number."""
    if math.isnan(one.relative):  # the first is 0
        return math.inf if one.difference else 0.0
    return abs(math.log1p(one.relative)) if one.relative > -1 else math.inf


def _named(one: Parting) -> str:
    return f"{one.first} and {one.second} ({one.quantity}, {one.end} at the end)"


def _print(result: Comparison) -> None:
    linear = isinstance(result.setup, Setup)
    matrix = "projection" if linear else "readout"  # the matrix before the output
    sentence = in_one_sentence(result).replace("projection_", f"{matrix}_")
    print_wrapped(sentence[0].upper() + sentence[1:])
    print()
    head = ("quantity", "routes", "part at step", "steps apart", "at the end")
    print_table(head, [_row(one, matrix) for one in result.partings])
    print(
        "\nTwo routes part where they differ by more than the networks' 95 % band and their "
        "numerical errors;\none step in twenty can be chance. At the end: second over first."
    )
    for route, why in result.missing.items():
        print_wrapped(f"no {route}: {named(why, flag)}", "  ")
    for route, curves in result.curves.items():
        if not curves.outcome.ok:
            print(f"{route}: {curves.outcome.written(flag)}")


def _row(one: Parting, matrix: str) -> list[str]:
    where = "never" if one.first_step is None else number(one.first_step)
    routes = f"{one.first}, {one.second}"
    quantity = one.quantity.replace("projection", matrix)
    return [quantity, routes, where, f"{one.steps_apart} of {one.steps}", one.end]
