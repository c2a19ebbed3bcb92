"""`dynsim lifetime`: how many steps the LV regime lasts before learned embeddings end it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynsim import InputError, TokenLaw, check_integer, token_law
from dynsim.tokens import check_law_name
from experiments.output import number, print_json, print_next, print_table, print_wrapped

from ._files import print_files, with_files, write_files
from ._head_lifetime import check_head_lifetime, run_head_lifetime
from ._options import NO_FILES, Json, WrittenFiles

if TYPE_CHECKING:
    import xarray as xr

    from dynsim import AgedUpdate

OPTIONS = ("width", "vocab_size", "tokens", "outputs", "embedding_lr", "batch_size")
DRAWN_POINTS = 201
RESTORED = 0.7  # local exponent, 3/4 where learned embeddings add no noise of their own
AGES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # in lifetimes of the LV regime


@dataclass(frozen=True)
class Lifetime:
    """How long the LV regime lasts: steps until learned embeddings restore alignment.

    Sign descent (or Adam in full batch), while residuals keep their size. The regime ends where
    coherent and incoherent power of a step are equal: exponent 3/4. For a language model's head
    (--targets) target and other logits are answered for apart.
    """

    width: int = 1024
    """width d"""
    vocab_size: int = 32768
    """vocabulary size m"""
    tokens: str = "uniform"
    """token law: uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE, corpus or corpus:PATH"""
    outputs: float = 1.0
    """independent directions of the residuals n_eff (1: one output); of a head, its outputs"""
    targets: str | None = None
    """gaussian: n_eff Gaussian directions; below a softmax, what follows a token: bigram (the pairs
    of the corpus), onehot or random:COUNT"""
    embedding_lr: float = 0.01
    """learning rate of the embedding, in its initial standard deviations"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints the lifetime in displacement, steps and visits, and the exponent at some ages."""
        law = _checked_law(self)
        self.files.check()
        if self.targets not in (None, "gaussian"):
            return run_head_lifetime(self, law)
        document = _document(self, law)
        dataset = partial(_dataset, self, law, document["lifetime_displacement"] or 0.0)
        config = {name: document[name] for name in OPTIONS}
        written = write_files(self.files, "lifetime", dataset, config)
        if self.json:
            print_json(with_files(document, written))
        else:
            _print(document)
            print_files(written)
            print_next("move the sliders", ["explore", *explored(self, law)])
        return 0


def explored(options: Lifetime, law: TokenLaw) -> list[object]:
    """Where the explorer starts to show the same."""
    sizes = ["--width", options.width, "--vocab-size", law.vocab_size]
    laws = [] if options.tokens == "uniform" else ["--tokens", options.tokens]
    batch = ["--batch-size", options.batch_size] if options.batch_size else []
    whole = options.outputs > 1 and float(options.outputs).is_integer()
    outputs = ["--outputs", int(options.outputs)] if whole else []
    return [*sizes, *laws, *batch, *outputs, "--embedding-lr", f"{options.embedding_lr:g}"]


def _checked_law(options: Lifetime) -> TokenLaw:
    """The token law of the vocabulary. Raises `InputError` for an option out of range."""
    check_integer("width", options.width, 2, 2**53)
    check_integer("batch_size", options.batch_size, 0, 2**53)
    check_law_name("tokens", options.tokens)
    head = options.targets not in (None, "gaussian")
    if options.batch_size and options.tokens != "uniform" and not head:
        raise InputError("tokens", options.tokens, "must be uniform with a mini-batch")
    law = token_law(options.tokens, options.vocab_size)
    if not 1 <= options.outputs <= options.vocab_size:
        raise InputError("outputs", options.outputs, "must be from 1 to `vocab_size`")
    if head:
        check_head_lifetime(options)
    elif options.targets is None and 1 < options.outputs == options.vocab_size:
        allowed = (
            "must be given with as many outputs as tokens: bigram, onehot or random:COUNT for a "
            "language model's head, whose target logits align at the first step already, or "
            "gaussian"
        )
        raise InputError("targets", None, allowed)
    if not 1e-30 <= options.embedding_lr <= 1e30:
        raise InputError("embedding_lr", options.embedding_lr, "must be from 1e-30 to 1e30")
    return law


def _document(options: Lifetime, law: TokenLaw) -> dict[str, Any]:
    """When the LV regime ends, and the local exponent of an update at some ages."""
    from experiments.precision import enable_x64

    enable_x64()
    end = _end(options, law)
    chance = _visit_chance(options, law)
    per_step = options.embedding_lr * chance
    displacements = np.array(AGES) * (end or options.width**-0.5)
    steps = displacements / per_step
    aged = _aged(options, law, displacements)
    rows = [
        {"displacement": move, "step": step, "local_exponent": float(slope)}
        for move, step, slope in zip(displacements, steps, aged.local_exponent, strict=True)
    ]
    reached = float(_aged(options, law, np.array([end])).local_exponent[0])
    restored = reached >= RESTORED
    return {
        "width": options.width,
        "vocab_size": law.vocab_size,
        "tokens": law.name,
        "outputs": options.outputs,
        "embedding_lr": options.embedding_lr,
        "batch_size": options.batch_size,
        "initial_regime": "LV" if end else "muP",
        "lifetime_displacement": end if restored else None,
        "lifetime_steps": end / per_step if restored else None,
        "lifetime_visits": end / options.embedding_lr if restored else None,
        "visits_per_step": chance,
        "ages": rows,
    }


def _end(options: Lifetime, law: TokenLaw) -> float:
    from dynsim import restoration_displacement
    from dynsim.theory import law_restoration_displacement

    if options.tokens != "uniform":
        return law_restoration_displacement(options.width, law, effective_outputs=options.outputs)
    return restoration_displacement(
        options.width,
        law.vocab_size,
        effective_outputs=options.outputs,
        batch_size=options.batch_size,
    )


def _visit_chance(options: Lifetime, law: TokenLaw) -> float:
    """The share of steps at which a token moves."""
    from dynsim.theory import visit_chance

    return visit_chance(law, options.batch_size) if options.batch_size else 1.0


def _aged(options: Lifetime, law: TokenLaw, displacement: NDArray[np.float64]) -> AgedUpdate:
    """The update where tokens have moved by `displacement`, which takes more steps in batches."""
    from dynsim import aged_update

    aged = aged_update(
        options.width,
        law,
        displacement / _visit_chance(options, law),
        effective_outputs=options.outputs,
        batch_size=options.batch_size,
        embedding_lr=options.embedding_lr,
    )
    return replace(aged, displacement=displacement)


def _dataset(options: Lifetime, law: TokenLaw, end: float) -> xr.Dataset:
    """The aged update at many displacements, up to the last of `AGES`, with the end of LV."""
    last = AGES[-1] * (end or options.width**-0.5)
    aged = _aged(options, law, np.linspace(0, last, DRAWN_POINTS))
    return aged.to_xarray().assign_attrs(lifetime_displacement=end)


AGE_HEAD = (
    "displacement (initial standard deviations)",
    "step (updates)",
    "local exponent (power of d)",
)


def _print(document: dict[str, Any]) -> None:
    print_wrapped(in_one_sentence(document))
    print()
    rows = document["ages"]
    print_table(AGE_HEAD, [[number(value) for value in row.values()] for row in rows])
    print_wrapped(
        "displacement: of an embedding entry; local exponent: of the projection's update, 1/2 in "
        "the LV regime, 1 in the muP regime",
        "  ",
    )


def in_one_sentence(document: dict[str, Any]) -> str:
    """When the LV regime ends, and which rule holds until then."""
    if document["initial_regime"] != "LV":
        return (
            "The first step is in the muP regime: updates are aligned from the start, as muP's "
            "learning rates presume."
        )
    if document["lifetime_steps"] is None:
        return (
            "The first step is in the LV regime, and learned embeddings do not end it: with "
            f"{number(document['outputs'])} directions at this width they add as much noise as "
            "signal, so that the exponent does not come to 3/4 (below, it stays lower)."
        )
    steps, visits = number(document["lifetime_steps"]), number(document["lifetime_visits"])
    return (
        f"The first step is in the LV regime; learned embeddings restore alignment after {steps} "
        f"steps ({visits} visits of a token), when they have moved by "
        f"{number(document['lifetime_displacement'])} of their initial standard deviation: from "
        "then on the aligned part is the larger one, and at a few times that nearly all of it."
    )
