"""Size and coherent part of the first update of a hidden matrix: Muon beside sign descent."""

from __future__ import annotations

from functools import cache

import sympy as sp

from . import _symbols as s
from ._derivation import Derivation, Step
from ._regimes import coherence_ratio

SOURCE = "docs/theory/first_step.md#muon-step"


@cache
def muon_update_rms() -> Derivation:
    """RMS of one coordinate of Delta W e under Muon: eta_W sigma_E, for every d and m.

    Delta W = -eta_W O with O = G (G^T G)^(-1/2), G = sum_i p_i delta_i e_i^T. O is an isometry on
    the row space of G, which holds every e_i, so |O e_i| = |e_i| = sqrt(d) sigma_E: no alignment
    and no vocabulary enter, and the LR exponent does not depend on them.
    """
    length = sp.sqrt(s.width) * s.embedding_std
    value = s.projection_lr * length / sp.sqrt(s.width)
    return Derivation(
        name="RMS of Muon's first update",
        left="RMS",
        latex_left=r"\mathrm{RMS}",
        expression=value,
        assumptions=(
            "the update is exactly orthogonalised (no Newton-Schulz error, no shape factor)",
            "the gradient's row space holds e_i: all tokens in the batch, or rank d",
        ),
        steps=(
            Step("The embedding's length, kept by an isometry:", "|O e_i|", "|Oe_i|", length),
            Step(
                "Spread over d coordinates and times the learning rate:",
                "RMS",
                r"\mathrm{RMS}",
                value,
            ),
        ),
        source=SOURCE,
    )


@cache
def muon_coherent_fraction() -> Derivation:
    """Mean cosine of Muon's update -Delta W e_i with delta_i for m >> d: 8/(3 pi) sqrt(d/m).

    sum_i delta_i . O e_i = tr(O^T G) is the sum of the singular values of G = sum_i delta_i e_i^T.
    For m >> d that is a square Gaussian matrix with entries of variance m, whose singular values
    are sqrt(m d) times a quarter-circle law on [0, 2], of mean 8/(3 pi); divide by the m products
    of lengths |delta_i| |e_i| = d. For m << d the tokens are orthogonal and the fraction is 1.
    """
    x = sp.Symbol("x", positive=True)
    density = sp.sqrt(4 - x**2) / sp.pi
    assert sp.simplify(sp.integrate(density, (x, 0, 2)) - 1) == 0
    mean = sp.simplify(sp.integrate(x * density, (x, 0, 2)))
    nuclear = s.width * sp.sqrt(s.vocab_size * s.width) * mean
    value = sp.simplify(nuclear / (s.vocab_size * s.width))
    left, latex = "cos", r"\cos"
    return Derivation(
        name="Coherent fraction of Muon's first update",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            "uniform tokens, m much larger than d, both large",
            "delta_i and e_i independent Gaussian vectors (as many outputs as neurons)",
            "the update is exactly orthogonalised",
        ),
        steps=(
            Step("Mean of the quarter-circle law on [0, 2].", "E[s]", r"\mathbb{E}[s]", mean),
            Step(
                "Sum of the d singular values of the gradient.",
                "tr(O^T G)",
                r"\operatorname{tr}(O^\top G)",
                nuclear,
            ),
            Step("Divide by sum_i |delta_i| |e_i| = m d.", left, latex, value),
        ),
        source=SOURCE,
    )


@cache
def sign_coherent_fraction() -> Derivation:
    """The same cosine under sign: sqrt(rho / (1 + rho)), so sqrt(2/pi) sqrt(d/m) for m >> d.

    From the first-step moments: |mean| over RMS at c^2 = 1/m. Muon's 8/(3 pi) = 0.849 stands
    against sign's 0.798: the vocabulary dilutes both alike.
    """
    ratio = coherence_ratio()
    value = sp.sqrt(ratio.expression / (1 + ratio.expression))
    return Derivation(
        name="Coherent fraction of the first sign update",
        left="cos",
        latex_left=r"\cos",
        expression=sp.simplify(value),
        assumptions=ratio.assumptions,
        steps=(
            *ratio.steps,
            Step("Coherent over total RMS.", "cos", r"\cos", sp.simplify(value)),
        ),
        source=SOURCE,
    )
