"""Lines between regimes: what is written of them, and the frequency at which a token crosses."""

from __future__ import annotations

import pytest
import sympy as sp

import derivations
from derivations import symbols as s


def test_lines_are_written_in_one_line():
    assert derivations.vocabulary_boundary("uniform") == (
        "m = 2*(d - 1)/pi",
        r"$m=2 (d - 1) / \pi$",
    )
    one, many = (derivations.restoration_boundary(which) for which in ("one", "many"))
    assert one == ("eta_E t ~ 1/sqrt(d)", r"$\eta_E t\simeq 1 / \sqrt{d}$")
    assert many.text == "eta_E t ~ pi*sqrt(n_eff)/(2*sqrt(d))"
    assert derivations.self_term_boundary("mup").text == "1/P_2 ~ d**2"
    assert derivations.self_term_boundary("sp").text == "1/P_2 ~ d"


@pytest.mark.parametrize(
    ("exponent", "words"),
    [(0.25, "d^1"), (0.4, "d^1.25"), (0.75, "d^4"), (1.0, "finite widths alone")],
)
def test_zipf_laws_are_lv_beyond_their_critical_exponent(exponent, words):
    assert derivations.zipf_boundary(exponent).text.endswith(words)


def test_of_all_zipf_laws_the_critical_exponent_is_written_out():
    """With (x)_+ for max(0, x), what is subtracted last."""
    assert derivations.zipf_boundary().drawn == (
        r"$m\sim d^{\,\mu_*}$, "
        r"$\mu_*=1/[(1 - \alpha)_+ + (1 - 2 \alpha)_+ - (1 - 3 \alpha)_+]$"
    )


@pytest.mark.parametrize("batch_size", [None, 1, 50])
def test_a_token_crosses_where_its_own_ratio_is_one(batch_size):
    """The root of (2/pi) (d - 1) c_i^2 = 1; for batches of one token the equation is linear."""
    mini_batch = batch_size is not None
    numbers = {s.width: 300, s.frequency_square_sum: sp.Rational(1, 40), s.batch_size: batch_size}
    if not mini_batch:
        numbers.pop(s.batch_size)
    root = derivations.crossover_frequency(mini_batch=mini_batch).subs(numbers)
    square = derivations.alignment(of_one_token=True, mini_batch=mini_batch).alignment_square
    at_root = square.subs(numbers).subs(s.frequency, root)
    assert root > 0
    assert float(2 / sp.pi * 299 * at_root) == pytest.approx(1)


@pytest.mark.parametrize("optimizer", ["sign", "sgd"])
def test_the_average_ratio_is_coherent_over_incoherent_power(optimizer):
    """RMS^2 = d RMS^2(1) (1 + rho): linear in d - 1, and that of uniform tokens under sign."""
    ratio = derivations.average_coherence_ratio(optimizer)
    _, rms = derivations.first_step("projection", optimizer)
    square = rms.expression**2
    whole = s.width * square.subs(s.width, 1) * (1 + ratio)
    assert sp.simplify(whole - square) == 0
    assert sp.simplify(ratio / (s.width - 1)).has(s.width) is False
    if optimizer == "sign":
        uniform = derivations.coherence_ratio().expression
        assert sp.simplify(ratio.subs(derivations.UNIFORM_LAW) - uniform) == 0
