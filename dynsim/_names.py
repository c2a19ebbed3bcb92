"""What a number is called: long name, symbol and unit of every array that a result holds.

Datasets take their attributes from here, and figures the labels of their axes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LOSS_UNITS = {"ce": "nat", "mse": "1"}
OF_THE_LOSS = "loss"
"""the unit of what is measured like the loss: nat or 1, as `LOSS_UNITS` says"""


class Name(NamedTuple):
    """How a number is called in words and in symbols, and its unit.

    `given`: it was chosen rather than computed, so that it is a coordinate.
    """

    long_name: str
    symbol: str = ""
    units: str = "1"
    given: bool = False


NAMES: dict[str, Name] = {
    # What is counted
    "step": Name("step", "$t$"),
    "time": Name("time", "$t$", "steps"),
    "horizon": Name("training steps", "$T$"),
    "seed": Name("seed", given=True),
    "rates": Name("pair of learning rates"),
    "run": Name("run"),
    "rank": Name("token rank", "$i$"),
    "token": Name("token rank from 0"),
    "point": Name("point"),
    "test_point": Name("test point"),
    "output": Name("output"),
    "matrix": Name("matrix"),
    "quantity": Name("quantity"),
    "layer": Name("layer"),
    "rule": Name("rule"),
    "route": Name("route"),
    "pair": Name("pair of routes"),
    "parameter": Name("parameter of the fit"),
    # What is chosen
    "width": Name("width", "$d$", given=True),
    "vocab_size": Name("vocabulary", "$m$", given=True),
    "displacement": Name("displacement of the embedding", r"$\eta_E t$", given=True),
    "embedding_lr": Name("embedding LR", r"$\eta_E$", given=True),
    "projection_lr": Name("projection LR", r"$\eta_W$", given=True),
    "hidden_lr": Name("hidden LR", r"$\eta_W$", given=True),
    "weight_decay": Name("weight decay", r"$\lambda$", given=True),
    "point_width": Name("width of the point", "$d$", given=True),
    "learning_rate": Name("learning rate", r"$\eta$"),
    # Losses
    "loss": Name("loss", "$L$", OF_THE_LOSS),
    "initial_loss": Name("loss before the first step", "$L_0$", OF_THE_LOSS),
    "train_loss": Name("loss of the batch", "$L_B$", OF_THE_LOSS),
    "fitted_loss": Name("loss of the joint fit", "$L$", OF_THE_LOSS),
    "optimal_loss": Name("loss at the optimum", "$L^*$", OF_THE_LOSS),
    "finite_width_correction": Name("loss of order 1/width", r"$L - L_\infty$", OF_THE_LOSS),
    # Updates
    "projection_update_rms": Name("projection update RMS", r"$\Delta W\,e$"),
    "embedding_update_rms": Name("embedding update RMS", r"$W_0\,\Delta e$"),
    "hidden_update_rms": Name("hidden update RMS", r"$\Delta A\,h$"),
    "projection_step_rms": Name("projection step RMS", r"$\delta W\,e$"),
    "projection_mean_square": Name("projection update, mean square", r"$(\Delta W\,e)^2$"),
    "embedding_mean_square": Name("embedding update, mean square", r"$(W_0\,\Delta e)^2$"),
    "cross_mean_square": Name("cross term, mean square", r"$(\Delta W\,\Delta e)^2$"),
    "batch_share": Name("share of the batch", r"$\hat p_i$"),
    "mean_square": Name("mean square"),
    "rms": Name("update RMS at LR 1"),
    "mean": Name("update at LR 1 for a residual of +1, mean"),
    "mean_change": Name("change at LR 1, mean"),
    "alignment_square": Name("squared alignment, mean over pairs", "$C$"),
    "logits": Name("logits"),
    "local_exponent": Name("local exponent of the width"),
    "field_age": Name("learned part of the gradient over its noise", r"$\tau$"),
    # Tokens
    "frequency": Name("frequency", "$p_i$"),
    "effective_vocab_size": Name("effective vocabulary", r"$m_{\mathrm{eff}}$"),
    "coherence": Name("coherence", r"$\rho_i$"),
    # Learning rates that were found
    "embedding_optimal_lr": Name("optimal embedding LR", r"$\eta_E^*$"),
    "projection_optimal_lr": Name("optimal projection LR", r"$\eta_W^*$"),
    "optimal_rate_ratio": Name("optimal ratio", r"$\eta_E^*/\eta_W^*$"),
    "optimal_rate": Name("optimal LR", r"$\eta^*$"),
    "curvature": Name("curvature at the optimum", "$H$"),
    "factor": Name("LR over that of the base width"),
    "ratio": Name("embedding LR / hidden LR", r"$\eta_E/\eta_W$"),
    "ratio_growth": Name("growth of embedding LR / hidden LR"),
    "growth_curve": Name("growth of embedding LR / hidden LR over widths"),
    "curve_width": Name("width of the curve", "$d$", given=True),
    "value": Name("value"),
    "near": Name("whether the point is near the optimum"),
    # Exponents of the width
    "init_std_exponent": Name("initial standard deviation, power of the width"),
    "multiplier_exponent": Name("multiplier, power of the width"),
    "lr_exponent": Name("learning rate, power of the width"),
    "epsilon_exponent": Name("epsilon, power of the width"),
    "weight_decay_exponent": Name("weight decay, power of the width"),
    "ratio_exponent": Name("embedding LR / hidden LR, power of the width"),
    # Quantities along a path
    "size": Name("size that grows", given=True),
    "growing_width": Name("width", "$d$"),
    "growing_vocab_size": Name("vocabulary", "$m$"),
    "growing_batch_size": Name("batch size", "$B$"),
    "growing_outputs": Name("outputs", "$n$"),
    "growing_steps": Name("updates", "$T$"),
    "measured": Name("quantity of trained networks"),
    "derived": Name("quantity by the derived formula"),
    "mean_field": Name("quantity by mean-field theory"),
    "diverged_networks": Name("networks that are not finite"),
    "samples": Name("what each network measured"),
    "wide_size": Name("size that grows, beyond the measured ones", given=True),
    "wide_derived": Name("quantity by the derived formula, at wide sizes"),
    "wide_mean_field": Name("quantity by mean-field theory, at wide sizes"),
    "local_size": Name("geometric mean of two neighbouring sizes", given=True),
    "local_derived": Name("local exponent of the derived formula"),
    "local_mean_field": Name("local exponent of mean-field theory"),
    "octave_size": Name("geometric mean of two neighbouring measured sizes", given=True),
    "octave_measured": Name("local exponent of trained networks"),
    # Claims
    "claim": Name("claim"),
    "cell": Name("setup"),
    "path": Name("path", given=True),
    "theory": Name("quantity by theory"),
    "measured_ratio": Name("quantity of trained networks over theory"),
    "predicted": Name("predicted number"),
    "simulated": Name("number of theory at the measured sizes"),
    "tolerance": Name("half width of the claim's band"),
    "verdict": Name("verdict"),
    "expected": Name("expected verdict"),
    # How it ended
    "diverged": Name("whether the loss diverged"),
    "status": Name("outcome"),
    "outputs": Name("outputs on the training points", "$f$"),
    "test_outputs": Name("outputs on the test points", "$f$"),
    "first_step_apart": Name("first step at which two routes differ"),
    "steps_apart": Name("steps at which two routes differ"),
    "end_difference": Name("difference at the last step"),
    "end_relative_difference": Name("relative difference at the last step"),
}

SUFFIXES = {
    "low": "lower end of the interval",
    "high": "upper end of the interval",
    "error": "numerical error",
    "std_error": "standard error",
    "status": "outcome",
}


def name_of(variable: str) -> Name:
    """The name of an array; `loss_error` and its like are named after what they belong to.

    Raises `KeyError` for an array that has no name.
    """
    if variable in NAMES:
        return NAMES[variable]
    for suffix, words in SUFFIXES.items():
        base = variable.removesuffix(f"_{suffix}")
        if base != variable and base in NAMES:
            of = NAMES[base]
            return Name(f"{of.long_name}: {words}", "", "1" if suffix == "status" else of.units)
    raise KeyError(variable)


def attributes(variable: str, loss: str) -> dict[str, str]:
    """Attributes of an array in a dataset; `loss` is the loss of the setup, mse or ce."""
    name = name_of(variable)
    units = LOSS_UNITS[loss] if name.units == OF_THE_LOSS else name.units
    symbol = {"symbol": name.symbol} if name.symbol else {}
    return {"long_name": name.long_name, "units": units, **symbol}


def latex_path(text: str) -> str:
    """`d^(3/2)/8` as mathematics, in what LaTeX and matplotlib both read."""
    power = r"\(\s*(-?[^()]+?)\s*\)|(-?[\d.]+)"  # only a bracket takes a quotient up
    shown = re.sub(rf"(?:\^|\*\*)\s*(?:{power})", r"^{\1\2}", text)
    shown = re.sub(r"\b(min|max)\b", r"\\\1", shown)
    while match := re.search(r"(?<!\\)\bsqrt\s*\(", shown):
        inside, rest = _bracketed(shown[match.end() :])
        shown = rf"{shown[: match.start()]}\sqrt{{{inside}}}{rest}"
    shown = re.sub(r"\s*\*\s*(?=[\d.])", r" \\cdot ", shown)
    shown = shown.replace("*", r"\,")
    shown = re.sub(r"(?<![\w.])1(?:\.0*)?[eE]([+-]?\d+)", _power_of_ten, shown)
    return re.sub(r"(?<=[\d.])[eE]([+-]?\d+)", lambda one: r" \cdot " + _power_of_ten(one), shown)


def _power_of_ten(match: re.Match[str]) -> str:
    """Of `1e-05`, which mathematics would show as a difference."""
    return f"10^{{{int(match[1])}}}"


def _bracketed(text: str) -> tuple[str, str]:
    """What stands before the bracket that closes one opened before `text`, and what follows it."""
    depth = 1
    for place, mark in enumerate(text):
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if not depth:
            return text[:place], text[place + 1 :]
    return text, ""
