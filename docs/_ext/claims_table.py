"""Tables that are computed from stored studies when a page is built.

`claims`: the verdicts on studies; `ratio-exponents`: every exponent of `optimal_ratio`;
`transfer-metrics`: the metrics of `transfer_networks` by rule; `replication`: shares of verdicts
and of intervals under fresh seeds.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cache
from typing import Any

HEADS = (
    *("claim", "verdict", "fresh seeds", "measured", "predicted", "simulated"),
    "statement and prediction",
)
WIDTHS = (20, 9, 7, 16, 10, 8, 30)


@cache
def rows(study: str) -> list[tuple[str, ...]]:
    """One row for every claim on the stored data of a study."""
    from experiments.output import number
    from experiments.precision import enable_x64
    from experiments.replication.shares import fresh_runs, stored_replication
    from experiments.topics._registry import CLAIMS
    from experiments.topics._stored import stored_evidence

    enable_x64()
    found, fresh = [], fresh_runs(stored_replication())
    for claim in (one for one in CLAIMS.values() if one.study == study):
        evidence = stored_evidence(claim.name)
        measured = evidence.measured
        interval = f"[{number(measured.low)}, {number(measured.high)}]"
        found.append(
            (
                claim.name,
                claim.verdict(evidence),
                fresh.get(claim.name, "-"),
                f"{number(measured.value)} {interval}",
                f"{number(evidence.predicted)} ± {number(claim.tolerance)}",
                number(evidence.simulated),
                f"{claim.statement} Quantity: {claim.quantity}. Prediction: {claim.prediction}",
            )
        )
    return found


RATIO_HEADS = (
    "case",
    "tuned",
    "steps",
    "exponent, 95 %",
    "flat optima allow",
    "theory, 1st step",
    "Θ(d)",
    "Θ(√d)",
)
RATIO_WIDTHS = (16, 12, 6, 18, 14, 10, 10, 10)


def ratio_rows() -> list[tuple[str, ...]]:
    """One row for every case, horizon and way of tuning."""
    from experiments.output import number
    from experiments.precision import enable_x64
    from experiments.results import STORED, load
    from experiments.topics.optimal_ratio.estimators import ratio_rows

    enable_x64()
    found = []
    for row in ratio_rows(load(STORED / "optimal_ratio.nc")):
        x = row.exponent
        low, high = x.compatible_low + x.rule, x.compatible_high + x.rule
        left = f", {x.excluded} left out" if x.excluded else ""
        found.append(
            (
                row.case,
                "jointly" if row.tuned == "ratio" else "alone",
                str(row.steps),
                (_interval(x.actual, 2) if math.isfinite(x.actual.value) else "-") + left,
                _allowed(low, high) if x.status == "flat" else "-",
                number(row.theory),
                row.verdicts["d"],
                row.verdicts["sqrt(d)"],
            )
        )
    return found


def _allowed(low: float, high: float) -> str:
    """The exponents that flat optima allow."""
    return f"[{low:.1f}, {high:.1f}]" if math.isfinite(high - low) else "any"


METRIC_HEADS = ("network", "rule", "E (noise)", "held out", "α", "γ", "κ", "R∞", "drift of η*")
METRIC_WIDTHS = (10, 18, 12, 8, 14, 14, 14, 14, 14)


def metric_rows() -> list[tuple[str, ...]]:
    """One row for every network and rule, without weight decay, at the same number of steps."""
    from dynsim.transfer import asymptotic_penalties
    from experiments.output import number
    from experiments.results import STORED, load
    from experiments.topics.transfer_networks.estimators import drift, fitted
    from experiments.topics.transfer_networks.study import NETWORKS, RULES

    data = load(STORED / "transfer_networks.nc")
    found = []
    for network in NETWORKS:
        cases = [f"{network}; {rule}" for rule in RULES]
        fits = [fitted(data, case) for case in cases]
        _, penalties = asymptotic_penalties(fits)
        for rule, case, fit, penalty in zip(RULES, cases, fits, penalties, strict=True):
            parameters = (fit.loss_exponent, fit.curvature_exponent, fit.robustness, penalty)
            found.append(
                (
                    network,
                    rule,
                    f"{number(fit.error)} ({number(fit.noise_error)})",
                    number(fit.held_out_error),
                    *map(_parameter, parameters),
                    _interval(drift(data, case)),
                )
            )
    return found


def _parameter(parameter: Any) -> str:
    """A fitted parameter by its status: - undetermined, ? misfit."""
    from dynsim import Status

    if parameter.status is Status.UNDETERMINED:
        return "-"
    return _interval(parameter) + " ?" * (parameter.status is Status.MISFIT)


def _interval(found: Any, digits: int = 3) -> str:
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


VERDICT_HEADS = ("claim", "version", "expected", "as expected", "holds", "undecided", "fails")
VERDICT_WIDTHS = (30, 8, 10, 22, 8, 10, 8)
COVERAGE_HEADS = ("version", "theory's value", "intervals that hold it")
COVERAGE_WIDTHS = (12, 16, 24)


def verdict_rows(names: Collection[str] = ()) -> list[tuple[str, ...]]:
    """One row for every claim (of these `names`, if any) and version of the stored replication;
    none without one."""
    from experiments.replication.shares import claim_rows, stored_replication

    data = stored_replication()
    rows = [] if data is None else claim_rows(data)
    return [
        (
            row.claim,
            row.version,
            row.expected,
            str(row.as_expected),
            *(str(row.verdicts[name]) for name in VERDICT_HEADS[4:]),
        )
        for row in rows
        if not names or row.claim in names
    ]


def coverage_rows(_names: Collection[str] = ()) -> list[tuple[str, ...]]:
    """Intervals of exponents that hold theory's value, by version; none without a replication."""
    from experiments.replication.shares import coverage, stored_replication

    data = stored_replication()
    if data is None:
        return []
    return [
        (version, theory, str(coverage(data, theory, version)))
        for version in map(str, data.version.values)
        for theory in ("simulated", "predicted")
    ]


MISSING_HEADS = ("study", "version", "cells of one seed", "CPU minutes of one seed", "claims")
MISSING_WIDTHS = (20, 12, 10, 12, 60)


def missing_rows(_names: Collection[str] = ()) -> list[tuple[str, ...]]:
    """What no fresh seed has tested, by study; none without a replication."""
    from experiments.replication.shares import not_replicated, stored_replication

    data = stored_replication()
    return [
        (
            one.study,
            one.version,
            str(one.cells),
            "-" if one.minutes is None else f"{one.minutes:g}",
            ", ".join(one.claims),
        )
        for one in (() if data is None else not_replicated(data))
    ]


REPLICATION = {
    "missing": (MISSING_HEADS, MISSING_WIDTHS, missing_rows),
    "verdicts": (VERDICT_HEADS, VERDICT_WIDTHS, verdict_rows),
    "coverage": (COVERAGE_HEADS, COVERAGE_WIDTHS, coverage_rows),
}


def _table(nodes: Any, heads: Any, widths: Any, found: Any) -> Any:
    body = nodes.tbody()
    body += [_row(nodes, cells) for cells in found]
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += [nodes.thead("", _row(nodes, heads)), body]
    block = nodes.table()
    block += group
    return block


def setup(app: Any) -> dict[str, bool]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Claims(SphinxDirective):
        """Arguments: names of studies."""

        required_arguments = 1
        optional_arguments = 100

        def run(self) -> list[nodes.Node]:
            from experiments.results import STORED

            found = []
            self.env.note_dependency(str(STORED / "replication.nc"))
            for study in self.arguments:
                self.env.note_dependency(str(STORED / f"{study}.nc"))
                found += rows(study)
            table = _table(nodes, HEADS, WIDTHS, found)
            if self.env.docname == "claims":  # topics show the same rows once more
                for row, cells in zip(list(table.findall(nodes.row))[1:], found, strict=True):
                    row["names"].append(f"claim-{cells[0]}")
                    self.state.document.note_explicit_target(row)
            return [table]

    class RatioExponents(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            from experiments.results import STORED

            self.env.note_dependency(str(STORED / "optimal_ratio.nc"))
            return [_table(nodes, RATIO_HEADS, RATIO_WIDTHS, ratio_rows())]

    class TransferMetrics(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            from experiments.results import STORED

            self.env.note_dependency(str(STORED / "transfer_networks.nc"))
            return [_table(nodes, METRIC_HEADS, METRIC_WIDTHS, metric_rows())]

    class Replication(SphinxDirective):
        """Argument: verdicts, coverage or missing; the content names claims of verdicts (none:
        all)."""

        required_arguments = 1
        has_content = True

        def run(self) -> list[nodes.Node]:
            from experiments.results import STORED

            self.env.note_dependency(str(STORED / "replication.nc"))
            heads, widths, rows = REPLICATION[self.arguments[0]]
            found = rows(" ".join(self.content).split())
            if not found:
                return [nodes.paragraph(text="None at present.")]
            return [_table(nodes, heads, widths, found)]

    app.add_directive("replication", Replication)
    app.add_directive("transfer-metrics", TransferMetrics)
    app.add_directive("ratio-exponents", RatioExponents)
    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _row(nodes: Any, cells: tuple[str, ...]) -> Any:
    row = nodes.row()
    row += [nodes.entry("", nodes.paragraph(text=cell)) for cell in cells]
    return row
