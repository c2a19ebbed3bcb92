"""The LV regime at numbers: updates after the embedding has moved, and when the regime ends.

Source: docs/theory/lv_lifetime.md#later-steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_integer
from dynsim._precision import require_x64
from dynsim._results import Declared, Result
from dynsim._summary import summary
from dynsim.tokens._laws import TokenLaw

from ._checks import check_law, check_numbers
from ._first_step import law_values

LARGEST_DISPLACEMENT = 60  # doublings
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class AgedUpdate(Result):
    """What a step does to the output once the embedding has moved, at projection LR = 1.

    Arrays have the common shape of widths and displacements.

    - `width`, `law`, `displacement`, `effective_outputs`, `batch_size`: what was asked for.
    - `rms`: root of the mean square of ((W_{t+1} - W_t) e_i(t))_k over tokens (by frequency).
    - `local_exponent`: d ln rms / d ln width at fixed token law, batch and displacement.
    - `field_age`: tau, the learned part of the projection's gradient over its noise.
    """

    arrays: ClassVar[Declared] = {
        "rms": "point",
        "local_exponent": "point",
        "field_age": "point",
        "width": "point",
        "displacement": "point",
    }

    width: NDArray[np.float64]
    law: TokenLaw
    displacement: NDArray[np.float64]
    effective_outputs: float
    batch_size: int
    rms: Array
    local_exponent: Array
    field_age: NDArray[np.float64]

    def described_by(self) -> dict[str, Any]:
        """The arguments of `aged_update`, by name."""
        asked = ("effective_outputs", "batch_size")
        law = {"tokens": self.law.name, "vocab_size": self.law.vocab_size}
        return {**{name: getattr(self, name) for name in asked}, **law}

    def __repr__(self) -> str:
        return summary(
            "Update once the embedding has moved, at projection LR = 1",
            width=self.width,
            law=f"{self.law.name}, {self.law.vocab_size} token types",
            displacement=self.displacement,
            effective_outputs=self.effective_outputs,
            batch_size=self.batch_size or "all tokens",
            rms=self.rms,
            local_exponent=self.local_exponent,
            field_age=self.field_age,
        )


def aged_update(
    width: ArrayLike,
    law: TokenLaw,
    displacement: ArrayLike,
    *,
    effective_outputs: float = 1.0,
    batch_size: int = 0,
    embedding_lr: float | None = None,
) -> AgedUpdate:
    """The projection's update under sign when the embedding has moved by eta_E t = `displacement`.

    rms^2 = d [1 + Theta + (d - 1)(C u^2 + 2 c_1 u v theta/sqrt(n) + v^2 Theta/n)]; uniform tokens:
    d [1 + theta^2 + (d - 1) A(tau)^2/m] with tau = theta sqrt(m/n). `effective_outputs` n = 1 is
    one output with residuals of equal size, more are that many independent Gaussian directions. In
    mini-batch (uniform tokens) the displacement is that of a token that every batch contained,
    eta_E times the number of steps, and `embedding_lr` is eta_E.

    Holds while the residuals keep their initial size and the projection its initial entries.
    Raises `InputError` for a width or `effective_outputs` below 1, a displacement below 0, and a
    mini-batch of another than the uniform law or without `embedding_lr`; `RuntimeError` without
    64-bit types.
    Source: docs/theory/lv_lifetime.md#later-steps; `derivations.aged_update_second_moment`.

    Shapes: `width` and `displacement` broadcast, and the arrays of the result have their shape.

    **Example:**

    >>> from dynsim import aged_update, token_law
    >>> law = token_law("uniform", 4096)
    >>> update = aged_update(64, law, [0.0, 0.3, 1.0])  # in initial standard deviations
    >>> update.rms.round(2), update.local_exponent.round(2)
    (array([ 8.04, 20.8 , 64.5 ]), array([0.5 , 0.93, 0.99]))
    """
    require_x64()
    check_law(law)
    check_integer("batch_size", batch_size, 0)
    directions = _directions(effective_outputs)
    values: dict[Any, Any] = {s.effective_outputs: float(effective_outputs)}
    widths, moves = np.broadcast_arrays(
        check_numbers("width", width, 1), check_numbers("displacement", displacement, 0)
    )
    if batch_size == 0:
        age = derivations.full_batch_age()
        values |= law_values(law) | {s.displacement: moves}
    else:
        if not np.allclose(law.frequencies, law.frequencies[0]):
            raise InputError("tokens", law.name, "must be uniform with a mini-batch")
        if embedding_lr is None or not embedding_lr > 0:
            raise InputError("embedding_lr", embedding_lr, "must be positive with a mini-batch")
        age = derivations.mini_batch_age()
        values |= law_values(law, batch_size=batch_size) | {
            s.vocab_size: float(law.vocab_size),
            derivations.age_step: embedding_lr,
            derivations.age_steps: moves / embedding_lr,
        }
    moments = aged_update_at(values | {s.width: widths}, age, directions)
    return AgedUpdate(
        widths,
        law,
        moves,
        float(effective_outputs),
        batch_size,
        moments.rms,
        moments.local_exponent,
        np.broadcast_to(moments.field_age, moves.shape),
    )


class AgedMoments(NamedTuple):
    """`rms`, `local_exponent` and `field_age` of `AgedUpdate`; `coherence`: coherent power over
    the noise of the first step."""

    rms: Array
    local_exponent: Array
    field_age: NDArray[np.float64]
    coherence: Array


def aged_update_at(
    values: Mapping[Any, Any],
    age: Mapping[Any, Any],
    directions: derivations.Directions,
) -> AgedMoments:
    """`aged_update` at numbers or arrays, by symbol: the width, n_eff and what `age` needs.

    `age`: tau, Theta, C and c_1 as functions of the displacement, one of
    `derivations.full_batch_age`, `visited_age` and `mini_batch_age`.
    """
    given = dict(values) | {s.embedding_std: 1.0, s.projection_lr: 1.0}
    ages = {symbol: np.asarray(evaluate(value, given)) for symbol, value in age.items()}
    numbers = given | ages
    second = derivations.aged_update_second_moment(directions)
    return AgedMoments(
        evaluate(second, numbers) ** 0.5,
        evaluate(derivations.aged_local_exponent(directions), numbers),
        ages[s.field_age],
        evaluate(derivations.aged_coherent_power(directions), numbers),
    )


def _directions(effective_outputs: float) -> derivations.Directions:
    if not 1 <= effective_outputs < math.inf:
        raise InputError("effective_outputs", effective_outputs, "must be at least 1")
    return "one" if effective_outputs == 1 else "many"


def restoration_displacement(
    width: float, vocab_size: float, *, effective_outputs: float = 1.0, batch_size: int = 0
) -> float:
    """Displacement of a token (in initial standard deviations) at which alignment is restored.

    The root of rho = 1, where the local exponent is 3/4, for uniform tokens; 0 where the network
    starts in the muP regime. Full batch: rho = (d - 1) A(tau)^2/m, and for m >> d the root tends to
    K sqrt(n_eff / d), K = 1 for one direction and pi/2 for many (for a few isotropic outputs K is
    up to 22 % smaller, `derivations.isotropic_restoration_constant`). In mini-batch the field is
    that of the batch, and the root is larger where B is not much larger than d.

    `effective_outputs` presumes residuals of a flat spectrum. Assumes as `aged_update`. Raises
    `InputError` for a width below 2, a vocabulary that is not positive and `effective_outputs`
    below 1, and `RuntimeError` without 64-bit types.
    Source: docs/theory/lv_lifetime.md#end-of-lv.

    **Example:**

    >>> from dynsim import restoration_displacement
    >>> round(restoration_displacement(256, 65536), 4)  # for m >> d about 1/sqrt(d)
    0.0626
    """
    from scipy.optimize import brentq

    require_x64()
    check_integer("batch_size", batch_size, 0)
    if not 2 <= width < math.inf:
        raise InputError("width", width, "must be at least 2 (one neuron has no coherent sum)")
    if not 0 < vocab_size < math.inf:
        raise InputError("vocab_size", vocab_size, "must be a positive number")
    directions = _directions(effective_outputs)
    coherent = derivations.aged_coherent_power(directions)
    numbers = {
        s.width: float(width),
        s.vocab_size: float(vocab_size),
        s.effective_outputs: float(effective_outputs),
        s.batch_size: float(batch_size),
    }
    age = derivations.visited_age(mini_batch=batch_size > 0)

    def log_ratio(moves: float) -> float:
        given = {**numbers, s.displacement: moves}
        values = {symbol: evaluate(value, given) for symbol, value in age.items()}
        return math.log(float(evaluate(coherent, given | values)))

    if log_ratio(0.0) >= 0:
        return 0.0
    latest = 1.0
    while log_ratio(latest) < 0:
        latest *= 2
    return cast(float, brentq(log_ratio, 0.0, latest, xtol=1e-12))


def law_restoration_displacement(
    width: float, law: TokenLaw, *, effective_outputs: float = 1.0
) -> float:
    """`restoration_displacement` of any token law in full batch, for the average over tokens.

    The root of rho = 1 in the mean square of the update by frequency; 0 where the average starts
    in the muP regime. Rare tokens alone are restored later
    (`derivations.early_restoration_displacement`).

    Assumes and raises as `aged_update`. Source: docs/theory/lv_lifetime.md#ageing-under-zipf.

    **Example:**

    >>> from dynsim import restoration_displacement, token_law
    >>> from dynsim.theory import law_restoration_displacement
    >>> law = token_law("uniform", 65536)
    >>> round(law_restoration_displacement(256, law) / restoration_displacement(256, 65536), 6)
    1.0
    """
    require_x64()
    check_law(law)
    directions = _directions(effective_outputs)
    if not 2 <= width < math.inf:
        raise InputError("width", width, "must be at least 2 (one neuron has no coherent sum)")
    values = law_values(law) | {
        s.width: np.asarray(float(width)),
        s.effective_outputs: float(effective_outputs),
    }
    age = derivations.full_batch_age()
    return float(restoration_displacements_at(values, age, directions))


@lru_cache(maxsize=256)
def isotropic_restoration(outputs: int) -> float:
    """K(n) of theta_c = K sqrt(n/d), m >> d, for Gaussian residuals of n >= 2 outputs.

    From 1.22 at n = 2 to pi/2; the integrals of `derivations.isotropic_restoration_constant` by
    scipy's quadrature.

    Raises `InputError` for fewer than two outputs.
    Source: docs/theory/lv_lifetime.md#outputs-and-structure.

    **Example:**

    >>> from dynsim.theory import isotropic_restoration
    >>> round(isotropic_restoration(2), 3), round(isotropic_restoration(1000), 3)
    (1.225, 1.57)
    """
    check_integer("outputs", outputs, 2)
    constant = derivations.isotropic_restoration_constant()
    return float(evaluate(constant, {s.outputs: outputs}))


def restoration_displacements_at(
    values: Mapping[Any, Any],
    age: Mapping[Any, Any],
    directions: derivations.Directions,
) -> NDArray[np.float64]:
    """`restoration_displacement` at arrays by symbol: the width, n_eff and what `age` needs.

    0 where the first step is in the muP regime, NaN where no displacement restores alignment (one
    neuron). Bisection to 1e-12 of the root.
    """
    given = dict(values) | {s.embedding_std: 1.0}
    coherent = derivations.aged_coherent_power(directions)

    def restored(moves: NDArray[np.float64]) -> NDArray[np.bool_]:
        at_age = given | {s.displacement: moves}
        numbers = {symbol: evaluate(value, at_age) for symbol, value in age.items()}
        return np.asarray(evaluate(coherent, at_age | numbers)) >= 1

    shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
    low, high = np.zeros(shape), np.ones(shape)
    from_start = restored(low)
    for _ in range(LARGEST_DISPLACEMENT):
        early = ~restored(high)
        if not early.any():
            break
        low, high = np.where(early, high, low), np.where(early, 2 * high, high)
    never = ~restored(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        late = restored(middle)
        low, high = np.where(late, low, middle), np.where(late, middle, high)
    return np.where(from_start, 0.0, np.where(never, np.nan, (low + high) / 2))


def effective_outputs(targets: ArrayLike, frequencies: ArrayLike) -> float:
    """n_eff = (tr V)^2 / tr V^2, V = sum_i p_i y_i y_i^T: how many directions the targets fill.

    Shapes (tokens, outputs) and (tokens,). Between 1 and the rank of the targets; it sets the field
    age. At small initial output the residuals are minus the targets.
    Source: docs/theory/lv_lifetime.md#outputs-and-structure; `derivations.field_age`.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.theory import effective_outputs
    >>> effective_outputs(np.eye(3), np.full(3, 1 / 3))  # three directions of equal weight
    3.0
    """
    second = _second_moment(targets, frequencies)
    return float(np.trace(second) ** 2 / np.sum(second**2))


def late_effective_outputs(targets: ArrayLike, frequencies: ArrayLike) -> float:
    """n_eff of the end of the LV regime: 1/n_eff = mean_k (V^3)_kk / ((V^2)_kk tr V).

    The mean square over outputs of the correlation of (V w)_k, whose sign an old field has, with
    r_i . w, which moved the embedding. Equal to `effective_outputs` for a flat spectrum, larger for
    a steep one. Shapes and meaning as there; outputs that never occur are left out.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.theory import late_effective_outputs
    >>> late_effective_outputs(np.eye(3), np.full(3, 1 / 3))  # a flat spectrum
    3.0
    """
    second = _second_moment(targets, frequencies)
    square = second @ second
    occurs = np.diag(square) > 0
    cosine_square = np.diag(square @ second)[occurs] / (np.diag(square)[occurs] * np.trace(second))
    return float(1 / np.mean(cosine_square))


def _second_moment(targets: ArrayLike, frequencies: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(targets, dtype=np.float64)
    return rows.T @ (np.asarray(frequencies, dtype=np.float64)[:, None] * rows)


def smoothed_speed(epsilon: ArrayLike, gradient_std: ArrayLike) -> Array:
    """Mean size of a smoothed-sign move g/sqrt(g^2 + epsilon^2) at Gaussian gradients.

    exp(k^2/2) erfc(k/sqrt 2), k = epsilon / gradient_std, without its overflow.
    Source: docs/theory/lv_lifetime.md#lifetime-of-other-optimizers;
    `derivations.smoothed_speed`.

    Shapes: both arguments broadcast, in one unit; the result has their shape.

    **Example:**

    >>> from dynsim.theory import smoothed_speed
    >>> smoothed_speed([0.0, 1.0], 1.0).round(3)  # without smoothing a move is a whole step
    array([1.   , 0.523])
    """
    require_x64()
    ratio = np.asarray(epsilon, dtype=np.float64) / np.asarray(gradient_std, dtype=np.float64)
    return evaluate(derivations.smoothed_speed(), {derivations.smoothing: ratio})
