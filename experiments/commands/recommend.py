"""`dynsim recommend`: which learning rates to use when a model is made wider."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynsim import InputError, check_integer
from experiments.output import number, print_json, print_table

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles

if TYPE_CHECKING:
    from dynsim import Recommendation


RULES = {"mup": "muP", "lv": "LV", "interpolated": "interpolated"}
LINE_WIDTH = 100
LABEL_ORDER = ("embedding", "hidden", "readout", "vector")


@dataclass(frozen=True)
class Recommend:
    """Learning rates for a wider model: the muP rule, the LV rule, and between them."""

    width: int | None = None
    """width d to scale to"""
    base_width: int | None = None
    """width at which the learning rates were tuned"""
    vocab_size: int | None = None
    """vocabulary size m"""
    preset: str | None = None
    """take --width and --vocab-size from a well-known model (an unknown name lists them)"""
    tokens: str = "zipf:1"
    """token law: uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH"""
    parametrization: str = "sp"
    """gauge and initialisation of the model: sp, ntk, mup, mfp, umup or lv"""
    optimizer: str = "adamw"
    """sgd, momentum, sign, adam, adamw, adafactor or muon"""
    base_embedding_lr: float = 1.0
    """embedding learning rate at the base width (1: print factors)"""
    base_hidden_lr: float = 1.0
    """hidden learning rate at the base width"""
    anchor: str = "hidden"
    """layer that keeps muP's learning rate while the ratio changes: hidden or embedding"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints the three rules' learning rates, the regime and the reason."""
        from dynsim import recommend
        from dynsim.rules import model_shape

        shape = None if self.preset is None else model_shape(self.preset)
        width = shape.width if self.width is None and shape else self.width
        vocab_size = shape.vocab_size if self.vocab_size is None and shape else self.vocab_size
        sizes = {"width": width, "vocab_size": vocab_size, "base_width": self.base_width}
        for name, size in sizes.items():  # a wrong size is named before one that is missing
            if size is not None:
                check_integer(name, size, 1)
        if width is None:
            raise InputError("width", None, "must be given, or a `preset`")
        if vocab_size is None:
            raise InputError("vocab_size", None, "must be given, or a `preset`")
        if self.base_width is None:
            raise InputError("base_width", None, "must be given, the width of the tuned LRs")
        self.files.check()
        answer = recommend(
            width,
            self.base_width,
            vocab_size,
            self.tokens,
            self.parametrization,
            self.optimizer,
            self.base_embedding_lr,
            self.base_hidden_lr,
            anchor=self.anchor,  # type: ignore[arg-type]
        )
        written = write_files(self.files, "recommend", answer.to_xarray, answer.described_by())
        if self.json:
            print_json(with_files(answer.to_dict(), written))
        else:
            _print(answer)
            print_files(written)
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
        f"\nrho = {number(regime.coherence_ratio)} (average over tokens by frequency), effective "
        f"vocabulary {number(regime.effective_vocab_size)}; the rules' ratios differ by "
        f"x{number(answer.spread)}"
    )
    for rule in answer.answers:
        _print_wrapped(f"{RULES[rule.rule]} presumes {rule.presumes}.")
    print()
    _print_wrapped(answer.explanation)


def _print_wrapped(text: str) -> None:
    print(textwrap.fill(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False))
