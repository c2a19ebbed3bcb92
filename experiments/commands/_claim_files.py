"""`dynsim verify my_claims.toml`: a user's own claims, measured and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynsim import InputError
from dynsim._files import read_file
from dynsim._text_files import json_document
from experiments.output import (
    again,
    near_names,
    print_json,
    print_next,
    print_wrapped,
    progress_bar,
    writable_folder,
)
from experiments.precision import enable_x64

from ._verdicts import in_one_sentence, print_verdicts

if TYPE_CHECKING:
    import xarray as xr

    from dynsim import Claim
    from dynsim.claims import ClaimFile, Finding

FORMAT = 1
NUMBERS = (
    *("predicted", "tolerance", "simulated", "measured", "low", "high", "drift"),
    *("last", "last_low", "last_high", "verdict", "expected", "notes"),
)
SHORT = 12  # characters of a digest that are printed


def check_files(paths: Sequence[Path], as_json: bool) -> int:
    """Validates claim files without measuring: one line for each. Returns the exit code."""
    files = valid_files(paths)
    if as_json:
        found = [
            {"file": file.path, "claims": len(file.claims), "sha256": file.digest}
            | {"sizes_left_out": {one.name: left for one in file.claims if (left := left_out(one))}}
            for file in files
        ]
        print_json({"files": found})
        return 0
    for file in files:
        count = len(file.claims)
        claims = f"{count} claim{'s' if count > 1 else ''}"
        print(f"{file.path}: valid, {claims}, SHA-256 {file.digest}")
        for one in file.claims:
            for name, size in left_out(one).items():
                print(f"  {one.name} gives no {name}: {size} is taken")
    print_next("measure them", again(without=["--check"]))
    return 0


def left_out(claim: Claim) -> dict[str, int]:
    """Width or vocabulary that a claim leaves out, and the size that its networks have."""
    setup = claim.families[0].setup(claim.sizes[0])
    given = {claim.along, *claim.options}
    return {name: getattr(setup, name) for name in ("width", "vocab_size") if name not in given}


def verify_files(
    paths: Sequence[Path], names: Sequence[str], full: bool, seed: int, out: Path, as_json: bool
) -> list[dict[str, Any]]:
    """Measures the claims of these files, or of them those that are named, and prints verdicts.

    Measured networks stay in --out, NAME.claims.nc for NAME.toml, with the verdicts and the claims
    as they were measured in NAME.claims.json, and a figure of each claim in CLAIM.png, .pdf and
    .svg. Returns a row for each claim.
    """
    given = valid_files(paths)
    _check_chosen(names, given)
    files = [_chosen(file, names) for file in given]
    folder = writable_folder("out", out)
    rows: list[dict[str, Any]] = []
    changed: list[str] = []
    figures: list[Path] = []
    for file in files:
        if not file.claims:
            continue
        changed += _changes(file, folder)
        found = _findings(file, full, seed, folder)
        figures += _figures(found, folder)
        rows += [{"file": str(file.path), **one.row()} for one in found]
        _keep(file, found, folder)
    digests = {str(file.path): file.digest for file in files}
    if as_json:
        document = {"claims": rows, "files": digests, "changed": changed, "figures": figures}
        print_json({**document, "seed": seed, "out": folder})
    else:
        _print(rows, digests, changed, seed)
        for path in figures:
            if path.suffix == ".png":
                same = [one.suffix for one in figures if one.with_suffix(".png") == path]
                print(f"figure: {path} ({', '.join(same)})")
        print_next("on other random numbers", again("--seed", seed + 1))
    return rows


def valid_files(paths: Sequence[Path]) -> list[ClaimFile]:
    """The claim files, every claim of which can be measured. Raises `InputError`."""
    from dynsim.claims import claim_file
    from dynsim.claims._file import ClaimFileError

    files = [claim_file(path) for path in paths]  # before all that only checks and measures need
    enable_x64()
    from dynsim.claims import check

    names: dict[str, Path] = {}
    stems: dict[str, Path] = {}
    for file in files:
        if file.path.stem in stems:
            other = stems[file.path.stem]
            problem = f"must have another name than {other}, beside which its results would stand"
            raise ClaimFileError(str(file.path), None, problem)
        stems[file.path.stem] = file.path
        for one in file.claims:
            if one.name in names:
                allowed = f"is a claim of {names[one.name]} already"
                raise file.error(one.name, InputError("name", one.name, allowed))
            names[one.name] = file.path
            try:
                check(one)
            except InputError as error:
                raise file.error(one.name, error) from None
    return files


def _chosen(file: ClaimFile, names: Sequence[str]) -> ClaimFile:
    kept = [
        pair
        for pair in zip(file.claims, file.places, strict=True)
        if not names or pair[0].name in names
    ]
    claims, places = zip(*kept, strict=True) if kept else ((), ())
    return replace(file, claims=claims, places=places)


def _check_chosen(names: Sequence[str], files: Sequence[ClaimFile]) -> None:
    known = {one.name: None for file in files for one in file.claims}
    for name in names:
        if name not in known:
            raise InputError("claim", name, near_names(name, known))


def _findings(file: ClaimFile, full: bool, seed: int, folder: Path) -> list[Finding]:
    """The file's claims judged on networks that were measured here or before."""
    from experiments.cells.complete import complete_file
    from experiments.topics._claim_study import claim_finding, claim_study, extended

    path = _beside(folder, file, "nc")
    study = claim_study(file.path.stem, file.claims)
    needed = {cell["cell"] for cell in study.cells(full)}
    kept = _kept(path)
    with progress_bar(len(needed), f"verify: {file.path.stem}", alike=False) as bar:
        if kept is not None:
            bar.update(len(needed & set(kept["cell"].values.tolist())))
            study = extended(study, kept)
        if kept is not None and _holds(kept, needed, full):
            data = kept
        else:
            data = complete_file(path, lambda store: study.run(full, bar.update, store, seed=seed))
    return [claim_finding(one, data) for one in file.claims]


def _figures(found: Sequence[Finding], folder: Path) -> list[Path]:
    """A figure of each claim."""
    from experiments.plots._write import write_result

    return [
        path
        for one in found
        for path in write_result(one.to_xarray(), None, folder / one.claim.name)
    ]


def _beside(folder: Path, file: ClaimFile, ending: str) -> Path:
    return folder / f"{file.path.stem}.claims.{ending}"


def _holds(kept: xr.Dataset, cells: set[str], full: bool) -> bool:
    from experiments.results import study_config

    return study_config(kept)["full"] == full and cells <= set(kept["cell"].values.tolist())


def _kept(path: Path) -> xr.Dataset | None:
    """What was measured before by the same code, libraries and device; None without it."""
    from experiments.results import load, provenance

    try:
        stored = load(path)
    except (OSError, ValueError, KeyError):
        return None
    same = all(
        stored.attrs.get(name) == text for name, text in provenance({}).items() if name != "config"
    )
    return stored if same and "cell" in stored.coords else None


def _changes(file: ClaimFile, folder: Path) -> list[str]:
    """One sentence for each claim that is not as it was when it was measured."""
    found = []
    before = _before(_beside(folder, file, "json"))
    for one in file.claims:
        then = before.get(one.name)
        if then is not None and then["digest"] != one.digest:
            now, was = one.content, then["claim"]
            keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
            found.append(
                f"{one.name} was changed after it was measured: {', '.join(keys)} "
                f"(SHA-256 then {then['digest'][:SHORT]}, now {one.digest[:SHORT]})"
            )
    return found


def _before(path: Path) -> dict[str, dict[str, Any]]:
    """The claims of earlier runs by name: the first version that was measured of each."""
    try:
        document = json_document(read_file(path).decode("utf-8"))
        if document["format"] != FORMAT:
            return {}
        return {one["claim"]["name"]: one for one in document["claims"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep(file: ClaimFile, found: Sequence[Finding], folder: Path) -> None:
    """Writes each claim as it was first measured, with its numbers and its verdict.

    Of a claim that was changed since, the numbers of the present version stand under `now`.
    """
    from experiments.cells.store import REPEATABLE, writing
    from experiments.output import json_text
    from experiments.results import write_file

    path = _beside(folder, file, "json")
    kept = _before(path)
    for one in found:
        entry = _entry(one, file.digest)
        first = kept.setdefault(one.claim.name, entry)
        if first["digest"] == one.claim.digest:
            kept[one.claim.name] = entry
        else:
            first["now"] = entry
    text = json_text({"format": FORMAT, "claims": list(kept.values())}, indent=1)
    with writing(path, REPEATABLE):
        write_file(path, f"{text}\n".encode())


def _entry(found: Finding, digest: str) -> dict[str, Any]:
    """A claim with what became of it; `digest` is that of its file."""
    row = found.row()
    numbers = {name: row[name] for name in NUMBERS}
    return {"claim": found.claim.content, "digest": row["digest"], "file": digest, **numbers}


def _print(
    rows: Sequence[Mapping[str, Any]],
    digests: Mapping[str, str],
    changed: Sequence[str],
    seed: int,
) -> None:
    print_wrapped(in_one_sentence(rows))
    print()
    print_verdicts(rows, [_note(row) for row in rows])
    for path, digest in digests.items():
        print(f"{path}: SHA-256 {digest}" + (f", seed {seed}" if seed else ""))
    for text in changed:
        print_wrapped(text, "  ")


def _note(row: Mapping[str, Any]) -> str:
    registered = f"; registered {row['registered']}" if row["registered"] else ""
    numbers = (
        f"quantity: {row['quantity']}; prediction: {row['prediction']}{registered}; SHA-256 "
        f"{row['digest'][:SHORT]}"
    )
    return "\n".join((row["statement"], numbers, *row["notes"]))
