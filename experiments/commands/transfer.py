"""`dynsim transfer`: how well learning rates transfer across width, from tables of runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dynsim import InputError, Status
from experiments.output import (
    LINE_WIDTH,
    again,
    estimate,
    flag,
    named,
    number,
    options_of,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
    writable_folder,
)
from experiments.tables.options import DEFAULTS, TableOptions

from ._options import Json

if TYPE_CHECKING:
    from dynsim import Estimate
    from dynsim.transfer import TransferParameter
    from experiments.analysis.transfer import ComparedGroups, Group

METRICS = ("kappa", "R_inf", "alpha", "beta", "gamma")
SHOWN_IN_FIGURE = ("label", "fit", "penalty")
MISFIT_MARK = " ?"
INTERVALS = {  # by `Transfer.intervals`
    "seeds": "bootstrap over seeds",
    "scatter": "one seed: from the scatter of the points about the fit, which tests no model",
    "none": "none",
}


def formulas(factor: float) -> dict[str, str]:
    """What the numbers are, by symbol."""
    return {
        "L": "L(N, eta) = L*(N) + H(N)/2 (ln eta - ln eta*(N))^2",
        "L*": "L*(N) = L_inf + A N^-alpha",
        "eta*": "ln eta*(N) = ln eta_inf + b N^-beta, eta the base learning rate",
        "H": "H(N) = h N^gamma",
        "E": f"root mean square of (L - fit)/L over points with L <= {factor:g} x the lowest; held "
        "out: of the largest width, predicted from the others; its noise: what seeds alone "
        "bring it to",
        "kappa": "alpha - 2 beta + gamma: the penalty of eta_inf over the gap A N^-alpha goes as "
        "N^kappa; below 0 transfer is robust",
        "R_inf": "L_inf - L_inf of the reference, the group with the lowest (of status ok, if any)",
    }


@dataclass(frozen=True)
class TransferCommand:
    """How well a learning rate transfers across width: E, kappa and R_inf of sweeps.

    Reads runs from netCDF sweeps, or from CSV, TSV, JSON and Parquet tables with the columns width,
    learning_rate (base rates: the parametrization's rule divided out), seed and loss; options name
    other columns.
    """

    file: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]
    """tables of runs (.csv, .tsv, .json, .jsonl, .parquet, .nc), taken together"""
    table: Annotated[TableOptions, tyro.conf.arg(name="")] = DEFAULTS
    group_by: tuple[str, ...] = ()
    """columns that name a group, one result each (default: the columns without which runs clash,
    and the file where none tells the files apart)"""
    within: tuple[str, ...] = ()
    """columns whose values groups must share to be compared: one reference of R_inf for each set
    (default: all groups together)"""
    factor: float = 1.35
    """points with a loss within this factor of the width's lowest are fitted"""
    rate: Literal["hidden", "embedding", "both"] | None = None
    """learning rate of a sweep over embedding_lr and hidden_lr: hidden or embedding (the other at
    its best), or both along each ratio (default: the one that varies, hidden if both do)"""
    out: Path | None = None
    """folder for the figure (PNG, PDF)"""
    json: Json = False

    def run(self) -> int:
        """Prints metrics of every group of runs, with a figure if there is --out."""
        from experiments.analysis.transfer import analyse, answer
        from experiments.tables.runs import named_groups, read_runs, what_was_read

        if not self.factor > 1 or not math.isfinite(self.factor):
            raise InputError("factor", self.factor, "must be greater than 1")
        table, columns, notes = read_runs(
            self.file, self.rate, self.group_by, self.within, self.table
        )
        folder = None if self.out is None else writable_folder("out", self.out)
        parts = named_groups(table, columns)
        within = [name for name in columns if name in self.within]
        in_labels = columns if self.group_by else ()
        with progress_bar(len(parts), "fits") as bar:
            groups, sets = analyse(parts, self.factor, in_labels, within, bar.update)
        references = {
            k: None if one.reference is None else groups[one.reference].name
            for one in sets
            for k in one.groups
        }
        document: dict[str, Any] = {
            "files": self.file,
            "factor": self.factor,
            "formulas": formulas(self.factor),
            "read": what_was_read(table, self.file),
            "notes": [named(note, flag) for note in notes],
            "reference": references[0] if len(sets) == 1 else None,
            "groups": [
                {**answer(group), "reference": references[k]} for k, group in enumerate(groups)
            ],
        }
        if folder is not None:
            from experiments.plots._write import write
            from experiments.plots.transfer import transfer_metrics

            shown = ([getattr(group, name) for group in groups] for name in SHOWN_IN_FIGURE)
            document["figures"] = write(transfer_metrics, tuple(shown), folder / "transfer")
        if self.json:
            print_json(document)
        else:
            _print(document, groups, sets)
            self._print_next()
        return 0

    def _print_next(self) -> None:
        if self.out is None:
            print_next("the figure", again("--out", "transfer"))
            return
        options = options_of(self.table, [field.name for field in fields(self.table)], DEFAULTS)
        plain = not (self.table.where or self.table.ignore)
        print_next("each optimum", ["optima", self.file[0], *(options if plain else [])])


def _print(
    document: dict[str, Any], groups: Sequence[Group], sets: Sequence[ComparedGroups]
) -> None:
    for one in document["groups"]:
        print(textwrap.fill(one["answer"], LINE_WIDTH, subsequent_indent="  "))
    print()
    print_wrapped(document["read"])
    for note in document["notes"]:
        print_wrapped(f"  {note}", "    ")
    print()
    head = ("group", "E", "its noise", "held out", "its noise", *METRICS)
    rows, below = [], []
    alone = {one.groups[0] for one in sets if len(one.groups) == 1}
    for k, group in enumerate(groups):
        fit = group.fit
        errors = (fit.error, fit.noise_error, fit.held_out_error, fit.held_out_noise)
        cells = {name: _interval(group.parameter(name)) for name in METRICS}
        if k in alone:
            cells["R_inf"] = "-"
        rows.append([group.label, *map(number, errors), *cells.values()])
        below.append("\n".join(_remarks(group)))
    print_table(head, rows, below)
    _print_costs(groups)
    misfits = any(cell.endswith(MISFIT_MARK) for row in rows for cell in row[1:])
    mark = f"; {MISFIT_MARK.strip()}: misfit, see below the group" if misfits else ""
    sources = dict.fromkeys(group.fit.intervals for group in groups)
    told = " and ".join(INTERVALS[source] for source in sources)
    print()
    print_wrapped(f"intervals: 95 %, {told}; -: undetermined, see below the group{mark}")
    for line in _references([group.label for group in groups], sets):
        print_wrapped(line, "  ")
    print()
    for symbol, formula in document["formulas"].items():
        text = formula if formula.startswith(f"{symbol}(") else f"{symbol}: {formula}"
        print_wrapped(text, "  ")
    for path in document.get("figures", []):
        print(path)


def _print_costs(groups: Sequence[Group]) -> None:
    """What the optima of narrower widths cost at the widest, where there are any."""
    rows = []
    for group in groups:
        costs = group.fit.costs
        widest = max((one.used for one in costs), default=None)
        for one in costs:
            if one.used == widest:
                share = [100 * value / one.lowest for value in astuple(one.cost)]
                cost = estimate(*share, write="{:.3g}".format)
                read = "-" if math.isnan(one.read) else f"{100 * one.read / one.lowest:.3g}"
                rows.append([group.label, f"{one.tuned:g}", f"{one.used:g}", cost, read])
    if rows:
        print("\nLoss lost by a learning rate tuned at another width, % of the lowest loss:\n")
        names = ("tuned at width", "used at width", "H/2 (shift of ln eta*)^2 (%)", "read (%)")
        print_table(("group", *names), rows)


def _trend(group: Group) -> str:
    """By what power of the width the optimum moves, and whether it bends."""
    trend = group.fit.trend
    if math.isnan(trend.slope.value):
        return ""
    slope = _estimate(trend.slope)
    if math.isnan(trend.bend.value):
        return f"eta* ~ width^p, p = {slope}"
    bends = "no bend seen" if trend.outcome.ok else "it bends"
    bends = "its noise is unknown" if math.isnan(trend.bend.low) else bends
    return f"eta* ~ width^p, p = {slope}; second derivative {_estimate(trend.bend)}: {bends}"


def _estimate(one: Estimate) -> str:
    return estimate(one.value, one.low, one.high)


def _references(labels: Sequence[str], sets: Sequence[ComparedGroups]) -> list[str]:
    """What R_inf is measured from, a line for each set of groups; none for a single group."""
    if len(labels) == 1:
        return []
    lines = []
    for one in sets:
        where = f" in {one.label}" if len(sets) > 1 else ""
        if len(one.groups) == 1:
            reference = "none, there is a single group"
        elif one.reference is None:
            reference = "none, no L_inf is determined"
        else:
            reference = labels[one.reference]
        lines.append(f"reference of R_inf{where}: {reference}")
    return lines


def _interval(parameter: TransferParameter) -> str:
    if parameter.status is Status.UNDETERMINED:
        return "-"
    mark = MISFIT_MARK if parameter.status is Status.MISFIT else ""
    return f"{estimate(parameter.value, parameter.low, parameter.high)}{mark}"


def _remarks(group: Group) -> list[str]:
    """What a reader must know of a group: statuses, widths left out, divergence."""
    kappa = group.parameter("kappa").outcome  # names the reasons of alpha, beta and gamma
    others = [group.parameter(name).outcome for name in ("alpha", "beta", "gamma")]
    sure = [one for one in others if one.status not in (Status.OK, Status.UNDETERMINED)]
    remarks = [] if kappa.ok else [f"kappa {kappa.written(flag)}"]
    remarks += [one.written(flag) for one in dict.fromkeys(sure) if one != kappa]
    curves = group.fit.curves
    used = [f"{curve.width:g}" for curve in curves if curve.outcome.ok]
    left_out = [
        f"width {curve.width:g} left out: {curve.outcome.message}"
        for curve in curves
        if not curve.outcome.ok
    ]
    runs = f"{group.runs} run{'s' if group.runs > 1 else ''}, {group.fit.diverged} diverged"
    trend = [_trend(group)] if _trend(group) else []
    return [f"{runs}; widths {', '.join(used) or 'none'}", *left_out, *remarks, *trend]
