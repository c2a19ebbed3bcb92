"""A claim as data: a quantity along a path, what it should do, and how much it may miss."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from dynsim._errors import InputError, check_choice, check_integer
from dynsim._summary import summary
from dynsim.scaling._family import DEFAULT_SEEDS, LETTERS, Along, Family, family, plural
from dynsim.scaling._paths import VARIABLES

from ._formula import Formula, formula
from ._keys import check_keys
from ._verdict import Verdict

Form = Literal["exponent", "ratio"]
THEORIES = ("derived", "mean_field")
ASYMPTOTIC = "asymptotic"
MOST_SEEDS = 1000
LARGEST_PREDICTION = 1e6
SYMBOLS = {**LETTERS, "steps": "T"}
LISTS: Mapping[str, Along] = {plural(along): along for along in get_args(Along)}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, kw_only=True, repr=False)
class Claim:
    """A statement about a quantity along a path, which a measurement can refute.

    `dynsim.claim` makes one from plain values; the keys of a claim file are the same.

    - `name`: unique within a file; `statement`: whole sentences that can be understood alone.
    - `quantity`: one of `dynsim exponent --help`.
    - `along`, `sizes`: the size that grows and its values; `options`: the other sizes and rates,
      numbers or paths, and any option of a setup. In the form `ratio` a path may be a list of
      paths: all are measured.
    - `form`: exponent (the power of the growing size) or ratio (measured over theory, geometric
      mean over all sizes).
    - `against`: the theory beside an exponent and below a ratio: derived, mean_field, or a formula
      in the sizes d, m, n and B.
    - `prediction`: a number, a formula in mu, nu, beta and alpha, or asymptotic: the exponent that
      dynsim derives.
    - `tolerance`: half width of the band around the prediction.
    - `expected`: the verdict that is expected.
    - `source`: where the prediction comes from; `registered`: the day when it was written down.
    - `seeds`: networks for each size, at most 1000. The seed of the first is the option `seed`;
      claims whose `seed` differs by 1000 or more share no network.
    - `rival`: another value, which the band must not contain.
    - `changed`: what was changed after a measurement.
    - `full`: options and seeds of the larger version.
    """

    name: str
    statement: str
    quantity: str
    along: Along
    sizes: tuple[int, ...]
    options: Mapping[str, Any]
    prediction: float | str
    tolerance: float
    form: Form = "exponent"
    against: str = "derived"
    expected: Verdict = "holds"
    source: str = ""
    registered: datetime.date | None = None
    seeds: int = DEFAULT_SEEDS
    rival: float | str | None = None
    changed: str = ""
    full: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `InputError` for the first value that is not allowed."""
        if not NAME.fullmatch(self.name):
            allowed = "must be up to 80 letters, digits, hyphens, dots and underscores"
            raise InputError("name", self.name, allowed)
        if not self.statement:
            raise InputError("statement", self.statement, "must be a sentence")
        check_choice("form", self.form, get_args(Form))
        check_choice("expected", self.expected, get_args(Verdict))
        check_integer("seeds", self.seeds, 2, MOST_SEEDS)
        if not 0 < self.tolerance <= LARGEST_PREDICTION:
            raise InputError("tolerance", self.tolerance, "must be a positive finite number")
        if self.prediction == ASYMPTOTIC and self.form == "ratio":
            raise InputError("prediction", ASYMPTOTIC, "must be a number or a formula for a ratio")
        _ = self.families, self.formula
        for name in ("prediction", "rival"):
            if getattr(self, name) not in (None, ASYMPTOTIC):
                self._number(name)
        if self.rival is not None and self.prediction != ASYMPTOTIC:
            self.check_rival(self._number("prediction"))
        if self.full:
            _ = self.at_full()

    def __repr__(self) -> str:
        return summary(
            f"Claim {self.name}",
            statement=self.statement,
            quantity=self.quantity,
            **{plural(self.along): self.sizes},
            **self.options,
            form=self.form,
            prediction=f"{self.prediction} ± {self.tolerance:g}",
            rival=self.rival,
            expected=self.expected,
            seeds=self.seeds,
            source=self.source or None,
            registered=self.registered,
            digest=self.digest,
        )

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The paths of the claim; one, unless a ratio has lists of paths."""
        axes = {name: value for name, value in self.options.items() if isinstance(value, list)}
        if axes and self.form != "ratio":
            name, value = next(iter(axes.items()))
            raise InputError(name, value, "must be one path for an exponent")
        found = []
        for chosen in itertools.product(*axes.values()):
            options = {**self.options, **dict(zip(axes, chosen, strict=True))}
            found.append(family(self.along, self.sizes, **options))
        return tuple(found)

    @cached_property
    def formula(self) -> Formula | None:
        """The formula that stands in `against`; None for a theory of dynsim."""
        if self.against in THEORIES:
            return None
        text = formula(self.against, "against", VARIABLES)
        for path in self.families:
            for size in self.sizes:
                text(path.values(size))
        return text

    @property
    def measured_number(self) -> str:
        """What the measured number is."""
        if self.form == "ratio":
            below = f"({self.against})" if self.formula else self.against.replace("_", "-")
            return f"measured {self.quantity} / {below}"
        return f"exponent of {self.quantity} in {SYMBOLS[self.along]}"

    @property
    def predicted_number(self) -> str:
        """What is predicted, as text."""
        number = self.prediction if isinstance(self.prediction, str) else f"{self.prediction:g}"
        return f"{number}: {self.against}" if self.formula else number

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the claim says."""
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """The claim as plain values, as in a claim file; what is at its default is left out."""
        found: dict[str, Any] = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            required = one.default is one.default_factory is dataclasses.MISSING
            match one.name:
                case "along":
                    pass
                case "sizes":
                    found[plural(self.along)] = list(value)
                case "options":
                    found |= value
                case "full":
                    found |= {"full": dict(value)} if value else {}
                case name if required or value != one.default:
                    found[name] = value.isoformat() if name == "registered" else value
        return found

    def at_full(self) -> Claim:
        """The claim in its larger version. Raises `InputError`, for a key of `full` as full.KEY."""
        try:
            return self._larger()
        except InputError as error:
            raise in_full(error, self.full) from None

    def _larger(self) -> Claim:
        given = {plural(self.along): list(self.sizes), "seeds": self.seeds, **self.options}
        given |= self.full
        if plural(self.along) not in given or set(LISTS) & set(self.full) - {plural(self.along)}:
            raise InputError("full", ", ".join(self.full), "must keep the size that grows")
        seeds, sizes = given.pop("seeds"), given.pop(plural(self.along))
        return dataclasses.replace(self, sizes=tuple(sizes), options=given, seeds=seeds, full={})

    def orders(self) -> dict[str, float]:
        """mu, nu, beta and alpha along the path, where each exists."""
        path = self.families[0]
        found = {
            "mu": float(path.order("vocab_size")),
            "nu": float(path.order("outputs")),
        }
        if path.along == "batch_size" or "batch_size" in path.paths:
            found["beta"] = float(path.order("batch_size"))
        law = str(path.options.get("tokens") or "uniform")
        if law == "uniform":
            found["alpha"] = 0.0
        elif law.startswith("zipf:"):
            found["alpha"] = float(law.removeprefix("zipf:"))
        return found

    def rival_value(self) -> float | None:
        """The rival as a number."""
        return None if self.rival is None else self._number("rival")

    def check_rival(self, predicted: float) -> None:
        """Raises `InputError` if the band around the prediction contains the rival."""
        value = self.rival_value()
        if value is None:
            return
        if abs(value - predicted) <= self.tolerance:
            band = f"[{predicted - self.tolerance:g}, {predicted + self.tolerance:g}]"
            allowed = f"must lie outside the band {band} of the prediction"
            raise InputError("rival", self.rival, allowed)

    def _number(self, name: str) -> float:
        """A prediction or rival as a number. Raises `InputError`."""
        text: Formula = formula(getattr(self, name), name)
        orders = self.orders()
        missing = {"beta": "`batch_size`", "alpha": "`tokens` uniform or zipf:ALPHA"}
        for variable in sorted(text.variables - set(orders)):
            raise InputError(name, text.text, f"needs {missing[variable]} for its {variable}")
        value = text(orders)
        if abs(value) > LARGEST_PREDICTION:
            allowed = f"must be at most {LARGEST_PREDICTION:g} in size"
            raise InputError(name, f"{text} = {value:g}", allowed)
        return value

    def stated(self) -> float:
        """The prediction as a number, where it is not asymptotic."""
        return self._number("prediction")


def in_full(error: InputError, full: Mapping[str, Any]) -> InputError:
    """An error of the larger version, which names the key of `full` where it stands there."""
    if error.field not in full:
        return error
    return InputError(f"full.{error.field}", error.value, error.allowed)


def claim(
    name: str,
    statement: str,
    quantity: str,
    *,
    tolerance: float,
    prediction: float | str | None = None,
    form: Form = "exponent",
    against: str = "derived",
    expected: Verdict = "holds",
    source: str = "",
    registered: datetime.date | None = None,
    seeds: int = DEFAULT_SEEDS,
    rival: float | str | None = None,
    changed: str = "",
    full: Mapping[str, Any] | None = None,
    **options: Any,
) -> Claim:
    """A claim from plain values; the keys of a claim file are the same (docs/guides/claims.md).

    The size that grows is the one that is given as a list: `widths`, `vocab_sizes`, `batch_sizes`,
    `output_counts` or `step_counts`. Every other size and rate is a number or a path, and all
    options of a setup can be given. `prediction` is 1 for a ratio if left out.

    Raises `InputError` for the first thing that is not allowed.

    **Example:**

    >>> from dynsim import claim
    >>> grows = claim(
    ...     "projection-mup",
    ...     "At a vocabulary of 32 the projection's update grows as the width.",
    ...     "projection_step_rms",
    ...     widths=[128, 256, 512],
    ...     vocab_size=32,
    ...     prediction=1,
    ...     tolerance=0.1,
    ...     optimizer="sign",
    ... )
    >>> grows.sizes, grows.predicted_number
    ((128, 256, 512), '1')
    """
    check_keys(options)
    if prediction is None:
        if form == "exponent":
            raise InputError("prediction", None, "must be a number, a formula or asymptotic")
        prediction = 1.0
    along, sizes, rest = grown(options)
    return Claim(
        name=name,
        statement=" ".join(statement.split()),
        quantity=quantity,
        along=along,
        sizes=tuple(sizes),
        options=rest,
        prediction=prediction,
        tolerance=tolerance,
        form=form,
        against=against,
        expected=expected,
        source=source,
        registered=registered,
        seeds=seeds,
        rival=rival,
        changed=" ".join(changed.split()),
        full=full or {},
    )


def grown(options: Mapping[str, Any]) -> tuple[Along, Sequence[int], dict[str, Any]]:
    """The size that grows, its values, and the other options. Raises `InputError`."""
    lists = [name for name in LISTS if options.get(name) is not None]
    if len(lists) != 1:
        known = ", ".join(LISTS)
        given = ", ".join(lists) or None
        raise InputError("widths", given, f"exactly one size must grow, as one of {known}")
    rest = {name: value for name, value in options.items() if name not in LISTS}
    sizes = options[lists[0]]
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise InputError(lists[0], sizes, "must be a list of sizes")
    return LISTS[lists[0]], sizes, rest
