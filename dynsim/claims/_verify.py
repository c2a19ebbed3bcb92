"""Claims measured on trained networks and judged."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError, check_integer
from dynsim._setup import Setup, check_covered
from dynsim.laboratory._memory import check_network_fits
from dynsim.scaling._columns import refusal
from dynsim.scaling._exponent import named_quantity
from dynsim.scaling._fitted import no_interval
from dynsim.scaling._measured import Measure, cost, measured_cells
from dynsim.scaling._quantity import (
    AnySetup,
    Measurement,
    Progress,
    Quantity,
    Sampled,
    Unavailable,
    Value,
)
from dynsim.statistics._exponents import exponent_of, log_slope
from dynsim.theory.mean_field._quick import few_particles

from ._claim import ASYMPTOTIC, MOST_SEEDS, Claim, in_full
from ._file import ClaimFile, claim_file
from ._finding import Finding, Theory, Verdicts
from ._seeds import MOST_RUNS, run_seed
from ._verdict import Evidence, doubts, judged, seeds_enough

Floats = NDArray[np.float64]
Solve = Callable[[Quantity, Sequence[AnySetup]], Sequence[Value]]
"""What gives the mean-field values of a quantity: by solving, or from where they are kept."""


def verify(
    claims: Path | str | ClaimFile | Claim | Sequence[Claim],
    *,
    seeds: int | None = None,
    seed: int = 0,
    full: bool = False,
    progress: Progress = lambda part: None,
    measure: Measure | None = None,
) -> Verdicts:
    """Measures claims on trained networks and judges them by one rule.

    ```python
    dynsim.verify("my_claims.toml")
    ```

    - `claims`: a claim file, or claims made by `dynsim.claim`.
    - `seeds`: networks for each size, in place of what the claims say.
    - `seed`: another number gives networks that are new.
    - `full`: the larger version of claims that have one.
    - `progress`: called with the fraction of work finished since the last call.
    - `measure`: gives a cell's arrays in place of training it, see `dynsim.scaling`.

    Claims that share a setup share its training. Raises `InputError` for a claim that cannot be
    measured, before anything is trained.

    **Example:**

    >>> from dynsim import claim, verify
    >>> small = claim(
    ...     "projection-mup-small",
    ...     "At a vocabulary of 4 the projection's update grows as the width.",
    ...     "projection_step_rms",
    ...     widths=[16, 32, 64],
    ...     vocab_size=4,
    ...     prediction=1,
    ...     tolerance=0.3,
    ...     optimizer="sign",
    ...     seeds=4,
    ... )
    >>> verdicts = verify(small)
    >>> verdicts.findings[0].verdict
    'holds'
    """
    given, files = _given(claims)
    check_integer("seed", seed, 0, MOST_RUNS - 1)
    chosen = [version(one, full=full, seeds=seeds) for one in given]
    for one in chosen:
        try:
            check(one)
        except InputError as error:
            raise _placed(claims, one, error) from None
    shared = _Trained(chosen, seed, measure, progress)
    findings = [finding(one, measure=shared, full=full, seeds=seeds, seed=seed) for one in given]
    return Verdicts(tuple(findings), files, seed)


def finding(
    claim: Claim,
    *,
    measure: Measure | None = None,
    solve: Solve | None = None,
    full: bool = False,
    seeds: int | None = None,
    seed: int = 0,
) -> Finding:
    """One claim measured and judged; `measure` and `solve` give what is kept elsewhere."""
    chosen, quantity = version(claim, full=full, seeds=seeds), named_quantity(claim.quantity)
    setups = claim_setups(chosen, seed)
    found = measured_cells(quantity, setups, chosen.seeds, measure=measure)
    theory = _theory(chosen, quantity, setups, solve)
    rounded = dict.fromkeys(note for path in chosen.families for note in path.rounded)
    evidence = _ratio if chosen.form == "ratio" else _exponent
    numbers = evidence(chosen, predicted(chosen), found, theory.log_values)
    verdict = judged(numbers, claim.tolerance)
    notes = [*rounded, *theory.notes]
    if lost := no_interval(numbers.measured, chosen.seeds):
        notes.append(f"no interval: {lost}")
    elif verdict == "undecided":
        found_doubts = doubts(numbers, claim.tolerance)
        notes.append(f"undecided: {', and '.join(found_doubts)}")
        enough = seeds_enough(numbers, claim.tolerance, chosen.seeds)
        if len(found_doubts) == 1 and enough is not None and enough <= MOST_SEEDS:
            text = "at this value about {} `seeds` in place of {} bring the interval into the band"
            notes.append(text.format(enough, chosen.seeds))
    return Finding(
        claim=claim,
        evidence=numbers,
        verdict=verdict,
        notes=tuple(notes),
        measured_as=chosen,
        cells=tuple(found),
        theory=theory,
    )


def check(claim: Claim) -> None:
    """Checks without measuring, the larger version too.

    Raises `InputError` for a quantity that does not exist, or not for these setups, for tokens that
    cannot be read, for a network that does not fit the memory, for a theory that has no value at
    one of the setups, and for a prediction that is not derived or whose band contains the rival.

    **Example:**

    >>> from dynsim import claim
    >>> from dynsim.claims import check
    >>> small = claim(
    ...     "projection-mup-small",
    ...     "At 4 tokens the projection's update grows as the width.",
    ...     "projection_step_rms",
    ...     widths=[16, 32, 64],
    ...     vocab_size=4,
    ...     prediction=1,
    ...     tolerance=0.3,
    ...     rival=0.5,
    ...     optimizer="sign",
    ... )
    >>> check(small)  # returns: it can be measured
    """
    if claim.full:
        try:
            check(claim.at_full())
        except InputError as error:
            raise in_full(error, claim.full) from None
    quantity = named_quantity(claim.quantity)
    setups = claim_setups(claim)
    for setup in setups:
        quantity.check(setup)
        _check_tokens(setup)
        check_network_fits(setup)
    if quantity.measurement is None:
        raise InputError("quantity", claim.quantity, "is not measured on networks")
    value = predicted(claim)
    claim.check_rival(value)
    if claim.formula is None and (claim.form == "ratio" or claim.against != "derived"):
        _check_theory(claim, quantity, setups)


def _check_tokens(setup: AnySetup) -> None:
    """Raises `InputError` for counts or a text that cannot be read, or have too few types."""
    if setup.law_name.partition(":")[0] not in ("uniform", "zipf"):
        setup.law()


def _check_theory(claim: Claim, quantity: Quantity, setups: Sequence[AnySetup]) -> None:
    """Raises `InputError` where the theory that the claim names has no value at a setup.

    Of the mean-field solution only whether the solver takes the setup is asked, not a value.
    """
    for setup in setups:
        try:
            if claim.against == "mean_field":
                _check_solver(quantity, setup)
            elif not 0 < quantity.derived(setup) < math.inf:
                raise Unavailable("the derived value is no positive number")
        except (Unavailable, InputError) as error:
            reason = refusal(error) if isinstance(error, InputError) else str(error)
            size = f"`{claim.along}` {getattr(setup, claim.along)}"
            allowed = f"has no value here, at {size}: {reason}"
            raise InputError("against", claim.against, allowed) from None


def _check_solver(quantity: Quantity, setup: AnySetup) -> None:
    """Raises `Unavailable` or `InputError` where the mean-field solver does not go."""
    quantity.check_mean_field(setup)
    if not isinstance(setup, Setup):
        raise Unavailable("the mean-field solver covers the linear network")
    check_covered(setup, "mean-field theory")
    few_particles(setup)


def version(claim: Claim, *, full: bool = False, seeds: int | None = None) -> Claim:
    """The claim as it is measured: in its larger version, with another number of seeds."""
    chosen = claim.at_full() if full else claim
    if seeds is None:
        return chosen
    check_integer("seeds", seeds, 2, MOST_SEEDS)
    return replace(chosen, seeds=seeds)


def claim_setups(claim: Claim, seed: int = 0) -> list[AnySetup]:
    """The setups of all sizes, in the run with this seed."""
    return [fresh(setup, seed) for path in claim.families for setup in path.setups()]


def fresh(setup: AnySetup, seed: int) -> AnySetup:
    """The setup in the run with this seed: runs share no random numbers."""
    return replace(setup, seed=setup.seed + run_seed(seed)) if seed else setup


def predicted(claim: Claim) -> float:
    """The prediction as a number. Raises `InputError` where none is derived."""
    if claim.prediction != ASYMPTOTIC:
        return claim.stated()
    try:
        return float(named_quantity(claim.quantity).asymptotic(claim.families[0]).exponent)
    except Unavailable as reason:
        raise InputError("prediction", ASYMPTOTIC, f"does not exist here: {reason}") from None


def _theory(
    claim: Claim, quantity: Quantity, setups: Sequence[AnySetup], solve: Solve | None
) -> Theory:
    """The theory's logarithms at all setups, with the reason where it has no value."""
    errors: Floats | None = None
    try:
        if claim.formula is not None:
            sizes = [path.values(size) for path in claim.families for size in claim.sizes]
            values = [claim.formula(one) for one in sizes]
        elif claim.against == "derived":
            values = [quantity.derived(setup) for setup in setups]
        else:
            solved = quantity.mean_field(setups) if solve is None else solve(quantity, setups)
            values = [value for value, _ in solved]
            errors = np.array([error for _, error in solved])
    except Unavailable as reason:
        return Theory(None, notes=(f"no {claim.against} value: {reason}",))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Theory(np.log(np.asarray(values, dtype=np.float64)), errors)


def _log_values(found: Sequence[Sampled]) -> Callable[..., Floats]:
    """The logarithm of the quantity at every setup, shape (K,) or (K, R)."""

    def logs(*samples: Floats, axis: int = -1) -> Floats:
        return np.array(
            [cell.log_value(sample) for cell, sample in zip(found, samples, strict=True)]
        )

    return logs


def _exponent(
    claim: Claim, predicted: float, found: Sequence[Sampled], theory: Floats | None
) -> Evidence:
    samples = [cell.samples for cell in found]
    fit = exponent_of(claim.sizes, samples, _log_values(found), vectorized=True)
    log_size = np.log(np.asarray(claim.sizes, dtype=np.float64))
    simulated = None if theory is None else float(log_slope(log_size, theory))
    return Evidence.of_fit(fit, predicted=predicted, simulated=simulated)


def _ratio(
    claim: Claim, predicted: float, found: Sequence[Sampled], theory: Floats | None
) -> Evidence:
    below = np.full(len(found), np.nan) if theory is None else theory
    logs = _log_values(found)

    def ratios(*samples: Floats, axis: int = -1) -> Floats:
        values = logs(*samples)
        return values - below.reshape(-1, *[1] * (values.ndim - 1))

    sizes = [size for _ in claim.families for size in claim.sizes]
    samples = [cell.samples for cell in found]
    numbers = Evidence.of_ratio(ratios, samples, sizes, vectorized=True)
    return replace(numbers, predicted=predicted)


def _given(
    claims: Path | str | ClaimFile | Claim | Sequence[Claim],
) -> tuple[tuple[Claim, ...], dict[str, str]]:
    if isinstance(claims, Path | str):
        claims = claim_file(claims)
    if isinstance(claims, ClaimFile):
        return claims.claims, {str(claims.path): claims.digest}
    given = (claims,) if isinstance(claims, Claim) else claims
    if not isinstance(given, Iterable):
        raise InputError("claims", type(claims).__name__, "must be a claim file or claims")
    given = tuple(given)
    for one in given:
        if not isinstance(one, Claim):
            raise InputError("claims", type(one).__name__, "must be a claim file or claims")
    if not given:
        raise InputError("claims", None, "must be a claim file or claims")
    return given, {}


def _placed(claims: Any, claim: Claim, error: InputError) -> InputError:
    """The error with its place in the file, where the claims come from one."""
    if isinstance(claims, Path | str):
        claims = claim_file(claims)
    if isinstance(claims, ClaimFile):
        return claims.error(claim.name, error)
    return InputError(error.field, error.value, f"{error.allowed} (claim {claim.name})")


class _Trained:
    """Cells by measurement, setup and seeds; each is trained once for all claims."""

    def __init__(
        self, claims: Sequence[Claim], seed: int, measure: Measure | None, progress: Progress
    ):
        self.measure, self.progress = measure, progress
        self.cells: dict[tuple[str, AnySetup, tuple[int, ...]], Future[Any]] = {}
        self.lock = threading.Lock()
        keys = {
            (measurement.name, setup, one.seeds): cost(setup) * one.seeds
            for one in claims
            if (measurement := named_quantity(one.quantity).measurement) is not None
            for setup in claim_setups(one, seed)
        }
        self.work = sum(keys.values())

    def __call__(
        self, measurement: Measurement, setup: AnySetup, labels: NDArray[np.int64]
    ) -> Mapping[str, NDArray[Any]]:
        key = (measurement.name, setup, tuple(labels.tolist()))
        with self.lock:
            made = key not in self.cells
            future = self.cells.setdefault(key, Future())
        if made:
            try:
                future.set_result(self._arrays(measurement, setup, labels))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _arrays(
        self, measurement: Measurement, setup: AnySetup, labels: NDArray[np.int64]
    ) -> Mapping[str, NDArray[Any]]:
        share = cost(setup) * len(labels) / self.work
        if self.measure is None:
            return measurement.run(setup, labels, lambda part: self._report(part * share))
        arrays = self.measure(measurement, setup, labels)
        self._report(share)
        return arrays

    def _report(self, part: float) -> None:
        with self.lock:
            self.progress(part)
