"""The part of `dynsim lifetime` that answers for a softmax head: targets and other logits apart."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from dynsim import InputError, TokenLaw, check_integer
from dynsim.tokens import bigrams_of, check_bigram_targets
from experiments.output import number, print_json, print_next, print_table, print_wrapped

from ._options import Files, given_options

HEAD = (
    "logits",
    "first regime",
    "local exponent (of d)",
    "RMS (LR 1)",
    "effective contexts",
    "end (steps)",
)


class HeadLifetime(Protocol):
    """The options of `dynsim lifetime` that a softmax head reads."""

    @property
    def width(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def outputs(self) -> float: ...
    @property
    def targets(self) -> str | None: ...
    @property
    def embedding_lr(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def files(self) -> Files: ...
    @property
    def json(self) -> bool: ...


def check_head_lifetime(options: HeadLifetime) -> None:
    """Raises `InputError` for an option that a head does not have."""
    assert options.targets is not None
    check_bigram_targets("targets", options.targets)
    if options.outputs != 1 and options.outputs != int(options.outputs):
        raise InputError("outputs", options.outputs, "must be an integer with `targets`")
    if "outputs" in given_options(options):
        check_integer("outputs", int(options.outputs), 2, options.vocab_size)
    if options.files.wanted:
        field = "plot" if options.files.plot is not None else "out"
        path = str(options.files.plot or options.files.out)
        allowed = "must be left out with `targets`: only the first step is derived for a head"
        raise InputError(field, path, allowed)


def run_head_lifetime(options: HeadLifetime, law: TokenLaw) -> int:
    """Prints in which regime target and other logits start; later steps are not derived."""
    from dynsim.theory import LOGITS, head_step
    from experiments.precision import enable_x64

    enable_x64()
    assert options.targets is not None
    outputs = law.vocab_size if options.outputs == 1 else int(options.outputs)
    bigrams = bigrams_of(options.targets, law, outputs)
    step = head_step(
        "head", "sign", float(options.width), law, bigrams, batch_size=options.batch_size
    )
    rows: list[dict[str, Any]] = []
    for k, kind in enumerate(LOGITS):
        coherent = bool(options.width >= step.crossover_width[k])
        rows.append(
            {
                "logits": kind,
                "initial_regime": "muP" if coherent else "LV",
                "local_exponent": float(step.local_exponent[k, 0]),
                "rms": float(step.rms[k, 0]),
                "effective_contexts": float(step.effective_contexts[k]),
                "lifetime_steps": 0.0 if coherent else None,
            }
        )
    document = {
        "width": options.width,
        "vocab_size": law.vocab_size,
        "tokens": law.name,
        "targets": options.targets,
        "outputs": outputs,
        "embedding_lr": options.embedding_lr,
        "batch_size": options.batch_size,
        "initial_regime": rows[0]["initial_regime"],
        "logits": rows,
    }
    if options.json:
        print_json(document)
        return 0
    told = {
        "muP": "are in the muP regime, aligned from the first step",
        "LV": "are in the LV regime at first; when it ends is not derived",
    }
    sentence = "; ".join(
        f"{row['logits']} logits {told[row['initial_regime']]}" for row in rows[:2]
    )
    print_wrapped(sentence[0].upper() + sentence[1:] + ".")
    print()
    print_table(
        HEAD,
        [
            [
                value
                if isinstance(value, str)
                else "-"
                if value is None or not np.isfinite(value)
                else number(value)
                for value in row.values()
            ]
            for row in rows
        ],
    )
    print("-: not derived")
    sizes = ("--width", options.width, "--vocab-size", law.vocab_size, "--tokens", options.tokens)
    head = ("--layer", "head", "--targets", options.targets)
    own = () if outputs == law.vocab_size else ("--outputs", outputs)
    print_next("where these numbers come from", ["derive", *head, *sizes, *own])
    return 0
