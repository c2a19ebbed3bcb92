"""Claims about the update magnitude in linear networks, residual MLPs and transformers.

For uniform tokens the squared alignments of a neuron's gradient with all tokens sum to one,
whatever residuals reach the matrix and whichever of the tokens a batch holds. Averaged over tokens
they are 1/m, so the linear model's first-step formula holds for any network above.
"""

from __future__ import annotations

from functools import partial

from experiments.topics._claim import Claim

from .estimators import NETWORKS, collapse, formula, large_vocabulary, restored, small_vocabulary

STUDY = "update_magnitude"
FIRST_STEP = "docs/theory/first_step.md#hidden-step"
INTERPOLATION = "docs/theory/regimes.md#interpolation"
END_OF_LV = "docs/theory/lv_lifetime.md#end-of-lv"
HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025"
EXPONENT = "exponent of d in RMS(dW z) / RMS(dW)"
FORMULA = "RMS^2 = eta^2 d [1 + (2/pi)(d - 1)/m]"
TRAINED = (
    "With a large vocabulary of m token types (m >> d), widths d = 32 to 128 and an embedding "
    "trained by sign descent until a token has moved by 0.4 in units of its initial entries,"
)
RESTORED = {True: 0.1, False: 0.125}  # tolerances: all of the way, or more than half of it
MATRIX = {
    "linear": "a linear network's readout of its token embedding",
    "mlp": "an MLP's first hidden matrix",
    "transformer": "a transformer's first query, key and value matrices",
}


def _of_network(network: str) -> tuple[Claim, ...]:
    matrix = MATRIX[network]
    return (
        Claim(
            name=f"update-magnitude-{network}-small-vocab",
            statement="With a small vocabulary of m token types (m << d), the first sign-descent "
            f"update of {matrix}, at a fixed learning rate, changes its outputs on token "
            "embeddings by an RMS that grows like the width d.",
            quantity=EXPONENT,
            prediction="1",
            study=STUDY,
            evidence=partial(small_vocabulary, network=network),
            tolerance=0.08,
            citation=f"{HAYOU_LIU}; {INTERPOLATION}",
            rival=0.5,
        ),
        Claim(
            name=f"update-magnitude-{network}-large-vocab",
            statement="With a large vocabulary of m token types (m >> d), the first sign-descent "
            f"update of {matrix}, at a fixed learning rate, changes its outputs on token "
            "embeddings by an RMS that grows like the square root of the width d.",
            quantity=EXPONENT,
            prediction="1/2",
            study=STUDY,
            evidence=partial(large_vocabulary, network=network),
            tolerance=0.06,
            citation=f"{HAYOU_LIU}; {INTERPOLATION}",
            rival=1.0,
        ),
        Claim(
            name=f"update-magnitude-{network}-formula",
            statement="At all measured widths d and numbers m of token types, the first "
            f"sign-descent update of {matrix} at learning rate eta changes its outputs on token "
            "embeddings by the RMS derived for a linear network (embedding and projection), eta "
            "sqrt(d [1 + (2/pi)(d - 1)/m]) for embeddings of RMS one, with nothing fitted.",
            quantity="measured / derived RMS",
            prediction=FORMULA,
            study=STUDY,
            evidence=partial(formula, network=network),
            tolerance=0.02,
            citation=FIRST_STEP,
        ),
        _restored(network),
    )


def _restored(network: str) -> Claim:
    """How far alignment has come back: all of the way, or more than half of it."""
    whole = network == "linear"
    grows = (
        "grows like the width d, as with a small vocabulary"
        if whole
        else "grows by a power of the width d from 3/4 to 1, which is more than half of the way "
        "from sqrt(d) to d, the law of a small vocabulary"
    )
    return Claim(
        name=f"update-magnitude-{network}-restored",
        statement=f"{TRAINED} the sum of the updates of {MATRIX[network]}, in units of its own "
        f"RMS entry, changes the outputs by an RMS that {grows}.",
        quantity=EXPONENT + " at step 8",
        prediction="1" if whole else "from 3/4 to 1",
        study=STUDY,
        evidence=partial(restored, network=network, halfway=not whole),
        tolerance=RESTORED[whole],
        citation=END_OF_LV,
        expected="undecided" if network == "transformer" else "holds",
        rival=0.5,
    )


CLAIMS = (
    *(claim for network in NETWORKS for claim in _of_network(network)),
    Claim(
        name="update-magnitude-adam",
        statement="The first Adam update of an MLP's first hidden matrix at learning rate eta, at "
        "all measured widths d and numbers m of token types, changes its outputs on token "
        "embeddings by the RMS derived for sign descent in a linear network (embedding and "
        "projection), eta sqrt(d [1 + (2/pi)(d - 1)/m]) for embeddings of RMS one, with nothing "
        "fitted.",
        quantity="measured / derived RMS",
        prediction=FORMULA,
        study=STUDY,
        evidence=partial(formula, network="mlp", optimizer="adam"),
        tolerance=0.02,
        citation="docs/theory/first_step.md#adam-first-step",
    ),
    Claim(
        name="update-magnitude-collapse",
        statement="For linear network, MLP and transformer at all measured widths d and numbers m "
        "of token types, the RMS change of the outputs by the first sign-descent update of a "
        "matrix that reads the token embedding, at a fixed learning rate and divided by sqrt(d), "
        "is one function of d/m.",
        quantity="RMS of ln(measured / curve)",
        prediction="0",
        study=STUDY,
        evidence=collapse,
        tolerance=0.04,
        citation=f"{HAYOU_LIU}; docs/theory/regimes.md#data-collapse",
    ),
    Claim(
        name="control-update-magnitude-random-sum",
        statement="Wrong on purpose: at all measured widths d and numbers m of token types, the "
        f"first sign-descent update of {MATRIX['transformer']} at learning rate eta changes its "
        "outputs on token embeddings of RMS one by the RMS of a random sum, eta sqrt(d).",
        quantity="measured / derived RMS",
        prediction="RMS^2 = eta^2 d",
        study=STUDY,
        evidence=partial(formula, network="transformer", coherent=False),
        tolerance=0.02,
        citation=f"contradicts update-magnitude-transformer-formula; {INTERPOLATION}",
        expected="fails",
    ),
    Claim(
        name="control-update-magnitude-product",
        statement="Wrong on purpose: for linear network, MLP and transformer at all measured "
        "widths d and numbers m of token types, the RMS change of the outputs by the first "
        "sign-descent update of a matrix that reads the token embedding, at a fixed learning rate "
        "and divided by sqrt(d), is one function of the product d m.",
        quantity="RMS of ln(measured / curve)",
        prediction="0",
        study=STUDY,
        evidence=partial(collapse, by_product=True),
        tolerance=0.04,
        citation="contradicts update-magnitude-collapse; docs/theory/regimes.md#data-collapse",
        expected="fails",
    ),
    *(
        Claim(
            name=f"control-update-magnitude-frozen-{network}",
            statement="Wrong on purpose: with a large vocabulary of m token types (m >> d) and a "
            f"frozen embedding, the sum of the updates of {MATRIX[network]}, after eight "
            "steps of sign descent and in units of its own RMS entry, changes the outputs by an "
            "RMS that grows like the width d.",
            quantity=EXPONENT + " at step 8",
            prediction="1",
            study=STUDY,
            evidence=partial(restored, network=network, frozen=True),
            tolerance=0.1,
            citation=f"contradicts {END_OF_LV}",
            expected="fails",
        )
        for network in NETWORKS
    ),
)
