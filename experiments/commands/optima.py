"""`dynsim optima`: optimal learning rates of a sweep and their powers of width and vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from dynsim import InputError, Status
from experiments.output import flag, named, number, print_json, print_table, writable_folder
from experiments.tables.options import DEFAULTS, PACKED, TABLES, TableOptions

from ._options import Json

RATE_NAMES = {  # of `dynsim.statistics.TUNED_RATES`, in their order
    "embedding": "embedding LR",
    "hidden": "hidden LR",
    "ratio": "embedding/hidden",
    "embedding_alone": "embedding LR, rest frozen",
    "hidden_alone": "hidden LR, embedding frozen",
    "ratio_alone": "quotient of these two",
}
SIZE_NAMES = {"width": "width", "vocab_size": "vocabulary", "seeds": "seeds"}
OPTIMA_LEGEND = (
    "[..]: rates whose loss exceeds the lowest by at most 1 % of what training removes, or two "
    "standard errors",
    "flat: it spans more than a factor 4 or ends at the grid's end or a frozen layer; edge: the "
    "lowest loss is at the grid's end, in no exponent; undetermined: no rate lowers the loss by "
    "more than its error",
)
EXPONENTS_LEGEND = (
    "base: power of the base learning rate; actual: with the parametrization's own power; drift: "
    "change without the smallest size",
    "narrower fit: change if half the excess is fitted; Theil-Sen: median slope of pairs; "
    "compatible: slopes of lines through every [..]",
    "fit: optima used, of all; status flat: some of them are; edge: fewer than two lie inside the "
    "grid; undetermined: one size only (docs: guides/sweep_analysis)",
)


TABLE_LEGEND = (
    "[..]: 95 % interval; nearly as good: all rates whose loss exceeds the lowest by at most 1 %, "
    "by the parabola through the points near it",
)


@dataclass(frozen=True)
class Optima:
    """Optimal learning rates of a sweep, and their powers of width and vocabulary.

    Per size the best base learning rates and all that are nearly as good; exponents with 95 %
    intervals over seeds. Optima at the end of their grid are left out and counted. Of a CSV, TSV,
    JSON or Parquet table with the columns width, learning_rate, seed and loss the same over widths;
    with embedding_lr and hidden_lr in place of learning_rate also the best ratio of both.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """netCDF file of a sweep, or a table of runs"""
    table: Annotated[TableOptions, tyro.conf.arg(name="")] = DEFAULTS
    group_by: tuple[str, ...] = ()
    """columns of a table that name a group, one result each (default: those without which runs
    clash)"""
    factor: float = 1.35
    """of a table: points with a loss within this factor of the width's lowest are fitted"""
    horizon: int | None = None
    """training steps after which the loss is judged (default: each of the sweep's)"""
    out: Path | None = None
    """folder for figures (PNG, PDF)"""
    json: Json = False

    def run(self) -> int:
        """Prints optima and exponents at one horizon or at all, with figures if there is --out."""
        if not self.factor > 1 or not np.isfinite(self.factor):
            raise InputError("factor", self.factor, "must be greater than 1")
        if self.file.suffix.lower() in TABLES or self.file.suffix.lower() in PACKED:
            return self._run_table()
        from experiments.analysis.optima import horizon_answer, read_sweep

        sweep = read_sweep(self.file)
        horizons = [int(horizon) for horizon in sweep.horizon.values]
        if self.horizon is not None:
            if self.horizon not in horizons:
                known = ", ".join(map(str, horizons))
                raise InputError("horizon", self.horizon, f"must be one of the sweep's: {known}")
            horizons = [self.horizon]
        folder = None if self.out is None else writable_folder("out", self.out)
        document: dict[str, Any] = {
            "file": self.file,
            "horizons": [horizon_answer(sweep, horizon) for horizon in horizons],
        }
        if folder is not None:
            from experiments.plots._write import write
            from experiments.plots.optima import sweep_optima

            document["figures"] = [
                path
                for horizon in horizons
                for path in write(sweep_optima, (sweep, horizon), folder / f"optima_{horizon}")
            ]
        if self.json:
            print_json(document)
            return 0
        for answer in document["horizons"]:
            print(
                f"After {answer['horizon']} steps. Best base learning rates, [all nearly as good]:"
            )
            _print(answer)
        fitted = any(answer["exponents"] for answer in document["horizons"])
        for line in OPTIMA_LEGEND + (EXPONENTS_LEGEND if fitted else ()):
            print(line)
        for path in document.get("figures", []):
            print(path)
        return 0

    def _run_table(self) -> int:
        """The same of a table of runs."""
        if self.horizon is not None:
            hint = "is for netCDF sweeps; `where` and `last` choose rows of a table"
            raise InputError("horizon", self.horizon, hint)
        if self.out is not None:
            hint = "is for netCDF sweeps; dynsim transfer draws tables"
            raise InputError("out", str(self.out), hint)
        from experiments.analysis.optima_tables import table_answer

        answer = table_answer([self.file], self.group_by, self.factor, self.table)
        notes = [named(note, flag) for note in answer["notes"]]
        document = {"file": self.file, **answer, "notes": notes}
        if self.json:
            print_json(document)
            return 0
        print(document["read"])
        for note in document["notes"]:
            print(f"  {note}")
        two_rates = "exponents" in document["groups"][0]
        for group in document["groups"]:
            print(f"\n{group['label']}: best learning rates")
            if two_rates:
                _print(group)
            else:
                _print_group(group)
        legend = OPTIMA_LEGEND + EXPONENTS_LEGEND if two_rates else TABLE_LEGEND
        for line in legend:
            print(line)
        return 0


def _print_group(group: dict[str, Any]) -> None:
    """Optimum of every width, and the power of the width with which it moves."""
    rows = []
    for one in group["optima"]:
        low, high = one["near_optimal"]
        near = "-" if np.isnan(low) else f"{_end(low)} to {_end(high)}"
        found = one["status"].ok
        cells = (_estimate(one["optimum"]), near, number(one["loss"])) if found else ("-",) * 3
        rows.append([f"{one['width']:g}", *cells, one["status"].written(flag)])
    print_table(("width", "optimum", "nearly as good", "lowest loss", "status"), rows)
    if np.isfinite(group["exponent"]["value"]):
        print(f"power of the width: {_estimate(group['exponent'])}")
    if np.isfinite(group["bend"]["value"]):
        told = group["status"].written(flag)
        print(f"second derivative in ln width: {_estimate(group['bend'])} ({told})")
    source = {
        "seeds": "bootstrap over seeds",
        "scatter": "one seed: scatter of the points about the fit",
        "none": "none",
    }
    print(f"intervals: {source[group['intervals']]}")


def _end(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"


def _estimate(one: dict[str, float]) -> str:
    value, low, high = (number(one[name]) for name in ("value", "low", "high"))
    return value if np.isnan(one["low"]) else f"{value} [{low}, {high}]"


def _print(answer: dict[str, Any]) -> None:
    print()
    optima = answer["optima"]
    rates = [rate for rate in RATE_NAMES if rate in optima[0]]
    sizes = ("width", "vocab_size", "seeds") if optima[0]["vocab_size"] else ("width", "seeds")
    head = (*(SIZE_NAMES[name] for name in sizes), *(RATE_NAMES[rate] for rate in rates))
    rows = [
        [
            *(str(row[name]) for name in sizes),
            *(_optimum_text(row[rate]) for rate in rates),
        ]
        for row in optima
    ]
    print_table(head, rows)
    if not answer["exponents"]:
        print("\nOne width and one vocabulary size: no exponents.\n")
        return
    print(
        "\nExponents, 95 % intervals over seeds; the actual LR has the rule's exponent as well:\n"
    )
    measures = ("base", "actual", "drift", "narrower fit", "Theil-Sen", "compatible")
    head = ("of", "in", "at", *measures, "fit", "status")
    rows = [
        [
            RATE_NAMES[row["rate"]],
            "width" if row["size"] == "width" else "vocabulary",
            _held(row),
            _interval_text(row["exponent"], *row["ci"]),
            _interval_text(row["actual_exponent"], *row["actual_ci"]),
            _signed(row["drift"]),
            _signed(row["reach_drift"]),
            _signed(row["theil_sen"]),
            _range_text(*row["compatible"]),
            _count_text(row),
            row["status"],
        ]
        for row in answer["exponents"]
    ]
    print_table(head, rows)
    if all(row["seeds"] == 1 for row in optima):
        print("\nOne seed: there are no intervals over seeds.")
    print()


def _held(row: dict[str, Any]) -> str:
    """The size that is held while the other varies; a table of runs may have none."""
    if row["size"] != "width":
        return f"d={row['width']}"
    return f"m={row['vocab_size']}" if row["vocab_size"] else "-"


def _optimum_text(optimum: dict[str, Any]) -> str:
    if optimum["status"] is Status.UNDETERMINED:
        return str(Status.UNDETERMINED)
    low, high = optimum["near_optimal"]
    text = f"{number(optimum['base'])} [{_end(low)}, {_end(high)}]"
    return text if optimum["status"] is Status.OK else f"{text} {optimum['status']}"


def _interval_text(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "-"
    return _signed(value) + (f" [{low:+.2f}, {high:+.2f}]" if np.isfinite(low) else "")


def _range_text(low: float, high: float) -> str:
    return "-" if np.isnan(low) else f"[{low:+.2f}, {high:+.2f}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if np.isfinite(value) else "-"


def _count_text(row: dict[str, Any]) -> str:
    text = f"{row['used']} of {row['used'] + row['excluded']}"
    return text + (f", {row['flat']} flat" if row["flat"] else "")
