"""Every derivation can be read: text, LaTeX, assumptions, and steps that end in the result."""

from __future__ import annotations

import inspect
import re

import pytest
import sympy as sp
from citations import names_a_source

import derivations
from derivations import Derivation, Step
from derivations._derivation import latex_prose


def every_derivation() -> dict[str, Derivation]:
    """All public derivations, the parametrised ones at each of their layers and optimizers."""
    found: dict[str, Derivation] = {}
    for name, function in vars(derivations).items():
        if name.startswith("_") or isinstance(function, type) or not callable(function):
            continue
        signature = inspect.signature(function)
        required = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.default is parameter.empty
        ]
        if signature.return_annotation in ("Derivation", Derivation) and not required:
            found[name] = function()
    for optimizer in derivations.OPTIMIZERS:
        found[f"hidden_output {optimizer}"] = derivations.hidden_output_second_moment(optimizer)
        for layer in derivations.LAYERS:
            for part in derivations.UPDATE_PARTS:
                found[f"{part} {layer} {optimizer}"] = derivations.update_part(
                    layer, optimizer, part
                )
        found[f"cross {optimizer}"] = derivations.cross_term_second_moment(optimizer)
        for layer in derivations.LAYERS:
            found[f"mean {layer} {optimizer}"] = derivations.update_mean(layer, optimizer)
            found[f"square {layer} {optimizer}"] = derivations.update_second_moment(
                layer, optimizer
            )
            for shape in ({}, {"of_one_token": True}, {"mini_batch": True}):
                mean, rms = derivations.first_step(layer, optimizer, **shape)
                found[f"first_step mean {layer} {optimizer} {shape}"] = mean
                found[f"first_step rms {layer} {optimizer} {shape}"] = rms
    for passage in ("down", "up"):
        found[f"hidden_passage {passage}"] = derivations.hidden_passage(passage)
        found[f"hidden_response {passage}"] = derivations.hidden_response(passage)
        found[f"nonlinear_passage {passage}"] = derivations.nonlinear_passage(passage)
    for convention in derivations.MUON_CONVENTIONS:
        for name in ("muon_scale", "muon_entry_rms", "muon_operator_rms"):
            found[f"{name} {convention}"] = getattr(derivations, name)(convention)
    for convention in derivations.DECAY_CONVENTIONS:
        found[f"step_decay_of {convention}"] = derivations.step_decay_of(convention)
    for spread in derivations.SPREADS:
        found[f"similar_std {spread}"] = derivations.similar_std(spread)
        for layer in ("embedding", "projection"):
            for updates in ("proportional", "sized"):
                similar = derivations.similar_rate(layer, spread, updates)
                found[f"similar_rate {layer} {spread} {updates}"] = similar
    found["common_slope_share"] = derivations.common_slope_share("relu")
    for name in ("deep_token_output", "deep_neuron_gradient", "deep_projection_gradient"):
        found[name] = getattr(derivations, name)(2)
    for layer in derivations.HEAD_LAYERS:
        found[f"head_crossover {layer}"] = derivations.head_crossover(layer)
        for optimizer in derivations.OPTIMIZERS:
            mean, rms = derivations.head_step(layer, optimizer)
            found[f"head_step mean {layer} {optimizer}"] = mean
            found[f"head_step rms {layer} {optimizer}"] = rms
    for layer in ("head", "embedding"):
        found[f"batch_pair {layer}"] = derivations.batch_pair_alignment(layer)
    for layer in ("embedding", "projection"):
        found[f"optimal {layer}"] = derivations.optimal_learning_rate(layer)
    return found


DERIVATIONS = every_derivation()


def test_the_search_finds_them():
    expected = {
        "arcsine_law",
        "coherence_ratio",
        "critical_vocab_exponent",
        "crossover_rank",
        "crossover_vocab_size",
        "maximal_update_ratio",
        "optimal_projection_lr_with_self_term",
        "optimal_ratio",
        "optimal_ratio_mup_uniform",
        "self_term_ratio",
        "self_term_second_moment",
    }
    assert expected <= set(DERIVATIONS)


def braces_balance(latex: str) -> bool:
    depth = 0
    for token in re.findall(r"\\.|[{}]", latex, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            return False
    return depth == 0


def environments_balance(latex: str) -> bool:
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", latex):
        if kind == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            return False
    return not opened and latex.count(r"\[") == latex.count(r"\]")


def test_the_balance_checks_can_fail():
    assert braces_balance(r"\frac{1}{2} \{ x \}")
    assert not braces_balance(r"\frac{1}{2")
    assert not braces_balance("}{")
    assert environments_balance(r"\begin{itemize}\[ x \]\end{itemize}")
    assert not environments_balance(r"\begin{itemize}\end{enumerate}")
    assert not environments_balance(r"\[ x")


@pytest.mark.parametrize("name", DERIVATIONS)
def test_derivation_reads(name):
    derived = DERIVATIONS[name]
    assert derived.name
    assert derived.left
    assert derived.latex_left
    assert names_a_source(derived.source), derived.source
    assert derived.assumptions
    assert all(derived.assumptions)
    assert derived.steps
    assert all(step.reason and step.left for step in derived.steps)
    text = derived.to_text()
    assert str(derived.expression) in text
    for assumption in derived.assumptions:
        assert assumption in text
    assert f"  {len(derived.steps)}. " in text
    latex = derived.to_latex()
    assert braces_balance(latex)
    assert environments_balance(latex)
    assert sp.latex(derived.expression) in latex
    assert latex.count(r"\item") == len(derived.assumptions) + len(derived.steps)


@pytest.mark.parametrize("name", DERIVATIONS)
def test_last_step_is_the_result(name):
    derived = DERIVATIONS[name]
    last = derived.steps[-1].right
    assert last == derived.expression or sp.simplify(last - derived.expression) == 0


@pytest.mark.parametrize("name", DERIVATIONS)
def test_no_assumption_is_said_twice(name):
    assumptions = DERIVATIONS[name].assumptions
    assert len(assumptions) == len(set(assumptions))


ESCAPED = r"\\(textbackslash|textasciitilde)\{\}|\\\^\{\}|\\[_%&#{}]"


@pytest.mark.parametrize("name", DERIVATIONS)
def test_words_hold_nothing_that_latex_reads_as_a_command(name):
    derived = DERIVATIONS[name]
    for words in (derived.name, *derived.assumptions, *(step.reason for step in derived.steps)):
        prose = re.sub(r"\$[^$]*\$", "", latex_prose(words))  # symbols are set as mathematics
        assert not re.search(r"[\\_^%&#{}~]", re.sub(ESCAPED, "", prose)), prose


def test_indexed_symbols_in_a_sentence_are_mathematics():
    given = (
        "So -sigma_E^2/h_(l-1) = sum_j p_hat_j^-1 falls by 3 % (docs/first_step.md#sign_kernel)."
    )
    expected = (
        r"So -$\sigma_{E}^{2}$/$h_{l-1}$ = $\sum_{j}$ $p_{hat,j}^{-1}$ falls by 3 \% "
        r"(docs/first\_step.md\#sign\_kernel)."
    )
    assert latex_prose(given) == expected


def test_specialise_adds_a_step_and_its_assumption():
    ratio = derivations.coherence_ratio()
    at_width = ratio.specialise({derivations.symbols.width: 3}, "Put d = 3.", ("d = 3",))
    assert at_width.expression == ratio.expression.subs(derivations.symbols.width, 3)
    assert at_width.steps[:-1] == ratio.steps
    assert at_width.steps[-1].right == at_width.expression
    assert at_width.assumptions == (*ratio.assumptions, "d = 3")
    assert ratio.expression != at_width.expression  # the original is untouched


def test_a_step_prints_reason_and_equation():
    x = sp.Symbol("x")
    step = Step("Because of 100 %.", "y", "y", x**2)
    assert step.to_text() == "Because of 100 %.\n      y = x**2"
    assert step.to_latex() == "Because of 100 \\%.\n\\[ y = x^{2} \\]"
