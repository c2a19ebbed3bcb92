"""Setups along a path: one size grows, the others and the learning rates follow it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np

from dynsim._errors import InputError, check_choice, check_integer
from dynsim._network_setup import NetworkSetup
from dynsim._setup import Setup

from ._paths import ScalingPath, scaling_path
from ._resolution import COUNTS, LETTERS, PathValue, Resolution, outputs_are_tokens

AnySetup = Setup | NetworkSetup
Along = Literal["width", "vocab_size", "batch_size", "outputs", "steps"]
RATES = ("embedding_lr", "projection_lr", "hidden_lr", "weight_decay", "epsilon")
PATH_FIELDS = (*COUNTS, *RATES)
GROWING_FIELDS: tuple[str, ...] = get_args(Along)
DEFAULT_UPDATES = 1
DEFAULT_SEEDS = 8  # networks at each size
LARGEST_SIZE = 2**53  # what a float holds exactly
ROUNDED = 1e-9  # relative distance from an integer that counts as none


@dataclass(frozen=True, eq=False)
class Family:
    """Setups whose sizes and learning rates grow together.

    - `along`: the size that grows; `sizes`: its values, increasing.
    - `paths`: the other sizes and the rates as functions of d, m, n and B.
    - `options`: all other fields of `Setup` (or, with `network` mlp or transformer, of
      `NetworkSetup`).
    """

    along: Along
    sizes: tuple[int, ...]
    paths: Mapping[str, ScalingPath]
    options: Mapping[str, Any]

    def at(self, sizes: Iterable[int]) -> Family:
        """The same family at other values of the growing size."""
        return replace(self, sizes=checked_sizes(self.along, sizes))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The other sizes along the path in symbols, one by one: `m = d^0.7`, `B = 4096`."""
        given = {letter: self.paths[name] for name, letter in LETTERS.items() if name in self.paths}
        return tuple(f"{letter} = {path}" for letter, path in given.items())

    @property
    def changed(self) -> dict[str, str]:
        """The options that are not at the default of a setup; tokens and optimizer if given."""
        defaults = {one.name: str(one.default) for one in dataclasses.fields(Setup)}
        defaults |= {"steps": str(DEFAULT_UPDATES), "tokens": "", "optimizer": ""}
        given = {name: str(path) for name, path in self.paths.items()}
        given |= {name: str(one) for name, one in self.options.items() if one is not None}
        return {name: text for name, text in given.items() if text != defaults.get(name)}

    def values(self, size: int) -> dict[str, float]:
        """d, m, n and B where the growing size has this value; integers as in the setup."""
        return self._at(size).sizes()

    def setup(self, size: int) -> AnySetup:
        """The setup of one size. It makes T = `steps` updates: `Setup.steps` is T + 1, so that the
        state after the last one is part of a run.

        Raises `InputError` for a path that leaves the allowed range there.
        """
        try:
            return self._at(size).setup()
        except InputError as error:
            raise self._placed(error, size) from None

    def setups(self) -> list[AnySetup]:
        """The setups of all sizes."""
        return [self.setup(size) for size in self.sizes]

    def linear_setups(self) -> list[Setup]:
        """The setups, which are of the linear model. Raises `InputError` for another network."""
        if self.network != "linear":
            raise InputError("network", self.network, "must be linear for this quantity")
        return [setup for setup in self.setups() if isinstance(setup, Setup)]

    @property
    def network(self) -> str:
        """linear, mlp or transformer."""
        return self.options.get("network", "linear")

    def updates(self, size: int) -> int:
        """T, the number of updates after which quantities are read."""
        return self.setup(size).steps - 1

    def order(self, field: str) -> Fraction:
        """The power of the growing size in a size or a rate, as the growing size goes to infinity.

        A size that is not a path (all outputs, say) has the order of what it follows.
        """
        if field == self.along:
            return Fraction(1)
        path = self.paths.get(field)
        if path is None:
            follows = field == "outputs" and outputs_are_tokens(self.options)
            return self.order("vocab_size") if follows else Fraction(0)
        needed = {letter: name for name, letter in LETTERS.items() if letter in path.variables}
        return path.order(**{letter: self.order(name) for letter, name in needed.items()})

    @property
    def rounded(self) -> tuple[str, ...]:
        """One sentence for each size that is not an integer somewhere and was rounded."""
        notes = []
        for field in (name for name in COUNTS if name in self.paths):
            path = self.paths[field]
            exact = [(size, self._at(size).exact(field)) for size in self.sizes]
            off = [
                (size, value)
                for size, value in exact
                if abs(value - round(value)) > ROUNDED * max(1.0, value)
            ]
            if off:
                size, value = off[0]
                others = f", and no integer at {len(off) - 1} more" if len(off) > 1 else ""
                notes.append(
                    f"`{field}` {path} is {value:.6g} at `{self.along}` {size}{others}: rounded to "
                    "the nearest integer"
                )
        return tuple(notes)

    def described(self) -> dict[str, Any]:
        """The options that make this family again, as plain values."""
        plain = {name: str(path) for name, path in self.paths.items()}
        return {plural(self.along): list(self.sizes), **plain, **self.options}

    def _at(self, size: int) -> Resolution:
        return Resolution({self.along: size}, self.paths, self.options)

    def _placed(self, error: InputError, size: int) -> InputError:
        """The error with the path and the size at which it arises.

        One that is the same at all sizes, such as that of a misspelt optimizer, stays as it is.
        """
        path = self.paths.get(error.field)
        if path is not None and path.variables and isinstance(error.value, int | float):
            value = PathValue(path, self._at(size).exact(error.field))
            return InputError(error.field, value, f"{error.allowed} (at `{self.along}` {size})")
        if all(self._fails_alike(error, other) for other in self.sizes):
            return error
        return InputError(error.field, error.value, f"{error.allowed} (at `{self.along}` {size})")

    def _fails_alike(self, error: InputError, size: int) -> bool:
        try:
            self._at(size).setup()
        except InputError as other:
            return str(other) == str(error)
        return False


def family(along: Along = "width", sizes: Sequence[int] = (), **options: Any) -> Family:
    """Setups along a path.

    `sizes` are the values of the growing size `along`. Every other size and rate in `options` is a
    number or a path (docs/guides/exponents.md#paths) in d, m, n and B; the rest are fields of
    `Setup`, or of `NetworkSetup` with `network` mlp or transformer. `steps` is the number of
    updates T after which quantities are read, 1 if left out. What is left out has the default of
    the setup.

    Raises `InputError` for sizes that do not increase, a path that does not parse or leaves the
    allowed range at one of the sizes, and for an unknown option.

    **Example:**

    >>> from dynsim.scaling import family
    >>> found = family("width", [64, 256], vocab_size="8*d^0.5")
    >>> [(setup.width, setup.vocab_size) for setup in found.setups()]
    [(64, 64), (256, 128)]
    """
    check_choice("along", along, get_args(Along))
    if along in options:
        growing = plural(along)
        raise InputError(along, options[along], f"must be left out: `{growing}` gives its values")
    paths, others = paths_and_options(options, (along,))
    result = Family(along, checked_sizes(along, sizes), paths, others)
    result.setups()
    return result


def paths_and_options(
    options: Mapping[str, Any], varied: Collection[str]
) -> tuple[dict[str, ScalingPath], dict[str, Any]]:
    """The paths of all sizes and rates but those that vary, and all other options of a setup.

    `steps` is 1 if left out. Raises `InputError` for a path that does not parse and an unknown
    option.
    """
    options = {name: value for name, value in options.items() if value is not None}
    given = {"steps": DEFAULT_UPDATES, **options}
    network = given.pop("network", "linear")
    kind = Setup if network == "linear" else NetworkSetup
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in given:
        if name not in known:
            near = get_close_matches(name, [*known, *GROWING], n=3, cutoff=0.6)
            hint = f"; the nearest are {', '.join(near)}" if near else ""
            raise InputError(name, given[name], f"is no option of `network` {network}{hint}")
    for name in ("width", "vocab_size"):
        given.setdefault(name, known[name].default)
    paths = {
        name: scaling_path(value, name)
        for name, value in given.items()
        if name in PATH_FIELDS and name not in varied
    }
    others = {name: value for name, value in given.items() if name not in PATH_FIELDS}
    return paths, others if network == "linear" else {**others, "network": network}


def growing_size(
    lists: dict[Along, Sequence[int] | None],
) -> tuple[Along, Sequence[int] | None]:
    """The one size that grows, the width by default, and its values if they are given.

    Raises `InputError` for more than one.
    """
    given: list[Along] = [name for name, sizes in lists.items() if sizes is not None]
    if not given:
        return "width", None
    if len(given) > 1:
        first, second = (plural(name) for name in given[:2])
        sizes = " ".join(map(str, lists[given[1]] or ()))
        raise InputError(second, sizes, f"must be left out beside `{first}`: one size grows")
    return given[0], lists[given[0]]


def plural(along: str) -> str:
    """The option that takes the values of the growing size: widths, vocab_sizes, ..."""
    return {"outputs": "output_counts", "steps": "step_counts"}.get(along, f"{along}s")


GROWING = tuple(map(plural, GROWING_FIELDS))


def checked_sizes(along: str, sizes: Iterable[int]) -> tuple[int, ...]:
    """Two sizes or more, increasing. Raises `InputError`."""
    field = plural(along)
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise InputError(field, sizes, "must be two sizes or more, for a slope")
    checked = [int(size) if isinstance(size, np.integer) else size for size in sizes]
    for size in checked:
        check_integer(field, size, 1, LARGEST_SIZE)
    given = " ".join(map(str, checked))
    if len(checked) < 2:
        raise InputError(field, given or "[]", "must be two sizes or more, for a slope")
    if any(after <= before for before, after in itertools.pairwise(checked)):
        raise InputError(field, given, "must increase")
    return tuple(checked)
