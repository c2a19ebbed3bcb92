"""The claims about the first step, each a function of one study's dataset."""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import LINEAR_MODEL, Claim

from .estimators import (
    arcsine_law,
    batch_absent,
    batch_vocab,
    corpus_crossover,
    cross_term,
    data_collapse,
    embedding_vocab,
    optimizer_moments,
    projection_lv,
    projection_mup,
    projection_proportional,
    ratio_fixed_vocab,
    ratio_formula,
    ratio_proportional,
    self_term,
    sign_kernel,
    zipf_crossover,
)

HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025"
STEP = "docs/theory/first_step.md"
REGIMES = "docs/theory/regimes.md"
RATES = "docs/theory/learning_rates.md"

RMS_EXPONENT = "exponent of projection_update_rms in d"
RATIO_EXPONENT = "exponent of eta_E*/eta_W* in d"
MUP_RATIO = "(pi/2) sqrt(m) + (d - 1)/sqrt(m)"

UNIFORM = f"{LINEAR_MODEL} with uniform tokens"
LINEAR = f"{UNIFORM} and sign descent"
UNIFORM_512 = f"{UNIFORM}, at d = 512,"
LINEAR_512 = f"{UNIFORM} and sign descent, at d = 512"
MUP_LINEAR = f"{UNIFORM}, sign descent and muP initialisation"
SP_LINEAR = f"{UNIFORM}, sign descent and standard initialisation (SP)"
UPDATE = (
    "the first update of the projection, at a fixed learning rate, changes the outputs by an RMS "
    "that grows"
)
COHERENT_PART = (
    "the coherent part of the change of a token's output by the projection's first update, the "
    "part that comes from the update's alignment with the token,"
)
RATIO = (
    "the one-step optimal learning rate of the embedding over that of the projection, each tuned "
    "with the other layer frozen,"
)


def _every_size(width: int, vocab_size: int) -> bool:
    return True


def _vocab_near_square(width: int, vocab_size: int) -> bool:
    """Vocabularies of the order of the width's square, where the self term counts."""
    return 4 * vocab_size >= width**2


def _moments() -> tuple[Claim, ...]:
    """What one step of sign descent does, by layers and sizes."""
    return (
        Claim(
            name="sign-kernel",
            statement="For d independent Gaussian pairs (u, v) of correlation c, the sum of u "
            "sign(v) has the derived second moment d [1 + (2/pi) (d - 1) c^2].",
            quantity="measured / derived",
            prediction="d [1 + (2/pi) (d - 1) c^2]",
            study="kernel",
            evidence=sign_kernel,
            tolerance=0.02,
            citation=f"{STEP}#sign-kernel",
        ),
        Claim(
            name="arcsine-law",
            statement="The signs of two Gaussian variables of correlation c have the mean product "
            "(2/pi) asin(c).",
            quantity="measured / derived",
            prediction="(2/pi) asin(c)",
            study="kernel",
            evidence=arcsine_law,
            tolerance=0.02,
            citation=f"Sheppard 1899; {STEP}#sign-kernel",
        ),
        Claim(
            name="projection-exponent-mup",
            statement=f"In {LINEAR}, with a small vocabulary (m << d, the muP regime), {UPDATE} "
            "like the width d.",
            quantity=RMS_EXPONENT,
            prediction="1",
            study="updates",
            evidence=projection_mup,
            tolerance=0.05,
            citation=f"{HAYOU_LIU}; {REGIMES}#interpolation",
            rival=0.5,
        ),
        Claim(
            name="projection-exponent-lv",
            statement=f"In {LINEAR}, with a large vocabulary (m >> d, the LV regime), {UPDATE} "
            "like sqrt(d).",
            quantity=RMS_EXPONENT,
            prediction="1/2",
            study="updates",
            evidence=projection_lv,
            tolerance=0.05,
            citation=f"{HAYOU_LIU}; {REGIMES}#interpolation",
            rival=1.0,
        ),
        Claim(
            name="projection-exponent-proportional",
            statement=f"In {LINEAR}, with a vocabulary proportional to the width (m = 2d), "
            f"{UPDATE} like sqrt(d).",
            quantity=RMS_EXPONENT,
            prediction="1/2",
            study="updates",
            evidence=projection_proportional,
            tolerance=0.05,
            citation=f"{HAYOU_LIU}; {REGIMES}#interpolation",
            rival=1.0,
        ),
        Claim(
            name="data-collapse",
            statement=f"In {LINEAR}, at all measured widths d and vocabularies m, the RMS change "
            "of the outputs by the projection's first update, at a fixed learning rate and divided "
            "by sqrt(d), is one function of d/m.",
            quantity="RMS deviation from the common curve",
            prediction="0",
            study="updates",
            evidence=data_collapse,
            tolerance=0.02,
            citation=f"{HAYOU_LIU}; {REGIMES}#data-collapse",
        ),
        Claim(
            name="embedding-exponent-vocab",
            statement=f"In {LINEAR}, the first update of the embedding changes the outputs by an "
            "RMS that, at a fixed learning rate, does not depend on the vocabulary m.",
            quantity="exponent of embedding_update_rms in m",
            prediction="0",
            study="updates",
            evidence=embedding_vocab,
            tolerance=0.02,
            citation=f"{STEP}#embedding-step",
            rival=-0.5,
        ),
        Claim(
            name="cross-term-exponent",
            statement=f"In {LINEAR}, with a small vocabulary (m << d), the product of the first "
            "updates of projection and embedding (the cross term), at fixed learning rates, "
            "changes the outputs by an RMS that grows like sqrt(d).",
            quantity="exponent of the cross term's RMS in d",
            prediction="1/2",
            study="updates",
            evidence=cross_term,
            tolerance=0.1,
            citation=f"{STEP}#cross-term",
            rival=1.0,
        ),
    )


def _learning_rates() -> tuple[Claim, ...]:
    """Ratio of the one-step optimal learning rates of both layers."""
    return (
        Claim(
            name="lr-ratio-fixed-vocab",
            statement=f"In {MUP_LINEAR}, with a fixed vocabulary (m = 4 << d), {RATIO} grows like "
            "the width d.",
            quantity=RATIO_EXPONENT,
            prediction="1",
            study="learning_rates",
            evidence=ratio_fixed_vocab,
            tolerance=0.1,
            citation=f"{HAYOU_LIU}; {RATES}#greedy-ratio",
            rival=0.5,
        ),
        Claim(
            name="lr-ratio-proportional",
            statement=f"In {MUP_LINEAR}, with a vocabulary m = 4d, {RATIO} grows like sqrt(d).",
            quantity=RATIO_EXPONENT,
            prediction="1/2",
            study="learning_rates",
            evidence=ratio_proportional,
            tolerance=0.1,
            citation=f"{HAYOU_LIU}; {RATES}#greedy-ratio",
            rival=1.0,
        ),
        Claim(
            name="lr-ratio-formula",
            statement=f"In {MUP_LINEAR}, with m <= d^2/16, {RATIO} is the derived {MUP_RATIO}.",
            quantity="measured / derived",
            prediction=MUP_RATIO,
            study="learning_rates",
            evidence=ratio_formula,
            tolerance=0.1,
            citation=f"{RATES}#greedy-ratio",
        ),
        Claim(
            name="lr-ratio-self-term",
            statement=f"In {MUP_LINEAR}, at all measured sizes, up to m > d^2, {RATIO} is the "
            "derived one with self term, that is, with the initial output in the residuals: where "
            "m ~ d^2 the projection's optimum depends on the initial output, which keeps the "
            "ratio from growing with m.",
            quantity="measured / derived",
            prediction="(pi/2) sqrt(m/(1 + k)) [1 + rho (1 + 2 k)/(1 + k)], k = m/d^2",
            study="learning_rates",
            evidence=partial(ratio_formula, self_term=True, keep=_every_size),
            tolerance=0.1,
            citation=f"{RATES}#ratio-with-self-term; {STEP}#self-term",
        ),
        Claim(
            name="lr-ratio-sp",
            statement=f"In {SP_LINEAR}, {RATIO} is the derived one: against muP initialisation it "
            "loses a factor sqrt(d), and the embedding's optimum gains as a factor the mean size "
            "E|r| of the residuals r.",
            quantity="measured / derived",
            prediction="E|r| sqrt(2/pi) / (sigma_W [1 + (2/pi) (d - 1)]) over eta_W* with self "
            "term",
            study="learning_rates",
            evidence=partial(ratio_formula, init="sp", self_term=True, keep=_every_size),
            tolerance=0.1,
            citation=f"{RATES}#ratio-and-initialisation; {STEP}#self-term",
        ),
    )


def _tokens_and_optimizers() -> tuple[Claim, ...]:
    """Token laws, mini-batches, initialisation and other optimizers."""
    return (
        Claim(
            name="zipf-rank-crossover",
            statement=f"In {LINEAR_MODEL} with Zipf tokens of exponent alpha = 1 and sign descent, "
            f"{COHERENT_PART} is smaller in mean square than the rest, a random sum, from a "
            "frequency rank on that grows like d^(1/(2 alpha)) = sqrt(d).",
            quantity="exponent of the crossover rank in d (alpha = 1)",
            prediction="1/(2 alpha) = 1/2",
            study="ranks",
            evidence=zipf_crossover,
            tolerance=0.15,
            citation=f"{REGIMES}#zipf-tokens",
            rival=1.0,
        ),
        Claim(
            name="corpus-rank-crossover",
            statement=f"In {LINEAR_MODEL} with the token frequencies of a text corpus and sign "
            f"descent, {COHERENT_PART} equals in mean square the rest, a random sum, at the "
            "frequency rank that follows from these frequencies.",
            quantity="measured / predicted rank",
            prediction="(2/pi) (d - 1) p_i^2 / P_2 = 1",
            study="ranks",
            evidence=corpus_crossover,
            tolerance=0.15,
            citation=f"{REGIMES}#corpus-tokens",
        ),
        Claim(
            name="minibatch-effective-vocab",
            statement=f"In {LINEAR_512}, the projection's first step on a mini-batch changes the "
            "outputs of the batch's tokens by the RMS of a full-batch step with m_eff token "
            "types, where m_eff = E[sum p_hat^2] / E[sum p_hat^3] and p_hat is a token's share of "
            "the batch.",
            quantity="measured / predicted m_eff",
            prediction="E[sum p_hat^2] / E[sum p_hat^3]",
            study="batches",
            evidence=batch_vocab,
            tolerance=0.05,
            citation=f"{STEP}#mini-batch-step; {REGIMES}#batch-vocabulary",
        ),
        Claim(
            name="minibatch-absent-tokens",
            statement=f"In {LINEAR_512}, the projection's first step on a mini-batch changes the "
            "outputs of tokens outside the batch by the RMS of a sum of d random signs, which is "
            "sqrt(d) at learning rate one and embeddings of RMS one.",
            quantity="RMS / sqrt(d)",
            prediction="1",
            study="batches",
            evidence=batch_absent,
            tolerance=0.03,
            citation=f"{STEP}#mini-batch-step",
        ),
        Claim(
            name="self-term",
            statement=f"In {SP_LINEAR}, the projection's first update changes the outputs by the "
            "derived RMS with self term: the residuals contain the initial output, and with it a "
            "token's own embedding.",
            quantity="measured / derived RMS",
            prediction="[1 + (2/pi) d (C + 2 p kappa^2)/(1 + kappa^2)]^(1/2)",
            study="self_term",
            evidence=self_term,
            tolerance=0.04,
            citation=f"{STEP}#self-term",
        ),
        Claim(
            name="sgd-moments",
            statement=f"In {UNIFORM_512} the projection's first step of SGD changes the outputs by "
            "the derived RMS, which follows from the moments of a Wishart matrix, the embeddings' "
            "Gram matrix.",
            quantity="measured / derived RMS",
            prediction="[S d (1 + (d + 1) c^2)]^(1/2)",
            study="optimizers",
            evidence=partial(optimizer_moments, optimizer="sgd"),
            tolerance=0.05,
            citation=f"{STEP}#sgd-step",
        ),
        Claim(
            name="adam-first-step",
            statement=f"In {UNIFORM_512} the projection's first step of "
            "Adam changes the outputs by the RMS derived for sign descent.",
            quantity="measured / derived RMS",
            prediction="[d (1 + (2/pi) (d - 1) c^2)]^(1/2)",
            study="optimizers",
            evidence=partial(optimizer_moments, optimizer="adam"),
            tolerance=0.05,
            citation=f"{STEP}#adam-first-step",
        ),
    )


def _controls() -> tuple[Claim, ...]:
    """Statements that are wrong on purpose and must fail."""
    return (
        Claim(
            name="control-sign-kernel-linear",
            statement="Wrong on purpose: for d independent Gaussian pairs (u, v) of correlation c, "
            "the sum of u sign(v) has the second moment d [1 + (d - 1) c^2], as if a sign kept as "
            "much of c as v itself.",
            quantity="measured / derived",
            prediction="d [1 + (d - 1) c^2]",
            study="kernel",
            evidence=partial(sign_kernel, kept_alignment=1.0),
            tolerance=0.02,
            citation=f"contradicts sign-kernel; {STEP}#sign-kernel",
            expected="fails",
        ),
        Claim(
            name="control-collapse-on-product",
            statement=f"Wrong on purpose: in {LINEAR}, the RMS change of the outputs by the "
            "projection's first update, at a fixed learning rate and divided by sqrt(d), is one "
            "function of the product d m.",
            quantity="RMS deviation from the common curve",
            prediction="0",
            study="updates",
            evidence=partial(data_collapse, by_product=True),
            tolerance=0.02,
            citation=f"contradicts data-collapse; {REGIMES}#data-collapse",
            expected="fails",
        ),
        Claim(
            name="control-ratio-aligned-part",
            statement=f"Wrong on purpose: in {MUP_LINEAR}, with m <= d^2/16, {RATIO} is (d - "
            "1)/sqrt(m), the formula without the random sum that tokens add to each other's "
            "updates.",
            quantity="measured / derived",
            prediction="(d - 1)/sqrt(m)",
            study="learning_rates",
            evidence=partial(ratio_formula, random_sum=False),
            tolerance=0.1,
            citation=f"contradicts lr-ratio-formula; {RATES}#greedy-ratio",
            expected="fails",
        ),
        Claim(
            name="control-minibatch-distinct-tokens",
            statement=f"Wrong on purpose: in {LINEAR_512}, the projection's first step on a "
            "mini-batch changes the outputs of the batch's tokens by the RMS of a full-batch step "
            "with as many token types as the batch holds different ones.",
            quantity="measured / predicted m_eff",
            prediction="m [1 - (1 - 1/m)^B]",
            study="batches",
            evidence=partial(batch_vocab, distinct=True),
            tolerance=0.05,
            citation=f"contradicts minibatch-effective-vocab; {STEP}#mini-batch-step",
            expected="fails",
        ),
        Claim(
            name="control-broken-init",
            statement=f"Wrong on purpose: in {SP_LINEAR}, {RATIO} is the formula of muP "
            f"initialisation, {MUP_RATIO}.",
            quantity="measured / derived",
            prediction=MUP_RATIO,
            study="learning_rates",
            evidence=partial(ratio_formula, init="sp"),
            tolerance=0.1,
            citation=f"contradicts lr-ratio-sp; {RATES}#ratio-and-initialisation",
            expected="fails",
        ),
        Claim(
            name="control-ratio-no-self-term",
            statement=f"Wrong on purpose: in {MUP_LINEAR}, with m >= d^2/4, {RATIO} is the formula "
            f"without self term (initial output left out of the residuals), {MUP_RATIO}.",
            quantity="measured / derived",
            prediction=MUP_RATIO,
            study="learning_rates",
            evidence=partial(ratio_formula, keep=_vocab_near_square),
            tolerance=0.1,
            citation=f"contradicts lr-ratio-self-term; {RATES}#ratio-with-self-term",
            expected="fails",
        ),
        Claim(
            name="control-no-self-term",
            statement=f"Wrong on purpose: in {SP_LINEAR}, the projection's first update changes "
            "the outputs by the RMS derived without self term, that is, with the initial output "
            "left out of the residuals.",
            quantity="measured / derived RMS",
            prediction="[d (1 + rho)]^(1/2)",
            study="self_term",
            evidence=partial(self_term, kept=False),
            tolerance=0.04,
            citation=f"contradicts self-term; {STEP}#self-term",
            expected="fails",
        ),
    )


CLAIMS = (*_moments(), *_learning_rates(), *_tokens_and_optimizers(), *_controls())
