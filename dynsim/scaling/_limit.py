"""The derivation of an asymptotic power, from the formula along the path to the exponent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from derivations import LimitLine
from derivations import symbols as s

from ._family import Family
from ._paths import power_of
from ._quantity import Asymptotic
from ._resolution import LETTERS

RATES = {"embedding_lr": "eta_E", "projection_lr": "eta_W", "hidden_lr": "eta_H"}
MORE_STEPS = {"steps": "T", "warmup_steps": "warm-up", "target_rank": "rank of the targets"}
# Of the derivations' texts, what `derivations.symbols.MEANING` does not hold, or means otherwise.
OTHERS = {
    "E": "mean over initial weights",
    "W": "projection, a row for each output",
    "e_i": "embedding of token i",
    "i": "a token",
    "j": "another token, over which a sum goes",
    "k": "an output (of a hidden layer: a neuron)",
    "l": "a neuron",
    "t": "a step",
    "T": "number of updates",
    "beta": "share of the past in Adam's means",
    "H": "partial sum of powers, H(x) = sum_i i^(-x)",
    "W_kl": "entry of the projection, of output k and neuron l",
    "e_il": "entry of the embedding of token i at neuron l",
    "r_ik": "residual of token i at output k, the derivative of its loss by the output",
    "delta_ik": "residual of token i backpropagated to neuron k",
    "c_i": "alignment coefficient of token i",
    "p_hat_i": "share of token i in a batch",
    "g": "a gradient entry",
    "epsilon": "Adam's epsilon, or the width of a smoothed sign",
    "m_hat": "Adam's bias-corrected mean gradient",
    "v_hat": "Adam's bias-corrected mean squared gradient",
    "u": "what a gradient entry multiplies in the output",
    "v": "a gradient entry in the kernel's average",
    "sigma_u": "standard deviation of u",
    "sigma_v": "standard deviation of v",
    "phi": "the optimizer's map of a gradient",
    "visits": "RMS displacement of a token by all updates over that by the first",
    "f": "output of the network",
    "y": "target",
    "L": "loss",
    "eta_H": "learning rate of hidden layers",
    "t_c": "step at which the large-vocabulary regime ends",
}
_WORD = re.compile(r"[A-Za-z]+(?:_[A-Za-z0-9]+)*")


def derivation_text(asymptotic: Asymptotic, family: Family, name: str) -> str:
    """The formula with its derivation, the path put in, and the limit line by line.

    The last line is the exponent.
    """
    letter = LETTERS.get(family.along, "T")
    body = [asymptotic.derivation.to_text()]
    before = asymptotic.derivation.assumptions
    assumed = [one for one in asymptotic.assumptions if one not in before]
    if assumed:
        body += ["", "Assumptions of the limit", *(f"  - {one}" for one in assumed)]
    body += ["", f"Along the path, as {letter} goes to infinity"]
    body += [f"  {line}" for line in _path(family)]
    body += ["", "Leading powers"]
    body += [f"  {line}" for line in _limit(asymptotic.lines, letter)]
    result = f"{name} ~ {power_of(letter, asymptotic.exponent)}"
    symbols = [f"  {name}: {meaning}" for name, meaning in _meanings("\n".join(body))]
    text = [*body, "", "Symbols", *symbols]
    return "\n".join([*text, "", f"Exponent of {letter}: {asymptotic.exponent}", f"  {result}"])


def _path(family: Family) -> Iterator[str]:
    """What each size and rate is along the path, and which law the tokens have."""
    names = {**LETTERS, **MORE_STEPS, **RATES}
    letter = names[family.along]
    yield f"{letter} grows: {' '.join(map(str, family.sizes))}"
    for field, path in family.paths.items():
        if field not in names or (field == "warmup_steps" and str(path) == "0"):
            continue
        if field in RATES and family.network == "linear" and field == "hidden_lr":
            continue
        if field == "batch_size" and str(path) == "0":
            yield "B = 0, the full batch"
            continue
        grows = power_of(letter, family.order(field))
        yield f"{names[field]} = {path}" + ("" if grows == str(path) else f" ~ {grows}")
    yield f"tokens: {family.setup(family.sizes[-1]).law_name}"


def _limit(lines: tuple[LimitLine, ...], letter: str) -> Iterator[str]:
    for line in lines:
        grows = f"{line.left} ~ {power_of(letter, Fraction(line.power))}"
        yield f"{grows:<44}  {line.reason}".rstrip()


def _meanings(text: str) -> Iterator[tuple[str, str]]:
    """The symbols that occur in a text, with their meanings."""
    known = {**{str(symbol): meaning for symbol, meaning in s.MEANING.items()}, **OTHERS}
    found = {part for part in _WORD.findall(text) if part in known}
    for name in sorted(found, key=lambda one: (one.lower(), one)):
        yield name, known[name]
