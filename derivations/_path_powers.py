"""The power of a growing size in derived quantities, along a path.

Along a path one size grows without bound, and every other size and every learning rate is a power
of it. `PathOrders` holds these powers, as exact fractions; the functions return the power in the
quantity, from the leading term of its derived expression. Logarithms count as order zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, NamedTuple

import sympy as sp

from . import _symbols as s
from ._coherence import UpdatePart, update_part
from ._derivation import Derivation
from ._first_step import Layer, self_term_ratio, update_second_moment
from ._gaussian import Optimizer
from ._law_first_step import Init, first_step, initial_std
from ._learning_rates import (
    optimal_embedding_lr_with_output,
    optimal_learning_rate,
    optimal_projection_lr_with_self_term,
    optimal_ratio,
)
from ._lv_ageing import Directions, aged_signal, aged_update_second_moment
from ._lv_lifetime import early_restoration_displacement, restoration_displacement
from ._mean_field_first_step import mean_field_first_loss
from ._regimes import presence_order
from ._simplified import simplified
from ._token_laws import alignment, leading_order, zipf_orders

OptimalRate = Literal["embedding", "projection", "ratio"]
ZERO = Fraction(0)


class LimitLine(NamedTuple):
    """One line of a limit: `left` grows like the growing size to the `power`, for `reason`."""

    left: str
    power: Fraction
    reason: str = ""


@dataclass(frozen=True)
class PathOrders:
    """The power of the growing size in each symbol.

    `assumptions`: what these powers take for granted. `reasons`: why a symbol has its power, as
    text.
    """

    of: Mapping[sp.Symbol, Fraction]
    assumptions: tuple[str, ...] = ()
    reasons: Mapping[sp.Symbol, str] = field(default_factory=dict)

    def power(self, expression: sp.Expr) -> Fraction:
        """Of a sum of products of symbols, by its leading term.

        Raises `KeyError` for a symbol without an order.
        """
        orders = {symbol: _number(power) for symbol, power in self.of.items()}
        return _fraction(leading_order(expression, orders))

    def with_orders(self, more: Mapping[sp.Symbol, Fraction], reason: str = "") -> PathOrders:
        """The same with other symbols, or other powers of some, for this reason."""
        reasons = {symbol: text for symbol, text in self.reasons.items() if symbol not in more}
        if reason:
            reasons |= dict.fromkeys(more, reason)
        return replace(self, of={**self.of, **more}, reasons=reasons)

    def lines(self, left: str, expression: sp.Expr) -> tuple[LimitLine, ...]:
        """How the power of an expression comes about: of each symbol, of each term, of the sum."""
        terms = sp.Add.make_args(sp.expand(expression))
        single = set(terms) if len(terms) > 1 else set()  # has its line among the terms
        symbols = sorted(expression.free_symbols - single, key=str)
        found = [LimitLine(str(one), self.of[one], self._reason(one)) for one in symbols]
        if len(terms) > 1:
            below = {sp.denom(term) for term in terms}
            sums = sorted((one for one in below if one.is_Add), key=str)
            found += [LimitLine(str(one), self.power(one), "a denominator") for one in sums]
            for term in sorted(terms, key=lambda one: (self.power(one), str(one)), reverse=True):
                words = "; ".join(filter(None, (self._reason(term), f"a term of {left}")))
                found.append(LimitLine(str(term), self.power(term), words))
        leading = "its leading term" if len(terms) > 1 else f"{left} = {expression}"
        return (*found, LimitLine(left, self.power(expression), leading))

    def _reason(self, symbol: sp.Expr) -> str:
        text, reason = s.MEANING.get(symbol, ""), self.reasons.get(symbol, "")
        return ": ".join(part for part in (text, reason) if part)


@dataclass(frozen=True)
class PathPower:
    """The power of the growing size in a quantity, where its formula comes from and when it holds.

    `assumptions` are those of the formula and of the orders; `lines` say how the power comes about.
    """

    power: Fraction
    derivation: Derivation
    assumptions: tuple[str, ...]
    lines: tuple[LimitLine, ...] = ()

    def times(self, left: str, power: Fraction, reason: str, whole: str) -> PathPower:
        """The power of this quantity times another one, which makes the `whole`.

        It has no line of its own where `whole` is empty.
        """
        more = [LimitLine(left, power, reason)]
        if whole:
            more.append(LimitLine(whole, self.power + power, "the product"))
        return replace(self, power=self.power + power, lines=(*self.lines, *more))


def path_orders(
    given: Mapping[sp.Symbol, Fraction],
    zipf_exponent: Fraction,
    *,
    init: Init | None = None,
    assumptions: tuple[str, ...] = (),
) -> PathOrders:
    """Orders of sizes, token law, batch, learning rates and initial standard deviations.

    `given` has those of d, m, B and n, and of what else follows the path. With s the growing size,
    d ~ s^a, m ~ s^b, B ~ s^c: the powers of a Zipf law are those of `zipf_orders` with b and c in
    place of mu and beta. `init` None: the initial standard deviation of the projection is left out.
    """
    values: list[tuple[sp.Expr, sp.Expr]] = [
        (s.rank_exponent, sp.Integer(0)),
        (s.zipf_exponent, _number(zipf_exponent)),
        (s.vocab_exponent, _number(given[s.vocab_size])),
        (s.batch_exponent, _number(given[s.batch_size])),
    ]
    of_law = {**zipf_orders(), s.presence: presence_order()}
    orders = {symbol: _fraction(order.subs(values)) for symbol, order in of_law.items()}
    orders |= {s.embedding_std: ZERO, **given}
    found = PathOrders(orders, assumptions, _law_reasons(zipf_exponent))
    if init is None:
        return found
    return found.with_orders({s.projection_std: found.power(initial_std(init)[s.projection_std])})


def _law_reasons(zipf_exponent: Fraction) -> dict[sp.Symbol, str]:
    """How the power sums of a Zipf law grow with the vocabulary."""
    found = {}
    for symbol, order in ((s.frequency_square_sum, 2), (s.frequency_cube_sum, 3)):
        if not zipf_exponent:
            found[symbol] = f"m^(-{order - 1}) for uniform tokens"
            continue
        above, below = order * zipf_exponent, zipf_exponent
        power = max(ZERO, 1 - above) - order * max(ZERO, 1 - below)
        found[symbol] = (
            f"H({above})/H({below})^{order} ~ m^({power}), since H(x) = sum_i i^(-x) over m "
            "tokens grows like m^max(0, 1 - x)"
        )
    return found


def first_step_power(
    layer: Layer,
    optimizer: Optimizer,
    orders: PathOrders,
    *,
    mini_batch: bool,
    init: Init = "mup",
    several_outputs: bool = False,
) -> PathPower:
    """Power in the RMS of a layer's first update at a learning rate of one.

    `several_outputs`: the embedding reads all of them, with (r_ik / |r_i|)^2 = 1/n, and R^2 = n
    under SGD.
    """
    _, rms = first_step(layer, optimizer, mini_batch=mini_batch, init=init)
    square, assumptions = rms.expression**2, rms.assumptions
    if layer == "embedding" and several_outputs:
        square = _of_several_outputs(optimizer) * simplified(square / _of_one(optimizer, init))
        assumptions = tuple(text for text in assumptions if text != "one output")
    power = orders.power(square) / 2
    lines = (*orders.lines(f"{rms.left}^2", square), LimitLine(rms.left, power, "the root"))
    return PathPower(power, rms, (*assumptions, *orders.assumptions), lines)


def _of_several_outputs(optimizer: Optimizer) -> sp.Expr:
    """The embedding's mean square of a token of frequency one, at residuals of size one."""
    values: list[tuple[sp.Expr, sp.Expr]] = [
        (s.residual, sp.Integer(1)),
        (s.residual_norm, sp.sqrt(s.outputs)),
        (s.embedding_lr, sp.Integer(1)),
        (s.frequency, sp.Integer(1)),
    ]
    return update_second_moment("embedding", optimizer).expression.subs(values)


def _of_one(optimizer: Optimizer, init: Init) -> sp.Expr:
    """The same for one output, at learning rate one."""
    square = first_step("embedding", optimizer, init=init)[1].expression ** 2
    return square / s.frequency_cube_sum if optimizer == "sgd" else square


def update_part_power(
    part: UpdatePart, optimizer: Optimizer, orders: PathOrders, *, mini_batch: bool
) -> PathPower:
    """Power in the root mean square of a part of the projection's first update.

    `aligned`: the largest that the update could be.
    """
    moments = alignment(of_one_token=False, mini_batch=mini_batch)
    derived = update_part("projection", optimizer, part)
    square = derived.expression.subs(
        {
            s.alignment: sp.sqrt(moments.alignment_square),
            s.field_square_sum: moments.field_square_sum,
        }
    )
    square = simplified(square)
    power = orders.power(square) / 2
    assumptions = (*derived.assumptions, *moments.assumptions, *orders.assumptions)
    name = {"aligned": "largest RMS", "coherent": "coherent RMS", "incoherent": "incoherent RMS"}
    root = LimitLine(name[part], power, "the root")
    return PathPower(power, derived, assumptions, (*orders.lines(f"{name[part]}^2", square), root))


def first_loss_power(orders: PathOrders, updates: Collection[Fraction]) -> PathPower:
    """Power in the mse loss after one update, from the powers in the RMS of the updates.

    It is half the mean square of initial residual, of targets of size one and of the initial
    output, plus updates, which do not cancel to leading order.
    """
    output_square = orders.of[s.width] + 2 * orders.of[s.projection_std]
    squares = (ZERO, output_square, *(2 * power for power in updates))
    lines = (
        LimitLine("mean y^2", ZERO, "targets of size one"),
        LimitLine("mean f^2", output_square, "initial outputs: d sigma_W^2"),
        *(LimitLine("RMS^2", 2 * power, "the square of an update") for power in updates),
        LimitLine("L per output", max(squares), "the largest of these"),
        LimitLine("n", orders.of[s.outputs], "outputs, over which the loss is summed"),
        LimitLine("L", orders.of[s.outputs] + max(squares), "the product"),
    )
    return PathPower(orders.of[s.outputs] + max(squares), mean_field_first_loss(), (), lines)


# Later updates under sign


def later_step_power(
    directions: Directions, orders: PathOrders, moves: Fraction, *, mini_batch: bool
) -> PathPower:
    """Power in the RMS of the projection's T-th update; `moves`: of the updates before it."""
    theta = orders.of[s.embedding_lr] + moves
    if mini_batch:
        theta += min(ZERO, orders.of[s.batch_size] - orders.of[s.vocab_size])
    moments = alignment(of_one_token=False, mini_batch=mini_batch)
    outputs = orders.of[s.outputs] if directions == "many" else ZERO
    age = theta - (outputs + orders.power(moments.field_square_sum)) / 2
    on_initial, on_learned = _signal_powers(directions, age)
    coherent = [2 * (on_learned + theta) - outputs]
    if on_initial is not None:
        coherent.append(orders.power(moments.alignment_square) + 2 * on_initial)
    bracket = max(ZERO, 2 * theta, orders.of[s.width] + max(coherent))
    power = orders.of[s.projection_lr] + (orders.of[s.width] + bracket) / 2
    second = aged_update_second_moment(directions)
    lines = (
        LimitLine("theta", theta, "displacement of the embedding by the updates before"),
        LimitLine("tau", age, "age of the field: theta over the noise of the gradient"),
        LimitLine("1", ZERO, "the noise, a term of RMS^2/(eta_W^2 d)"),
        LimitLine("theta^2", 2 * theta, "what the embedding has moved, another one"),
        LimitLine("d C", orders.of[s.width] + max(coherent), "what neurons do in common, the last"),
        LimitLine("RMS^2/(eta_W^2 d)", bracket, "the largest of these"),
        LimitLine("eta_W", orders.of[s.projection_lr], "learning rate of the projection"),
        LimitLine("RMS", power, "eta_W sqrt(d) times the root"),
    )
    return PathPower(power, second, (*second.assumptions, *orders.assumptions), lines)


def _signal_powers(directions: Directions, age: Fraction) -> tuple[Fraction | None, Fraction]:
    """Powers of u and v of `aged_signal` at an age of that power.

    None where u falls faster than any power, as it does for one direction.
    """
    parts, tau = aged_signal(directions), s.field_age
    if age > 0:
        late = sp.limit(parts.on_initial * tau, tau, sp.oo)
        assert sp.limit(parts.on_learned, tau, sp.oo).is_positive
        return (None if late == 0 else -age), ZERO
    assert sp.limit(parts.on_learned / tau, tau, 0).is_positive
    return ZERO, age


def visits_power(orders: PathOrders, moves: Fraction, *, mini_batch: bool) -> Fraction:
    """Power in the RMS of a token's displacement by all updates, over that by the first.

    In full batch it grows with their number t. In mini-batches a token is seen q t times, with a
    variance of q (1 - q) t, and the first update has a mean square of q.
    """
    if not mini_batch:
        return moves
    return max(moves, 2 * moves + orders.of[s.presence]) / 2


# Learning rates, and the end of the large-vocabulary regime


def optimal_rate_power(which: OptimalRate, orders: PathOrders) -> PathPower:
    """Power in a layer's optimal learning rate after one update, or in the ratio of both layers'.

    The self term of the projection is included. S = (1 + sigma_f^2) P_2 is of the order of P_2,
    since sigma_f^2 = d sigma_W^2 is at most of order one.
    """
    orders = orders.with_orders(
        {s.field_square_sum: orders.of[s.frequency_square_sum], s.residual_slope: ZERO}
    )
    orders = orders.with_orders({s.self_term_ratio: orders.power(self_term_ratio().expression)})
    rates = {
        "embedding": optimal_learning_rate("embedding").expression,
        "projection": optimal_projection_lr_with_self_term().expression,
    }
    embedding, projection = (orders.power(one) for one in rates.values())
    kappa = self_term_ratio()
    of_kappa = orders.lines(f"{s.self_term_ratio}", kappa.expression)
    of_embedding = orders.lines("eta_E*", rates["embedding"])
    of_projection = (*of_kappa, *orders.lines("eta_W*", rates["projection"]))
    quotient = LimitLine("eta_E*/eta_W*", embedding - projection, "the quotient")
    power, derived, lines = {
        "embedding": (embedding, optimal_embedding_lr_with_output("sign"), of_embedding),
        "projection": (projection, optimal_projection_lr_with_self_term(), of_projection),
        "ratio": (
            embedding - projection,
            optimal_ratio(),
            (*of_embedding, *of_projection, quotient),
        ),
    }[which]
    lines = tuple(dict.fromkeys(lines))
    return PathPower(power, derived, (*derived.assumptions, *orders.assumptions), lines)


def restoration_power(directions: Directions, orders: PathOrders, *, early: bool) -> PathPower:
    """Power in eta_E t_c at the end of the large-vocabulary regime, for uniform tokens.

    `orders` has that of the effective outputs. `early`: the batch is smaller than the width, so
    that the first update's coherent part is that of a batch, and P_2 is 1/B in its place.
    """
    derived = restoration_displacement(directions)
    if early:
        orders = orders.with_orders(
            {s.frequency_square_sum: -orders.of[s.batch_size]}, "1/B, that of a batch"
        )
        derived = early_restoration_displacement(directions)
    assumptions = (*derived.assumptions, "uniform token law")
    lines = orders.lines("eta_E t_c", derived.expression)
    return PathPower(orders.power(derived.expression), derived, assumptions, lines)


def visited_power(orders: PathOrders) -> Fraction:
    """Power in the chance min(1, B/m) that a batch holds a token, for uniform tokens."""
    return min(ZERO, orders.of[s.batch_size] - orders.of[s.vocab_size])


def _number(power: Fraction) -> sp.Rational:
    return sp.Rational(power.numerator, power.denominator)


def _fraction(number: sp.Expr) -> Fraction:
    if not isinstance(number, sp.Rational):
        raise ValueError(f"{number} is not a fraction")
    return Fraction(int(number.p), int(number.q))
