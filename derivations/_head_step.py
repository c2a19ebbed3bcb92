"""The first step of a softmax head, of the embedding below it, and of one matrix that is both.

Model: logits f_ik = e_i . w_k of context i and target k, cross entropy on P(k | i), small initial
logits. Untied: rows e_i ~ N(0, sigma_E^2) and w_k ~ N(0, sigma_W^2). Tied: w_k = (sigma_W /
sigma_E) e_k, one matrix with the gradient of both. An average over pairs is written < >.
"""

from __future__ import annotations

from typing import Literal

import sympy as sp
from sympy.functions.combinatorial.numbers import stirling

from . import _symbols as s
from ._cache import cache
from ._derivation import Derivation, Step
from ._first_step import GAUSSIAN_WEIGHTS, update_mean, update_second_moment
from ._gaussian import Optimizer, kernel, normal_expectation
from ._law_first_step import Init, in_alignment_square, initial_std
from ._token_laws import leading_order

HeadLayer = Literal["head", "embedding", "tied"]
HEAD_LAYERS: tuple[HeadLayer, ...] = ("head", "embedding", "tied")
SOURCE = "docs/theory/first_step.md#head-step"
TIED_SOURCE = "docs/theory/first_step.md#tied-step"
BATCH_SOURCE = "docs/theory/first_step.md#head-batch"

SMALL_LOGITS = "small initial logits, so that the softmax is uniform"
PAIR_AVERAGE = "C is the mean square of the alignment over the pairs that are looked at"
ROW_OVERLAP = (
    "the gradients of rows i and k are taken as uncorrelated in a term of relative order 1/d"
)
TIED_UNITS = "one matrix e, logits (sigma_W / sigma_E) e_i . e_k, LR eta_E"

target_probability = sp.Symbol("P", nonnegative=True)  # P(k | i)
effective_contexts = sp.Symbol("N", positive=True)
context_exponent = sp.Symbol("nu", nonnegative=True)  # N = d^nu
tied_gradient = sp.Symbol("A", real=True)  # A_ik = p_i r_ik + p_k r_ki
tied_norms = sp.Symbol("V", positive=True)  # <|A_i|^2 + |A_k|^2>
own_product = sp.Symbol("D", real=True)  # <a_ik a_ki + a_ii a_kk>, of SGD <A_ik^2 + A_ii A_kk>
repeat_share = sp.Symbol("delta", nonnegative=True)  # how often the target is the context itself
repeat_norm = sp.Symbol("V_delta", nonnegative=True)  # <|A_i|^2 for k = i, else 0>
target_frequency = sp.Symbol("q_k", positive=True)  # sum_i p_i P(k | i)


@cache
def head_residual() -> Derivation:
    """r_ik = 1/n - P(k | i), the derivative of the cross entropy by one logit at zero logits."""
    logit, n, chance = sp.Symbol("f", real=True), s.outputs, target_probability
    loss = sp.log(sp.exp(logit) + n - 1) - chance * logit
    residual = sp.simplify(sp.diff(loss, logit).subs(logit, 0))
    left, latex_left = "r_ik", "r_{ik}"
    reason = (
        "Of the cross entropy ln sum_q exp f_iq - sum_q P(q | i) f_iq the logit f_ik sees this, "
        "where the other logits are zero. Its derivative at zero is the residual."
    )
    return Derivation(
        name="Residual of a softmax head",
        left=left,
        latex_left=latex_left,
        expression=residual,
        assumptions=(SMALL_LOGITS,),
        steps=(
            Step(reason, "loss", r"\ell", loss),
            Step("Differentiate at zero.", left, latex_left, residual),
        ),
        source=SOURCE,
    )


@cache
def head_step(
    layer: HeadLayer, optimizer: Optimizer, *, init: Init = "mup"
) -> tuple[Derivation, Derivation]:
    """Mean and RMS of the change of logits by the first update of a matrix, at LR = 1.

    Both are averages over pairs of a context and a target, the mean linearly and the RMS in the
    square. Head and embedding under sign: rms^2 = sigma^2 d [1 + (2/pi) (d - 1) C] with the input's
    sigma, C = <c_ik^2> of the head and <b_ik^2> of the embedding.
    """
    if layer == "tied":
        return _tied_step(optimizer, init)
    role = "projection" if layer == "head" else "embedding"
    mean, second = update_mean(role, optimizer), update_second_moment(role, optimizer)
    units = {s.projection_lr: 1, s.embedding_lr: 1, **initial_std(init)}
    # Both are written with the alignment c: r = c R in the embedding's.
    aligned = {s.residual: s.alignment * s.residual_norm}
    signal = sp.simplify(mean.expression.subs(aligned))
    square = in_alignment_square(sp.simplify(second.expression.subs(aligned)), s.alignment_square)
    if layer == "embedding":  # under SGD the row's gradient has the size p_i R
        square = square.subs(s.frequency, sp.sqrt(s.field_square_sum) / s.residual_norm)
        signal = signal.subs(s.frequency, sp.sqrt(s.field_square_sum) / s.residual_norm)
        identification = "Here S = p_i^2 R^2 is the size of the gradient of row i."
        assert not square.has(s.frequency, s.residual_norm)
    else:
        identification = "Row k of the head sums p_j r_jk e_j over contexts."
    residual = head_residual()
    return tuple(  # pyright: ignore[reportReturnType]
        Derivation(
            name=f"First step of the {layer} under {optimizer}: {what}, averaged over pairs",
            left=left,
            latex_left=latex,
            expression=value.subs(units),
            assumptions=tuple(
                dict.fromkeys((*derivation.assumptions, *residual.assumptions, PAIR_AVERAGE))
            ),
            steps=(
                *residual.steps,
                *derivation.steps,
                Step(
                    f"{identification} Average over pairs and put in LR = 1.",
                    left,
                    latex,
                    value.subs(units),
                ),
            ),
            source=f"{SOURCE}; {derivation.source}",
        )
        for derivation, what, left, latex, value in (
            (mean, "mean at LR = 1", "mean", r"\mathrm{mean}", signal),
            (second, "RMS at LR = 1", "RMS", r"\mathrm{RMS}", sp.sqrt(square)),
        )
    )


def head_step_rms(layer: HeadLayer, optimizer: Optimizer) -> Derivation:
    """The RMS of `head_step`, muP."""
    return head_step(layer, optimizer)[1]


def _tied_step(optimizer: Optimizer, init: Init) -> tuple[Derivation, Derivation]:
    """Mean and RMS of e_i . Delta e_k + Delta e_i . e_k for one matrix of both.

    Sign, per neuron: X = e_k sign v_i + e_i sign v_k with v = A e, so
    E[X] = sqrt(2/pi) (a_ik + a_ki) and E[X^2] = 2 (1 + delta) + (4/pi) (a_ik a_ki + a_ii a_kk).
    """
    single, d = kernel(optimizer), s.width
    ik, ki, ii, kk = sp.symbols("a_ik a_ki a_ii a_kk", real=True)
    if optimizer == "sgd":
        mean, square, steps = _tied_sgd()
    else:
        x, y = sp.symbols("x y", real=True)
        half = normal_expectation(sp.Abs(sp.Symbol("x", real=True)))  # E|x|
        both = sp.expand((ik * x + kk * y) * (ii * x + ki * y))
        # Of e_k e_i sign x sign y only x y survives: x^2 and y^2 meet one sign of mean zero.
        crossed = sp.simplify(both.coeff(x, 1).coeff(y, 1) * half**2)
        expected = 2 * sp.simplify(crossed)
        diagonal = sp.expand(expected).subs(ik * ki, own_product - ii * kk)
        diagonal = 2 * (1 + repeat_share) + sp.expand(diagonal)
        # C = <(a_ik + a_ki)^2> / 4, the square of the mean of the two alignments.
        mean = 2 * d * half * s.alignment
        square = d * diagonal + d * (d - 1) * (2 * half) ** 2 * s.alignment_square
        steps = (
            Step(
                "The gradient of row i is v_i = sum_j A_ij e_j with A_ij = p_i r_ij + p_j r_ji: "
                "row i is the embedding of context i and the head of target i. The correlation of "
                "v_i with e_k is a_ik = A_ik / |A_i|.",
                "A_ik",
                "A_{ik}",
                s.frequency * s.residual + sp.Symbol("p_k") * sp.Symbol("r_ki"),
            ),
            Step(
                "A logit changes by sums over neurons of X = e_k sign v_i + e_i sign v_k. Split "
                "e_k and e_i into their parts along v_i and v_k. Of the product of the two terms "
                "only the products of both parts survive,",
                "E[e_k e_i sign v_i sign v_k]",
                r"\mathbb{E}[e_ke_i\operatorname{sign}v_i\operatorname{sign}v_k]",
                crossed,
            ),
            Step(
                "and with D = <a_ik a_ki + a_ii a_kk>, and delta the share of pairs k = i, on "
                "which the two terms are equal,",
                "<E[X^2]>",
                r"\langle\mathbb{E}[X^2]\rangle",
                diagonal,
            ),
        )
        steps = (*single.steps, *steps)
    std = initial_std(init)
    head = std[s.projection_std] / std[s.embedding_std]
    scale = head if optimizer != "sgd" else head**2
    assumptions = (
        GAUSSIAN_WEIGHTS,
        *single.assumptions,
        SMALL_LOGITS,
        TIED_UNITS,
        "C is the mean square of (a_ik + a_ki) / 2 over the pairs that are looked at"
        if optimizer != "sgd"
        else "C is the mean square of A_ik over the pairs that are looked at",
        *((ROW_OVERLAP,) if optimizer != "sgd" else ()),
        "first order in the learning rate: the product of two updates is left out",
    )
    residual = head_residual()
    results = []
    for what, left, latex, value in (
        ("mean at LR = 1", "mean", r"\mathrm{mean}", -scale * mean),
        ("RMS at LR = 1", "RMS", r"\mathrm{RMS}", scale * sp.sqrt(square)),
    ):
        last = Step(
            "d neurons add d such squares and d (d - 1) products of two means; put in LR = 1.",
            left,
            latex,
            value,
        )
        results.append(
            Derivation(
                name=f"First step of tied embeddings under {optimizer}: {what}, averaged over "
                "pairs",
                left=left,
                latex_left=latex,
                expression=value,
                assumptions=assumptions,
                steps=(*residual.steps, *steps, last),
                source=TIED_SOURCE,
            )
        )
    return results[0], results[1]


def _tied_sgd() -> tuple[sp.Expr, sp.Expr, tuple[Step, ...]]:
    """SGD: X = e_k v_i + e_i v_k, a product of Gaussians, by Wick's theorem (sigma_E = 1)."""
    d = s.width
    per_neuron = tied_norms + 2 * repeat_norm + 4 * s.alignment_square + 2 * own_product
    square = d * per_neuron + 4 * d * (d - 1) * s.alignment_square
    steps = (
        Step(
            "The gradient of row i is v_i = sum_j A_ij e_j with A_ij = p_i r_ij + p_j r_ji: row i "
            "is the embedding of context i and the head of target i.",
            "A_ik",
            "A_{ik}",
            s.frequency * s.residual + sp.Symbol("p_k") * sp.Symbol("r_ki"),
        ),
        Step(
            "A logit changes by sums over neurons of X = e_k v_i + e_i v_k, products of Gaussians. "
            "Wick's theorem gives E[X^2] = |A_i|^2 + |A_k|^2 + 4 A_ik^2 + 2 (A_ik^2 + A_ii A_kk), "
            "and 2 |A_i|^2 more where k = i. With V, V_delta, C and D the averages of |A_i|^2 + "
            "|A_k|^2, of |A_i|^2 at k = i, of A_ik^2 and of A_ik^2 + A_ii A_kk,",
            "<E[X^2]>",
            r"\langle\mathbb{E}[X^2]\rangle",
            per_neuron,
        ),
    )
    return 2 * d * s.alignment, square, steps


@cache
def head_crossover(layer: HeadLayer) -> Derivation:
    """Effective contexts at which the coherent part of a logit's change equals its noise.

    N = (2/pi) (d - 1) under sign, tied (4/pi) (d - 1): below it the update of these logits grows
    like sigma d, above it like sigma sqrt(d).
    """
    _, rms = head_step(layer, "sign")
    square = sp.expand(rms.expression**2).subs({own_product: 0, repeat_share: 0})
    noise = square.subs(s.alignment_square, 0)
    ratio = sp.factor((square / noise - 1).subs(s.alignment_square, 1 / effective_contexts))
    crossing = sp.factor(sp.solve(sp.Eq(ratio, 1), effective_contexts)[0])
    return Derivation(
        name=f"Effective contexts at the crossover: {layer}",
        left="N",
        latex_left="N",
        expression=crossing,
        assumptions=rms.assumptions,
        steps=(
            *rms.steps,
            Step("With C = 1/N the coherent power over the noise is", "rho", r"\rho", ratio),
            Step("Set it to one.", "N", "N", crossing),
        ),
        source=SOURCE if layer != "tied" else TIED_SOURCE,
    )


@cache
def head_exponent(layer: HeadLayer, *, init: Init = "mup") -> sp.Expr:
    """Exponent of d of a logit's change under sign along N = d^nu.

    Head: max(1 - nu/2, 1/2). Embedding and tied matrix: the same, and that of sigma_W.
    """
    _, rms = head_step(layer, "sign", init=init)
    orders = {s.width: sp.Integer(1), s.alignment_square: -context_exponent}
    # Bounded sums over pairs beside the leading terms: neither gives the exponent.
    orders |= {own_product: -context_exponent, repeat_share: sp.Integer(0)}
    return sp.simplify(leading_order(sp.expand(rms.expression**2), orders) / 2)


@cache
def batch_rest_moment() -> sp.Expr:
    """E[Y D^2] / B^3 of one pair: its squared entry D^2, seen by the context's other targets Y."""
    return _batch_moment(0, 1)


def _batch_moment(of_pair: int, of_rest: int) -> sp.Expr:
    """E[X^of_pair Y^of_rest D^2] / B^(of_pair + of_rest + 2), by factorial moments.

    X is the count of a pair (i, k) in a batch of B pairs, X + Y = N_i that of its context, and
    D = N_i / n - X the pair's entry in the gradient of head row k, times B. (X, Y) is multinomial
    with probabilities p_i P and p_i (1 - P).

    E[X (X - 1) ... Y (Y - 1) ...] of a multinomial pair is B (B - 1) ... times the powers of the
    probabilities; Stirling numbers make powers of these products.
    """
    p, chance, n, b = s.frequency, target_probability, s.outputs, s.batch_size
    total = sp.Integer(0)
    # D = X (1/n - 1) + Y / n
    for pair_power, rest_power, factor in (
        (2, 0, (1 / n - 1) ** 2),
        (1, 1, 2 * (1 / n - 1) / n),
        (0, 2, 1 / n**2),
    ):
        for k, of_k in _falling(pair_power + of_pair):
            for j, of_j in _falling(rest_power + of_rest):
                falling = sp.expand_func(sp.ff(b, k + j))
                total += factor * of_k * of_j * falling * (p * chance) ** k * (p - p * chance) ** j
    return sp.expand(total / b ** (of_pair + of_rest + 2))


def _falling(power: int) -> list[tuple[int, int]]:
    """x^power = sum of S x (x - 1) ... over (number of factors, Stirling number S)."""
    return [(k, int(stirling(power, k))) for k in range(power + 1) if stirling(power, k)]


def _entry_moment() -> tuple[sp.Expr, sp.Expr]:
    """E[D^2] / B^2 of a pair, and what of it is not (1 - 1/B) times the square of the mean."""
    moment, b = _batch_moment(0, 0), s.batch_size
    square = (1 - 1 / b) * s.frequency**2 * head_residual().expression ** 2
    return moment, sp.simplify(moment - square)


@cache
def batch_field() -> Derivation:
    """E[S_k] of a batch of B pairs (context, next token), in S_k, q_k, n and B.

    Sum of E[D^2] / B^2 over contexts: (1 - 1/B) S_k + (1/B) [q_k (1 - 1/n)^2 +
    (1 - q_k) / n^2].
    """
    p, chance, b = s.frequency, target_probability, s.batch_size
    moment, rest = _entry_moment()
    rest = sp.expand(rest)  # linear in p P and p, so that it can be summed
    of_pair = sp.simplify(sp.diff(rest, chance) / p)
    of_context = sp.simplify(rest.subs(chance, 0) / p)
    assert sp.simplify(rest - of_pair * p * chance - of_context * p) == 0
    value = (1 - 1 / b) * s.field_square_sum + sp.simplify(of_pair * target_frequency + of_context)
    left, latex_left = "E[S_k]", r"\mathbb{E}[\hat S_k]"
    return Derivation(
        name="Field of a head's row in a mini-batch",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=(SMALL_LOGITS, "B pairs of context and next token, drawn independently"),
        steps=(
            Step(
                "In a batch the pair (i, k) is counted X times, of the chance p_i P with P = "
                "P(k | i), and context i with other next tokens Y times. The entry of the gradient "
                "is D/B with D = (X + Y)/n - X. The counts are multinomial, which gives the second "
                "moment",
                "E[D^2] / B^2",
                r"\mathbb{E}[D^2]/B^2",
                moment,
            ),
            Step(
                "Sum over contexts, with S = sum_j p_j^2 r_jk^2 and q_k the frequency of output k.",
                left,
                latex_left,
                value,
            ),
        ),
        source=BATCH_SOURCE,
    )


@cache
def batch_row_norm() -> Derivation:
    """E[sum_k D_ik^2] / B^2 of one context in a batch, in p_i, R = |r_i|, n and B."""
    p, n, b = s.frequency, s.outputs, s.batch_size
    chance, norm = target_probability, s.residual_norm
    moment, rest = _entry_moment()
    # The rest is linear in P: sum over n outputs with probabilities that add up to 1.
    slope, start = sp.simplify(sp.diff(rest, chance)), sp.simplify(rest.subs(chance, 0))
    value = sp.expand((1 - 1 / b) * p**2 * norm**2 + sp.simplify(slope + n * start))
    left, latex_left = "E[R_i^2]", r"\mathbb{E}[\hat R_i^2]"
    return Derivation(
        name="Gradient of an embedding row below a head in a mini-batch",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=(SMALL_LOGITS, "B pairs of context and next token, drawn independently"),
        steps=(
            Step(
                "Entry k of what row i sums is D/B, D = (X + Y)/n - X, X the count of the pair "
                "(i, k) in a batch and Y that of i with other next tokens. It has the second "
                "moment of the head's pair;",
                "E[D^2] / B^2",
                r"\mathbb{E}[D^2]/B^2",
                moment,
            ),
            Step("sum over the outputs.", left, latex_left, value),
        ),
        source=BATCH_SOURCE,
    )


@cache
def batch_pair_alignment(layer: HeadLayer) -> Derivation:
    """Mean squared alignment of a pair (i, k) that the batch holds, as a ratio of averages.

    The pair itself adds 1/n - 1 to its entry of the gradient; the B - 1 others are drawn
    independently. So a target that is seen once aligns fully.
    """
    b, p, n = s.batch_size, s.frequency, s.outputs
    others, own = b - 1, 1 / n - 1
    residual = head_residual().expression

    def of_others(moment: sp.Expr) -> sp.Expr:
        return sp.expand(b**2 * moment).subs(b, others)

    entry = of_others(_batch_moment(0, 0)) + 2 * others * p * residual * own + own**2
    if layer == "head":
        whole = of_others(batch_field().expression) + 2 * others * p * residual * own + own**2
        left, latex_left = "c_ik^2", "c_{ik}^2"
        reason = "The field of row k changes by the same entry."
    elif layer == "embedding":
        # The pair adds 1/n - delta_qk to entry q, of norm^2 1 - 1/n; its product with r_i is -r_ik.
        whole = of_others(batch_row_norm().expression) - 2 * others * p * residual - own
        left, latex_left = "b_ik^2", "b_{ik}^2"
        reason = "The norm of row i changes by the pair's own residual."
    else:
        raise ValueError(f"no mini-batch for the {layer} matrix")
    value = entry / whole
    field = batch_field() if layer == "head" else batch_row_norm()
    return Derivation(
        name=f"Alignment of a pair that a mini-batch holds: {layer}",
        left=left,
        latex_left=latex_left,
        expression=value,
        assumptions=(*field.assumptions, "the mean of a ratio is taken as the ratio of the means"),
        steps=(
            *field.steps,
            Step(
                "A pair of the batch is one draw and B - 1 independent others. The draw adds "
                "1/n - 1 to its own entry,",
                "E[D^2]",
                r"\mathbb{E}[D^2]",
                entry,
            ),
            Step(reason, "whole", r"\text{whole}", whole),
            Step("Divide.", left, latex_left, value),
        ),
        source=BATCH_SOURCE,
    )


@cache
def muon_head_rms() -> Derivation:
    """RMS of a head's first Muon update over all logits, at LR = 1: sigma_E sqrt(d / n).

    The orthogonalised gradient O is n x d. At full rank d <= min(m, n) its columns are orthonormal,
    so |O e_i| = |e_i| for every token.
    """
    value = s.embedding_std * sp.sqrt(s.width / s.outputs)
    length = s.embedding_std * sp.sqrt(s.width)
    return Derivation(
        name="First step of the head under Muon: RMS over all logits at LR = 1",
        left="RMS",
        latex_left=r"\mathrm{RMS}",
        expression=value,
        assumptions=(
            GAUSSIAN_WEIGHTS,
            "an exactly orthogonalised gradient of full rank d <= min(m, n)",
        ),
        steps=(
            Step(
                "The orthogonalised gradient O has d orthonormal columns, so it keeps the length "
                "of every embedding,",
                "|O e_i|",
                "|Oe_i|",
                length,
            ),
            Step("which n logits share.", "RMS", r"\mathrm{RMS}", value),
        ),
        source=SOURCE,
    )
