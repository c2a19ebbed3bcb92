"""`dynsim optima`: optimal learning rates of a sweep and their powers of width and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from dynsim import InputError, Status
from experiments.output import (
    estimate,
    flag,
    named,
    number,
    options_of,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    writable_folder,
)
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
    "[..]: base rates whose loss exceeds the lowest by at most 1 % of what training removes, or "
    "two standard errors",
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
            print_wrapped(f"After {answer['horizon']} steps: {in_one_sentence(answer)}")
        for answer in document["horizons"]:
            print(f"\nafter {answer['horizon']} steps\n")
            _print(answer)
        fitted = any(answer["exponents"] for answer in document["horizons"])
        _print_legend(OPTIMA_LEGEND + (EXPONENTS_LEGEND if fitted else ()))
        for path in document.get("figures", []):
            print(path)
        print_next("do the rates transfer", ["transfer", self.file])
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
        two_rates = "exponents" in document["groups"][0]
        for group in document["groups"]:
            told = in_one_sentence(group) if two_rates else _one_rate_sentence(group)
            print_wrapped(f"{group['label']}: {told}", "  ")
        print()
        print_wrapped(document["read"])
        for note in document["notes"]:
            print_wrapped(f"  {note}", "    ")
        for group in document["groups"]:
            print(f"\n{group['label']}: best learning rates\n")
            if two_rates:
                _print(group)
            else:
                _print_group(group)
        legend = OPTIMA_LEGEND + EXPONENTS_LEGEND if two_rates else TABLE_LEGEND
        _print_legend(legend)
        options = options_of(self.table, [field.name for field in fields(self.table)], DEFAULTS)
        plain = not (self.table.where or self.table.ignore or self.group_by)
        print_next("do the rates transfer", ["transfer", self.file, *(options if plain else [])])
        return 0


def _print_legend(lines: Sequence[str]) -> None:
    for line in lines:
        print_wrapped(line, "  ")


def in_one_sentence(answer: dict[str, Any]) -> str:
    """By what power of the width the best rates move, or why none is known."""
    of_width = [row for row in answer["exponents"] if row["size"] == "width"]
    known = [row for row in of_width if np.isfinite(row["exponent"])]
    if not answer["exponents"]:
        return "the best base learning rates of one size; two widths or more show how they move."
    if not known:
        return (
            "no power of the width is known: fewer than two widths have their lowest loss inside "
            "the grid of learning rates; give wider grids or more seeds."
        )
    at = " at m={}" if len({row["vocab_size"] for row in known}) > 1 else ""
    told = ", ".join(
        f"{RATE_NAMES[row['rate']]} like d^{_interval_text(row['exponent'], *row['ci'])}"
        f"{at.format(row['vocab_size'])}"
        for row in known
        if not row["rate"].endswith("_alone")
    )
    doubts = {row["rate"]: row["status"] for row in known if row["status"] != "ok"}
    doubt = f" (in doubt: {', '.join(sorted(set(doubts.values())))}, see the legend)"
    seeds = min(row["seeds"] for row in answer["optima"])
    counted = "one seed" if seeds == 1 else f"{seeds} seeds"
    return (
        f"the best base rates move with the width d ({counted} a size): {told}"
        f"{doubt if doubts else ''}."
    )


def _one_rate_sentence(group: dict[str, Any]) -> str:
    found = sum(one["status"].ok for one in group["optima"])
    power = group["exponent"]
    if not np.isfinite(power["value"]):
        return (
            "how the best learning rate moves with the width cannot be said: that needs two widths "
            "at which the lowest loss lies between other learning rates, and here "
            f"{found} of {len(group['optima'])} are so."
        )
    low, high = power["low"], power["high"]
    kept = " (no movement is seen)" if low <= 0 <= high else ""
    return f"the best learning rate moves like width^{_estimate(power)}{kept}."


def _print_group(group: dict[str, Any]) -> None:
    """Optimum of every width, and the power of the width with which it moves."""
    rows = []
    for one in group["optima"]:
        low, high = one["near_optimal"]
        near = "-" if np.isnan(low) else f"{_end(low)} to {_end(high)}"
        found = one["status"].ok
        cells = (_estimate(one["optimum"]), near, number(one["loss"])) if found else ("-",) * 3
        rows.append([f"{one['width']:g}", *cells, one["status"].written(flag)])
    print_table(("width", "best (rate)", "nearly as good (rates)", "lowest loss", "status"), rows)
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
    return estimate(one["value"], one["low"], one["high"])


def _print(answer: dict[str, Any]) -> None:
    optima = answer["optima"]
    rates = [rate for rate in RATE_NAMES if rate in optima[0]]
    sizes = ("width", "vocab_size", "seeds") if optima[0]["vocab_size"] else ("width", "seeds")
    head = ("of", *(SIZE_NAMES[name] for name in sizes), "best (base rate)", "[..]", "status")
    rows = [
        [RATE_NAMES[rate], *(str(row[name]) for name in sizes), *_optimum_cells(row[rate])]
        for rate in rates
        for row in optima
    ]
    print_table(head, rows)
    if not answer["exponents"]:
        print("\nOne width and one vocabulary size: no exponents.\n")
        return
    print("\nPowers of the width (at m) and of the vocabulary (at d), 95 % intervals over seeds:\n")
    names = [f"{RATE_NAMES[row['rate']]}{_held(row)}" for row in answer["exponents"]]
    measures = ("base (power)", "actual (power)", "fit (optima)", "status")
    rows = [
        [
            name,
            _interval_text(row["exponent"], *row["ci"]),
            _interval_text(row["actual_exponent"], *row["actual_ci"]),
            _count_text(row),
            row["status"],
        ]
        for name, row in zip(names, answer["exponents"], strict=True)
    ]
    print_table(("of", *measures), rows)
    print()
    checks = ("drift", "narrower fit", "Theil-Sen", "compatible (powers)")
    rows = [
        [
            name,
            _signed(row["drift"]),
            _signed(row["reach_drift"]),
            _signed(row["theil_sen"]),
            _range_text(*row["compatible"]),
        ]
        for name, row in zip(names, answer["exponents"], strict=True)
    ]
    print_table(("of", *checks), rows)
    told = _of_few_seeds(min(row["seeds"] for row in optima), answer["exponents"])
    if told:
        print()
        print_wrapped(told)
    print()


def _of_few_seeds(seeds: int, exponents: Sequence[dict[str, Any]]) -> str:
    """What so few seeds at each size leave of the intervals; empty where they are enough."""
    from dynsim.statistics import resamples_suffice

    if seeds == 1:
        return "One seed: there are no intervals over seeds."
    if all(resamples_suffice([seeds] * row["used"]) for row in exponents if row["used"] > 1):
        return ""
    return (
        f"With {seeds} seeds at a size the intervals are Student's, wide for want of degrees of "
        "freedom; twice as many seeds narrow them much."
    )


def _held(row: dict[str, Any]) -> str:
    """The size that is held while the other varies; a table of runs may have none."""
    if row["size"] != "width":
        return f" at d={row['width']}"
    return f" at m={row['vocab_size']}" if row["vocab_size"] else ""


def _optimum_cells(optimum: dict[str, Any]) -> tuple[str, str, str]:
    """The best rate, all that are nearly as good, and the status."""
    status = str(optimum["status"])
    if optimum["status"] is Status.UNDETERMINED:
        return "-", "-", status
    low, high = optimum["near_optimal"]
    return number(optimum["base"]), f"{_end(low)} to {_end(high)}", status


def _interval_text(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return "-"
    return _signed(value) + (
        f" [{low:+.2f}, {high:+.2f}]" if np.isfinite([low, high]).all() else ""
    )


def _range_text(low: float, high: float) -> str:
    if np.isnan(low):
        return "-"
    ends = (f"{one:+.2f}" if np.isfinite(one) else "any" for one in (low, high))
    return " to ".join(ends)


def _signed(value: float) -> str:
    return f"{value:+.3f}" if np.isfinite(value) else "-"


def _count_text(row: dict[str, Any]) -> str:
    text = f"{row['used']} of {row['used'] + row['excluded']}"
    return text + (f", {row['flat']} flat" if row["flat"] else "")
