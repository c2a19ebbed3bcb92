"""`dynsim coordinate-check`: do a network's terms grow with width and vocabulary as they should?

With files it judges recorded runs of any model (`_recorded_check`), without them it trains toy
networks.

The rule, and what of it changed after pilot runs: docs/guides/coordinate_check.md. Slopes of log
size on log width are compared with the powers that the named parametrization prescribes
(`dynsim.laboratory.slope_bands` of its own exponents), whatever exponents were written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from dynsim import InputError
from dynsim._errors import check_choice
from dynsim._network_setup import ParametrizationName
from experiments.output import (
    again,
    number,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
    writable_folder,
)
from experiments.precision import enable_x64

from ._options import Json, RatedFamily, check_family, given_options

if TYPE_CHECKING:
    import xarray as xr

    from experiments.cells.store import Store
MIN_TOLERANCE = 0.01
COMPILATION = 200_000  # weights that are trained in about the time of a compilation
SYMBOLS = {
    "initial": "W0 z0",
    "update_on_initial": "dW z0",
    "initial_on_learned": "W0 dz",
    "update_on_learned": "dW dz",
}
EMBEDDING_SYMBOLS = {"initial": "e0", "update_on_initial": "de"}


@dataclass(frozen=True, repr=False)
class CheckedFamily(RatedFamily):
    """Networks that are checked; recorded models may have exponents of their own."""

    parametrization: str = "mup"  # pyright: ignore[reportIncompatibleVariableOverride]
    """sp, ntk, mup, mfp, umup or lv: powers of the width in init, multipliers, learning rates; with
    FILE also exponents:E,H,R:E,H,R, powers of the initial weights and of one update, multiplier
    included, of embedding, hidden and readout"""

    def _choices(self) -> dict[str, tuple[str, ...]]:
        known = super()._choices()
        if self.parametrization.startswith("exponents:"):  # checked with the files
            return {name: one for name, one in known.items() if name != "parametrization"}
        return known


@dataclass(frozen=True)
class CoordinateCheck:
    """Does every term of every layer grow with the width as its parametrization prescribes?

    With FILE: judges runs of your own model, recorded by `dynsim.coordinates.CoordinateRecorder`
    (PyTorch) or `JaxRecorder` at two or more widths. Without: trains small networks for a few steps
    at several widths and vocabularies. Fits the powers of the width in each matrix's terms. Exit
    code 1 if a layer fails: a learning rate, multiplier or initialisation that is not what
    --parametrization says.
    """

    file: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")] = ()
    """recorded runs (.csv or .nc), taken together; none: toy networks are trained"""
    setup: Annotated[CheckedFamily, tyro.conf.arg(name="")] = CheckedFamily()
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """widths d, two or more"""
    vocab_sizes: tuple[int, ...] = (32, 512)
    """vocabulary sizes m"""
    record: tuple[int, ...] = (1, 2, 4, 8)
    """numbers of steps after which to measure"""
    seeds: int = 8
    """independent initialisations and batch streams"""
    tolerance: float = 0.15
    """how far a power may be from what is prescribed"""
    out: Path | None = None
    """folder for the figure (PNG, PDF) and the numbers (netCDF); an interrupted check goes on there
    when it is started again"""
    json: Json = False

    def run(self) -> int:
        """Measures, judges and prints; 1 if a layer fails, else 0."""
        if self.file:
            return self._recorded()
        check_choice("parametrization", self.setup.parametrization, get_args(ParametrizationName))
        check_family(self.setup)
        enable_x64()
        from experiments.analysis.coordinates import coordinate_document
        from experiments.cells.complete import complete_file

        if not MIN_TOLERANCE <= self.tolerance <= 1:
            allowed = f"must be a number from {MIN_TOLERANCE} to 1"
            raise InputError("tolerance", self.tolerance, allowed)
        folder = None if self.out is None else writable_folder("out", self.out)
        dataset = (
            self._measured()
            if folder is None
            else complete_file(folder / "coordinates.nc", self._measured)
        )
        document = coordinate_document(dataset, self.tolerance)
        if folder is not None:
            from experiments.plots._write import write
            from experiments.plots.coordinates import coordinate_figure

            document["figures"] = write(coordinate_figure, (dataset,), folder / "coordinates")
        if self.json:
            print_json(document)
        else:
            _print(document)
            self._print_next(document["verdict"])
        return int(document["verdict"] == "fails")

    def _print_next(self, verdict: str) -> None:
        if verdict == "undecided":
            print_next("twice as many seeds", again("--seeds", 2 * self.seeds))
        elif verdict == "fails" or self.out is not None:
            rule = ["parametrization", self.setup.parametrization]
            print_next("what is prescribed", [*rule, "--optimizer", self.setup.optimizer])
        else:
            print_next("the figure", again("--out", "coordinates"))

    def _recorded(self) -> int:
        """Judges recorded runs."""
        from ._recorded_check import check_recorded

        used = ("parametrization", "tokens")
        own = {
            name: value
            for name, value in given_options(self).items()
            if name in ("widths", "vocab_sizes", "record", "seeds")
        }
        for name, value in {**given_options(self.setup), **own}.items():
            if name not in used:
                raise InputError(name, str(value), "is for toy networks: leave it out with FILE")
        return check_recorded(
            self.file,
            self.setup.parametrization,
            self.tolerance,
            self.setup.tokens or "uniform",
            self.out,
            self.json,
        )

    def _measured(self, store: Store | None = None) -> xr.Dataset:
        from experiments.analysis.coordinates import measure_coordinates

        # Wide networks come last, and take longer than the narrow ones before them.
        costs = [
            COMPILATION + width * (width + vocab_size)
            for width in sorted(set(self.widths))
            for vocab_size in sorted(set(self.vocab_sizes))
        ]
        shares = iter([cost / sum(costs) for cost in costs])
        with progress_bar(1.0, "coordinates") as bar:
            return measure_coordinates(
                self.setup,
                self.widths,
                self.vocab_sizes,
                self.record,
                self.seeds,
                advance=lambda: bar.update(next(shares, 0.0)),
                store=store,
            )


CONSEQUENCE = {
    "as predicted": "sizes change with the width as this rule presumes to carry rates over",
    "undecided": "more seeds or wider networks would decide",
    "fails": "a learning rate, multiplier or initialisation is not what it says",
}
HEAD = ("layer, m", "W0 z0", "dW z0", "W0 dz", "dW dz", "A", "verdict")


def _counted(steps: Sequence[int]) -> str:
    """After which steps the terms are; the power after the first stands before that of the last."""
    if steps[0] == steps[-1]:
        return f"{steps[0]} step{'s' * (steps[0] != 1)}"
    return f"{steps[0]} -> {steps[-1]} steps"


def _print(document: dict[str, Any]) -> None:
    config = document["config"]
    steps = [step for step in config["record"] if step > 0]
    slopes = [row for row in document["slopes"] if row["along"] == "width"]
    rows, below = [], []
    for layer in document["layers"]:
        matrix = layer["matrix"]
        for m in config["vocab_sizes"]:
            at = [row for row in slopes if row["matrix"] == matrix and row["at"] == m]
            cells = [_cell([row for row in at if row["term"] == term]) for term in SYMBOLS]
            aligned = _alignment(document["alignment"], matrix, m, steps[0])
            first = m == config["vocab_sizes"][0]
            verdict = layer["verdict"] if first else ""
            rows.append([f"{matrix}, {m}", *cells, aligned, verdict])
            below.append(None)
    verdict = document["verdict"]
    print_wrapped(
        f"{verdict[0].upper()}{verdict[1:]}: {config['network']} in {config['parametrization']}, "
        f"slopes within {document['tolerance']:g} of what it prescribes: {CONSEQUENCE[verdict]}."
    )
    print()
    print_wrapped(
        f"Powers of the width {config['widths'][0]} to {config['widths'][-1]} in the size of each "
        f"term, after {_counted(steps)}, {config['seeds']} seeds. A: alignment "
        "exponent of the first update (prescribed). W0 z0: what initial entries make of the "
        "initial input; dW z0: what the update makes of it; W0 dz and dW dz: both, of what the "
        "input has learned."
    )
    print()
    print_table(HEAD, rows, below)
    from experiments.analysis.coordinates import FAILURES

    failing = [row for row in document["slopes"] if row["verdict"] in FAILURES]
    if failing:
        print()
    for row in _worst(failing):
        print_wrapped(_complaint(row), "  ")
    print()
    for note in document["notes"]:
        print_wrapped(f"Note: {note}", "  ")
    print("docs: guides/coordinate_check")
    for path in document.get("figures", []):
        if Path(path).suffix == ".png":
            print(f"figure: {path}")


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    """Slope after the first and the last recorded step, marked where it fails."""
    if not rows:
        return ""
    from experiments.analysis.coordinates import FAILURES

    ends = rows[:1] if len(rows) == 1 else (rows[0], rows[-1])
    text = " -> ".join(_slope(row) for row in ends)
    return text + (" !" if any(row["verdict"] in FAILURES for row in rows) else "")


def _slope(row: Mapping[str, Any]) -> str:
    value = row["slope"]["value"]
    return row["verdict"] if math.isnan(value) else f"{value:.2f}"


def _alignment(rows: Sequence[Mapping[str, Any]], matrix: str, m: int, step: int) -> str:
    for row in rows:
        if (row["matrix"], row["vocab_size"], row["step"]) == (matrix, m, step):
            measured, (low, high) = row["A"]["measured"], row["A"]["predicted"]
            if measured is not None:
                return f"{measured['value']:.2f} ({low:.2f} to {high:g})"
    return ""


def _worst(failing: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each layer, term and direction, the slope furthest from its band."""

    def excess(row: dict[str, Any]) -> float:
        value, band = row["slope"]["value"], row["allowed"]
        if math.isnan(value):
            return math.inf
        return max(value - band["high"], band["low"] - value)

    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in failing:
        key = row["matrix"], row["term"], row["along"]
        if key not in worst or excess(row) > excess(worst[key]):
            worst[key] = row
    return list(worst.values())


def _complaint(row: Mapping[str, Any]) -> str:
    matrix, slope = row["matrix"], row["slope"]
    symbols = EMBEDDING_SYMBOLS if matrix == "embedding" else SYMBOLS
    by, fixed = ("width", "m") if row["along"] == "width" else ("vocab_size", "width")
    where = f"at {fixed}={row['at']}, step {row['step']}"
    if row["verdict"] == "diverged":
        return f"{matrix}: {symbols[row['term']]} diverged {where}."
    if row["verdict"] == "frozen":
        return f"{matrix}: {symbols[row['term']]} is zero {where}: this layer does not learn."
    interval = f"[{number(slope['low'])}, {number(slope['high'])}]"
    text = (
        f"{matrix}: {symbols[row['term']]} {row['verdict']}: {by}^{slope['value']:.2f} "
        f"{interval} {where}; allowed {_range(row['allowed'])}"
    )
    if row["along"] == "width" and row["given"] != row["allowed"]:
        text += f"; the exponents given imply {_range(row['given'])}"
    return text + "."


def _range(band: Mapping[str, float]) -> str:
    low, high = (f"{band[end]:.2f}" for end in ("low", "high"))
    if math.isinf(band["low"]):
        return f"up to {high}"
    return low if low == high else f"{low} to {high}"
