"""`dynsim verify`: measure, compare, judge."""

from __future__ import annotations

import contextlib
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dynsim import InputError
from experiments.interruption import kept
from experiments.output import (
    again,
    near_names,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
    writable_folder,
)
from experiments.precision import enable_x64
from experiments.topics._names import known_figures, known_names
from experiments.topics._seeds import check_run

from ._options import Json
from ._second_process import begun, draw_stored, judge_stored, second_process, study_in
from ._verdicts import as_expected, exit_code, in_one_sentence, print_verdicts, seed_folder

if TYPE_CHECKING:
    import xarray as xr
    from tqdm import tqdm

    from dynsim.claims import Evidence
    from experiments.topics._claim import Claim
    from experiments.topics._study import Study


@dataclass(frozen=True)
class Verify:
    """Measure every claim on trained networks and print prediction, value and verdict.

    Writes studies (netCDF) and figures (PNG, PDF) to --out and reuses the studies found there
    when code, libraries and device are the same, so an interrupted run goes on where it stopped.
    Another --seed measures the same on other random numbers, in a folder of its own.
    """

    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """claim files, whose claims are measured in place of our own (docs/guides/claims.md)"""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """only validate the claim files"""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print our claims, the study of each and the option with which it is measured; measure none"""
    claim: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """check this claim only (may be repeated)"""
    study: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """run this study and its claims only (may be repeated); those of the laboratory (minutes to an
    hour each: update_magnitude, optimal_ratio, race, transfer_networks) run only when asked for"""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """larger sizes and more seeds; for a study of the laboratory, those for a GPU"""
    seed: int = 0
    """seed of every study's random numbers; two seeds share none"""
    out: Path = Path("dynsim-verify")
    """folder for studies and figures; those of a seed other than 0 go to its folder seed-N"""
    json: Json = False

    def run(self) -> int:
        """Runs the studies that the chosen claims need, judges the claims, draws the figures.
        Returns 1 if a claim that should hold fails, or a negative control does not.
        """
        check_run(self.seed)
        if self.list:
            return self._print_names()
        if self.files or self.check:
            return self._claim_files()
        self._check_names()
        enable_x64()
        from experiments.topics._registry import CLAIMS, STUDIES

        for name in self.study:
            if not STUDIES[name].cells(self.full):
                raise InputError("study", name, "is measured with --full only")
        left = _left_out(self)
        for name in self.claim:
            if name in left:
                raise InputError("claim", name, f"is measured with {left[name]} only")
        chosen = [CLAIMS[name] for name in self.claim or CLAIMS if name not in left]
        folder = writable_folder("out", seed_folder(self.out, self.seed))
        needed = dict.fromkeys(claim.study for claim in chosen)
        if self.full and not self.claim and not self.study:
            needed |= {name: None for name, study in STUDIES.items() if not study.laboratory}
        needed |= dict.fromkeys(self.study)
        evidence, figures = self._measured([STUDIES[name] for name in needed], chosen, folder)
        rows = [_row(claim, evidence[claim.name]) for claim in chosen]
        if self.json:
            document = {"claims": rows, "figures": figures, "seed": self.seed, "out": folder}
            print_json({**document, "left_out": left})
        else:
            _print(rows, figures)
            if not (self.claim or self.study):
                for option, count in Counter(left.values()).items():
                    print(f"{count} more claims are measured with {option}")
            print_next("on other random numbers", again("--seed", self.seed + 1))
        return exit_code(rows)

    def _print_names(self) -> int:
        if self.files:
            raise InputError("list", None, "prints our own claims: leave the claim files out")
        self._check_names()
        from experiments.topics._registry import CLAIMS

        left = _left_out(self)
        rows = [
            {"name": claim.name, "study": claim.study, "measured_with": left.get(claim.name)}
            | {"statement": claim.statement, "expected": claim.expected}
            for claim in CLAIMS.values()
            if claim.name in (self.claim or CLAIMS)
        ]
        if self.json:
            print_json({"claims": rows})
        else:
            cells = [[row["name"], row["study"], row["measured_with"] or ""] for row in rows]
            statements = [textwrap.fill(row["statement"], 94) for row in rows]
            count = f"{len(rows)} claims are" if len(rows) > 1 else "1 claim is"
            now = sum(row["measured_with"] is None for row in rows)
            print_wrapped(
                f"{count} listed, each with its study; {now} of them this command measures without "
                "further options."
            )
            print()
            print_table(("claim", "study", "measured with"), cells, statements)
            first = next((row for row in rows if row["measured_with"] is None), rows[0])
            option = (first["measured_with"] or "").split()
            print_next("measure one", ["verify", "--claim", first["name"], *option])
        return 0

    def _check_names(self) -> None:
        """Raises `InputError` for a claim or a study that does not exist."""
        for name in self.claim:
            if name not in known_names("claim"):
                allowed = near_names(name, known_names("claim"), " (all: `list`)")
                raise InputError("claim", name, allowed)
        for name in self.study:
            if name not in known_names("study"):
                raise InputError("study", name, near_names(name, known_names("study")))

    def _claim_files(self) -> int:
        from ._claim_files import check_files, verify_files

        if self.study:
            allowed = "must be left out with claim files"
            raise InputError("study", ", ".join(self.study), allowed)
        if not self.files:
            raise InputError("FILES", None, "--check needs a claim file, such as my_claims.toml")
        if self.check:
            return check_files(self.files, self.json)
        folder = seed_folder(self.out, self.seed)
        chosen = (self.files, self.claim, self.full, self.seed, folder, self.json)
        return exit_code(verify_files(*chosen))

    def _measured(
        self, studies: Sequence[Study], claims: Sequence[Claim], folder: Path
    ) -> tuple[dict[str, Evidence], list[Path]]:
        """Evidence of the claims by name, and the files of the figures.
        While a study is measured, a second process judges the claims on the studies before and
        draws their figures (but not of one study alone, nor beside long runs, which take the memory
        that there is).
        """
        alone = self.full or len(studies) == 1 or any(study.laboratory for study in studies)
        judged: list[Callable[[], dict[str, Evidence]]] = []
        drawn: dict[str, Callable[[], list[Path]]] = {}
        finished: set[str] = set()
        cells = sum(len(study.cells(self.full)) for study in studies)
        try:
            with (
                contextlib.nullcontext() if alone else second_process() as second,
                progress_bar(cells, "verify", alike=False) as bar,
            ):
                for study in studies:
                    bar.set_description_str(f"verify: {study.name}", refresh=study.laboratory)
                    finished_study(study, self.full, folder, bar, self.seed)
                    finished.add(study.name)
                    names = [claim.name for claim in claims if claim.study == study.name]
                    judged.append(begun(second, judge_stored, names, folder))
                    for name, figure in known_figures().items():
                        if study.name in figure.studies and set(figure.studies) <= finished:
                            drawn[name] = begun(
                                second, draw_stored, name, folder, folder, field="out"
                            )
                bar.set_description_str("verify: claims and figures", refresh=True)
                evidence = {name: one for found in judged for name, one in found().items()}
                chosen = [drawn[name] for name in known_figures() if name in drawn]
                return evidence, [path for found in chosen for path in found()]
        finally:
            study_in.cache_clear()  # files may have changed when the next run reads them


def _left_out(options: Verify) -> dict[str, str]:
    """Claims that these options do not measure, with the option that does."""
    from experiments.topics._registry import CLAIMS, STUDIES

    left = {}
    for claim in CLAIMS.values():
        study = STUDIES[claim.study]
        asked = claim.study in options.study or claim.name in options.claim
        if (options.study or study.laboratory) and not asked:
            left[claim.name] = f"--study {study.name}"
        elif not study.cells(options.full):
            left[claim.name] = "--full"
    return left


def finished_study(study: Study, full: bool, folder: Path, bar: tqdm, seed: int = 0) -> xr.Dataset:
    """The study's dataset: the stored one if it would come out the same, else a new measurement.

    Its finished cells are kept until the file is written.
    """
    from experiments.cells.complete import complete_file
    from experiments.cells.store import REPEATABLE, remove_leftovers
    from experiments.results import fingerprint, load, study_config

    path = folder / f"{study.name}.nc"
    try:
        stored = load(path)
        expected = study.fingerprint(full, seed)
        if fingerprint(study_config(stored)) == stored.attrs.get("fingerprint") == expected:
            bar.update(len(study.cells(full)))
            remove_leftovers(path)
            return stored
    except (OSError, ValueError, KeyError):
        pass  # none, damaged, or not a result of ours: measure again
    measured = complete_file(path, lambda store: study.run(full, bar.update, store, seed=seed))
    kept(lambda: REPEATABLE)
    return measured


def _row(claim: Claim, evidence: Evidence) -> dict[str, Any]:
    last = evidence.last
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
        "last": None if last is None else last.value,
        "last_low": None if last is None else last.low,
        "last_high": None if last is None else last.high,
        "tolerance": claim.tolerance,
        "expected": claim.expected,
        "verdict": claim.verdict(evidence),
        "citation": claim.citation,
    }


def _print(rows: list[dict[str, Any]], figures: list[Path]) -> None:
    notes = [
        f"{row['statement']} Quantity: {row['quantity']}; prediction: {row['prediction']}"
        for row in rows
    ]
    print_wrapped(in_one_sentence(rows))
    print()
    print_verdicts(rows, notes)
    for row in rows:
        if not as_expected(row):
            text = f"{row['name']}: {row['statement']} Expected verdict: {row['expected']}."
            print(textwrap.fill(text, 100, subsequent_indent="  "))
    print("claims named control- or not-seen- must fail")
    for path in figures:
        if path.suffix == ".png":
            print(f"figure: {path}")
