"""The derived expressions that the explorer evaluates, by name.

Names are those by which the page's code asks for them: what, of which layer or of one or many
directions, under which optimizer, in full batch or in a mini-batch, with which initialisation. Adam
moves like sign at its first step, so that `sign` stands for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import sympy as sp

import derivations
from derivations import symbols as s

KERNELS: tuple[Literal["sign", "sgd"], ...] = ("sign", "sgd")
INITS: tuple[derivations.Init, ...] = ("mup", "sp")
DIRECTIONS: tuple[derivations.Directions, ...] = ("one", "many")
TARGETS: tuple[derivations.ErrorTargets, ...] = ("sign", "gaussian")
BATCHES = {"full": False, "batch": True}


@cache
def formulas() -> dict[str, sp.Expr]:
    """Every expression by its name."""
    found = dict(_every())
    return {name: found[name] for name in sorted(found)}


def _every() -> Iterator[tuple[str, sp.Expr]]:
    yield from _first_steps()
    yield from _coherence()
    yield from _later_steps()
    yield from _learning_rates()
    yield from _errors()


def _first_steps() -> Iterator[tuple[str, sp.Expr]]:
    """RMS at learning rate 1 and local exponent of each layer's first update."""
    for init in INITS:
        rms = _with_self_term(init)
        yield f"rms.self_term.{init}", rms
        yield f"slope.self_term.{init}", derivations.local_exponent(rms)
    for kernel in KERNELS:
        for batch, mini_batch in BATCHES.items():
            for init in INITS:
                for layer in ("embedding", "projection"):
                    many = layer == "embedding"  # c^2 = 1/n, of one output as well
                    _, rms = derivations.first_step(
                        layer, kernel, mini_batch=mini_batch, init=init, many_outputs=many
                    )
                    name = f"{layer}.{kernel}.{batch}.{init}"
                    yield f"rms.{name}", rms.expression
                    yield f"slope.{name}", derivations.local_exponent(rms.expression)
            _, rms = derivations.feature_first_step(kernel)
            slope = derivations.local_exponent(rms.expression)
            law = derivations.alignment(of_one_token=False, mini_batch=mini_batch)
            values: Any = {
                s.alignment_square: law.alignment_square,
                s.field_square_sum: law.field_square_sum,
                derivations.mean_excess: 0,
            }
            yield f"rms.readout.{kernel}.{batch}", rms.expression.subs(values)
            yield f"slope.readout.{kernel}.{batch}", slope.subs(values)


def _with_self_term(init: derivations.Init) -> sp.Expr:
    """The projection's first sign update with the self term, averaged over tokens."""
    law = derivations.alignment(of_one_token=False, mini_batch=False)
    averages: Any = {
        s.projection_lr: 1,
        s.alignment_square: law.alignment_square,
        s.frequency: s.frequency_square_sum,
    }
    second = derivations.self_term_second_moment().expression.subs(averages)
    return sp.sqrt(second.subs(s.self_term_ratio, _self_term_ratio(init)).subs(s.embedding_std, 1))


def _self_term_ratio(init: derivations.Init) -> sp.Expr:
    """kappa at targets of unit variance and mean squared error."""
    std: Any = derivations.initial_std(init)
    kappa = derivations.self_term_ratio().expression.subs(s.residual_slope, 1)
    return kappa.subs(s.field_square_sum, derivations.field_with_output()).subs(std)


def _coherence() -> Iterator[tuple[str, sp.Expr]]:
    """Coherent over incoherent power of the first update, and the token law's own expressions."""
    for batch, mini_batch in BATCHES.items():
        for kernel in KERNELS:
            ratio = derivations.average_coherence_ratio(kernel, mini_batch=mini_batch)
            yield f"coherence.{kernel}.{batch}", ratio
        yield f"coherence.token.{batch}", derivations.token_coherence_ratio(mini_batch=mini_batch)
        yield (
            f"crossover_frequency.{batch}",
            derivations.crossover_frequency(mini_batch=mini_batch),
        )
    crossover = derivations.crossover_vocab_size().expression
    yield "coherence.own_tokens", derivations.batch_alignment() * crossover
    law = derivations.zipf_law(of_one_token=True)
    yield (
        "zipf_weight",
        law[s.frequency] * sp.harmonic(s.vocab_size, s.zipf_exponent),
    )
    presence = derivations.alignment(of_one_token=True, mini_batch=True).presence
    yield "presence", presence


def _later_steps() -> Iterator[tuple[str, sp.Expr]]:
    """Updates once the embedding has moved, and the end of the LV regime."""
    unit: Any = {s.projection_lr: 1, s.embedding_std: 1}
    for directions in DIRECTIONS:
        second = derivations.aged_update_second_moment(directions).expression
        slope = derivations.aged_local_exponent(directions)
        power = derivations.aged_coherent_power(directions)
        end = derivations.restoration_displacement(directions).expression
        yield f"restoration.{directions}", end
        for batch, mini_batch in BATCHES.items():
            age = derivations.mini_batch_age() if mini_batch else derivations.full_batch_age()
            visited = derivations.visited_age(mini_batch=True) if mini_batch else age
            for name, expression in (("rms", sp.sqrt(second)), ("slope", slope), ("power", power)):
                yield f"aged.{name}.{directions}.{batch}", _at_age(expression, age).subs(unit)
            yield f"aged.visited.{directions}.{batch}", _at_age(power, visited).subs(unit)


def _at_age(expression: sp.Expr, age: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    return expression.subs(list(age.items()), simultaneous=True)


def _learning_rates() -> Iterator[tuple[str, sp.Expr]]:
    for init in INITS:
        std: Any = derivations.initial_std(init)
        ratio = derivations.optimal_rate_ratio_with_output(init).expression
        yield f"optimal_ratio.{init}", ratio
        maximal = derivations.maximal_update_ratio().expression
        yield f"maximal_update_ratio.{init}", maximal.subs(std)
        yield f"self_term.{init}", _self_term_ratio(init)
        yield f"gradient_size.{init}", (s.projection_std * s.frequency_square_sum).subs(std)
    for kernel in KERNELS:
        yield f"hidden_growth.{kernel}", derivations.hidden_update_growth_formula(kernel)


def _errors() -> Iterator[tuple[str, sp.Expr]]:
    """By how much the formulas are off, which decides where the page draws them."""
    for init in INITS:
        yield f"error.turned.{init}", derivations.residual_change(init)
        yield f"output_variance.{init}", derivations.initial_output_variance(init)
        for batch, mini_batch in BATCHES.items():
            for kernel in KERNELS:
                yield (
                    f"error.initial.{kernel}.{init}.{batch}",
                    derivations.initial_output_error(kernel, init, mini_batch=mini_batch),
                )
                for targets in TARGETS:
                    yield (
                        f"error.unequal.{kernel}.{targets}.{init}.{batch}",
                        derivations.unequal_residuals_error(
                            kernel, targets, init, mini_batch=mini_batch, of_slope=True
                        ),
                    )
