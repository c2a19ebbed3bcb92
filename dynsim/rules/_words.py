"""A recommendation in words: what each rule presumes, why the rules differ, and for how long."""

from __future__ import annotations

import numpy as np

import derivations
from derivations import symbols as s
from dynsim.tokens._laws import TokenLaw

from ._answers import Regime, RuleAnswer

INITIAL_EMBEDDINGS = (
    "embeddings that are still close to their initial values: the first steps, or embeddings that "
    "learn slowly or not at all"
)
PRESUMES = {
    "mup": "aligned updates: a vocabulary much smaller than the width, or learned embeddings, "
    "which have moved so far that updates are aligned at any vocabulary "
    "(docs/theory/learning_rates.md#which-ratio-when)",
    "lv": "hidden matrices that read features without a mean over tokens (the embedding itself, or "
    f"features behind an odd activation), a vocabulary much larger than the width, and "
    f"{INITIAL_EMBEDDINGS}",
    "interpolated": "hidden matrices that read the embedding itself, residuals of equal size, and "
    f"{INITIAL_EMBEDDINGS}",
}
FURTHER_UP = (
    "The vocabulary's law is that of hidden matrices that read the embedding itself. A second or "
    "later hidden matrix that reads features with a mean over tokens (ReLU, GELU, SiLU without "
    "centring) is updated coherently at every vocabulary: take muP's learning rate for it "
    "(docs/theory/first_step.md#feature-step; the command `derive` with its `matrix` and "
    "`activation`)."
)
MUON_SCALES = {
    "spectral": "The hidden factor is for updates that keep their spectral norm, as in the "
    'original Muon, optax.contrib.muon and torch.optim.Muon with adjust_lr_fn="original"; for '
    '"match_rms_adamw", 0.2 sqrt(max(rows, columns)), take the scale rms.',
    "rms": "The hidden factor is for updates multiplied by 0.2 sqrt(max(rows, columns)), as by "
    'torch.optim.Muon with adjust_lr_fn="match_rms_adamw"; for the original Muon and '
    "optax.contrib.muon take the scale spectral.",
}
KNOWN = {
    "mup": "The largest stable rates at full alignment are solved for exactly. Trained together on "
    "real text the best ratio of an MLP and of a transformer grew about like the width, at widths "
    "32 to 128 (docs/topics/optimal_ratio.md).",
    "lv": "The best one-step ratio grows like the root of the width along m ~ d, derived and "
    "measured (docs/topics/first_step.md). On real text, over a factor 8 in width, this ratio cost "
    "about a hundredth of what training removes against muP (docs/topics/race.md).",
    "interpolated": "The first update's size of the hidden matrix that reads the embedding is "
    "derived at this width and token law, and agreed with an MLP and a transformer to within a "
    "hundredth for uniform tokens (docs/topics/update_magnitude.md)."
    " Under Zipf tokens unequal residuals make it 5 to 30 % smaller "
    "(docs/theory/first_step.md#unequal-residuals).",
}
NOT_KNOWN = {
    "mup": "Whether the power of the width stays so beyond the widths that were trained.",
    "lv": "How long embeddings of networks with hidden layers stay close to their initial values "
    "(docs/theory/open_questions.md#open-questions).",
    "interpolated": "What follows after the first steps, when embeddings have moved and residuals "
    "differ between tokens.",
}
WHERE = {"mup": "in the muP regime", "lv": "in the LV regime"}
SIGN_LIKE = ("sign", "adam", "adamw", "adafactor")
MUCH_LARGER = 10  # times, from which one number counts as much larger than another
OF_LINEAR_MODEL = (
    "for the linear model under sign-like updates, while residuals keep their initial size"
)
HIDDEN_LAYERS = "For hidden layers this end is open (docs/theory/open_questions.md#open-questions)."


def explanation(
    width: int,
    base_width: int,
    optimizer: str,
    answers: tuple[RuleAnswer, RuleAnswer, RuleAnswer],
    regime: Regime,
    law: TokenLaw,
    muon_scale: str = "spectral",
) -> str:
    """Where the model stands, by how much the rules differ, and how long the LV regime lasts."""
    mup, lv, interpolated = answers
    if optimizer == "muon":
        return (
            "Under Muon the size of the hidden update does not depend on alignment while its "
            f"gradient has full rank, so these rules agree: from width {base_width} to {width} the "
            f"embedding/hidden ratio changes by x{mup.ratio_growth:.3g}. The vocabulary "
            f"only dilutes the update's coherent part. {MUON_SCALES[muon_scale]}"
        )
    return (
        f"At width {width} this token law acts like {regime.effective_vocab_size:.3g} equally "
        f"frequent tokens: rho, averaged over tokens by frequency, is "
        f"{regime.coherence_ratio:.3g}. This average says that the first step is "
        f"{WHERE[regime.name]}; the regimes meet at rho = 1.{_shares(regime, law)} From width "
        f"{base_width} the first step asks for an embedding/hidden ratio of "
        f"x{interpolated.ratio_growth:.3g}; muP asks for x{mup.ratio_growth:.3g}, the LV rule for "
        f"x{lv.ratio_growth:.3g}. {FURTHER_UP} {_end(width, optimizer, regime, law)}"
    )


def tied_words(multiplier: float) -> str:
    """What must be done besides, where the readout is the embedding."""
    roles = (
        "The readout is the embedding, so one matrix has both roles and one learning rate, the "
        "embedding's."
    )
    if multiplier == 1:
        return f"{roles} The multipliers of this parametrization make it right for both."
    return (
        f"{roles} It is right if the model multiplies its logits by {multiplier:.4g}, beside what "
        "it does at the base width. Without that multiplier the logits change more, the wider the "
        "model. The smaller rate of a readout of its own would bound its updates, but not what its "
        "initial entries, as large as an embedding's, make of learned features."
    )


def initial_readout_words(excess: float, growth: float) -> str:
    """How a readout of its own must start, where its initial entries shrink less than 1/width."""
    if excess <= 0 or growth == 1:
        return ""
    return (
        f" Let the readout start {growth**-excess:.3g} times as large as this parametrization "
        "does, beside what it does at the base width: in proportion to 1/width. Otherwise what "
        f"the layers below learn changes the output like d^{excess:.2g} "
        "(docs/theory/parametrizations.md#stability-program)."
    )


def _shares(regime: Regime, law: TokenLaw) -> str:
    """How tokens differ where they do: the average says nothing about a single token."""
    if _uniform(law):
        return ""
    return (
        f" Single tokens differ: those with an own rho_i above 1 make up {regime.mup_mass:.0%} of "
        f"all occurrences, and the other {regime.lv_mass:.0%} start in the LV regime."
    )


def _end(width: int, optimizer: str, regime: Regime, law: TokenLaw) -> str:
    """When embeddings have moved so far that updates are aligned, and under which conditions."""
    if regime.lv_mass == 0 or (regime.name == "mup" and _uniform(law)):
        return "Updates are aligned from the first step on."
    if optimizer not in SIGN_LIKE:
        return "When the LV regime ends is derived for sign-like updates (sign, Adam) alone."
    if _uniform(law):
        return _end_of_uniform_tokens(width, regime)
    return _end_of_tail_tokens(width, law)


def _end_of_uniform_tokens(width: int, regime: Regime) -> str:
    in_between = (
        " This vocabulary is not much larger than the width; `dynsim lifetime` computes the end."
        if regime.coherence_ratio > 1 / MUCH_LARGER
        else ""
    )
    return (
        "With uniform tokens the LV regime ends once updates have moved an embedding by "
        "eta_E t = K sigma_E sqrt(n_eff/d), sigma_E its initial standard deviation, d the width, "
        "n_eff the number of output directions that the residuals fill, K = 1 for one of them "
        f"({width**-0.5:.3g} sigma_E) and pi/2 for many. From then on updates are aligned. This "
        f"holds for a vocabulary much larger than the width, and {OF_LINEAR_MODEL} "
        f"(docs/theory/lv_lifetime.md#end-of-lv).{in_between} {HIDDEN_LAYERS}"
    )


def _end_of_tail_tokens(width: int, law: TokenLaw) -> str:
    square_sum = law.power_sum(2)
    if square_sum * width < MUCH_LARGER:
        return (
            "When the LV regime ends has no closed form for this law: it is neither uniform nor "
            "so steep that P_2 = sum_i p_i^2 is much larger than 1/width "
            f"(docs/theory/lv_lifetime.md#ageing-under-zipf). {HIDDEN_LAYERS}"
        )
    end = derivations.early_restoration_displacement("one").expression.subs(
        {s.width: width, s.frequency_square_sum: square_sum, s.effective_outputs: 1}
    )
    return (
        "Under this law updates of the rare tokens become aligned once their embeddings have moved "
        f"by about eta_E t = (pi P_2/(2 d))^(1/4) sigma_E = {float(end):.3g} sigma_E, sigma_E the "
        "initial standard deviation, d the width, P_2 = sum_i p_i^2. This holds for one output "
        f"and P_2 much larger than 1/d, and {OF_LINEAR_MODEL} "
        f"(docs/theory/lv_lifetime.md#ageing-under-zipf). {HIDDEN_LAYERS}"
    )


def _uniform(law: TokenLaw) -> bool:
    return np.allclose(law.frequencies, law.frequencies[0])
