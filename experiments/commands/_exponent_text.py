"""An exponent along a path as text, as a JSON document, as a LaTeX row and as a claim."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynsim._names import latex_path
from dynsim._summary import NINETY_FIVE
from dynsim.claims._claim import ASYMPTOTIC, MOST_SEEDS
from dynsim.scaling._columns import slope
from dynsim.scaling._paths import growth
from dynsim.scaling._resolution import LETTERS
from dynsim.scaling._result import DEFAULT_TOLERANCE, NEAR_LIMIT
from experiments.output import (
    estimate,
    flag,
    named,
    number,
    print_lines,
    print_table,
    print_wrapped,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dynsim import Estimate, ScalingExponent

COLUMNS = {
    "asymptotic": "derived, as {size} goes to infinity",
    "derived": "derived formula at these sizes",
    "mean_field": "mean field at these sizes",
    "measured": "networks at these sizes",
}
WIDE = (
    ("wide_derived", "No derived formula"),
    ("wide_mean_field", "No mean field"),
)


def result_document(result: ScalingExponent) -> dict[str, Any]:
    """Every number by name, null where there is none, with the reason in `why`."""
    from experiments.results import provenance

    fit, last, field = result.measured, result.last, result.mean_field
    why = dict(result.why)
    if result.drift is None:
        why["drift"] = why.get("measured", "the fit has fewer than three sizes")
    config = {**result.described_by(), "seeds": result.seeds.tolist()}
    asymptotic = result.asymptotic
    return {
        "answer": result.sentence,
        "quantity": result.quantity.name,
        "asymptotic": None if asymptotic is None else float(asymptotic.exponent),
        "asymptotic_text": None if asymptotic is None else str(asymptotic.exponent),
        "assumptions": [] if asymptotic is None else list(asymptotic.assumptions),
        "derived": result.derived,
        "mean_field": None if field is None else field.value,
        "mean_field_error": None if field is None else field.error,
        "measured": None if fit is None else _estimate(fit),
        "drift": result.drift,
        "last": None if last is None else _estimate(last),
        "verdict": result.verdict,
        "predicted": None if result.band is None else result.band.predicted,
        "tolerance": None if result.band is None else result.band.tolerance,
        "why": {name: named(reason, flag) for name, reason in why.items()},
        "notes": [named(note, flag) for note in result.notes],
        "sizes": result.curve.sizes,
        "values": result.values,
        "local": _columns(result.octaves, ("size", "value", "low", "high")),
        "diverged": result.diverged,
        "wide": {
            "sizes": result.wide.sizes,
            "derived": result.wide.derived,
            "mean_field": result.wide.mean_field,
            "mean_field_error": result.wide.mean_field_error,
        },
        "theory_local": result.local._asdict(),
        "plan": None if result.plan is None else vars(result.plan),
        "config": config,
        "provenance": provenance(config),
    }


def print_theory(
    result: ScalingExponent,
    shown: Sequence[ScalingExponent],
    derivation: bool,
    theory_only: bool = False,
) -> None:
    """What theory answers, and its columns that are new since they were printed last."""
    known = {name for one in shown for name in COLUMNS if _value(one, name)}
    if not shown:
        print_wrapped(in_one_sentence(result))
        print(flush=True)
    if not shown and derivation and result.derivation:
        print_lines(f"{result.derivation}\n")
        print()
    if result.plan is not None and all(one.plan is None for one in shown):
        print_wrapped(f"{result.plan}.")
    for name in COLUMNS:
        text = "" if theory_only else _value(result, name)  # then the table comes soon
        if text and name not in known:
            print(f"{_title(result, name)}: {text}", flush=True)


def in_one_sentence(result: ScalingExponent) -> str:
    """The power, and by what the quantity is multiplied where the size is doubled."""
    sentence = named(result.sentence, flag)
    fit, field, exact = result.measured, result.mean_field, result.asymptotic
    theory = result.derived if field is None else field.value
    theory = theory if exact is None else float(exact.exponent)
    power = theory if fit is None else fit.value
    if power is None or not math.isfinite(power):
        return f"{sentence}."
    ends = (fit.low, fit.high) if fit is not None and result.has_interval else (math.nan, math.nan)
    factor = estimate(*(2.0**one for one in (power, *ends)), write="{:.3g}".format)
    return f"{sentence}: doubling the {SIZE_NAMES[result.family.along]} multiplies it by {factor}."


SIZE_NAMES = {
    "width": "width",
    "vocab_size": "vocabulary",
    "batch_size": "batch",
    "outputs": "outputs",
    "steps": "updates",
}


def print_result(result: ScalingExponent, shown: Sequence[ScalingExponent] = ()) -> None:
    """The answer in a sentence, the columns side by side, values, local slopes, the verdict.

    What was `shown` of theory is not said again.
    """
    sentence = in_one_sentence(result)
    # Columns of theory were printed with no empty line after them.
    columns = any(_value(one, name) for one in shown for name in COLUMNS)
    if columns and in_one_sentence(shown[0]) != sentence:
        print()
    if not shown or in_one_sentence(shown[0]) != sentence:
        print_wrapped(sentence)
        print()
    rows = [
        (_title(result, name), _value(result, name) or "-", named(result.why.get(name, ""), flag))
        for name in COLUMNS
    ]
    print_table(("column", "exponent", "why none"), rows) if any(row[2] for row in rows) else (
        print_table(("column", "exponent"), [row[:2] for row in rows])
    )
    print()
    _print_values(result)
    _print_local(result)
    if result.notes or result.plan is not None or result.band is not None:
        print()
    for note in result.notes:
        print_wrapped(f"note: {named(note, flag)}.", "  ")
    if result.plan is not None and result.measured is not None and result.has_interval:
        half = (result.measured.high - result.measured.low) / 2
        print(f"The interval is ± {half:.2g}; ± {result.plan.half_width:.2g} was expected.")
    if result.band is not None:
        band = f"{result.band.predicted:.4g} ± {result.band.tolerance:.4g}"
        verdict = result.verdict or f"no verdict ({named(result.why['verdict'], flag)})"
        doubts = f" ({', and '.join(result.doubts)})" if result.doubts else ""
        print_wrapped(f"Predicted {band}: {verdict}{doubts}", "  ")


def _print_values(result: ScalingExponent) -> None:
    import numpy as np

    along, values = result.family.along, result.values
    names = ("derived", "mean_field", "measured")
    known = [name for name in names if np.isfinite(values[name]).any()]
    if not known:
        return
    head = [along, *_heads(known, values["mean_field_error"])]
    fails = bool(result.diverged.any())
    rows = []
    for place, size in enumerate(result.curve.sizes):
        row = [str(size)]
        for name in known:
            error = values["mean_field_error"][place] if name == "mean_field" else 0.0
            text = _with_error(values[name][place], error)
            if name == "measured" and result.has_interval:
                ends = (number(float(values[f"measured_{end}"][place])) for end in ("low", "high"))
                text += f" [{', '.join(ends)}]"
            row.append(text)
        rows.append([*row, *([str(result.diverged[place])] if fails else [])])
    print_table([*head, *(["diverged"] if fails else [])], rows)


def _heads(names: Sequence[str], errors: NDArray[np.float64]) -> list[str]:
    """Heads of columns; the mean field's says what stands behind its ±, where it has errors."""
    heads = {name: name.replace("_", " ") for name in names}
    if "mean_field" in heads and bool((errors > 0).any()):
        heads["mean_field"] += " (± 95 %)"
    return list(heads.values())


def _with_error(value: float, error: float) -> str:
    """A number, and the half width of its 95 % interval where it has a standard error."""
    return number(float(value)) + (f" ± {NINETY_FIVE * error:.1g}" if error > 0 else "")


def _print_local(result: ScalingExponent) -> None:
    """Local slopes of every column, and how the fit drifts."""
    import numpy as np

    local, octaves = result.local, result.octaves
    measured = {round(size): place for place, size in enumerate(octaves[0])}
    known = [n for n in ("derived", "mean_field") if np.isfinite(getattr(local, n)).any()]
    if len(local.sizes) and (known or measured):
        errors = local.mean_field_error
        head = [f"between, {result.family.along}", *_heads(known, errors)]
        sizes = [int(size) for size in (*result.curve.sizes, *result.wide.sizes[1:])]
        rows = []
        for place, middle in enumerate(local.sizes):
            row = [f"{sizes[place]} and {sizes[place + 1]}"]
            row += [
                _with_error(
                    getattr(local, name)[place], errors[place] if name == "mean_field" else 0.0
                )
                for name in known
            ]
            at = measured.get(round(middle))
            value = [] if at is None else [float(one) for one in octaves[1:, at]]
            row.append(_interval(*value) if value else "")
            rows.append(row)
        if measured:
            head.append("measured")
        else:
            rows = [row[:-1] for row in rows]
        while rows and set(rows[-1][1:]) <= {"-", ""}:  # sizes at which no column has a value
            rows.pop()
        print("\nlocal exponents")
        print_table(head, rows)
        for name, title in (("wide", "No further"), *WIDE):
            if name in result.why:
                print_wrapped(f"{title}: {named(result.why[name], flag)}.", "  ")
    if result.drift is not None:
        print()
        change = f"by {result.drift:+.3f}" if abs(result.drift) >= 0.0005 else "by less than 0.001"
        print(f"Without the smallest size the measured exponent changes {change}.")


def write_row(result: ScalingExponent, folder: Path) -> Path:
    """A row of a LaTeX table (booktabs or plain), with a comment that names its columns."""
    from experiments.results import write_file

    fit, field = result.measured, result.mean_field
    asymptotic = None if result.asymptotic is None else f"{result.asymptotic.exponent}"
    cells = [
        rf"\texttt{{{result.quantity.name}}}".replace("_", r"\_"),
        ", ".join(f"${latex_path(part)}$" for part in result.path_parts) or "--",
        "--" if asymptotic is None else f"${asymptotic}$",
        "--" if result.derived is None else f"${result.derived:.3f}$",
        "--" if field is None else f"${field.value:.3f}$",
        "--" if fit is None else f"${_interval(fit.value, fit.low, fit.high)}$",
        *([result.verdict or "--"] if result.band is not None else []),
    ]
    head = "quantity & path & asymptotic & derived & mean field & networks (95 %)"
    head += r" & verdict \\" if result.band is not None else r" \\"
    path = folder / "exponent.tex"
    write_file(path, f"% {head}\n{' & '.join(cells)} \\\\\n".encode())
    return path


@dataclass(frozen=True)
class ProposedClaim:
    """What a claim file predicts, with how many networks at each size, and why so."""

    prediction: float | str
    seeds: int
    notes: tuple[str, ...] = ()


def proposed_claim(result: ScalingExponent) -> ProposedClaim | None:
    """The claim that asks the question of a result again; None where nothing can be predicted.

    Without `predict` it is one that networks of these sizes can decide: of the asymptotic power
    where theory has it at these sizes, else of theory's slope there, with as many networks as bring
    the interval of such a measurement into the band.
    """
    seeds, notes = len(result.seeds), []
    if result.band is not None:
        return ProposedClaim(round(result.band.predicted, 12), seeds)
    limit, here = result.asymptotic, slope(result.curve.sizes, _theory(result))
    if limit is not None and (here is None or _in_the_limit(result)):
        prediction, predicted = ASYMPTOTIC, float(limit.exponent)
    elif here is not None:
        prediction = predicted = round(here, 3)
        if limit is not None:
            notes.append(
                f"the claim predicts {prediction}, the slope of theory at these sizes: networks of "
                f"these sizes cannot show the limit, {limit.exponent}, within ± {DEFAULT_TOLERANCE}"
            )
    else:
        return None
    enough = _seeds_enough(result, predicted, here)
    if enough is not None:
        notes.append(
            f"the claim takes {enough} networks at each size: the interval of {seeds} does not fit "
            f"into ± {DEFAULT_TOLERANCE}"
        )
    return ProposedClaim(prediction, enough or seeds, tuple(notes))


def _seeds_enough(result: ScalingExponent, predicted: float, here: float | None) -> int | None:
    """Networks at each size whose interval should fit into the band; None where it does already, or
    where more do not help.

    Half widths fall like one over the square root of the networks. The value of other networks is
    expected near theory at these sizes, `here`, and half of the band is left to its chance.
    """
    enough, fit = result.seeds_enough(predicted, DEFAULT_TOLERANCE), result.measured
    if enough is None or fit is None:
        return None
    room = DEFAULT_TOLERANCE - (0.0 if here is None else abs(here - predicted))
    planned = len(result.seeds) * ((fit.high - fit.low) / room) ** 2
    return min(max(enough, math.ceil(planned)), MOST_SEEDS)


def write_claim(result: ScalingExponent, folder: Path) -> list[Path]:
    """The claim file of `proposed_claim`; none where there is none."""
    from experiments.results import write_file

    proposed = proposed_claim(result)
    if proposed is None:
        return []
    along, sizes = LETTERS.get(result.family.along, "T"), result.family.sizes
    grows = f"grows like {along}^{proposed.prediction}"
    if proposed.prediction == ASYMPTOTIC and result.asymptotic is not None:
        grows = growth(along, result.asymptotic.exponent)
    path = f" along {result.path}" if result.path else ""
    here = result.band is None and proposed.prediction != ASYMPTOTIC
    at = f" between {along} = {sizes[0]} and {sizes[-1]}" if here else ""
    expected = result.verdict if result.band is not None else None
    content = {
        "name": f"my-{result.quantity.name.replace('_', '-')}",
        "statement": f"{result.quantity.name} {grows}{path}{at}{_for(result)}.",
        "quantity": result.quantity.name,
        **_claim_options(result),
        "seeds": proposed.seeds,
        "prediction": proposed.prediction,
        **({} if result.against == "derived" else {"against": result.against}),
        "tolerance": DEFAULT_TOLERANCE if result.band is None else result.band.tolerance,
        "expected": expected or "holds",
        "source": "dynsim exponent",
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    lines.append(f"registered = {datetime.date.today().isoformat()}")
    path = folder / "claim.toml"
    about = [AFTER] if result.measured is not None else []
    write_file(path, "\n".join([*about, "[[claim]]", *lines, ""]).encode())
    return [path]


AFTER = "# Written when its networks had been measured. Another `seed` makes it a test of its own."


def _for(result: ScalingExponent) -> str:
    """Token law and optimizer of a claim, in its words."""
    options = result.family.described()
    known = [str(options[name]) for name in ("tokens", "optimizer") if name in options]
    return f" ({', '.join(known)})" if known else ""


def _in_the_limit(result: ScalingExponent) -> bool:
    """Whether theory at these sizes has the asymptotic power, by the rule of the verdict: over all
    sizes, without the smallest and between the two largest.

    Most of the tolerance is left to the interval of the networks.
    """
    assert result.asymptotic is not None
    limit, sizes = float(result.asymptotic.exponent), result.curve.sizes
    values = _theory(result)
    firsts = {0, min(1, len(sizes) - 2), len(sizes) - 2}
    slopes = [slope(sizes[first:], values[first:]) for first in firsts]
    return all(one is not None and abs(one - limit) <= NEAR_LIMIT for one in slopes)


def _theory(result: ScalingExponent) -> NDArray[np.float64]:
    """The values at these sizes that the claim is held against."""
    return getattr(result.curve, result.against)


def _claim_options(result: ScalingExponent) -> dict[str, Any]:
    """Sizes and options as a claim file has them: constants as numbers, paths as texts."""
    found = result.family.described()
    for name, path in result.family.paths.items():
        value = path(**dict.fromkeys("dmnB", 1.0))
        if not path.variables:
            found[name] = int(value) if value == int(value) else value
    return found


def _title(result: ScalingExponent, name: str) -> str:
    return COLUMNS[name].format(size=result.family.along)


def _value(result: ScalingExponent, name: str) -> str:
    """An exponent of a column as text; empty where there is none."""
    if name == "asymptotic":
        return "" if result.asymptotic is None else str(result.asymptotic.exponent)
    if name == "derived":
        return "" if result.derived is None else f"{result.derived:.4f}"
    if name == "mean_field":
        field = result.mean_field
        if field is None:
            return ""
        half = f" ± {NINETY_FIVE * field.error:.1g} (95 %)" if field.error > 0 else ""
        return f"{field.value:.4f}{half}"
    fit = result.measured
    return "" if fit is None else _interval(fit.value, fit.low, fit.high)


def _interval(value: float, low: float, high: float) -> str:
    ends = (low, high) if low < high else (math.nan, math.nan)
    return estimate(value, *ends, write="{:.3f}".format)


def _estimate(one: Estimate) -> dict[str, float]:
    """A value and its interval, which is null where it has no width."""
    ends = (one.low, one.high) if one.low < one.high else (math.nan, math.nan)
    return {"value": one.value, "low": ends[0], "high": ends[1]}


def _columns(table: Any, names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, table, strict=True))
