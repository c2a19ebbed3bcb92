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
    head_logits,
    head_rule_logits,
    sign_kernel,
    zipf_crossover,
)

HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025"
STEP = "docs/theory/first_step.md"
REGIMES = "docs/theory/regimes.md"


UNIFORM = f"{LINEAR_MODEL} with uniform tokens"
LINEAR = f"{UNIFORM} and sign descent"
LINEAR_512 = f"{UNIFORM} and sign descent, at d = 512"
COHERENT_PART = (
    "the coherent part of the change of a token's output by the projection's first update, the "
    "part that comes from the update's alignment with the token,"
)


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


def _tokens() -> tuple[Claim, ...]:
    """Token laws and mini-batches."""
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
    )


BIGRAM_MODEL = (
    "the linear bigram model with a softmax over all outputs, from small initial logits and under "
    "sign descent in full batch, with the bigrams of a text or of a Zipf law"
)
HEAD_UPDATES = {
    # layer: what moves, the formula, the anchor
    "head": (
        "the head's first update",
        "sqrt(d [1 + (2/pi) (d - 1) <c_ik^2>])",
        "head-step",
    ),
    "embedding": (
        "the embedding's first update",
        "sigma_W sqrt(d [1 + (2/pi) (d - 1) <b_ik^2>])",
        "head-step",
    ),
    "tied": (
        "the first update of one matrix that is embedding and head",
        "sqrt(d [2 + (2/pi) (d - 1) <(a_ik + a_ki)^2>]) / d at leading order",
        "tied-step",
    ),
}
HEAD_LOGITS = {
    "target": "the logits of the tokens that follow, weighted by how often they do,",
    "other": "all logits but that of the token that follows",
}


def _head(layer: str, logits: str) -> Claim:
    moved, formula, anchor = HEAD_UPDATES[layer]
    return Claim(
        name=f"{_begin(layer)}-{logits}-logits",
        statement=f"In {BIGRAM_MODEL}, {moved} changes {HEAD_LOGITS[logits]} by the RMS that is "
        "derived from the bigrams alone, with no number fitted.",
        quantity="measured / derived RMS",
        prediction=formula,
        study="heads",
        evidence=partial(head_logits, layer=layer, logits=logits),
        tolerance=0.01,
        citation=f"{STEP}#{anchor}",
    )


def _heads() -> tuple[Claim, ...]:
    """A softmax head, the embedding below it, and one matrix for both; two controls."""
    claims = [_head(layer, logits) for layer in HEAD_UPDATES for logits in HEAD_LOGITS]
    controls = [
        Claim(
            name=f"control-head-{name}",
            statement=f"Wrong on purpose: in {BIGRAM_MODEL}, the head's first update changes "
            f"{HEAD_LOGITS['target']} by the RMS that is derived {how}.",
            quantity="measured / derived RMS",
            prediction=formula,
            study="heads",
            evidence=partial(head_logits, layer="head", logits="target", theory=theory),
            tolerance=0.01,
            citation=f"contradicts head-target-logits; {STEP}#head-step",
            expected="fails",
        )
        for name, theory, how, formula in (
            (
                "equal-residuals",
                "equal residuals",
                "as if all tokens had residuals of one size, so that the vocabulary alone decided",
                "sqrt(d [1 + (2/pi) (d - 1) P_3/P_2])",
            ),
            (
                "shuffled-bigrams",
                "shuffled bigrams",
                "from bigrams whose targets are dealt out anew to the pairs",
                "sqrt(d [1 + (2/pi) (d - 1) <c_ik^2>])",
            ),
        )
    ]
    return (*claims, *controls)


BATCHES = ("batch 256", "batch 4096")
RULES = {
    # name in claims: rules of the study, how the network moves, tolerance
    "sgd": (("sgd",), "under SGD in full batch", 0.05),
    "batch": (BATCHES, "under sign descent on batches of 256 and of 4,096 pairs", 0.05),
}
ANY_RULE = (
    "the linear bigram model with a softmax over all outputs, from small initial logits and {how}, "
    "with the bigrams of a text or of a Zipf law"
)
ORTHOGONAL = ANY_RULE.format(how="with exactly orthogonalised gradients (Muon)")
RULE_SOURCE = {
    "sgd": f"{STEP}#head-step",
    "muon": f"{STEP}#head-step",
    "batch": f"{STEP}#head-batch",
}


def _head_rule(rule: str, layer: str, logits: str) -> Claim:
    rules, how, tolerance = RULES[rule]
    moved = HEAD_UPDATES[layer][0]
    source = RULE_SOURCE[rule] if layer != "tied" else f"{STEP}#tied-step"
    of_batch = ", pairs and contexts being those of the batch," if rule == "batch" else ""
    which = HEAD_LOGITS[logits].rstrip(",") + of_batch if of_batch else HEAD_LOGITS[logits]
    return Claim(
        name=f"{_begin(layer)}-{rule}-{logits}-logits",
        statement=f"In {ANY_RULE.format(how=how)}, {moved} changes {which} by the RMS "
        "that is derived from the bigrams alone, with no number fitted.",
        quantity="measured / derived RMS",
        prediction="1",
        study="head_rules",
        evidence=partial(head_rule_logits, rules=rules, layer=layer, logits=logits),
        tolerance=tolerance,
        citation=source,
    )


def _head_rules() -> tuple[Claim, ...]:
    """Heads by SGD, by Muon and in mini-batches of pairs, each with a control."""
    claims = [_head_rule("sgd", layer, kind) for layer in HEAD_UPDATES for kind in HEAD_LOGITS]
    claims += [
        _head_rule("batch", layer, kind) for layer in ("head", "embedding") for kind in HEAD_LOGITS
    ]
    claims.append(
        Claim(
            name="head-muon-all-logits",
            statement=f"In {ORTHOGONAL}, {HEAD_UPDATES['head'][0]} changes all logits by an RMS of "
            "sqrt(d/n), as the gradient has full rank.",
            quantity="measured / derived RMS",
            prediction="sqrt(d/n)",
            study="head_rules",
            evidence=partial(head_rule_logits, rules=("muon",), layer="head", logits="all"),
            tolerance=0.02,
            citation=RULE_SOURCE["muon"],
        )
    )
    wrong = (
        (
            *("sgd-shuffled-bigrams", ("sgd",), "target", "head-sgd-target-logits", 0.05),
            f"in {ANY_RULE.format(how=RULES['sgd'][1])}, {HEAD_UPDATES['head'][0]} changes "
            f"{HEAD_LOGITS['target']} by the RMS that is derived from bigrams whose targets are "
            "dealt out anew to the pairs.",
        ),
        (
            *("muon-as-sign", ("muon",), "all", "head-muon-all-logits", 0.02),
            f"in {ORTHOGONAL}, {HEAD_UPDATES['head'][0]} changes all logits by the RMS of a sign "
            "step with entries of the same RMS.",
        ),
        (
            *("batch-as-full", BATCHES, "target", "head-batch-target-logits", 0.05),
            f"in {ANY_RULE.format(how=RULES['batch'][1])}, {HEAD_UPDATES['head'][0]} changes "
            f"{HEAD_LOGITS['target']} by the RMS that is derived for the full batch.",
        ),
    )
    controls = [
        Claim(
            name=f"control-head-{name}",
            statement=f"Wrong on purpose: {statement}",
            quantity="measured / wrongly derived RMS",
            prediction="1",
            study="head_rules",
            evidence=partial(
                head_rule_logits, rules=rules, layer="head", logits=logits, theory="wrong"
            ),
            tolerance=tolerance,
            citation=f"contradicts {contradicted}; {STEP}#head-step",
            expected="fails",
        )
        for name, rules, logits, contradicted, tolerance, statement in wrong
    ]
    return (*claims, *controls)


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
    )


def _head_muon(layer: str, logits: str) -> Claim:
    return Claim(
        name=f"{_begin(layer)}-muon-{logits}-logits",
        statement=f"In {ORTHOGONAL}, {HEAD_UPDATES[layer][0]} changes {HEAD_LOGITS[logits]} by the "
        "RMS that is derived from the singular values of the bigrams alone, with no number fitted.",
        quantity="measured / derived RMS",
        prediction="every singular value s replaced by h(s), and its fluctuation",
        study="head_muon",
        evidence=partial(head_logits, layer=layer, logits=logits, theory="derived"),
        tolerance=0.02,
        citation=f"{STEP}#head-muon",
    )


def _muon_logits() -> tuple[Claim, ...]:
    """Muon's step in target and other logits, each layer with a control."""
    claims = [_head_muon(layer, kind) for layer in HEAD_UPDATES for kind in HEAD_LOGITS]
    controls = [
        Claim(
            name=f"control-{_begin(layer)}-muon-as-sgd",
            statement=f"Wrong on purpose: in {ORTHOGONAL}, {HEAD_UPDATES[layer][0]} changes "
            f"{HEAD_LOGITS['target']} by the RMS of a step along the gradient that changes all "
            "logits as much.",
            quantity="measured / wrongly derived RMS",
            prediction="1",
            study="head_muon",
            evidence=partial(head_logits, layer=layer, logits="target", theory="wrong"),
            tolerance=0.02,
            citation=f"contradicts {_begin(layer)}-muon-target-logits; {STEP}#head-muon",
            expected="fails",
        )
        for layer in HEAD_UPDATES
    ]
    return (*claims, *controls)


BATCH_OPTIMIZERS = {
    # optimizer: layers, rules of the study, how the network moves
    "sign": (("tied",), ("sign 256", "sign 4096"), "sign descent"),
    "sgd": (tuple(HEAD_UPDATES), ("sgd 256", "sgd 4096"), "SGD"),
}


def _head_batches() -> tuple[Claim, ...]:
    """Steps on batches of pairs that are averaged over drawn batches, with controls."""
    claims, controls = [], []
    for optimizer, (layers, rules, how) in BATCH_OPTIMIZERS.items():
        on_batches = ANY_RULE.format(how=f"under {how} on batches of 256 and of 4,096 pairs")
        kind = "batch" if optimizer == "sign" else "batch-sgd"
        for layer in layers:
            moved = HEAD_UPDATES[layer][0]
            claims += [
                Claim(
                    name=f"{_begin(layer)}-{kind}-{logits}-logits",
                    statement=f"In {on_batches}, {moved} changes {HEAD_LOGITS[logits].rstrip(',')}"
                    ", pairs and contexts being those of the batch, by the RMS that is derived "
                    "from the bigrams and from other batches of them, with no number fitted.",
                    quantity="measured / derived RMS",
                    prediction="1",
                    study="head_batches",
                    evidence=partial(head_rule_logits, rules=rules, layer=layer, logits=logits),
                    tolerance=0.05,
                    citation=f"{STEP}#head-batch",
                )
                for logits in HEAD_LOGITS
            ]
            controls.append(
                Claim(
                    name=f"control-{_begin(layer)}-{kind}-as-full",
                    statement=f"Wrong on purpose: in {on_batches}, {moved} changes "
                    f"{HEAD_LOGITS['target']} by the RMS that is derived for the full batch.",
                    quantity="measured / wrongly derived RMS",
                    prediction="1",
                    study="head_batches",
                    evidence=partial(
                        head_rule_logits, rules=rules, layer=layer, logits="target", theory="wrong"
                    ),
                    tolerance=0.05,
                    citation=f"contradicts {_begin(layer)}-{kind}-target-logits; {STEP}#head-batch",
                    expected="fails",
                )
            )
    return (*claims, *controls)


def _begin(layer: str) -> str:
    """How the name of a claim about a layer begins."""
    return f"first-step-{layer}" if layer != "head" else "head"


CLAIMS = (
    *_moments(),
    *_tokens(),
    *_heads(),
    *_head_rules(),
    *_muon_logits(),
    *_head_batches(),
    *_controls(),
)
