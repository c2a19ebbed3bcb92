"""Size and coherent part of the first update of a hidden matrix: Muon beside sign descent."""

from __future__ import annotations

import sympy as sp

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._regimes import coherence_ratio

SOURCE = "docs/theory/first_step.md#muon-step"


@cache
def muon_update_rms() -> Derivation:
    """RMS of Delta W e under Muon: eta_W sigma_E sqrt(1 - (1 - k/m) (1 - k/d)), k the rank of G.

    Delta W = -eta_W O with O = G ((G^T G)^+)^(1/2), G = sum_i p_i delta_i e_i^T and ^+ the
    pseudo-inverse: O is an isometry on the k-dimensional row space of G and zero across it. With
    k = min(m, d), which takes min(m, d) linearly independent delta_i, the row space holds every
    e_i: the RMS is eta_W sigma_E at every width and vocabulary. A lower rank keeps less: sqrt(k/d)
    of it for m >> d and sqrt(k/m) for m << d.
    """
    m, d, k = s.vocab_size, s.width, s.gradient_rank
    own = k * d * s.embedding_std**2
    others = (m - k) * k * s.embedding_std**2
    share = 1 - (1 - k / m) * (1 - k / d)
    assert sp.expand((own + others) / (m * d * s.embedding_std**2) - share) == 0
    value = s.projection_lr * s.embedding_std * sp.sqrt(share)
    return Derivation(
        name="RMS of Muon's first update",
        left="RMS",
        latex_left=r"\mathrm{RMS}",
        expression=value,
        assumptions=(
            "the update is exactly orthogonalised (no Newton-Schulz error, no shape factor)",
            "the gradient has rank k, from 1 to min(m, d): k of the delta_i are independent",
            "all m tokens occur; the mean is over token types, each counted once",
            "for k below min(m, d): Gaussian embeddings on which the delta_i do not depend",
        ),
        steps=(
            Step(
                "Rotate the tokens such that the p_i delta_i fill k of the m directions. The k "
                "embeddings there span the row space of G, and an isometry keeps their length:",
                "sum of |O e|^2 over k directions",
                r"\textstyle\sum_{k}|Oe|^2",
                own,
            ),
            Step(
                "The other m - k are independent of that space and keep the share k/d:",
                "sum of |O e|^2 over the others",
                r"\textstyle\sum_{m-k}|Oe|^2",
                others,
            ),
            Step(
                "The root of the mean over m tokens and d coordinates, times the learning rate:",
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

    sum_i p_i delta_i . O e_i = tr(O^T G) is the sum of the singular values of G, with
    G = sum_i p_i delta_i e_i^T and p_i = 1/m. In units of the entries of delta and e, and for
    m >> d, that is a square Gaussian matrix with entries of variance 1/m. Its singular values are
    sqrt(d/m) times a quarter-circle law on [0, 2], of mean 8/(3 pi). Divide by the mean product of
    lengths |delta_i| |O e_i| = d. For m << d the tokens are orthogonal and the fraction is 1.
    """
    x = sp.Symbol("x", positive=True)
    density = sp.sqrt(4 - x**2) / sp.pi
    assert sp.simplify(sp.integrate(density, (x, 0, 2)) - 1) == 0
    mean = sp.simplify(sp.integrate(x * density, (x, 0, 2)))
    nuclear = s.width * sp.sqrt(s.width / s.vocab_size) * mean
    value = sp.simplify(nuclear / s.width)
    left, latex = "cos", r"\cos"
    return Derivation(
        name="Coherent fraction of Muon's first update",
        left=left,
        latex_left=latex,
        expression=value,
        assumptions=(
            "uniform tokens, m much larger than d, both large",
            "delta_i and e_i independent Gaussian vectors (so the gradient has full rank)",
            "the update is exactly orthogonalised",
        ),
        steps=(
            Step("Mean of the quarter-circle law on [0, 2].", "E[s]", r"\mathbb{E}[s]", mean),
            Step(
                "Sum of the d singular values of the gradient, in units of the entries' sizes.",
                "tr(O^T G)",
                r"\operatorname{tr}(O^\top G)",
                nuclear,
            ),
            Step("Divide by sum_i p_i |delta_i| |O e_i| = d.", left, latex, value),
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
