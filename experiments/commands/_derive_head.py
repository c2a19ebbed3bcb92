"""The part of `dynsim derive` that answers for a softmax head: targets and other logits apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from dynsim import InputError, check_integer, token_law
from dynsim.tokens import check_bigram_targets
from experiments.output import (
    again,
    number,
    print_json,
    print_lines,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
)

from ._files import print_files, with_files, write_files
from ._options import Files

if TYPE_CHECKING:
    import sympy as sp

    import derivations
    from dynsim.theory import HeadStep

LEVELS = (0.1, 0.5, 0.9)  # of the tokens of the text, below which an effective number lies


class HeadOptions(Protocol):
    """The options of `dynsim derive` that a softmax head reads."""

    @property
    def layer(self) -> str: ...
    @property
    def optimizer(self) -> Literal["sgd", "sign", "adam", "muon"]: ...
    @property
    def width(self) -> int | None: ...
    @property
    def vocab_size(self) -> int | None: ...
    @property
    def tokens(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def targets(self) -> str | None: ...
    @property
    def outputs(self) -> int | None: ...
    @property
    def init(self) -> Literal["mup", "sp"]: ...
    @property
    def format(self) -> Literal["text", "latex"]: ...
    @property
    def files(self) -> Files: ...
    @property
    def json(self) -> bool: ...


def reads_bigrams(options: HeadOptions) -> bool:
    """Whether the options ask for a softmax head, what is below it, or one matrix for both."""
    return options.layer in ("head", "tied") or options.targets is not None


def check_head_options(options: HeadOptions, of_features: Mapping[str, Any]) -> None:
    """Raises `InputError` for an option that the layers of a softmax head do not have.

    `of_features`: the options of layers that read features, as far as they are given.
    """
    from dynsim.theory import check_head

    if options.layer not in ("head", "embedding", "tied"):
        allowed = f"must be left out with `layer` {options.layer}; it is for head, embedding, tied"
        raise InputError("targets", options.targets, allowed)
    if options.targets is not None:
        check_bigram_targets("targets", options.targets)
        if options.targets == "bigram" and options.tokens.partition(":")[0] != "corpus":
            allowed = "must be corpus or corpus:PATH with `targets` bigram, whose pairs are counted"
            raise InputError("tokens", options.tokens, allowed)
    elif options.width is not None:
        allowed = (
            f"must be bigram, onehot or random:COUNT for the numbers of `layer` {options.layer}"
        )
        raise InputError("targets", None, allowed)
    for name, value in of_features.items():
        allowed = f"must be left out with `layer` {options.layer}, below a softmax"
        raise InputError(name, value, allowed)
    vocab_size = options.vocab_size or 2
    outputs = options.outputs or vocab_size
    if options.vocab_size is not None:
        check_integer("outputs", outputs, 2, vocab_size)
    check_head(options.layer, options.optimizer, vocab_size, outputs, options.batch_size)
    if options.rank is not None and options.batch_size:
        raise InputError("rank", options.rank, "must be left out with `batch_size`")


def run_head(options: HeadOptions) -> int:
    """Prints what one update of these matrices does to target and other logits."""
    import derivations

    _, exponent, rms = _formulas(options)
    document: dict[str, Any] = {
        "layer": options.layer,
        "optimizer": options.optimizer,
        "tokens": options.tokens,
        "targets": options.targets,
        "outputs": options.outputs or options.vocab_size,
        "init": options.init,
        "batch_size": options.batch_size,
        "rank": options.rank,
        "holds_for": _holds_for(options),
        "width": options.width,
        "vocab_size": options.vocab_size,
        "exponent": str(exponent) if exponent is not None else None,
        "expression": str(rms.expression),
        "alignment": _alignment(options),
        "assumptions": list(rms.assumptions),
        "logits": None,
    }
    written: list[Path] = []
    lines: list[str] = []
    if options.width is not None and options.vocab_size is not None:
        step = _step(options, [float(options.width)])
        document |= _numbers(step)
        dataset = partial(_around, options, options.width)
        config = {
            name: getattr(options, name)
            for name in ("layer", "optimizer", "tokens", "targets", "outputs", "rank", "batch_size")
        }
        config |= {"width": options.width, "vocab_size": options.vocab_size, "init": options.init}
        written = write_files(options.files, "derive", dataset, config)
    if options.json:
        print_json(with_files(document, written))
        return 0
    latex = options.format == "latex"
    print_wrapped(("% " if latex else "") + _answer(document), "% " if latex else "")
    print()
    if document["logits"] and not latex:
        _print_numbers(document)
        print()
    lines = [f"holds for {document['holds_for']}"]
    if exponent is not None:
        lines.append(
            f"exponent of d along N = d^nu effective {_counted(options)}: {exponent} (C = 1/N)"
        )
    assert isinstance(rms, derivations.Derivation)
    if options.format == "latex":
        print(rms.to_latex() + "\n\n" + "\n".join(f"% {line}" for line in lines))
    else:
        print_lines(rms.to_text() + "\n\n" + "\n".join(lines))
        print_files(written)
        if options.width is None:
            targets = [] if options.targets else ["--targets", "onehot"]
            vocab_size = 4096 if options.optimizer == "muon" else 8192
            print_next("numbers", again("--width", 1024, "--vocab-size", vocab_size, *targets))
        else:
            sizes = ["--width", 4 * options.width, "--base-width", options.width]
            law = ["--vocab-size", options.vocab_size, "--tokens", options.tokens]
            tie = ["--tied", "yes" if options.layer == "tied" else "no"]
            optimizer = ["--optimizer", options.optimizer]
            print_next("a wider model", ["recommend", *sizes, *law, *tie, *optimizer])
    return 0


def _answer(document: dict[str, Any]) -> str:
    """What an update does to logits, and what that means for the learning rate."""
    layer = {"embedding": "the embedding", "tied": "the tied matrix"}.get(
        document["layer"], "the head"
    )
    start = f"The first step of {layer} under {document['optimizer']}"
    logits = document["logits"]
    if logits is None:
        if document["exponent"] is None:
            if document["optimizer"] == "muon":
                return f"{start} moves logits on average by the filter h of singular values below."
            return f"{start} moves logits by the RMS at the end of this derivation."
        return (
            f"{start} moves logits by an RMS that grows like d^({document['exponent']}) at large "
            "width, N = d^nu the effective number below; a learning rate that falls like this "
            "keeps the change the same."
        )
    moved = {kind: number(one["rms"]) for kind, one in logits.items()}
    slope = {kind: number(one["local_exponent"]) for kind, one in logits.items()}
    unit = "root mean square at LR = 1"
    if document["optimizer"] == "muon":
        unit += ", an update of spectral norm 1"
    if not math.isfinite(logits["target"]["rms"]):
        text = f"{start} moves logits by {moved['all']} ({unit})"
        chosen = "all"
    else:
        text = (
            f"{start} moves target logits by {moved['target']} and other logits by "
            f"{moved['other']} ({unit})"
        )
        chosen = "target"
    if not math.isfinite(logits[chosen]["local_exponent"]):
        return f"{text}."
    which = "" if chosen == "all" else " of targets"
    return (
        f"{text}; the change{which} grows like d^{slope[chosen]} here, so a learning rate like "
        f"d^{number(-logits[chosen]['local_exponent'])} keeps it the same."
    )


def _formulas(
    options: HeadOptions,
) -> tuple[Any, sp.Expr | None, derivations.Derivation]:
    """Mean, exponent and RMS; of Muon what becomes of singular values in place of the RMS."""
    import derivations
    from dynsim.theory import muon_moves_targets

    layer: Any = options.layer
    if options.optimizer == "muon":
        if options.vocab_size is not None and not muon_moves_targets(
            options.vocab_size, options.outputs or options.vocab_size
        ):
            return None, None, derivations.muon_head_rms()
        return None, None, derivations.muon_filter(layer)
    mean, rms = derivations.head_step(layer, options.optimizer, init=options.init)
    exponent = None  # under SGD the size of the gradient grows by a law of its own
    if options.optimizer != "sgd":
        exponent = derivations.head_exponent(layer, init=options.init)
    return mean, exponent, rms


def _alignment(options: HeadOptions) -> str | None:
    """None under Muon, whose step has singular values in place of alignments."""
    if options.optimizer == "muon":
        return None
    return {
        "head": "c_ik = p_i r_ik / sqrt(S_k), S_k = sum_j p_j^2 r_jk^2",
        "embedding": "b_ik = r_ik / |r_i|",
        "tied": "(a_ik + a_ki)/2, a_ik = A_ik / |A_i|, A_ik = p_i r_ik + p_k r_ki",
    }[options.layer] + ", r_ik = 1/n - P(k | i)"


def _holds_for(options: HeadOptions) -> str:
    what = {
        "head": "the head",
        "embedding": "the embedding below a head",
        "tied": "one matrix that is embedding and head",
    }[options.layer]
    return f"{what}, softmax over {options.outputs or 'all'} outputs, small initial logits"


def _counted(options: HeadOptions) -> str:
    """What the effective number of the alignment counts."""
    return {"head": "contexts", "embedding": "next tokens", "tied": "contexts and next tokens"}[
        options.layer
    ]


def _step(options: HeadOptions, widths: Sequence[float]) -> HeadStep:
    from dynsim.theory import head_step
    from dynsim.tokens import bigrams_of
    from experiments.precision import enable_x64

    enable_x64()
    assert options.vocab_size is not None
    assert options.targets is not None
    law = token_law(options.tokens, options.vocab_size)
    bigrams = bigrams_of(options.targets, law, options.outputs or options.vocab_size)
    layer: Any = options.layer
    step = partial(
        head_step,
        layer,
        options.optimizer,
        np.asarray(widths),
        law,
        bigrams,
        rank=options.rank,
        batch_size=options.batch_size,
        init=options.init,
    )
    if options.optimizer != "muon":
        return step()
    with progress_bar(1.0, "derive") as bar:
        return step(progress=bar.update)


def _around(options: HeadOptions, width: int) -> Any:
    """First steps at widths a factor 32 up and down, the width itself among them and marked."""
    from dynsim.theory import muon_moves_targets

    widths = width * 2.0 ** (np.arange(-10, 11) / 2)
    if options.optimizer == "muon" and options.vocab_size is not None:
        outputs = options.outputs or options.vocab_size
        if not muon_moves_targets(options.vocab_size, outputs):
            widths = widths[widths <= outputs]
    return _step(options, widths[widths >= 1].tolist()).to_xarray().assign_attrs(marked_width=width)


def _numbers(step: HeadStep) -> dict[str, Any]:
    """The numbers of a step at one width, and the effective numbers of the bigrams."""
    from dynsim.theory import LOGITS

    frequencies = step.law.frequencies
    names = ("rms", "mean", "local_exponent", "alignment_square", "effective_contexts")
    found = {
        kind: {
            **{name: float(np.ravel(getattr(step, name)[k])[0]) for name in names},
            "crossover_width": float(step.crossover_width[k]),
        }
        for k, kind in enumerate(LOGITS)
    }
    contexts = step.bigrams.effective_contexts(frequencies)
    following = step.bigrams.effective_next_tokens()
    result: dict[str, Any] = {
        "logits": found,
        "rms": found["target"]["rms"],
        "mean": found["target"]["mean"],
        "local_exponent": found["target"]["local_exponent"],
        "pairs": len(step.bigrams.context),
        "effective_contexts_of_an_output": _levels(
            contexts, step.bigrams.target_frequencies(frequencies)
        ),
        "effective_next_tokens_of_a_context": _levels(following, frequencies),
    }
    if step.rank is not None:
        place = step.rank - 1
        if place < step.bigrams.outputs:
            result["effective_contexts_of_the_token"] = float(contexts[place])
        result["effective_next_tokens_of_the_token"] = float(following[place])
    return result


def _levels(values: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Below which value these shares of the tokens of the text lie."""
    finite = np.isfinite(values) & (weight > 0)
    order = np.argsort(values[finite])
    share = np.cumsum(weight[finite][order])
    places = np.searchsorted(share, np.array(LEVELS) * share[-1])
    return {
        f"{level:.0%}": float(values[finite][order][place])
        for level, place in zip(LEVELS, places, strict=True)
    }


def _print_numbers(document: dict[str, Any]) -> None:
    rank = f", context of rank {document['rank']}" if document["rank"] else ""
    batch = f", batches of {document['batch_size']} pairs" if document["batch_size"] else ""
    print_wrapped(
        f"width {document['width']}, vocabulary size {document['vocab_size']}, outputs "
        f"{document['outputs']}, tokens {document['tokens']}, targets {document['targets']}"
        f"{rank}{batch}, LR 1"
    )
    columns = (
        ("RMS (LR 1)", "rms"),
        ("mean (LR 1)", "mean"),
        ("local exponent (of d)", "local_exponent"),
        ("C", "alignment_square"),
        ("N = 1/C (tokens)", "effective_contexts"),
        ("width at rho = 1", "crossover_width"),
    )
    if document["alignment"] is None:
        columns = columns[:3]
    rows = [
        [kind, *(number(one[key]) for _, key in columns)]
        for kind, one in document["logits"].items()
    ]
    print_table(("logits", *(name for name, _ in columns)), rows)
    if any("-" in row for row in rows):
        print("-: not derived for these logits or so many tokens, or at no width")
    shares = ", ".join(f"{level:.0%}" for level in LEVELS)
    for key, text in (
        ("effective_contexts_of_an_output", "effective contexts of an output"),
        ("effective_next_tokens_of_a_context", "effective next tokens of a context"),
    ):
        values = ", ".join(number(one) for one in document[key].values())
        print(f"{text} (at {shares} of the text): {values}")
    for key, text in (
        ("effective_contexts_of_the_token", "effective contexts of this token as output"),
        ("effective_next_tokens_of_the_token", "effective next tokens of this context"),
    ):
        if key in document:
            print(f"{text}: {number(document[key])}")
