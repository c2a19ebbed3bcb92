"""Claims about the transfer of one global learning rate by rule, vocabulary and weight decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dynsim.claims import Evidence, Verdict
from experiments.topics._claim import NEGATIVE, Claim

from .estimators import (
    LEAST,
    MOST,
    PUBLISHED_FALL,
    advantage_closed,
    advantage_growth,
    drift_evidence,
    fall_evidence,
    loss_above,
)
from .study import DECAYS, NETWORKS, OTHER_VOCABULARIES, SLOWER

WIDTH, ROOT = "sp, embedding x width", "sp, embedding x root"
SMALL, LARGE = min(OTHER_VOCABULARIES), max(OTHER_VOCABULARIES)
KALRA = "Kalra & Barkeshli 2026, arXiv 2605.21486"
YANG = "Yang et al. 2022, arXiv 2203.03466"
HAYOU_LIU = "Hayou & Liu 2025, arXiv 2506.15025"
METRICS = "docs/theory/transfer.md#transfer-metrics"
TUNED_RATE = "docs/theory/parametrizations.md#tuned-base-rate"
PUBLISHED_RULES = "docs/theory/parametrizations.md#published-rules"
OPEN = "docs/theory/open_questions.md#open-limits"
NAMES = {"mlp": "residual MLP", "transformer": "transformer"}
SP = "SP (standard weights, all learning rates ~ 1/width)"
SHARE = "share of muP's advantage over SP in the lowest loss, widest network"
EXPONENT = "exponent of the width in the optimal base learning rate"
CHANGE = "change of L*(SP) - L*(muP), width 256, nats"


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """A claim about either network.

    - `statement`: goes on after "For a residual MLP trained on real text by AdamW," or the same of
      a transformer.
    - `evidence`: takes the network beside the data.
    - `mlp`, `transformer`: the verdict expected for that network.
    - `rival`: as in `Claim`.
    - `published`: whether a paper states it. Where it is expected to fail the claim is then named
      not-seen- (published, and not what these networks do), else control- (an open question).
    """

    name: str
    statement: str
    quantity: str
    prediction: str
    evidence: Callable[..., Evidence]
    tolerance: float
    citation: str
    mlp: Verdict
    transformer: Verdict
    published: bool = False
    rival: float | None = None

    def claim(self, network: str) -> Claim:
        expected: Verdict = self.mlp if network == "mlp" else self.transformer
        fails = expected == "fails"
        control = fails and not self.published
        refuted = "not-seen-" if self.published else "control-"
        setting = f"a {NAMES[network]} trained on real text by AdamW, "
        return Claim(
            name=refuted * fails + f"{self.name}-{network}",
            statement=(f"{NEGATIVE}for " if control else "For ") + setting + self.statement,
            quantity=self.quantity,
            prediction=self.prediction,
            study="transfer_networks",
            evidence=partial(self.evidence, network=network),
            tolerance=self.tolerance,
            citation="contradicts " * control + self.citation,
            expected=expected,
            rival=self.rival,
        )


def _statements() -> list[_Statement]:
    more = f"by {LEAST:g} nats or more,"
    positive = f"from {LEAST:g} to {MOST:g}"
    tolerance = (MOST - LEAST) / 2
    faster = "the embedding's learning rate times the width"
    lowest = "the lowest loss over learning rates"
    return [
        _Statement(
            name="transfer-embedding",
            statement=f"{SP} with {faster} has the advantage that muP has over SP in {lowest}, to "
            "within one half of it, at the largest measured width.",
            quantity=SHARE,
            prediction="1",
            evidence=partial(advantage_closed, by=WIDTH),
            tolerance=0.5,
            citation=f"{KALRA}; {METRICS}",
            published=True,
            rival=0.0,
            mlp="fails",
            transformer="undecided",
        ),
        _Statement(
            name="transfer-readout",
            statement=f"{SP} with muP's readout has the advantage that muP has over SP in "
            f"{lowest}, to within one half of it, at the largest measured width.",
            quantity=SHARE,
            prediction="1",
            evidence=partial(advantage_closed, by="sp, mup readout"),
            tolerance=0.5,
            citation=f"{KALRA}; {PUBLISHED_RULES}",
            rival=0.0,
            mlp="undecided",
            transformer="fails",
        ),
        _Statement(
            name="transfer-root",
            statement=f"with embedding LR / hidden LR tuned at the narrowest width, {SP} with the "
            f"embedding's learning rate times sqrt(width) has, {more} a higher lowest loss over "
            f"learning rates than SP with {faster}, at the largest measured width.",
            quantity="L*(sqrt(width)) - L*(width), widest network, nats",
            prediction=positive,
            evidence=partial(loss_above, rule=ROOT, other=WIDTH),
            tolerance=tolerance,
            citation=f"{YANG}; contradicts {HAYOU_LIU}; {PUBLISHED_RULES}",
            published=True,
            rival=0.0,
            mlp="undecided",
            transformer="fails",
        ),
        _Statement(
            name="transfer-root-slower",
            statement=f"with an embedding {SLOWER:g} times slower than tuned at the narrowest "
            f"width, {SP} with the embedding's learning rate times sqrt(width) has, {more} "
            f"a higher lowest loss over learning rates than SP with {faster}, at width 256.",
            quantity="L*(sqrt(width)) - L*(width), width 256, nats",
            prediction=positive,
            evidence=partial(loss_above, rule=ROOT, other=WIDTH, slower=SLOWER),
            tolerance=tolerance,
            citation=f"{YANG}; contradicts {HAYOU_LIU}; {PUBLISHED_RULES}",
            published=True,
            rival=0.0,
            mlp="undecided",
            transformer="holds",
        ),
        _Statement(
            name="transfer-slower",
            statement=f"the amount by which {faster} lowers the lowest loss over learning rates of "
            f"{SP}, at width 256, is larger, {more} if the embedding is {SLOWER:g} times slower "
            "than tuned at the narrowest width.",
            quantity="change of L*(SP) - L*(times width), width 256, nats",
            prediction=positive,
            evidence=partial(advantage_growth, other=WIDTH, start={}, slower=SLOWER),
            tolerance=tolerance,
            citation="docs/theory/learning_rates.md#which-ratio-when",
            rival=0.0,
            mlp="undecided",
            transformer="holds",
        ),
        _Statement(
            name="transfer-fit",
            statement=f"{faster} lowers the relative RMS error E of the joint power-law fit of "
            "losses over width and learning rate, in the geometric mean over SP's and muP's "
            "readout and gain learning rate, as published (a factor 10^-0.89).",
            quantity="log10 of the factor in E, mean over the other toggles",
            prediction="< 0 (published: -0.89)",
            evidence=fall_evidence,
            tolerance=-PUBLISHED_FALL,
            citation=f"{KALRA}; {METRICS}",
            published=True,
            mlp="undecided",
            transformer="undecided",
        ),
        _Statement(
            name="transfer-stays",
            statement=f"{SP} with {faster} has an optimal base learning rate (these powers of the "
            "width divided out) that does not depend on the width.",
            quantity=EXPONENT,
            prediction="0",
            evidence=partial(drift_evidence, rule=WIDTH),
            tolerance=0.15,
            citation=TUNED_RATE,
            rival=0.25,
            mlp="undecided",
            transformer="undecided",
        ),
        _Statement(
            name="transfer-stays-sp",
            statement=f"{SP} has an optimal base learning rate (this power of the width divided "
            "out) that does not depend on the width.",
            quantity=EXPONENT,
            prediction="0",
            evidence=partial(drift_evidence, rule="sp"),
            tolerance=0.15,
            citation=TUNED_RATE,
            rival=0.25,
            mlp="fails",
            transformer="undecided",
        ),
        _Statement(
            name="transfer-vocabulary",
            statement=f"muP's advantage over {SP} in {lowest}, at width 256, grows {more} with "
            f"the vocabulary, from {SMALL} to {LARGE:,} token types.",
            quantity=CHANGE,
            prediction=positive,
            evidence=partial(
                advantage_growth, other="mup", start={"vocab_size": SMALL}, vocab_size=LARGE
            ),
            tolerance=tolerance,
            citation=f"{KALRA}; {OPEN}",
            rival=0.0,
            mlp="holds",
            transformer="undecided",
        ),
        *(
            _Statement(
                name=f"transfer-{decay}-decay",
                statement=f"{decay} weight decay of {rates[-1]:g} raises {lowest}, at width 256, "
                f"by more under {SP} than under muP, {more} as published.",
                quantity=CHANGE,
                prediction=positive,
                evidence=partial(
                    advantage_growth, other="mup", start={}, decay=decay, weight_decay=rates[-1]
                ),
                tolerance=tolerance,
                citation=f"{KALRA}; {METRICS}",
                published=True,
                rival=0.0,
                mlp="fails",
                transformer="fails",
            )
            for decay, rates in DECAYS.items()
        ),
    ]


CLAIMS: tuple[Claim, ...] = tuple(
    statement.claim(network) for network in NETWORKS for statement in _statements()
)
