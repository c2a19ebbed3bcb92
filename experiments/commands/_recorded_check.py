"""The coordinate check of recorded runs: what it prints and writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.output import (
    again,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    writable_folder,
)

if TYPE_CHECKING:
    from dynsim.coordinates import CoordinateCheck, MeasuredAlignment
    from dynsim.coordinates._verdicts import Slope
    from dynsim.statistics import Estimate

SHOWN = {
    "weight": "W0",
    "weight_update": "dW",
    "initial": "W0 z0",
    "update_on_initial": "dW z0",
    "initial_on_learned": "W0 dz",
    "update_on_learned": "dW dz",
}
INSTEAD = {"update_on_initial": "update"}  # of scores and outputs
CONSEQUENCE = {
    "as predicted": "sizes change with the width as this rule presumes to carry rates over",
    "undecided": "more seeds or widths would decide",
    "fails": "a learning rate, multiplier or initialisation is not what it says",
}
MOST_ROWS, MOST_POWERS = 40, 10
FAILING_MARK = " !"


def check_recorded(
    files: Sequence[Path],
    parametrization: str,
    tolerance: float,
    tokens: str,
    out: Path | None,
    as_json: bool,
) -> int:
    """Judges the files' runs, prints and writes what was found; 1 if a module fails, else 0."""
    from dynsim.coordinates import check_coordinates, read_records

    folder = None if out is None else writable_folder("out", out)
    found = check_coordinates(
        read_records(files), parametrization, tolerance=tolerance, tokens=tokens
    )
    document = found.to_dict()
    if folder is not None:
        document["files"] = _written(found, folder)
    if as_json:
        print_json(document)
    else:
        _print(found)
        for path in document.get("files", []):
            print(path)
        if folder is None:
            print_next("the figure", again("--out", "coordinates"))
        elif not parametrization.startswith("exponents:"):
            print_next("what is prescribed", ["parametrization", parametrization])
        else:
            print_next("what named rules prescribe", ["parametrization", "--compare"])
    return int(found.verdict == "fails")


def _written(found: CoordinateCheck, folder: Path) -> list[Path]:
    """The panel figure as PNG and PDF, and every slope as CSV."""
    from dynsim.coordinates._figure import recorded_figure
    from experiments.plots._write import write
    from experiments.results import write_file

    slopes = folder / "slopes.csv"
    write_file(slopes, found.to_dataframe().to_csv(index=False).encode())
    return [*map(Path, write(recorded_figure, (found,), folder / "coordinates")), slopes]


def _print(found: CoordinateCheck) -> None:
    steps = list(found.steps)
    ends = f"{steps[0]} -> {steps[-1]}" if len(steps) > 1 else steps[0]
    print_wrapped(
        f"{found.verdict[0].upper()}{found.verdict[1:]}: {len(found.modules)} modules against "
        f"{found.parametrization}, powers within {found.tolerance:g}: "
        f"{CONSEQUENCE[found.verdict]}."
    )
    print()
    print_wrapped(
        f"Powers of the width {found.widths[0]} to {found.widths[-1]} in the size of each term, "
        f"after {ends} steps, {len(found.widths)} widths, {found.seeds} "
        f"seed{'s' if found.seeds > 1 else ''}."
    )
    print()
    modules = list(found.modules)
    hidden = 0
    if len(modules) > MOST_ROWS:
        modules = [module for module in modules if module.verdict != "as predicted"]
        hidden = len(found.modules) - len(modules)
    rows = []
    for module in modules:
        for vocab_size in dict.fromkeys(s.vocab_size for s in found.slopes):
            own = [
                s for s in found.slopes if s.module == module.name and s.vocab_size == vocab_size
            ]
            if own:
                cells = [_cell(own, term) for term in SHOWN]
                label = vocab_size or "follows"
                rows.append([module.name, module.label, str(label), *cells, module.verdict])
    if rows:
        print_table(("module", "label", "m", *SHOWN.values(), "verdict"), rows)
    if hidden:
        print(f"... and {hidden} modules as predicted (all are in --json)")
    _print_mistakes(found)
    _print_alignment(found.alignments)
    for note in found.notes:
        print_wrapped(f"Note: {note}.", "  ")
    print("docs: guides/coordinate_check")


def _print_mistakes(found: CoordinateCheck) -> None:
    """Each likely mistake once, with the modules that make it, and the worst power of each."""
    from dynsim.coordinates._check import few_names
    from dynsim.coordinates._verdicts import FAILURES, slope_text

    if found.mistakes:
        print("\nLikely mistakes:")
    for mistake, names in found.mistakes.items():
        print_wrapped(f"  {few_names(names)}: {mistake}", "    ")
    failing = [slope for slope in found.slopes if slope.verdict in FAILURES]
    if failing:
        print("\nFirst failing power of each module:")
    names = list(dict.fromkeys(slope.module for slope in failing))
    for name in names[:MOST_POWERS]:
        first = next(slope for slope in failing if slope.module == name)
        print_wrapped(f"  {name}: {slope_text(first)}", "    ")
    if len(names) > MOST_POWERS:
        print(f"  ... and {len(names) - MOST_POWERS} more")


def _cell(own: Sequence[Slope], term: str) -> str:
    """The power after the first and the last step, marked where it fails."""
    from dynsim.coordinates._verdicts import FAILURES

    slopes = [s for s in own if s.term in (term, INSTEAD.get(term))]
    if not slopes:
        return ""
    ends = slopes[:1] if len(slopes) == 1 else (slopes[0], slopes[-1])
    text = " -> ".join(
        s.verdict if math.isnan(s.slope.value) else f"{s.slope.value:.2f}" for s in ends
    )
    return text + (FAILING_MARK if any(s.verdict in FAILURES for s in slopes) else "")


def _print_alignment(alignments: Sequence[MeasuredAlignment]) -> None:
    if not alignments:
        return
    print("\nMeasured alignment exponents (1/2: independent, 1: coherent):")
    rows = [
        [one.layer, str(one.step), *(_interval(x) for x in (one.A, one.U, one.Omega))]
        for one in alignments
    ]
    print_table(("matrices", "step", "A (dW z0)", "U (dW dz)", "Omega (W0 dz)"), rows)


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if math.isnan(estimate.low):
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
