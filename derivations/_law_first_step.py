"""The first step under a token law: moments at LR = 1 and |r| = 1, for any frequencies."""

from __future__ import annotations

from typing import Literal, get_args

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import Layer, update_mean, update_second_moment
from ._gaussian import Optimizer
from ._token_laws import alignment, multinomial_moment, summed_over_tokens

Init = Literal["mup", "sp"]
INITIALISATIONS: tuple[Init, ...] = get_args(Init)

UNIFORM_LAW: dict[sp.Expr, sp.Expr] = {
    s.frequency: 1 / s.vocab_size,
    s.frequency_square_sum: 1 / s.vocab_size,
    s.frequency_cube_sum: 1 / s.vocab_size**2,
}


def zipf_law(*, of_one_token: bool) -> dict[sp.Expr, sp.Expr]:
    """p_i, P_2 and P_3 of a Zipf law as generalised harmonic numbers."""
    alpha, m = s.zipf_exponent, s.vocab_size
    normalisation = sp.harmonic(m, alpha)
    values: dict[sp.Expr, sp.Expr] = {
        s.frequency_square_sum: sp.harmonic(m, 2 * alpha) / normalisation**2,
        s.frequency_cube_sum: sp.harmonic(m, 3 * alpha) / normalisation**3,
    }
    if of_one_token:
        values[s.frequency] = s.rank ** (-alpha) / normalisation
    return values


def initial_std(init: Init) -> dict[sp.Expr, sp.Expr]:
    """sigma_E and sigma_W of an initialisation: muP (1, 1/d), SP (1, 1/sqrt(d))."""
    projection = {"mup": 1 / s.width, "sp": 1 / sp.sqrt(s.width)}[init]
    return {s.embedding_std: sp.Integer(1), s.projection_std: projection}


EQUAL_OVER_OUTPUTS = (
    "n outputs, squares averaged over them (c^2 = 1/n whatever the residuals; the mean is that of "
    "residuals of one size)"
)


@cache
def first_step(
    layer: Layer,
    optimizer: Optimizer,
    *,
    of_one_token: bool = False,
    mini_batch: bool = False,
    init: Init = "mup",
    many_outputs: bool = False,
) -> tuple[Derivation, Derivation]:
    """Mean and RMS of a layer's first update at LR = 1 and |r| = 1, for any token law.

    With `of_one_token` for the token of frequency p_i, otherwise averaged over tokens by
    frequency (the mean linearly, the RMS in the square). The free symbols left are d, p_i, P_2,
    P_3 and B; a token law puts numbers or formulas in their place. One output, or with
    `many_outputs` n of them, on which the embedding's alignment alone depends: c^2 = 1/n.
    """
    token_law = alignment(of_one_token=of_one_token, mini_batch=mini_batch)
    units = {s.projection_lr: 1, s.embedding_lr: 1, **initial_std(init)}
    mean, second = update_mean(layer, optimizer), update_second_moment(layer, optimizer)
    assumptions = ("learning rate 1", "one output", *token_law.assumptions)
    if layer == "embedding":
        if many_outputs:
            assumptions = ("learning rate 1", EQUAL_OVER_OUTPUTS, *token_law.assumptions)
        norm = sp.sqrt(s.outputs) if many_outputs else sp.Integer(1)
        return _embedding_first_step(
            mean, second, units, assumptions, optimizer, of_one_token, mini_batch, norm
        )
    square = in_alignment_square(second.expression, token_law.alignment_square)
    field = token_law.field_square_sum
    rms = sp.sqrt(square.subs(s.field_square_sum, field).subs(units))
    # E[c_i] over tokens is first order in c: sum_i p_i c_i = sum_i p_i p_i / sqrt(S).
    mean_alignment = (s.frequency if of_one_token else s.frequency_square_sum) / sp.sqrt(field)
    signal = mean.expression.subs(s.alignment, mean_alignment).subs(s.field_square_sum, field)
    reason = "Put in the alignment of the token law, LR = 1 and the initialisation."
    return (
        _with(mean, signal.subs(units), token_law.steps, reason, assumptions),
        _with(second, rms, token_law.steps, reason, assumptions, root=True),
    )


def _embedding_first_step(
    mean: Derivation,
    second: Derivation,
    units: dict[sp.Expr, sp.Expr | int],
    assumptions: tuple[str, ...],
    optimizer: Optimizer,
    of_one_token: bool,
    mini_batch: bool,
    residual_norm: sp.Expr,
) -> tuple[Derivation, Derivation]:
    """The embedding's case: the token law enters its update through its own gradient's size alone.

    Under sign a token absent from the batch does not move and a present one moves by the full
    LR, so the chance of being present multiplies both moments. Under SGD the share of the batch
    multiplies the update.
    """
    values = {**units, s.residual: 1, s.residual_norm: residual_norm}
    signal = mean.expression.subs(values)
    square = second.expression.subs(values)
    if optimizer == "sgd":
        first = s.frequency
        power = multinomial_moment(2) if mini_batch else s.frequency**2
        share = first if of_one_token else summed_over_tokens(first, 1)
        share_square = power if of_one_token else summed_over_tokens(power, 1)
        signal = signal.subs(s.frequency, 1) * share
        square = square.subs(s.frequency, 1) * share_square
    elif mini_batch:
        signal, square = signal * s.presence, square * s.presence
        assumptions += (
            "q is the probability that the batch holds the token, 1 - (1 - p_i)^B"
            + ("" if of_one_token else ", averaged over tokens by frequency"),
        )
    reason = "Put in |r| = 1, LR = 1, the initialisation and the share of the batch."
    return (
        _with(mean, signal, (), reason, assumptions),
        _with(second, sp.sqrt(square), (), reason, assumptions, root=True),
    )


def in_alignment_square(square: sp.Expr, alignment_square: sp.Expr) -> sp.Expr:
    """`square` with c^2 replaced; it is linear in c^2, so averages over tokens may be put in."""
    return square.subs(s.alignment, sp.sqrt(s.alignment_square)).subs(
        s.alignment_square, alignment_square
    )


def _with(
    derivation: Derivation,
    expression: sp.Expr,
    steps: tuple[Step, ...],
    reason: str,
    assumptions: tuple[str, ...],
    *,
    root: bool = False,
) -> Derivation:
    """`derivation` ended by `expression` (its square root where `root`), for LR = 1."""
    left = "RMS" if root else "mean"
    latex = r"\mathrm{RMS}" if root else r"\mathrm{mean}"
    return Derivation(
        name=derivation.name.replace("second moment", "RMS at LR = 1"),
        left=left,
        latex_left=latex,
        expression=expression,
        assumptions=(*derivation.assumptions, *assumptions),
        steps=(*derivation.steps, *steps, Step(reason, left, latex, expression)),
        source=derivation.source,
    )
