"""The life of the LV regime at numbers: updates at an age, and the age at which it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

import derivations
from derivations import symbols as s

from ._compiled import evaluate
from ._errors import InputError, check_integer
from ._first_step import law_values
from ._precision import require_x64
from ._token_laws import TokenLaw


@dataclass(frozen=True, eq=False)
class AgedUpdate:
    """What a step at a given age does to the output, at projection LR = 1.

    Arrays have the common shape of widths and displacements.

    - `rms`: root of the mean square of ((W_{t+1} - W_t) e_i(t))_k over tokens (by frequency).
    - `local_exponent`: d ln rms / d ln width at fixed token law, batch and displacement.
    - `field_age`: tau, the learned part of the projection's gradient over its noise.
    """

    rms: Array
    local_exponent: Array
    field_age: NDArray[np.float64]


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
    mini-batch (uniform tokens) the displacement is that of a token that
    every batch contained, eta_E times the number of steps, and `embedding_lr` is eta_E.

    Holds while the residuals keep their initial size and the projection its initial entries.
    Raises `InputError` for fewer than one direction, and for a mini-batch of another than the
    uniform law or without `embedding_lr`; `RuntimeError` without 64-bit types.
    Source: `derivations.aged_update_second_moment`.
    """
    require_x64()
    check_integer("--batch-size", batch_size, 0)
    if effective_outputs < 1:
        raise InputError("effective_outputs", effective_outputs, "must be at least 1")
    directions: derivations.Directions = "one" if effective_outputs == 1 else "many"
    second = derivations.aged_update_second_moment(directions)
    values = {s.effective_outputs: float(effective_outputs), s.embedding_std: 1.0}
    widths, moves = np.broadcast_arrays(
        np.asarray(width, dtype=np.float64), np.asarray(displacement, dtype=np.float64)
    )
    if batch_size == 0:
        age = derivations.full_batch_age()
        values |= law_values(law) | {s.displacement: moves}
    else:
        if not np.allclose(law.frequencies, law.frequencies[0]):
            raise InputError("--tokens", law.name, "must be uniform with a mini-batch")
        if embedding_lr is None or not embedding_lr > 0:
            raise InputError("--embedding-lr", embedding_lr, "must be positive with a mini-batch")
        age = derivations.mini_batch_age()
        values |= law_values(law, batch_size=batch_size) | {
            s.vocab_size: float(law.vocab_size),
            derivations.age_step: embedding_lr,
            derivations.age_steps: moves / embedding_lr,
        }
    numbers = {symbol: np.asarray(evaluate(value, values)) for symbol, value in age.items()}
    numbers = values | numbers | {s.width: widths, s.projection_lr: 1.0}
    return AgedUpdate(
        evaluate(second, numbers) ** 0.5,
        evaluate(derivations.aged_local_exponent(directions), numbers),
        np.broadcast_to(numbers[s.field_age], moves.shape),
    )


def restoration_displacement(
    width: float, vocab_size: float, *, effective_outputs: float = 1.0
) -> float:
    """eta_E t_c (in initial standard deviations) at which alignment is restored, uniform tokens.

    The root of rho(tau) = (d - 1) A(tau)^2/m = 1, where the local exponent is 3/4; 0 where the
    network is born in the muP regime. For m >> d it tends to K sqrt(n_eff / d), K = 1 for one
    direction and pi/2 for many. Raises and assumes as `aged_update` does.
    """
    from scipy.optimize import brentq

    require_x64()
    if effective_outputs < 1:
        raise InputError("effective_outputs", effective_outputs, "must be at least 1")
    directions: derivations.Directions = "one" if effective_outputs == 1 else "many"
    ratio = derivations.aged_coherence_ratio(directions)
    sizes = {s.width: float(width), s.vocab_size: float(vocab_size)}

    def log_ratio(age: float) -> float:
        return math.log(float(evaluate(ratio, {**sizes, s.field_age: age})))

    if log_ratio(0.0) >= 0:
        return 0.0
    latest = 2 * math.sqrt(vocab_size / max(width - 1, 1e-9)) + 1  # A(tau) > tau/2
    per_displacement = evaluate(
        derivations.field_age().specialise(derivations.UNIFORM_LAW, "uniform tokens"),
        {
            s.displacement: 1.0,
            s.effective_outputs: float(effective_outputs),
            s.vocab_size: float(vocab_size),
        },
    )
    age = cast(float, brentq(log_ratio, 0.0, latest, xtol=1e-12))
    return age / float(per_displacement)


def effective_outputs(targets: ArrayLike, frequencies: ArrayLike) -> float:
    """n_eff = (tr V)^2 / tr V^2, V = sum_i p_i y_i y_i^T: how many directions the targets fill.

    Shapes (tokens, outputs) and (tokens,). Between 1 and the rank of the targets. At small initial
    output the residuals are minus the targets. Source: `derivations.field_age`.
    """
    rows = np.asarray(targets, dtype=np.float64)
    second = rows.T @ (np.asarray(frequencies, dtype=np.float64)[:, None] * rows)
    return float(np.trace(second) ** 2 / np.sum(second**2))


def smoothed_speed(epsilon: ArrayLike, gradient_std: ArrayLike) -> Array:
    """Mean size of a smoothed-sign move g/sqrt(g^2 + epsilon^2) at Gaussian gradients.

    exp(k^2/2) erfc(k/sqrt 2), k = epsilon / gradient_std, without its overflow. Source: `derivations.smoothed_speed`.
    """
    require_x64()
    ratio = np.asarray(epsilon, dtype=np.float64) / np.asarray(gradient_std, dtype=np.float64)
    return evaluate(derivations.smoothed_speed(), {derivations.smoothing: ratio})
