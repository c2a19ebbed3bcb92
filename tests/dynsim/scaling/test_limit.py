"""The derivation of an exponent along a path: it ends in the exponent, and its lines are powers."""

from __future__ import annotations

import math

import pytest
import sympy as sp

from derivations import symbols as s
from dynsim.scaling._exponent import named_quantity
from dynsim.scaling._family import family
from dynsim.scaling._limit import OTHERS, derivation_text

KNOWN = {str(symbol): symbol for symbol in s.MEANING}
CASES = [
    ("projection_step_rms", {"vocab_size": "d^0.7", "tokens": "zipf:0.8", "batch_size": 4096}),
    ("projection_update_rms", {"vocab_size": "4*d", "projection_lr": "0.01*d^(-1)"}),
    ("embedding_step_rms", {"vocab_size": "d", "batch_size": "d^0.5"}),
    ("alignment", {"vocab_size": "d^2"}),
    ("coherent_rms", {"vocab_size": "d"}),
    ("loss", {"vocab_size": "d", "projection_lr": "0.01*d^(-1)"}),
    ("optimal_rate_ratio", {"vocab_size": "4*d"}),
    ("restoration", {"vocab_size": "d^2", "optimizer": "sign", "targets": "sign"}),
    ("hidden_step_rms", {"network": "mlp", "vocab_size": "d"}),
]


@pytest.fixture(params=CASES, ids=[name for name, _ in CASES])
def case(request):
    name, options = request.param
    along = family("width", [64, 128], **options)
    return named_quantity(name).asymptotic(along), along, name


def test_the_last_line_is_the_exponent(case):
    found, along, name = case
    assert found.lines[-1].power == found.exponent
    text = derivation_text(found, along, name)
    assert text.startswith(found.derivation.to_text())
    *_, heading, last = text.splitlines()
    assert heading == f"Exponent of d: {found.exponent}"
    assert last.strip().startswith(f"{name} ~ ")
    assert f"m = {along.paths['vocab_size']}" in text


def test_every_symbol_of_the_lines_is_defined(case):
    found, along, name = case
    symbols = derivation_text(found, along, name).partition("\nSymbols\n")[2]
    for line in found.lines:
        for symbol in KNOWN:
            if symbol in line.left.replace("*", " ").replace("/", " ").split():
                assert f"  {symbol}: {OTHERS.get(symbol) or s.MEANING[KNOWN[symbol]]}" in symbols


def test_each_term_grows_with_the_power_that_stands_beside_it(case):
    """With the power of every symbol put in, the local slope far out is that power."""
    found, _, _ = case
    powers = {KNOWN[line.left]: line.power for line in found.lines if line.left in KNOWN}
    d = s.width
    for line in found.lines:
        if "a term of" not in line.reason and line.reason != "a denominator":
            continue
        term = sp.sympify(line.left, locals=KNOWN)
        along = term.subs({symbol: d**power for symbol, power in powers.items() if symbol != d})
        sizes = sp.Float(10, 60) ** 40, sp.Float(10, 60) ** 42
        low, high = (abs(along.subs(d, size).evalf(60)) for size in sizes)
        slope = float(sp.log(high / low)) / math.log(100)
        assert slope == pytest.approx(float(line.power), abs=1e-3), line
