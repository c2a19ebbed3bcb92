"""A recommendation in words: what each rule presumes, and why the rules differ."""

from __future__ import annotations

from ._answers import Regime, RuleAnswer

INITIAL_EMBEDDINGS = (
    "embeddings that are still close to their initial values: the first steps, or embeddings that "
    "learn slowly or not at all"
)
PRESUMES = {
    "mup": "nothing about how far the embeddings have moved: updates that act on learned "
    "embeddings are aligned whatever the vocabulary "
    "(docs/theory/learning_rates.md#which-ratio-when)",
    "lv": f"a vocabulary much larger than the width, and {INITIAL_EMBEDDINGS}",
    "interpolated": INITIAL_EMBEDDINGS,
}
WHERE = {"mup": "in the muP regime", "lv": "in the LV regime", "between": "between the regimes"}


def explanation(
    width: int,
    base_width: int,
    optimizer: str,
    answers: tuple[RuleAnswer, RuleAnswer, RuleAnswer],
    regime: Regime,
) -> str:
    """Where the model stands, by how much the rules differ, and how long the LV regime lasts."""
    mup, lv, interpolated = answers
    if optimizer == "muon":
        return (
            "Under Muon the size of the hidden update does not depend on alignment while its "
            f"gradient has full rank, so all rules agree: from width {base_width} to {width} the "
            f"embedding/hidden ratio changes by x{mup.ratio_growth:.3g}. The vocabulary "
            "only dilutes the update's coherent part."
        )
    return (
        f"At width {width} this token law acts like {regime.effective_vocab_size:.3g} equally "
        f"frequent tokens: rho = {regime.coherence_ratio:.3g}, {WHERE[regime.name]}, with "
        f"{regime.mup_mass:.0%} of the token mass in the muP regime. From width {base_width} the "
        f"first step asks for an embedding/hidden ratio of x{interpolated.ratio_growth:.3g}; muP "
        f"asks for x{mup.ratio_growth:.3g}, the LV rule for x{lv.ratio_growth:.3g}. The LV regime "
        "ends once sign-like updates have moved an embedding by K sqrt(n_eff/d) of its initial "
        "standard deviation, whatever the vocabulary (d the width, n_eff the number of output "
        "directions that the residuals fill, K = 1 for one of them and pi/2 for many); from then "
        "on updates are aligned, as muP presumes (docs/theory/lv_lifetime.md#end-of-lv)."
    )
