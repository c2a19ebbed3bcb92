"""`dynsim verify`: measure, compare, judge."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from dynsim import InputError

from .output import number, print_json, print_table, progress_bar, writable_folder
from .precision import enable_x64

if TYPE_CHECKING:
    from tqdm import tqdm

    from .claims import Claim, Evidence
    from .cli import Verify
    from .studies import Study


def run_verify(options: Verify) -> int:
    """Runs the studies that the chosen claims need, judges the claims, draws the figures.

    Returns 1 if a claim that should hold fails, or a negative control does not.
    """
    enable_x64()
    from .claims import CLAIMS
    from .studies import STUDIES

    _check_names("--claim", options.claim, CLAIMS, " (all: docs/claims.md)")
    _check_names("--study", options.study, STUDIES)
    for name in options.study:
        if not STUDIES[name].cells(options.full):
            raise InputError("--study", name, "is measured with --full only")
    left = _left_out(options)
    for name in options.claim:
        if name in left:
            raise InputError("--claim", name, f"is measured with {left[name]} only")
    chosen = [CLAIMS[name] for name in options.claim or CLAIMS if name not in left]
    folder = writable_folder("--out", options.out)
    needed = dict.fromkeys(claim.study for claim in chosen)
    if options.full and not options.claim and not options.study:
        needed |= {name: None for name, study in STUDIES.items() if not study.laboratory}
    needed |= dict.fromkeys(options.study)
    cells = sum(len(STUDIES[name].cells(options.full)) for name in needed)
    judged: dict[str, tuple[Claim, Evidence]] = {}
    studies: dict[str, xr.Dataset] = {}
    with progress_bar(cells, "verify") as bar:
        for name in needed:
            bar.set_description(f"verify: {name}", refresh=STUDIES[name].laboratory)
            studies[name] = finished_study(STUDIES[name], options.full, folder, bar)
            for claim in chosen:
                if claim.study == name:
                    judged[claim.name] = (claim, claim.evidence(studies[name]))
        bar.set_description("verify: figures", refresh=False)
        figures = _figures(studies, folder)
    rows = [_row(*judged[claim.name]) for claim in chosen]
    if options.json:
        print_json({"claims": rows, "figures": figures, "out": folder, "left_out": left})
    else:
        _print(rows, figures)
        for option in dict.fromkeys(left.values() if not (options.claim or options.study) else ()):
            names = [name for name, needs in left.items() if needs == option]
            print(f"{len(names)} claims are measured with {option} only: {', '.join(names)}")
    return exit_code(rows)


def _check_names(
    option: str, names: Sequence[str], known: Collection[str], where: str = ""
) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=4, cutoff=0) or list(known)[:4]
            allowed = f"must be one of {len(known)}, such as {', '.join(near)}{where}"
            raise InputError(option, name, allowed)


def _left_out(options: Verify) -> dict[str, str]:
    """Claims that these options do not measure, with the option that does."""
    from .claims import CLAIMS
    from .studies import STUDIES

    left = {}
    for claim in CLAIMS.values():
        study = STUDIES[claim.study]
        asked = claim.study in options.study or claim.name in options.claim
        if (options.study or study.laboratory) and not asked:
            left[claim.name] = f"--study {study.name}"
        elif not study.cells(options.full):
            left[claim.name] = "--full"
    return left


def finished_study(study: Study, full: bool, folder: Path, bar: tqdm) -> xr.Dataset:
    """The study's dataset: the stored one if it would come out the same, else a new measurement."""
    from .results import load, save

    path = folder / f"{study.name}.nc"
    try:
        stored = load(path)
        if stored.attrs.get("fingerprint") == study.fingerprint(full):
            bar.update(len(study.cells(full)))
            return stored
    except (OSError, ValueError, KeyError):
        pass  # none, damaged, or not a result of ours: measure again
    cells = folder / f"{study.name}.cells" if study.laboratory else None
    dataset = study.run(full, advance=bar.update, folder=cells)
    try:
        save(dataset, path)
    except OSError as error:
        raise InputError("--out", str(path), f"cannot be written ({error.strerror})") from None
    if cells is not None:
        shutil.rmtree(cells, ignore_errors=True)
    return dataset


def _figures(studies: dict[str, xr.Dataset], folder: Path) -> list[Path]:
    from .figures import FIGURES, draw

    return [
        path
        for name, (_, needs) in FIGURES.items()
        if needs and all(need in studies for need in needs)
        for path in draw(name, studies, folder)
    ]


def _row(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    return {
        "name": claim.name,
        "statement": claim.statement,
        "quantity": claim.quantity,
        "prediction": claim.prediction,
        "predicted": evidence.predicted,
        "simulated": evidence.simulated,
        "measured": evidence.measured.value,
        "low": evidence.measured.low,
        "high": evidence.measured.high,
        "drift": evidence.drift,
        "tolerance": claim.tolerance,
        "expected": claim.expected,
        "verdict": claim.verdict(evidence),
        "citation": claim.citation,
    }


def exit_code(rows: list[dict[str, Any]]) -> int:
    """1 if a claim that should hold fails, or a negative control is not caught; else 0."""
    wrong = {("holds", "fails"), ("fails", "holds"), ("fails", "undecided")}
    return int(any((row["expected"], row["verdict"]) in wrong for row in rows))


def _print(rows: list[dict[str, Any]], figures: list[Path]) -> None:
    head = ("claim", "predicted", "simulated", "measured", "95 % interval", "drift", "verdict")
    table = [
        [
            row["name"],
            f"{number(row['predicted'])} ± {number(row['tolerance'])}",
            number(row["simulated"]),
            number(row["measured"]),
            f"[{number(row['low'])}, {number(row['high'])}]",
            number(row["drift"]),
            row["verdict"] + ("" if row["verdict"] == row["expected"] else "  (!)"),
        ]
        for row in rows
    ]
    notes = [
        f"{row['statement']}. {row['quantity']}; prediction: {row['prediction']}" for row in rows
    ]
    print_table(head, table, notes)
    print()
    for row in rows:
        if row["verdict"] != row["expected"]:
            text = f"{row['name']}: {row['statement']}; expected {row['expected']}."
            print(textwrap.fill(text, 100, subsequent_indent="  "))
    print("drift: how the measured exponent changes when the smallest size is left out")
    as_expected = sum(row["verdict"] == row["expected"] for row in rows)
    fail = "claims named control- or not-seen- must fail"
    print(f"{as_expected} of {len(rows)} verdicts as expected ({fail})")
    for path in figures:
        if path.suffix == ".png":
            print(f"figure: {path}")
