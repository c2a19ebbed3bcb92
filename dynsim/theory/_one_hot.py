"""Linear models of one-hot tokens under gradient descent and sign descent: losses and times.

The embedding is the identity, the weights are one row a token, and the loss is the frequency
weighted mean squared error. Entries decouple, so that a vocabulary of a million takes seconds.

Source: docs/theory/gradient_flow.md#one-hot-bigrams; Kunstner & Bach 2025, arXiv 2505.19227.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

import derivations
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._errors import InputError, check_choice, check_integer
from dynsim._precision import require_x64
from dynsim.tokens._laws import token_law

Floats = NDArray[np.float64]
Descent = Literal["sgd", "sign"]

REACHES = np.geomspace(0.05, 1.2, 24)
"""learning rate times steps over the largest target, among which sign descent takes the best"""
FIRST_STEPS = 2
FRACTIONS = 4
"""parts of an octave, on whose ends the loss is known before it is interpolated"""


def one_hot_gradient_loss(frequencies: ArrayLike, steps: ArrayLike) -> Floats:
    """Relative loss sum_i p_i (1 - p_i/p_1)^(2 t) of gradient descent with learning rate 1/p_1.

    **Arguments:** `frequencies` of shape (m,); `steps`, any shape, which is that of the result.
    Initial residuals have equal size over tokens.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import one_hot_gradient_loss
    >>> one_hot_gradient_loss(token_law("zipf:1", 64).frequencies, [0, 10, 100]).round(3)
    array([1.   , 0.181, 0.002])
    """
    require_x64()
    p, times = np.asarray(frequencies, np.float64), np.asarray(steps, np.float64)
    values = {s.frequency: p, s.step_size: 1 / p.max(), s.steps: times[..., None]}
    return np.asarray(evaluate(derivations.one_hot_gradient_share(), values)).sum(axis=-1)


def one_hot_flow_loss(frequencies: ArrayLike, learning_rate: float, steps: ArrayLike) -> Floats:
    """Relative loss sum_i p_i e^(-2 eta p_i t) of gradient flow, as `one_hot_gradient_loss`.

    Shapes: `frequencies` (m,); `steps` any shape, which the result has.

    **Example:**

    >>> from dynsim import token_law
    >>> from dynsim.theory import one_hot_flow_loss
    >>> one_hot_flow_loss(token_law("zipf:1", 64).frequencies, 1.0, [0, 10, 100]).round(3)
    array([1.   , 0.467, 0.086])
    """
    require_x64()
    p, times = np.asarray(frequencies, np.float64), np.asarray(steps, np.float64)
    values = {s.frequency: p, s.step_size: learning_rate, s.steps: times[..., None]}
    return np.asarray(evaluate(derivations.one_hot_flow_share(), values)).sum(axis=-1)


def one_hot_sign_loss(residuals: ArrayLike, step_size: float, steps: int) -> float:
    """Relative loss of sign descent after so many steps, of entries that all tokens have alike.

    **Arguments:** `residuals` of shape (n,): sizes of the initial residuals of a token's entries.

    **Example:**

    >>> import numpy as np
    >>> from dynsim.theory import one_hot_sign_loss
    >>> round(one_hot_sign_loss(np.array([1.0, 0.5]), step_size=0.25, steps=2), 3)
    0.2
    """
    require_x64()
    initial = np.abs(np.asarray(residuals, np.float64))
    values = {s.initial_residual: initial, s.step_size: step_size, s.steps: float(steps)}
    left = np.asarray(evaluate(derivations.sign_descent_residual(), values))
    return float(np.sum(left**2) / np.sum(initial**2))


def steps_below(relative_loss: float, loss_after: Callable[[int], float]) -> float:
    """Steps to a relative loss, of a loss that falls with the number of steps.

    Numbers of steps are even. They are doubled until the loss is below; within the last octave it
    is found at four of them, and between neighbours ln t is interpolated in ln loss.

    Raises `RuntimeError` if it is not reached in 2^30 steps.
    """
    known = [(FIRST_STEPS, loss_after(FIRST_STEPS))]
    while known[-1][1] > relative_loss:
        if known[-1][0] > 2**30:
            raise RuntimeError(f"a loss of {relative_loss} is not reached")
        known.append((2 * known[-1][0], loss_after(2 * known[-1][0])))
    if len(known) == 1:
        return float(known[0][0])
    before, end = known[-2:]
    octave = before[0] * 2.0 ** (np.arange(1, FRACTIONS) / FRACTIONS)
    between = {2 * round(steps / 2) for steps in octave}
    for steps in sorted(between - {before[0], end[0]}):
        here = (steps, loss_after(steps))
        if here[1] <= relative_loss:
            end = here
            break
        before = here
    share = math.log(before[1] / relative_loss) / math.log(before[1] / end[1])
    return float(before[0] * (end[0] / before[0]) ** share)


def initial_residuals(targets: Floats, start: float, seed: int) -> Floats:
    """Targets less random weights, whose standard deviation is `start` times the targets' RMS."""
    spread = start * math.sqrt(np.mean(targets**2))
    return targets - spread * np.random.default_rng(seed).standard_normal(targets.shape)


def one_hot_steps(
    vocab_size: int,
    zipf_exponent: float,
    optimizer: Descent,
    relative_loss: float = 0.1,
    *,
    start: float = 0.0,
    seed: int = 0,
    even_steps: bool = False,
) -> float:
    """Steps to a relative loss on a bigram task of Zipf's law, from the closed form.

    Tokens have frequencies p_i ~ i^(-alpha), and every token the next tokens p_k in an order of its
    own. Gradient descent (`sgd`) has the learning rate 1/p_1; sign descent the best of 24 for each
    number of steps. A limit of gradient descent under Zipf's law is m^(1 - epsilon), of sign
    descent m^(1/2).

    **Arguments:**

    - `start`: standard deviation of the initial weights over the RMS of the targets, `seed` theirs.
    - `even_steps`: sign descent is asked after even numbers of steps alone. From zero weights an
      entry with a target below the learning rate is then back where it was. Without, the loss is
      the mean of those after t and t + 1 steps.

    Raises `InputError` for a value out of range.

    **Example:**

    >>> from dynsim.theory import one_hot_steps
    >>> [round(one_hot_steps(256, 1.0, optimizer), 1) for optimizer in ("sgd", "sign")]
    [58.5, 20.7]
    """
    check_integer("vocab_size", vocab_size, 2)
    check_choice("optimizer", optimizer, get_args(Descent))
    if not 0 < relative_loss < 1:
        raise InputError("relative_loss", relative_loss, "must be between 0 and 1")
    if not (math.isfinite(zipf_exponent) and zipf_exponent >= 0):
        raise InputError("zipf_exponent", zipf_exponent, "must be a number of at least 0")
    p = token_law(f"zipf:{zipf_exponent}", vocab_size).frequencies
    if optimizer == "sgd":
        return _gradient_steps(p, relative_loss)
    residuals = initial_residuals(p, start, seed)

    def loss_after(steps: int) -> float:
        counts = (steps,) if even_steps else (steps, steps + 1)
        return min(
            float(np.mean([one_hot_sign_loss(residuals, reach * p[0] / steps, t) for t in counts]))
            for reach in REACHES
        )

    return steps_below(relative_loss, loss_after)


def _gradient_steps(frequencies: Floats, relative_loss: float) -> float:
    """Real number of steps of gradient descent; 1 where the first step already is below."""

    def above(log_steps: float) -> float:
        return float(one_hot_gradient_loss(frequencies, math.exp(log_steps))) - relative_loss

    if above(0.0) <= 0:
        return 1.0
    largest = math.log(frequencies.max() / frequencies.min() * 1000)
    log_steps: Any = brentq(above, 0.0, largest, xtol=1e-10)
    return math.exp(log_steps)
