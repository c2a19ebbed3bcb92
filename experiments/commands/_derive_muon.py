"""The part of `dynsim derive` that answers for an embedding under Muon: a length for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynsim import InputError, token_law
from experiments.output import again, number, print_json, print_lines, print_next, print_wrapped

from ._derive_head import HeadOptions

HOLDS_FOR = (
    "the embedding of a linear network whose tokens have residuals of their own; the RMS for far "
    "fewer outputs than neurons, far more, or uniform tokens"
)


def check_muon_options(options: HeadOptions, of_features: Mapping[str, Any]) -> None:
    """Raises `InputError` for an option that the Muon step of an embedding does not have.

    `of_features`: the options of layers that read features, as far as they are given.
    """
    from dynsim.theory import muon_embedding_step

    if options.layer != "embedding":
        allowed = (
            f"must be sgd, sign or adam with `layer` {options.layer}; Muon is for `layer` "
            "embedding, head and tied"
        )
        raise InputError("optimizer", options.optimizer, allowed)
    for name, value in of_features.items():
        raise InputError(name, value, "must be left out with `optimizer` muon")
    if options.files.wanted:
        field = "plot" if options.files.plot is not None else "out"
        path = str(options.files.plot or options.files.out)
        raise InputError(field, path, "must be left out with `optimizer` muon")
    if options.width is None and options.outputs is not None:
        muon_embedding_step(8, np.ones(8), outputs=options.outputs)


def run_muon(options: HeadOptions) -> int:
    """Prints how far each row is moved, and what that does to the outputs."""
    import derivations

    formula = derivations.muon_embedding_rms(options.init)
    document: dict[str, Any] = {
        "layer": options.layer,
        "optimizer": options.optimizer,
        "tokens": options.tokens,
        "init": options.init,
        "outputs": options.outputs,
        "batch_size": options.batch_size,
        "rank": options.rank,
        "holds_for": HOLDS_FOR,
        "width": options.width,
        "vocab_size": options.vocab_size,
        "rms": None,
        "local_exponent": None,
        "gradient_rank": None,
        "row_length": None,
        "half_rank": None,
        "starved_tokens": None,
        "starved_share": None,
        "expression": str(formula.expression),
        "assumptions": list(formula.assumptions),
    }
    answer = (
        "The first step of the embedding under muon moves the row of token i by the length "
        "sqrt(w_i/(w_i + ell)) per unit of spectral norm, w_i = p_i^2: frequent tokens by 1, rare "
        "ones in proportion to their frequency."
    )
    if options.width is not None and options.vocab_size is not None:
        found = _numbers(options, options.width, options.vocab_size)
        document |= found
        first, last = (number(found["row_length"][which]) for which in ("first", "last"))
        share = f"{100 * found['starved_share']:.3g} %"
        answer = (
            "The first step of the embedding under muon changes its output by "
            f"{number(found['rms'])} (RMS at LR = 1). Rows move by {first} for the most frequent "
            f"token and {last} for the rarest; {found['starved_tokens']:,} tokens, {share} of the "
            "text, are starved: they move by less than 0.71, and under sign or Adam none are."
        )
    if options.json:
        print_json(document)
        return 0
    lines = [f"holds for {HOLDS_FOR}"]
    if document["rms"] is not None:
        lines += [
            f"width {options.width}, vocabulary size {options.vocab_size}, "
            f"tokens {options.tokens}, "
            f"rank of the gradient {document['gradient_rank']}",
            f"  local exponent  {number(document['local_exponent'])}   (d ln RMS / d ln d)",
            f"  half rank       {document['half_rank']}   "
            "(tokens whose row keeps half of its square)",
        ]
        if options.rank is not None:
            length = number(document["row_length"]["of_the_token"])
            lines.append(f"  length          {length}   (of the row of rank {options.rank})")
    if options.format == "latex":
        print_wrapped(f"% {answer}", "% ")
        print("\n" + formula.to_latex() + "\n\n" + "\n".join(f"% {line}" for line in lines))
        return 0
    print_wrapped(answer)
    print_lines("\n" + "\n".join(lines) + "\n\n" + formula.to_text())
    if options.width is None:
        print_next("numbers", again("--width", 1024, "--vocab-size", 8192))
    else:
        sizes = ["--width", 4 * options.width, "--base-width", options.width]
        law = ["--vocab-size", options.vocab_size, "--tokens", options.tokens]
        print_next("a wider model", ["recommend", *sizes, *law, "--optimizer", "muon"])
    return 0


def _numbers(options: HeadOptions, width: int, vocab_size: int) -> dict[str, Any]:
    from dynsim.theory import muon_embedding_step

    law = token_law(options.tokens, vocab_size).frequencies
    step = muon_embedding_step(
        width,
        law,
        outputs=options.outputs,
        rank=options.rank,
        batch_size=options.batch_size,
        init=options.init,
    )
    kept = np.square(step.lengths) >= 0.5
    present = law > 0
    lengths = {"first": float(step.lengths[0]), "last": float(step.lengths[present][-1])}
    if options.rank is not None:
        lengths["of_the_token"] = float(step.lengths[options.rank - 1])
    return {
        "rms": step.rms,
        "local_exponent": step.local_exponent,
        "gradient_rank": step.gradient_rank,
        "row_length": lengths,
        "half_rank": int(kept.sum()),
        "starved_tokens": int((present & ~kept).sum()),
        "starved_share": float(law[~kept].sum()),
    }
