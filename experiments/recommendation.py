"""`dynsim recommend`: which learning rates to use when a model is made wider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynsim import InputError, Recommendation, model_shape, recommend

from .output import number, print_json, print_table

if TYPE_CHECKING:
    from .cli import Recommend

RULES = {"mup": "muP", "lv": "LV", "interpolated": "interpolated"}
LABEL_ORDER = ("embedding", "hidden", "readout", "vector")


def run_recommend(options: Recommend) -> int:
    """Prints the three rules' learning rates, the regime and the reason."""
    shape = None if options.preset is None else model_shape(options.preset)
    width = shape.width if options.width is None and shape else options.width
    vocab_size = shape.vocab_size if options.vocab_size is None and shape else options.vocab_size
    if width is None:
        raise InputError("--width", None, "must be given, or a --preset")
    if vocab_size is None:
        raise InputError("--vocab-size", None, "must be given, or a --preset")
    if options.base_width is None:
        raise InputError("--base-width", None, "must be given: where the LRs were tuned")
    answer = recommend(
        width,
        options.base_width,
        vocab_size,
        options.tokens,
        options.parametrization,
        options.optimizer,
        options.base_embedding_lr,
        options.base_hidden_lr,
        anchor=options.anchor,  # type: ignore[arg-type]
    )
    if options.json:
        print_json(answer.to_dict())
    else:
        _print(answer)
    return 0


def _print(answer: Recommendation) -> None:
    print(
        f"width {answer.base_width} -> {answer.width}, vocabulary size {answer.vocab_size}, "
        f"tokens {answer.tokens}, {answer.parametrization}, {answer.optimizer}\n"
    )
    head = ("rule", "embedding LR", "hidden LR", "readout LR", "vector LR", "embedding/hidden")
    rows = [
        [
            RULES[rule.rule],
            *(number(rule.learning_rates.of(label)) for label in LABEL_ORDER),
            f"{number(rule.ratio)} (x{number(rule.ratio_growth)})",
        ]
        for rule in answer.answers
    ]
    print_table(head, rows)
    regime = answer.regime
    print(
        f"\nrho = {number(regime.coherence_ratio)}, effective vocabulary "
        f"{number(regime.effective_vocab_size)}; token mass: {regime.mup_mass:.0%} muP, "
        f"{regime.lv_mass:.0%} LV; the rules' ratios differ by x{number(answer.spread)}"
    )
    for rule in answer.answers:
        print(f"{RULES[rule.rule]} presumes {rule.presumes}.")
    print("\n" + answer.explanation)
