"""The plane of a map: what every point of it is, as arrays of sizes and as a setup to train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

import derivations
from derivations import symbols as s
from dynsim._errors import InputError, check_choice
from dynsim._setup import CORPUS_TARGETS, LINEAR_OPTIMIZERS, MAX_SIZE, Setup
from dynsim.scaling._family import paths_and_options
from dynsim.scaling._paths import ScalingPath
from dynsim.scaling._resolution import LETTERS, Resolution
from dynsim.tokens._laws import check_law_name

from ._axes import Axis, Floats
from ._laws import Laws, PowerLaws, laws

AveragedOver = Literal["law", "batch"]
BEYOND_SETUP = ("zipf", "age")  # axes that are no fields of a setup
DEFAULT_AGE_UPDATES = 16
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Setup)}


class Missing:
    """Cells that cannot be computed, and why: 0 where there is a value, k for the k-th reason."""

    def __init__(self, shape: tuple[int, ...]):
        self.codes = np.zeros(shape, dtype=np.int8)
        self.texts: list[str] = []

    def mark(self, cells: NDArray[np.bool_] | bool, reason: str) -> None:
        """Cells for which there is no reason yet get this one."""
        new = np.broadcast_to(cells, self.codes.shape) & (self.codes == 0)
        if not new.any():
            return
        if reason not in self.texts:
            self.texts.append(reason)
        self.codes[new] = 1 + self.texts.index(reason)

    @property
    def counts(self) -> dict[str, int]:
        """How many cells each reason leaves out."""
        return {
            text: int(np.count_nonzero(self.codes == code))
            for code, text in enumerate(self.texts, start=1)
        }


@dataclass(frozen=True, eq=False)
class Points:
    """Sizes, rates and token laws of many points: arrays that broadcast to `shape`.

    - `updates`: T; `age`: displacement of the embedding before the last update.
    - `embedding_lr` is what `age` comes from.
    """

    shape: tuple[int, ...]
    width: Floats
    vocab_size: Floats
    outputs: Floats
    batch_size: Floats
    updates: Floats
    embedding_lr: Floats
    projection_lr: Floats
    age: Floats
    law: Laws

    @property
    def mini_batch(self) -> bool:
        return bool(np.any(self.batch_size > 0))

    @property
    def aged(self) -> bool:
        return bool(np.any(self.age > 0))

    @cached_property
    def numbers(self) -> dict[Any, Floats]:
        """d, P_2, P_3 and, in a mini-batch, B, by symbol."""
        values: dict[Any, Floats] = {
            s.width: self.width,
            s.frequency_square_sum: self.law.power_sum(2, self.vocab_size),
            s.frequency_cube_sum: self.law.power_sum(3, self.vocab_size),
        }
        if self.mini_batch:
            values[s.batch_size] = self.batch_size
        return values


@dataclass(frozen=True, eq=False)
class Plane:
    """Two axes, and everything that they leave fixed or that follows them by a path.

    - `paths`: sizes and rates by field, those of the axes left out; `options`: other fields.
    - `law`: the token laws of the map, or None where the Zipf exponent is an axis.
    - `given`: the options that were given rather than left at their defaults.
    - `averaged_over`: squares are averaged over tokens by their frequency in the law, or by their
      share of a batch.
    """

    x: Axis
    y: Axis
    paths: Mapping[str, ScalingPath]
    options: Mapping[str, Any]
    law: Laws | None
    given: frozenset[str]
    averaged_over: AveragedOver = "law"

    @property
    def axes(self) -> dict[str, Axis]:
        return {self.x.name: self.x, self.y.name: self.y}

    @property
    def optimizer(self) -> str:
        return str(self.options["optimizer"])

    @property
    def init(self) -> derivations.Init:
        return cast(derivations.Init, self.options.get("init", DEFAULTS["init"]))

    @property
    def ages(self) -> bool:
        """Whether updates of an embedding that has moved are asked for."""
        return "age" in self.axes or "steps" in self.axes or self._fixed_updates() > 1

    def affects(self, name: str, fields: frozenset[str]) -> bool:
        """Whether an axis changes one of `fields`, itself or through a path."""
        if name in fields:
            return True
        letter = LETTERS.get(name)
        reached, todo = set[str](), set(fields)
        while todo:
            field = todo.pop()
            reached.add(field)
            if field in self.axes or field not in self.paths:
                continue
            needs = self.paths[field].variables
            if letter in needs:
                return True
            todo |= {one for one, other in LETTERS.items() if other in needs} - reached
        return False

    def at(self, x: Floats, y: Floats, *, whole: bool = True) -> Points:
        """The points with these coordinates. `whole`: sizes of paths are rounded to integers."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        coordinates = {self.x.name: x, self.y.name: y}
        known = {name: one for name, one in coordinates.items() if name not in BEYOND_SETUP}
        resolution = Resolution(known, self.paths, self.options, whole)
        sizes = resolution.sizes()

        def rate(field: str) -> Floats:
            found = field in known or field in self.paths
            return np.asarray(resolution.exact(field) if found else DEFAULTS[field], np.float64)

        updates = np.asarray(resolution.exact("steps"), np.float64)
        embedding_lr = rate("embedding_lr")
        if "age" in coordinates:
            age = coordinates["age"]
            if "embedding_lr" not in self.given:
                embedding_lr = age / max(self._fixed_updates() - 1, 1)
        else:
            age = embedding_lr * np.maximum(updates - 1, 0)
        if self.law is None:
            law: Laws = PowerLaws(coordinates["zipf"])
        else:
            law = self.law
        width, vocab_size, outputs, batch_size = (
            np.asarray(sizes[letter], dtype=np.float64) for letter in LETTERS.values()
        )
        return Points(
            x.shape,
            width,
            vocab_size,
            outputs,
            batch_size,
            updates,
            embedding_lr,
            rate("projection_lr"),
            age,
            law,
        )

    def grid(self, *, whole: bool = True) -> Points:
        """The points of all cells, shape (y, x)."""
        return self.at(self.x.values[None, :], self.y.values[:, None], whole=whole)

    def mark_outside(self, points: Points, missing: Missing) -> None:
        """Cells whose sizes leave the range in which a setup exists."""
        for field, most in (("width", MAX_SIZE), ("outputs", MAX_SIZE), ("batch_size", MAX_SIZE)):
            value = getattr(points, field)
            low = 1 if field != "batch_size" or self._has_batch else 0
            missing.mark((value < low) | (value > most), f"`{field}` is not from {low} to {most}")
        m = points.vocab_size
        missing.mark(m < 1, "`vocab_size` is below 1")
        law = self.law or PowerLaws(np.zeros(()))
        missing.mark(m > law.largest, f"the token law has {law.largest} types and no more")

    def setup(self, x: float, y: float) -> Setup:
        """The setup to train at a point. It makes T updates, as `Family.setup` says.

        Raises `InputError` for a point at which there is none.
        """
        coordinates = {self.x.name: float(x), self.y.name: float(y)}
        known: dict[str, float] = {
            name: one for name, one in coordinates.items() if name not in BEYOND_SETUP
        }
        options = dict(self.options)
        if "age" in coordinates:
            moves = max(self._fixed_updates() - 1, 1)
            if "embedding_lr" in self.given:
                rate = float(Resolution(known, self.paths, options).exact("embedding_lr"))
                moves = max(round(coordinates["age"] / rate), 0) if rate else 0
            else:
                known["embedding_lr"] = coordinates["age"] / moves
            known["steps"] = moves + 1
        if self.law is None:
            options["tokens"] = PowerLaws(np.asarray(coordinates["zipf"])).name_at(1)
        else:
            vocab_size = int(Resolution(known, self.paths, options).sizes()["m"])
            if vocab_size > self.law.largest:
                allowed = f"must be at most {self.law.largest}, the types of the token law"
                raise InputError("vocab_size", vocab_size, allowed)
            if options.get("targets") not in CORPUS_TARGETS:
                options["tokens"] = self.law.name_at(vocab_size)
        setup = Resolution(known, self.paths, options).setup()
        assert isinstance(setup, Setup)
        return setup

    def example(self, missing: Missing) -> Setup:
        """A setup at one of a few points that are not missing: all options but sizes and rates.

        Raises `InputError` where the options do not make a setup at any of them.
        """
        places = np.argwhere(missing.codes == 0)
        if not len(places):
            raise InputError("x", self.x.name, f"leaves no cell: {'; '.join(missing.texts)}")
        problem = None
        for row, column in places[np.unique(np.linspace(0, len(places) - 1, 5).astype(int))]:
            try:
                return self.setup(float(self.x.values[column]), float(self.y.values[row]))
            except InputError as error:
                problem = error
        assert problem is not None
        raise problem

    @property
    def _has_batch(self) -> bool:
        return "batch_size" in self.axes or bool(
            "batch_size" in self.paths and self.paths["batch_size"].variables
        )

    def _fixed_updates(self) -> int:
        path = self.paths.get("steps")
        return 1 if path is None or path.variables else max(round(path()), 1)


def plane(
    x: Axis, y: Axis, options: Mapping[str, Any], averaged_over: AveragedOver = "law"
) -> Plane:
    """The plane of two axes, all other sizes, rates and fields being `options` of a setup.

    `targets` are signs for one output if nothing is said, because the closed formulas are of
    residuals of equal size. Raises `InputError` for axes and options that do not go together.
    """
    check_choice("averaged_over", averaged_over, get_args(AveragedOver))
    if x.name == y.name:
        raise InputError("y", y.name, "must be another axis than `x`")
    fields = dict(options)
    if fields.pop("network", "linear") != "linear":
        raise InputError("network", options["network"], "must be linear, which maps are of")
    for name in (x.name, y.name):
        if fields.get(name) is not None:
            raise InputError(name, fields[name], "must be left out: it is an axis")
        fields.pop(name, None)
    names = {x.name, y.name}
    if "age" in names and "steps" in names:
        raise InputError("y", y.name, "must not be `steps` beside age, which counts them too")
    if "age" in names:
        if "embedding_lr" in names:
            raise InputError("y", y.name, "must not be `embedding_lr` beside age")
        fields.setdefault("steps", DEFAULT_AGE_UPDATES + 1)
    tokens = fields.get("tokens")
    if tokens is not None:
        check_law_name("tokens", tokens)
        if "zipf" in names:
            raise InputError("tokens", tokens, "must be left out: the axis zipf gives the law")
    if "outputs" not in names and str(fields.get("outputs", 1)) == "1":
        fields.setdefault("targets", "sign")
    fields.setdefault("optimizer", DEFAULTS["optimizer"])
    check_choice("optimizer", str(fields["optimizer"]), LINEAR_OPTIMIZERS)
    given = frozenset(name for name, value in fields.items() if value is not None)
    paths, others = paths_and_options(fields, tuple(names - set(BEYOND_SETUP)))
    bare = Plane(x, y, paths, others, None, given, averaged_over)
    if "zipf" in names:
        return bare
    name = tokens or ("corpus" if others.get("targets") in CORPUS_TARGETS else "uniform")
    sizes = np.unique(_vocab_sizes(bare))
    return dataclasses.replace(bare, law=laws(name, int(sizes[-1]), len(sizes) > 1))


def _vocab_sizes(bare: Plane) -> Floats:
    """Vocabulary sizes of all cells."""
    known = {
        name: value
        for name, value in (
            (bare.x.name, bare.x.values[None, :]),
            (bare.y.name, bare.y.values[:, None]),
        )
        if name not in BEYOND_SETUP
    }
    return np.atleast_1d(Resolution(known, bare.paths, bare.options).sizes()["m"])
