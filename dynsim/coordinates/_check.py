"""The check: measured powers of the width in recorded runs against a parametrization's.

Every term of every module has its slope of ln size on ln width, an interval, and the band that the
parametrization allows (`_powers`). What a module does wrong by itself shows in its own entries
(initial weights, first update), in what it makes of its inputs, or in its optimizer settings; all
else is handed on from below. The rule is that of the toy networks' check:
docs/guides/coordinate_check.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dynsim._errors import InputError
from dynsim._summary import summary
from dynsim.statistics._intervals import Estimate

from ._alignment import MeasuredAlignment, measured_alignment
from ._mistakes import likely_mistakes
from ._powers import Band, Powers, gain_bands, parametrization_powers, term_bands
from ._powers import vocabulary_alignment as least_alignment
from ._records import NO_MATRIX, check_grid, checked_records, read_records
from ._slopes import Line, fitted_line, pooled_intervals
from ._verdicts import FAILURES, Slope, TermVerdict, judged

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

Verdict = Literal["as predicted", "undecided", "fails"]
_Key = tuple[str, str, int]  # module, term, step
MIN_TOLERANCE = 0.01
MOST_NAMES = 4
EPSILON_THAT_COUNTS = 0.05
"""below this share of the gradient's entries, epsilon changes no update by more than 5 %"""
JUDGED = (
    "weight",
    "weight_update",
    "initial",
    "update_on_initial",
    "initial_on_learned",
    "update_on_learned",
    "update",
    "decay",
    "epsilon",
)
OWN_TERMS = ("weight", "weight_update", "decay", "epsilon")
"""terms that no other module can change"""


@dataclass(frozen=True)
class Module:
    """A module's verdict, and its likely mistakes in words."""

    name: str
    label: str
    verdict: Verdict
    mistakes: tuple[str, ...]


@dataclass(frozen=True)
class CoordinateCheck:
    """What recorded runs say about a parametrization.

    **Fields:**

    - `verdict`: fails if a module does, undecided if one is; `modules`, in the model's order.
    - `slopes`: every judged power with its interval and verdict.
    - `alignments`: measured A, U and Omega by label.
    - `notes`: what was left out and why.
    - `table`: the records.
    """

    parametrization: str
    tolerance: float
    widths: tuple[int, ...]
    vocab_sizes: tuple[int, ...]
    seeds: int
    steps: tuple[int, ...]
    verdict: Verdict
    modules: tuple[Module, ...]
    slopes: tuple[Slope, ...]
    alignments: tuple[MeasuredAlignment, ...]
    notes: tuple[str, ...]
    table: pd.DataFrame

    def __repr__(self) -> str:
        mistakes = {few_names(names): text for text, names in self.mistakes.items()}
        return summary(
            f"Coordinate check of {len(self.modules)} modules against {self.parametrization}: "
            f"{self.verdict}",
            widths=self.widths,
            vocab_sizes=self.vocab_sizes,
            seeds=self.seeds,
            steps=self.steps,
            **mistakes,
        )

    @property
    def failing(self) -> tuple[Module, ...]:
        """The modules that fail by themselves."""
        return tuple(module for module in self.modules if module.verdict == "fails")

    @property
    def mistakes(self) -> dict[str, list[str]]:
        """Every likely mistake once, with the modules that make it."""
        found: dict[str, list[str]] = {}
        for module in self.failing:
            for mistake in module.mistakes:
                found.setdefault(mistake, []).append(module.name)
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """A row for every judged power: its value and interval, the allowed band, the verdict."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "module": one.module,
                    "label": one.label,
                    "term": one.term,
                    "vocab_size": one.vocab_size,
                    "step": one.step,
                    "verdict": one.verdict,
                    "slope": one.slope.value,
                    "low": one.slope.low,
                    "high": one.slope.high,
                    "allowed_low": one.allowed.low,
                    "allowed_high": one.allowed.high,
                }
                for one in self.slopes
            ]
        )

    def to_xarray(self) -> xr.Dataset:
        """The columns of `to_dataframe` along `power`, with what was checked as attributes."""
        dataset = self.to_dataframe().rename_axis("power").to_xarray()
        return dataset.assign_attrs(
            result=type(self).__name__,
            parametrization=self.parametrization,
            tolerance=self.tolerance,
            verdict=self.verdict,
            widths=list(self.widths),
            seeds=self.seeds,
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws every term against width, a row a label, in a new figure; returns the first axes.

        On `ax` only the updates of the hidden matrices.
        """
        from dynsim.plots import style

        from ._figure import main_panel, recorded_figure

        with style():
            return recorded_figure(self).axes[0] if ax is None else main_panel(self, ax)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the records as plain data."""
        return {
            "parametrization": self.parametrization,
            "tolerance": self.tolerance,
            "widths": list(self.widths),
            "vocab_sizes": list(self.vocab_sizes),
            "seeds": self.seeds,
            "steps": list(self.steps),
            "verdict": self.verdict,
            "modules": [
                {
                    "module": module.name,
                    "label": module.label,
                    "verdict": module.verdict,
                    "mistakes": list(module.mistakes),
                }
                for module in self.modules
            ],
            "slopes": [_plain(slope) for slope in self.slopes],
            "alignment": [one.to_dict() for one in self.alignments],
            "notes": list(self.notes),
        }


def few_names(names: Sequence[str]) -> str:
    """The first four, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _plain(slope: Slope) -> dict[str, Any]:
    return {
        "module": slope.module,
        "label": slope.label,
        "term": slope.term,
        "vocab_size": slope.vocab_size,
        "step": slope.step,
        "slope": {
            "value": slope.slope.value,
            "low": slope.slope.low,
            "high": slope.slope.high,
        },
        "allowed": {"low": slope.allowed.low, "high": slope.allowed.high},
        "verdict": slope.verdict,
    }


@dataclass(frozen=True)
class _Cell:
    """The sizes of a module's term at a step: one array of runs a width."""

    sizes: dict[int, Any]


def check_coordinates(
    table: pd.DataFrame,
    parametrization: str = "mup",
    *,
    tolerance: float = 0.15,
    tokens: str = "uniform",
) -> CoordinateCheck:
    """Judges recorded runs (`read_records`) against a parametrization.

    **Arguments:**

    - `parametrization`: sp, ntk, mup, mfp, umup, lv or `exponents:...` (`parametrization_powers`),
      for Adam and other optimizers that normalise entry by entry.
    - `tolerance`: how far a power may be from what is allowed.
    - `tokens`: the token law of the training batches, for what the vocabulary leaves of the
      alignment of first updates; uniform leaves the least.

    Raises `InputError` for runs that cannot be compared.

    **Example:**

    >>> import pandas as pd
    >>> from dynsim.coordinates import check_coordinates
    >>> powers = {
    ...     **{"weight": -0.5, "input": 0, "initial": 0, "weight_update": -1},
    ...     **{"update_on_initial": 0, "learned_input": 0},
    ...     **{"initial_on_learned": 0, "update_on_learned": 0},
    ... }
    >>> at_start = ("weight", "input", "initial")
    >>> rows = [
    ...     {
    ...         **{"width": width, "vocab_size": 100, "seed": 0, "module": "fc", "label": "hidden"},
    ...         **{"step": int(term not in at_start), "term": term, "rms": float(width) ** power},
    ...         "reads_embedding": 1,
    ...     }
    ...     for width in (64, 128, 256)
    ...     for term, power in powers.items()
    ... ]
    >>> check_coordinates(pd.DataFrame(rows), "mup").verdict
    'as predicted'
    """
    if not MIN_TOLERANCE <= tolerance <= 1:
        raise InputError("tolerance", tolerance, f"must be a number from {MIN_TOLERANCE} to 1")
    powers = parametrization_powers(parametrization)
    table = checked_records(table)
    grid = check_grid(table)
    notes: list[str] = []
    table = _common_modules(_with_moving_steps(table, notes), notes)
    steps = tuple(sorted(int(step) for step in table.step.unique() if step > 0))
    modules = table.drop_duplicates("module")
    found: list[Slope] = []
    for vocab_size in grid:
        rows: Any = table if vocab_size == 0 else table[table.vocab_size == vocab_size]
        found += _of_vocabulary(rows, vocab_size, powers, steps, tolerance, tokens, notes)
    judged = []
    for module, label in zip(modules.module, modules.label, strict=True):
        own = [slope for slope in found if slope.module == module]
        judged.append(_module(str(module), str(label), own, found, powers))
    verdicts = [module.verdict for module in judged]
    whole: Verdict = "as predicted"
    for verdict in ("undecided", "fails"):
        whole = verdict if verdict in verdicts else whole
    if any(math.isnan(slope.slope.low) for slope in found if slope.verdict != "frozen"):
        notes.append("two widths and one seed leave no interval: add a width or a seed")
    return CoordinateCheck(
        parametrization,
        tolerance,
        tuple(sorted(int(d) for d in table.width.unique())),
        tuple(sorted(int(m) for m in table.vocab_size.unique())),
        int(table.seed.nunique()),
        steps,
        whole,
        tuple(judged),
        tuple(found),
        measured_alignment(table, steps),
        tuple(dict.fromkeys(notes)),
        table,
    )


def recorded_alignment(files: Sequence[Path]) -> tuple[MeasuredAlignment, ...]:
    """A, U and Omega of recorded runs. Raises `InputError` for files that cannot be used.

    **Example:**

    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from dynsim.coordinates import recorded_alignment
    >>> powers = {
    ...     **{"weight": -0.5, "input": 0, "initial": 0, "weight_update": -1},
    ...     **{"update_on_initial": 0, "learned_input": 0},
    ...     **{"initial_on_learned": 0, "update_on_learned": 0},
    ... }
    >>> at_start = ("weight", "input", "initial")
    >>> rows = [
    ...     {
    ...         **{"width": width, "vocab_size": 100, "seed": 0, "module": "fc", "label": "hidden"},
    ...         **{"step": int(term not in at_start), "term": term, "rms": float(width) ** power},
    ...         "reads_embedding": 1,
    ...     }
    ...     for width in (64, 128, 256)
    ...     for term, power in powers.items()
    ... ]
    >>> pd.DataFrame(rows).to_csv("runs.csv", index=False)
    >>> [(found.layer, found.step) for found in recorded_alignment([Path("runs.csv")])]
    [('hidden that reads the embedding', 1)]
    """
    table = read_records(files)
    check_grid(table)
    table = _common_modules(_with_moving_steps(table, []), [])
    steps = sorted(int(step) for step in table.step.unique() if step > 0)
    return measured_alignment(table, steps)


def _with_moving_steps(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Without the steps after which nothing has moved at some width: a warm-up from rate 0."""
    moved = table[(table.term == "weight_update") & (table.trained == 1)]
    largest = moved.groupby(["step", "width"]).rms.max()
    still = sorted({int(step) for (step, _), size in largest.items() if size == 0})
    if still and set(still) >= {int(step) for step in moved.step.unique()}:
        raise InputError("FILE", f"steps {still}", "have no update at all: was the model trained?")
    if still:
        notes.append(
            f"steps {', '.join(map(str, still))} are left out: no weight had moved (learning rate "
            "0 at the start of a warm-up?)"
        )
    kept: Any = table[~table.step.isin(still)]
    at_all = [
        set(map(int, rows.step.unique())) for _, rows in kept.groupby(["width", "vocab_size"])
    ]
    common = set.intersection(*at_all)
    if not common - {0} or 0 not in common:
        raise InputError(
            "FILE",
            f"steps {sorted(set.union(*at_all))}",
            "must hold step 0 and one later step that all widths share",
        )
    if common < set.union(*at_all):
        extra = ", ".join(map(str, sorted(set.union(*at_all) - common)))
        notes.append(f"steps {extra} are left out: not every width has them")
    return kept[kept.step.isin(common)]


def _common_modules(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The modules that every width has, each with one label."""
    widths = table.width.nunique()
    counts = table.groupby("module").width.nunique()
    missing = [str(name) for name in counts.index[counts < widths]]
    kept: Any = table[~table.module.isin(missing)]
    if not kept.label.isin(["embedding", "hidden", "readout"]).any():
        raise InputError(
            "FILE", None, "must hold matrices with the same names at every width; give one model"
        )
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        notes.append(f"{len(missing)} modules are left out: not every width has them ({names})")
    labels = kept.groupby("module").label.nunique()
    if (labels > 1).any():
        name = str(labels.index[labels > 1][0])
        raise InputError("FILE", name, "must have the same label at every width")
    return kept


def _of_vocabulary(
    table: pd.DataFrame,
    vocab_size: int,
    powers: Powers,
    steps: Sequence[int],
    tolerance: float,
    tokens: str,
    notes: list[str],
) -> list[Slope]:
    widths = sorted(int(d) for d in table.width.unique())
    vocab_sizes = [int(table[table.width == d].vocab_size.iloc[0]) for d in widths]
    least = least_alignment(widths, vocab_sizes, tokens)
    if least < 0.8:
        notes.append(
            f"vocabulary {vocab_size or 'following the width'}: with {tokens} tokens in full batch "
            f"the vocabulary leaves A = {least:.2f} to the first update on initial embeddings: "
            "dW z0 may fall with the width (large-vocabulary regime)"
        )
    cells = _cells(table)
    first: dict[str, Any] = {
        str(row.module): row for row in table.drop_duplicates("module").itertuples()
    }
    heads = _head_growth(table)
    lines: dict[Hashable, Line] = {}
    groups: dict[Hashable, Hashable] = {}
    special: dict[_Key, TermVerdict] = {}
    bands: dict[_Key, Band] = {}
    gains: dict[_Key, tuple[Hashable, Band]] = {}
    for (module, term, step), cell in cells.items():
        row = first[module]
        tied, reads = bool(row.tied), bool(row.reads_embedding)
        allowed = term_bands(
            powers,
            row.label,
            least,
            reads_embedding=reads,
            tied=tied,
            head_growth=heads.get(module, 0.0),
        )
        allowed |= {"decay": Band(0.0, 0.0), "epsilon": Band(-math.inf, 0.0)}
        if term not in JUDGED or term not in allowed or not row.trained:
            continue
        if step not in (steps if term != "weight" and term != "initial" else (0,)):
            continue
        if row.label == "vector" and step > steps[0]:
            continue  # few entries, whose steps cancel as the loss is fitted
        key = (module, term, step)
        bands[key], groups[key] = allowed[term], _scatter_group(row.label, term, step)
        sizes = [size for d in widths for size in cell.sizes.get(d, [])]
        if len(cell.sizes) < len(widths):
            del bands[key]
            continue
        if not np.all(np.isfinite(sizes)):
            special[key] = "diverged"
        elif any(np.all(np.asarray(cell.sizes[d]) == 0) for d in widths):
            if term == "weight_update" and step == steps[0]:
                special[key] = "frozen"
            else:
                del bands[key]  # nothing to judge: weights that start at zero
            continue
        elif term == "epsilon" and max(sizes) < EPSILON_THAT_COUNTS:
            del bands[key]
            continue
        else:
            lines[key] = _line(cell, widths)
        gain = gain_bands(powers, row.label, least if reads else 0.5, tied=tied).get(term)
        if gain is not None and key in lines:
            read = cells.get((module, gain[0], 0 if gain[0] == "input" else step))
            if read is not None and _positive(read, widths):
                ratio = ("gain", *key)
                lines[ratio] = _line(_ratio(cell, read), widths)
                groups[ratio] = ("gain", term, step)
                gains[key] = (ratio, gain[1])
    estimates = pooled_intervals(lines, groups)
    found = []
    for key in bands:
        module, term, step = key
        label = str(first[module].label)
        if key in special:
            nothing = Estimate(math.nan, math.nan, math.nan)
            slope = Slope(module, label, term, vocab_size, step, nothing, bands[key], special[key])
            found.append(slope)
            continue
        below = _judged_below(label, term, step, steps)
        verdict = judged(estimates[key], bands[key], tolerance, below)
        if verdict != "holds" and key in gains:
            ratio, band = gains[key]
            made = judged(estimates[ratio], band, tolerance, below)
            if made not in FAILURES and verdict in FAILURES:
                verdict = "handed on"
            elif made == "holds" and verdict == "undecided":
                verdict = "holds"  # the inputs bend, what the matrix makes of them does not
        found.append(
            Slope(module, label, term, vocab_size, step, estimates[key], bands[key], verdict)
        )
    return _after_causes(found)


def _scatter_group(label: str, term: str, step: int) -> Hashable:
    """What shares its scatter: the same term at the same step, of all that reads the width."""
    if label in ("embedding", "vector"):
        return label, term, step
    return "update_on_initial" if term == "update" else term, step


def _judged_below(label: str, term: str, step: int, steps: Sequence[int]) -> bool:
    """Whether a power below the band is a mistake: at the start, and after the first steps alone.

    Later, how far updates cancel depends on how fast the loss is fitted.
    """
    if label in NO_MATRIX or term in ("update_on_learned", "epsilon"):
        return False
    return step <= steps[0] or term == "decay"


def _after_causes(found: list[Slope]) -> list[Slope]:
    """What follows from a module's own failure is handed on; without any such failure it counts.

    Scores follow from the matrices of their attention, outputs from everything.
    """

    def fails(slope: Slope) -> bool:
        return slope.verdict in FAILURES

    entries = {s.module for s in found if fails(s) and s.term in ("weight", "weight_update")}
    scores = {s.module for s in found if fails(s) and s.label == "scores"}
    matrices = {s.module for s in found if fails(s) and s.label not in NO_MATRIX}
    result = []
    for slope in found:
        handed = False
        if slope.label == "scores":
            parent = slope.module.rpartition(" ")[0]
            handed = any(name.startswith(parent + ".") or not parent for name in entries)
        elif slope.label == "outputs":
            handed = bool(matrices | scores)
        elif slope.term not in OWN_TERMS:
            handed = slope.module not in entries and bool(entries | scores)
        if handed and slope.verdict in (*FAILURES, "undecided") and slope.verdict != "diverged":
            slope = replace(slope, verdict="handed on")
        result.append(slope)
    if any(map(fails, result)):
        return result
    return [
        replace(s, verdict="blows up" if s.slope.value > s.allowed.high else "too small")
        if s.verdict == "handed on"
        else s
        for s in result
    ]


def _head_growth(table: pd.DataFrame) -> dict[str, float]:
    """The power of the width in the width of a head, of every module of scores that shows it."""
    found = {}
    for name, rows in table[table.label == "scores"].groupby("module"):
        if (rows.fan_in > 0).all() and rows.width.nunique() > 1:
            line = fitted_line(
                np.log(rows.width.to_numpy(float)), np.log(rows.fan_in.to_numpy(float))
            )
            found[str(name)] = line.slope
    return found


def _cells(table: pd.DataFrame) -> dict[_Key, _Cell]:
    """Sizes by module, term and step, in the order of the table."""
    cells: dict[_Key, _Cell] = {}
    columns = (table.module, table.term, table.step, table.width, table.rms)
    for module, term, step, width, rms in zip(*columns, strict=True):
        cell = cells.setdefault((str(module), str(term), int(step)), _Cell({}))
        cell.sizes.setdefault(int(width), []).append(float(rms))
    return cells


def _positive(cell: _Cell, widths: Sequence[int]) -> bool:
    return all(d in cell.sizes and np.all(np.asarray(cell.sizes[d]) > 0) for d in widths)


def _ratio(cell: _Cell, read: _Cell) -> _Cell:
    return _Cell(
        {
            d: [a / b for a, b in zip(sizes, read.sizes[d], strict=False)]
            for d, sizes in cell.sizes.items()
        }
    )


def _line(cell: _Cell, widths: Sequence[int]) -> Line:
    pairs = [(d, size) for d in widths for size in cell.sizes[d] if size > 0]
    return fitted_line(
        np.log(np.array([d for d, _ in pairs], float)), np.log(np.array([s for _, s in pairs]))
    )


def _module(
    name: str, label: str, own: Sequence[Slope], found: Sequence[Slope], powers: Powers
) -> Module:
    verdicts = {slope.verdict for slope in own}
    verdict: Verdict = "as predicted"
    if verdicts & set(FAILURES):
        verdict = "fails"
    elif "undecided" in verdicts:
        verdict = "undecided"
    failures = [slope for slope in own if slope.verdict in FAILURES]
    return Module(name, label, verdict, likely_mistakes(label, failures, powers))
