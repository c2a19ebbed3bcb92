"""Numbers that are equal but for rounding: learning rates that were logged in different ways."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EQUAL = 1e-5  # relative: six printed digits, and single precision, are nearer than this
ROUNDED = 8e-3  # relative: three printed digits, and half precision of both kinds
FAR = 8.0  # times the largest of such differences, that values of a grid are at least apart


def merged(values: ArrayLike, relative: float = EQUAL) -> NDArray[np.float64]:
    """`values` with one number for all that differ by rounding alone.

    Sorted by size, neighbours whose quotient is within 1 ± `relative` are the same number. It
    becomes the one of them that occurs most often, the middle one where several do. Zeros stay
    zeros, and what is not finite stays as it is.
    """
    values = np.asarray(values, dtype=np.float64)
    unique, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    gaps = np.abs(np.diff(unique))
    with np.errstate(invalid="ignore"):
        apart = ~((gaps <= relative * np.abs(unique[1:])) & np.isfinite(unique[1:]))
    group = np.concatenate([[0], np.cumsum(apart)]).astype(np.int64)[: len(unique)]
    chosen = unique.copy()
    for one in np.unique(group[1:][group[1:] == group[:-1]]):
        members = np.flatnonzero(group == one)
        often = members[counts[members] == counts[members].max()]
        chosen[members] = unique[often[(len(often) - 1) // 2]]
    return chosen[place].reshape(values.shape)


def merged_across(values: ArrayLike, runs: ArrayLike) -> NDArray[np.float64]:
    """`values` of a grid, with one number for those that were logged with few digits.

    `runs` are numbers of whatever one value belongs to, such as a seed at a width. Values within
    0.8 % are one where no run has two of them, and where all others are far from each other against
    that. They become the one that occurs most often.
    """
    values, runs = np.asarray(values, dtype=np.float64), np.asarray(runs)
    rough = merged(values, ROUNDED)
    wide = max(
        (float(np.ptp(values[rough == one]) / abs(one)) for one in np.unique(rough) if one),
        default=0,
    )
    centres = np.unique(rough[rough != 0])
    if len(centres) > 1 and np.min(np.abs(np.diff(centres) / centres[1:])) < FAR * wide:
        return values
    pairs = np.unique(np.stack([values, runs.astype(np.float64)]), axis=1)
    again = np.unique(np.stack([merged(pairs[0], ROUNDED), pairs[1]]), axis=1)
    return values if again.shape[1] < pairs.shape[1] else rough


def sorted_labels(values: ArrayLike) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Different labels of seeds in order, and the place of each value among them.

    Numbers are compared as numbers, so that 1 and 1.0 are one label. Where labels of several kinds
    mix, all of them are compared as text.
    """
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        labels, place = np.unique(array.astype(np.float64), return_inverse=True)
        return labels.astype(object), place
    found = [label_of(value) for value in array.ravel().tolist()]
    if all(isinstance(value, float) for value in found):
        labels, place = np.unique(np.array(found, dtype=np.float64), return_inverse=True)
    else:
        labels, place = np.unique([_text(value) for value in found], return_inverse=True)
    return labels.astype(object), place.reshape(array.shape)


def label_of(value: object) -> object:
    """A number as a float, everything else as it is."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return value
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return str(value)


def _text(value: object) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
