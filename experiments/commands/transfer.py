"""`dynsim transfer`: how well learning rates transfer across width, from tables of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dynsim import InputError
from experiments.output import number, print_json, print_table, progress_bar, writable_folder

from ._options import Json

if TYPE_CHECKING:
    import pandas as pd

    from dynsim import Estimate, Transfer
    from dynsim.transfer import TransferParameter


SYMBOLS = {
    "kappa": "robustness",
    "alpha": "loss_exponent",
    "beta": "rate_exponent",
    "gamma": "curvature_exponent",
    "L_inf": "loss_limit",
    "A": "loss_amplitude",
    "eta_inf": "rate_limit",
    "b": "rate_amplitude",
    "h": "curvature_amplitude",
}
METRICS = ("kappa", "R_inf", "alpha", "beta", "gamma")
MISFIT_MARK = " ?"
FEWEST_WIDTHS = "needs three widths with a bracketed optimum"


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

    Reads runs from netCDF sweeps, or CSV and parquet tables with the columns width, learning_rate
    (base rates: the parametrization's rule divided out), seed and loss.
    """

    file: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]
    """tables of runs (.nc, .csv, .parquet), taken together"""
    group_by: tuple[str, ...] = ()
    """columns that name a group, one result each (default: every other column that varies, and the
    file where none tells the files apart)"""
    within: tuple[str, ...] = ()
    """columns whose values groups must share to be compared: one reference of R_inf for each set
    (default: all groups together)"""
    factor: float = 1.35
    """points with a loss within this factor of the width's lowest are fitted"""
    rate: Literal["hidden", "embedding", "both"] | None = None
    """learning rate of a netCDF sweep: hidden or embedding (the other at its best), or both along
    each ratio (default: the one that varies, hidden if both do)"""
    out: Path | None = None
    """folder for the figure (PNG, PDF)"""
    json: Json = False

    def run(self) -> int:
        """Prints metrics of every group of runs, with a figure if there is --out."""
        from ._transfer_tables import read_runs

        if not self.factor > 1 or not math.isfinite(self.factor):
            raise InputError("factor", self.factor, "must be greater than 1")
        table, columns, notes = read_runs(self.file, self.rate, self.group_by, self.within)
        folder = None if self.out is None else writable_folder("out", self.out)
        names, fits = [], []
        parts: list[tuple[Any, pd.DataFrame]] = [((), table)]
        if columns:
            parts = list(table.groupby(columns, dropna=False))
        with progress_bar(len(parts), "fits") as bar:
            for key, runs in parts:
                names.append(dict(zip(columns, key, strict=True)))
                fits.append(_fit(runs, self.factor))
                bar.update()
        within = [name for name in columns if name in self.within]
        sets, penalties = _compare(names, fits, within)
        references = {k: one.reference for one in sets for k in one.groups}
        shown = columns if self.group_by else telling_columns(names)
        labels = [_label(name, shown) for name in names]
        document: dict[str, Any] = {
            "files": self.file,
            "factor": self.factor,
            "formulas": formulas(self.factor),
            "notes": notes,
            "reference": _name(names, sets[0].reference) if len(sets) == 1 else None,
            "groups": [
                {
                    **_answer(names[k], len(parts[k][1]), fits[k], penalties[k]),
                    "reference": _name(names, references[k]),
                }
                for k in range(len(names))
            ],
        }
        if folder is not None:
            from experiments.plots._write import write
            from experiments.plots.transfer import transfer_metrics

            document["figures"] = write(
                transfer_metrics, (labels, fits, penalties), folder / "transfer"
            )
        if self.json:
            print_json(document)
        else:
            _print(document, labels, sets)
        return 0


@dataclass(frozen=True)
class ComparedGroups:
    """Groups, by number, that share their values of --within, and the reference of their R_inf."""

    label: str
    groups: list[int]
    reference: int | None


def _compare(
    names: Sequence[dict[str, Any]], fits: Sequence[Transfer], within: Sequence[str]
) -> tuple[list[ComparedGroups], list[TransferParameter]]:
    """The sets of groups that are compared, and R_inf of every group."""
    from dynsim.transfer import asymptotic_penalties

    members: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        members.setdefault(_label(name, within), []).append(k)
    sets, found = [], {}
    for label, groups in members.items():
        lowest, penalties = asymptotic_penalties([fits[k] for k in groups])
        sets.append(ComparedGroups(label, groups, None if lowest is None else groups[lowest]))
        found.update(zip(groups, penalties, strict=True))
    return sets, [found[k] for k in range(len(fits))]


def _name(names: Sequence[dict[str, Any]], group: int | None) -> dict[str, Any] | None:
    return None if group is None else names[group]


def _fit(runs: pd.DataFrame, factor: float) -> Transfer:
    from dynsim import fit_transfer

    columns = (runs[name].to_numpy() for name in ("width", "learning_rate", "seed", "loss"))
    return fit_transfer(*columns, factor=factor)


def telling_columns(names: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The fewest columns that tell all groups apart, the first of several such choices."""
    columns = tuple(names[0])
    choices = (chosen for count in range(len(columns)) for chosen in combinations(columns, count))
    apart = (chosen for chosen in choices if len({_label(n, chosen) for n in names}) == len(names))
    return next(apart, columns)


def _label(name: dict[str, Any], columns: Sequence[str]) -> str:
    return ", ".join(f"{column} {name[column]}" for column in columns) or "all runs"


def _answer(
    name: dict[str, Any], runs: int, fit: Transfer, penalty: TransferParameter
) -> dict[str, Any]:
    known = fit.surface is not None
    return {
        "group": name,
        "runs": runs,
        "diverged": fit.diverged,
        "E": {
            **{"value": fit.error, "low": None, "high": None},
            "status": "ok" if known else f"undetermined: {FEWEST_WIDTHS}",
            "noise": fit.noise_error,
            "held_out": fit.held_out_error,
            "held_out_noise": fit.held_out_noise,
        },
        "R_inf": _parameter(penalty),
        **{symbol: _parameter(getattr(fit, field)) for symbol, field in SYMBOLS.items()},
        "widths": [
            {
                "width": curve.width,
                "status": curve.status,
                "learning_rates": len(curve.learning_rates),
                "near": int(curve.near.sum()),
                "eta*": _estimate(curve.learning_rate),
                "L*": _estimate(curve.loss),
                "H": _estimate(curve.curvature),
            }
            for curve in fit.curves
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _parameter(parameter: TransferParameter) -> dict[str, Any]:
    return {**_estimate(parameter), "status": parameter.status}


def _print(document: dict[str, Any], labels: Sequence[str], sets: Sequence[ComparedGroups]) -> None:
    for symbol, formula in document["formulas"].items():
        print(formula if formula.startswith(f"{symbol}(") else f"{symbol}: {formula}")
    print()
    head = ("group", "E", "its noise", "held out", "its noise", *METRICS)
    rows, below = [], []
    alone = {one.groups[0] for one in sets if len(one.groups) == 1}
    for k, (label, group) in enumerate(zip(labels, document["groups"], strict=True)):
        errors = group["E"]
        numbers = (errors[name] for name in ("value", "noise", "held_out", "held_out_noise"))
        cells = {name: _interval(group[name]) for name in METRICS}
        if k in alone:
            cells["R_inf"] = "-"
        rows.append([label, *map(number, numbers), *cells.values()])
        below.append("; ".join(_remarks(group)))
    print_table(head, rows, below)
    misfits = any(cell.endswith(MISFIT_MARK) for row in rows for cell in row[1:])
    mark = f"; {MISFIT_MARK.strip()}: misfit, see below the group" if misfits else ""
    print(f"\nintervals: 95 %, bootstrap over seeds; -: undetermined{mark}")
    for line in _references(labels, sets):
        print(line)
    for note in document["notes"]:
        print(note)
    for path in document.get("figures", []):
        print(path)


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


def _interval(parameter: dict[str, Any]) -> str:
    if parameter["status"].startswith("undetermined"):
        return "-"
    mark = MISFIT_MARK if parameter["status"].startswith("misfit") else ""
    value = number(parameter["value"])
    low, high = parameter["low"], parameter["high"]
    return f"{value}{mark}" if math.isnan(low) else f"{value} [{number(low)}, {number(high)}]{mark}"


def _remarks(group: dict[str, Any]) -> list[str]:
    """What a reader must know of a group: statuses, widths left out, divergence."""
    kappa = group["kappa"]["status"]  # names the reasons of alpha, beta and gamma
    others = [group[name]["status"] for name in ("alpha", "beta", "gamma")]
    sure = [one for one in others if not one.startswith(("ok", "undetermined"))]
    remarks: list[str] = [] if kappa == "ok" else [f"kappa {kappa}"]
    remarks += [one for one in dict.fromkeys(sure) if one != kappa]
    widths = group["widths"]
    used = [f"{one['width']:g}" for one in widths if one["status"] == "ok"]
    out = [f"width {one['width']:g} left out: {one['status']}" for one in widths]
    left_out = [text for text, one in zip(out, widths, strict=True) if one["status"] != "ok"]
    runs = f"{group['runs']} runs, {group['diverged']} diverged"
    return [runs, f"widths {', '.join(used) or 'none'}", *left_out, *remarks]
