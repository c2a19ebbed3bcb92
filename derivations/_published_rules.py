"""What published rules prescribe for learning rates as a model grows wider, in one gauge.

The gauge is that of multipliers one (table 3 of Tensor Programs V): the exponent is that of the
learning rate of the weight itself, whatever constant the rule's own model multiplies it by. Under
Adam, sign or a normalised row the learning rate is the size of an entry's step. Under Muon it is
the spectral norm of the step over sqrt(rows/columns), whatever an implementation multiplies by.
A head that Muon trains has the learning rate of an aligned Adam step with its operator norm.
Rules that train alike have equal exponents there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from ._cache import cache
from ._parametrizations import (
    NETWORK_LAYERS,
    NetworkLayer,
    Parametrization,
    custom_parametrization,
    parametrization,
)
from ._stability import solve_stability
from ._stability_constraints import FULL_ALIGNMENT, NO_ALIGNMENT, NetworkAlignment

Scope = Literal["absolute", "ratio"]
RuleFamily = Literal["adam", "muon"]
HALF = Fraction(1, 2)


@dataclass(frozen=True, kw_only=True)
class TiedRule:
    """What a rule prescribes where the readout is the embedding, one matrix.

    - `lr`: power of the width in its learning rate, with multiplier one as an embedding.
    - `logit_multiplier`: power of the width in what the logits are multiplied by.
    """

    lr: Fraction
    logit_multiplier: Fraction


@dataclass(frozen=True, kw_only=True)
class PublishedRule:
    """One published prescription.

    **Fields:**

    - `name`, `source`: who says so and where; `date`: year and month of its first version.
    - `own`: the parametrization with learning rates in the gauge of the source; of Muon the
      learning rate by which the source multiplies its own update.
    - `family`: whether hidden matrices are trained by Adam or by Muon.
    - `other_steps`: what trains the other layers, where it is not Adam.
    - `step_scale`: power of the width in what the source multiplies the orthogonalised step of a
      square matrix by.
    - `reduced`: the same with all multipliers and scales one.
    - `scope`: `absolute`, or `ratio` where the source fixes learning rates relative to each other
      only; `presumes` or `evidence` say where the free one was put.
    - `tied`: what it says of a readout that is the embedding, None where nothing.
    - `decay`: power of the width in what a step shrinks a hidden matrix by, (LR)(weight decay);
      None where the source does not say it.
    - `presumes`: the alignment or the regime that the rule rests on.
    - `evidence`: what the code or paper states, and what is assumed beside it.
    """

    name: str
    source: str
    date: str
    own: Parametrization
    scope: Scope = "absolute"
    presumes: str
    evidence: str
    family: RuleFamily = "adam"
    other_steps: dict[NetworkLayer, str] = field(default_factory=dict)
    step_scale: Fraction = Fraction(0)
    tied: TiedRule | None = None
    decay: Fraction | None = None

    @property
    def reduced(self) -> Parametrization:
        return self.own.with_multipliers("adam")

    @property
    def lr_exponents(self) -> dict[NetworkLayer, Fraction]:
        """LR exponents by layer in the common gauge."""
        rates = {name: layer.lr or Fraction(0) for name, layer in self.reduced.layers.items()}
        return {**rates, "hidden": rates["hidden"] + self.step_scale}

    @property
    def ratio_exponent(self) -> Fraction:
        """Power of d in embedding LR / hidden LR, in the common gauge."""
        rates = self.lr_exponents
        return rates["embedding"] - rates["hidden"]

    @property
    def trained_by(self) -> dict[NetworkLayer, str]:
        """What trains each layer."""
        own = {"hidden": self.family, **self.other_steps}
        return {layer: own.get(layer, "adam") for layer in NETWORK_LAYERS}


def _solved(name: str, alignment: NetworkAlignment) -> Parametrization:
    return solve_stability(parametrization(name), "adam", alignment).parametrization


def _rates(embedding: Fraction | int, hidden: Fraction | int, readout: Fraction | int) -> Any:
    """A rule for a model without multipliers; its initial weights are those of SP."""
    return custom_parametrization((0, 0, 0), (0, -HALF, -HALF), (embedding, hidden, readout))


MUP_TIED = TiedRule(lr=Fraction(0), logit_multiplier=Fraction(-1))


@cache
def published_rules(family: RuleFamily = "adam") -> tuple[PublishedRule, ...]:
    """The rules for models whose hidden matrices are trained by Adam, or by Muon."""
    return _muon_rules() if family == "muon" else _adam_rules()


def _adam_rules() -> tuple[PublishedRule, ...]:
    everett = "Everett et al. 2024, arXiv 2407.05872"
    rules = [
        PublishedRule(
            name="microsoft/mup",
            source="Yang et al. 2022, arXiv 2203.03466, table 8; github.com/microsoft/mup, "
            "mup/optim.py and mup/layer.py",
            date="2022-03",
            own=custom_parametrization((0, 0, -1), (0, "-1/2", 0), (0, -1, 0)),
            presumes="fixed vocabulary, full alignment",
            evidence="code read: MuAdam divides the LR of weights with two infinite dimensions by "
            "width/base width and leaves all others alone; MuReadout divides its input by it, and "
            "MuSharedReadout does so with the embedding",
            tied=MUP_TIED,
        ),
        PublishedRule(
            name="u-muP",
            source="Blake et al. 2024, arXiv 2407.17465, table 2; unit_scaling/optim.py of "
            "Graphcore",
            date="2024-07",
            own=parametrization("umup"),
            presumes="full alignment; the embedding's 1/sqrt(d) was found empirically",
            evidence="code read: LR times fan_in^-1/2 for weights, the embedding's fan_in taken as "
            "its width, and one for the output",
        ),
    ]
    for letters, words in (("sp", "SP"), ("ntk", "NTK"), ("mfp", "MFP")):
        for alignment, assumed in ((FULL_ALIGNMENT, "full"), (NO_ALIGNMENT, "no")):
            rules.append(
                PublishedRule(
                    name=f"Everett {words}, {assumed} alignment",
                    source=everett,
                    date="2024-07",
                    own=_solved(letters, alignment),
                    presumes=f"{assumed} alignment of updates with activations",
                    evidence="solved from the stability program, which reproduces their table",
                )
            )
    shared = _solved("sp", FULL_ALIGNMENT)
    rules += [
        PublishedRule(
            name="CompleteP",
            source="Dey et al. 2025, arXiv 2505.01618; github.com/EleutherAI/nanoGPT-mup, branch "
            "completep, README.md",
            date="2025-05",
            own=custom_parametrization((0, 0, -1), (0, "-1/2", 0), (0, -1, 0)),
            presumes="full alignment; adds rules for the depth, which leave the width's as they "
            "are",
            evidence="code read: embeddings keep their LR, hidden matrices have LR/m_d and weight "
            "decay times m_d, tied logits are divided by m_d, the growth in width",
            tied=MUP_TIED,
            decay=Fraction(0),
        ),
        PublishedRule(
            name="Hayou & Liu",
            source="Hayou & Liu 2025, arXiv 2506.15025",
            date="2025-06",
            own=parametrization("lv"),
            scope="ratio",
            presumes="large vocabulary (m much larger than d), young network",
            evidence="abstract read: embedding LR / hidden LR grows as sqrt(d); hidden and readout "
            "are put at muP's exponents",
        ),
        PublishedRule(
            name="Fan et al.",
            source="Fan et al. 2025, arXiv 2510.15262",
            date="2025-10",
            own=_rates(0, -1, -1),
            presumes="AdamW's steady state; sublayers keep their gain",
            evidence="abstract read: matrices have LR 1/d and weight decay sqrt(d), vectors a "
            "constant LR and no weight decay; embedding and readout are put at muP's exponents",
            decay=-HALF,
        ),
        PublishedRule(
            name="Kalra & Barkeshli",
            source="Kalra & Barkeshli 2026, arXiv 2605.21486",
            date="2026-05",
            own=shared,
            scope="ratio",
            presumes="SP with AdamW; measured on GPT-like models",
            evidence="abstract read: SP with the embedding LR times the width; the shared LR is "
            "tuned at every width and is put here at the largest stable exponent",
        ),
    ]
    return tuple(rules)


def _muon_rules() -> tuple[PublishedRule, ...]:
    matched = (
        "one LR for Muon and AdamW, tuned at every size, is put at a constant; the step of a "
        "matrix is multiplied by 0.2 sqrt(max(rows, columns)), so that its entries have the size "
        "of AdamW's"
    )
    return (
        PublishedRule(
            name="Muon",
            source="Jordan et al. 2024, kellerjordan.github.io/posts/muon; "
            "github.com/KellerJordan/Muon, muon.py and README.md",
            date="2024-10",
            own=_rates(0, 0, 0),
            presumes="Muon's LR needs no retuning; nothing is said of AdamW's",
            evidence="code read: the step is multiplied by sqrt(max(1, rows/columns)), and "
            "embedding and head are left to AdamW at rates that do not depend on the width",
            family="muon",
        ),
        PublishedRule(
            name="modular norm",
            source="Large et al. 2024, arXiv 2405.14813; Bernstein & Newhouse 2024, arXiv "
            "2410.21265; github.com/jxbz/modula, modula/atom.py",
            date="2024-10",
            own=_rates(0, 0, -1),
            presumes="full alignment: each module's operator norm bounds what it does",
            evidence="code and abstracts read: a step is sqrt(rows/columns) in spectral norm for "
            "every linear module and one in RMS for a token's row; of the head, which Muon trains "
            "too, the LR is that of an aligned Adam step with the same operator norm",
            family="muon",
            other_steps={"embedding": "row norm", "readout": "muon"},
        ),
        PublishedRule(
            name="Moonlight",
            source="Liu et al. 2025, arXiv 2502.16982; github.com/MoonshotAI/Moonlight, "
            "examples/toy_train.py",
            date="2025-02",
            own=_rates(0, 0, 0),
            scope="ratio",
            presumes="a learning rate and weight decay that were tuned for AdamW",
            evidence=f"code read: {matched}; its example ties the readout without a multiplier",
            family="muon",
            step_scale=HALF,
            tied=TiedRule(lr=Fraction(0), logit_multiplier=Fraction(0)),
            decay=Fraction(0),
        ),
        PublishedRule(
            name="Scion",
            source="Pethick et al. 2025, arXiv 2502.07529; github.com/LIONS-EPFL/scion, scion.py "
            "and README.md",
            date="2025-02",
            own=_rates(0, 0, -1),
            presumes="norms from layer to layer: RMS to RMS, and RMS to maximum for the head",
            evidence="code read: rows of the embedding have steps of RMS one, matrices of "
            "spectral norm sqrt(rows/columns), the head sign/(columns), and with weight sharing "
            "the one matrix too; all weights shrink by the LR alone",
            family="muon",
            other_steps={"embedding": "row norm", "readout": "sign"},
            tied=TiedRule(lr=Fraction(-1), logit_multiplier=Fraction(0)),
            decay=Fraction(0),
        ),
        PublishedRule(
            name="Dion",
            source="Ahn et al. 2025, arXiv 2504.05295; github.com/microsoft/dion, README.md and "
            "dion/muon.py",
            date="2025-04",
            own=_rates(0, 0, -HALF),
            presumes="one learning rate for all layers but the head",
            evidence="code read: steps of matrices are multiplied by sqrt(rows/columns), the "
            "head's LR (AdamW or Lion) is divided by sqrt(columns), embeddings have it as it is",
            family="muon",
        ),
        PublishedRule(
            name="Kimi K2",
            source="Kimi Team 2025, arXiv 2507.20534",
            date="2025-07",
            own=_rates(0, 0, 0),
            scope="ratio",
            presumes="as Moonlight",
            evidence=f"described by others: {matched}; QK-Clip rescales query and key matrices "
            "after the step",
            family="muon",
            step_scale=HALF,
            decay=Fraction(0),
        ),
        PublishedRule(
            name="nanochat",
            source="Karpathy 2025, github.com/karpathy/nanochat, nanochat/gpt.py",
            date="2025-10",
            own=_rates(-HALF, 0, -HALF),
            presumes="learning rates that were tuned at width 768",
            evidence="code read: AdamW's LRs of embedding and head times (d/768)^-1/2, Muon's as "
            "it is, steps of matrices times sqrt(max(1, rows/columns))",
            family="muon",
        ),
        PublishedRule(
            name="Qiu et al.",
            source="Qiu et al. 2025, arXiv 2512.05620, table 1",
            date="2025-12",
            own=_rates(0, 0, -1),
            presumes="muP: one step's gradient of low rank, full alignment",
            evidence="paper read: sqrt(columns out/columns in) for Muon, 1/(columns in) for Adam "
            "on embedding and readout; independent weight decay 1/d at compute-optimal length; it "
            "calls Adam's muP and Adam's RMS for Muon both incorrect",
            family="muon",
            decay=Fraction(-1),
        ),
    )
