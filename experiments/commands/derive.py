"""`dynsim derive`: the symbolic first step, printed and evaluated."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from dynsim import InputError, TokenLaw, check_integer, token_law
from dynsim.tokens import check_law_name, read_counts
from experiments.output import again, number, print_json, print_lines, print_next
from experiments.self_term import NOT_AVERAGED, SMALL_RATIO

from ._derive_head import check_head_options, reads_bigrams, run_head
from ._derive_muon import check_muon_options, run_muon
from ._files import print_files, with_files, write_files
from ._options import NO_FILES, Json, WrittenFiles, given_options

if TYPE_CHECKING:
    import sympy as sp
    import xarray as xr

    import derivations
    from dynsim.theory import FirstStepLayer


OF_FEATURES = ("activation", "matrix", "depth", "residuals", "mean_residual")
OF_ONE_LAYER = {"matrix": "hidden", "depth": "readout"}
OPTIONS = ("layer", "optimizer", "width", "vocab_size", "tokens", "rank", "batch_size", "init")
OPTIONS += ("outputs", *OF_FEATURES)
MAX_WIDTH = 10**15  # beyond this d - 1 = d in float64


@dataclass(frozen=True)
class Derive:
    """First-step update of a layer: derivation, formula and value.

    Without --width and --vocab-size the formula and its derivation; with both, the numbers at
    LR = 1 and |r| = 1 for one output, averaged over tokens by frequency or for one --rank. Hidden
    matrices and the readout of a network with --activation read features, in units of whose root
    mean square the update is; the answer says for which matrix, features and residuals it holds.
    """

    layer: Literal["embedding", "projection", "hidden", "readout", "head", "tied"]
    """whose contribution to its output; projection: of the linear network; head: of a language
    model, whose outputs are tokens; tied: one matrix that is embedding and head"""
    optimizer: Literal["sgd", "sign", "adam", "muon"] = "sign"
    """whose first step; muon: of the embedding, the head and one tied matrix"""
    width: int | None = None
    """width d"""
    vocab_size: int | None = None
    """vocabulary size m"""
    tokens: str = "uniform"
    """token law: uniform, zipf:ALPHA, counts:FILE, tokenizer:FILE, corpus or corpus:PATH"""
    rank: int | None = None
    """the token of this rank (1 the most frequent) in place of the average"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    targets: str | None = None
    """below a softmax, what follows a token: bigram (the pairs of the corpus), onehot (one class,
    drawn uniformly) or random:COUNT (so many draws from the token law)"""
    outputs: int | None = None
    """outputs n; of a softmax by default the vocabulary size, otherwise 1; fewer classes than
    tokens are the outputs-1 most frequent tokens, then all others"""
    init: Literal["mup", "sp"] = "mup"
    """standard deviation of the projection's entries: mup 1/width, sp 1/sqrt(width)"""
    activation: Literal["identity", "tanh", "relu", "gelu"] = "identity"
    """of hidden layers, below and above the matrix"""
    matrix: int = 1
    """which hidden matrix; 1 reads the embedding, 2 the first features"""
    depth: int = 1
    """of the readout: hidden matrices below it"""
    residuals: Literal["equal", "gaussian"] = "equal"
    """sizes of residuals over tokens: equal (one output, targets of one size) or gaussian (Gaussian
    targets, many outputs, or more nonlinear layers above)"""
    mean_residual: float | None = None
    """mean residual over the residuals' root mean square (default: by chance; 0: centred), which
    features with a mean push along"""
    format: Literal["text", "latex"] = "text"
    """how to print the derivation"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints formula, derivation and (with width and vocabulary) numbers."""
        _check(self)
        self.files.check()
        if reads_bigrams(self):
            return run_head(self)
        if self.optimizer == "muon":
            return run_muon(self)
        rms, exponent = _formula(self)
        document: dict[str, Any] = {
            "layer": self.layer,
            "optimizer": self.optimizer,
            "tokens": self.tokens,
            "init": self.init,
            **{name: getattr(self, name) for name in OF_FEATURES},
            "outputs": self.outputs or 1,
            "holds_for": _holds_for(self),
            "rms": None,
            "mean": None,
            "local_exponent": None,
            "exponent": str(exponent),
            "path": _path(self, exponent),
            "expression": str(rms.expression),
            "assumptions": list(rms.assumptions),
        }
        written: list[Path] = []
        lines = [
            f"holds for {document['holds_for']}",
            f"exponent of d, {document['path']}: {exponent}",
        ]
        if self.width is not None and self.vocab_size is not None:
            law = token_law(self.tokens, self.vocab_size)
            at = _powers(self.width, law, self.rank, self.batch_size)
            document |= _numbers(self, self.width, law)
            document |= {"exponent": _exponent_at(exponent, at), "path": _path(self, exponent, at)}
            lines = _lines(document, exponent)
            dataset = partial(_around, self, self.width, law)
            config = {name: getattr(self, name) for name in OPTIONS}
            written = write_files(self.files, "derive", dataset, config)
        if self.json:
            print_json(with_files(document, written))
        elif self.format == "latex":
            print("\n".join(f"% {line}" for line in (*_answer(document).splitlines(), *lines)))
            print("\n" + rms.to_latex())
        else:
            print_lines(_answer(document) + "\n\n" + "\n".join(lines) + "\n\n" + rms.to_text())
            print_files(written)
            if self.width is None:
                print_next("numbers", again("--width", 4096, "--vocab-size", 50257))
            else:
                sizes = (self.width, self.vocab_size)
                print_next("a wider model", wider(*sizes, self.tokens, self.optimizer))
        return 0


def wider(width: int, vocab_size: int | None, tokens: str, optimizer: str) -> list[object]:
    """The learning rates of a model that is four times as wide as this one, or nearly so."""
    from dynsim.rules._recommend import MAX_WIDTH as WIDEST

    width = min(width, WIDEST // 4)
    sizes = ["--width", 4 * width, "--base-width", width, "--vocab-size", vocab_size]
    return ["recommend", *sizes, "--tokens", tokens, "--optimizer", optimizer]


def _of_first_step(
    options: Derive,
) -> tuple[FirstStepLayer, derivations.Optimizer]:
    """Layer and optimizer of what is no softmax head, as `_check` has asserted."""
    return cast("FirstStepLayer", options.layer), cast("derivations.Optimizer", options.optimizer)


def _answer(document: dict[str, Any]) -> str:
    """What the formula says, and what that means for the learning rate, in one sentence."""
    layer = "a hidden layer" if document["layer"] == "hidden" else f"the {document['layer']}"
    start = f"The first step of {layer} under {document['optimizer']} changes its output by"
    if document["rms"] is None:
        exponent = document["exponent"]
        power = exponent if exponent.isdigit() else f"({exponent})"
        answer = (
            f"{start} an RMS that grows like d^{power} at large width, {document['path']}; a "
            "learning rate that falls like this keeps the change the same."
        )
    else:
        answer = f"{start} {number(document['rms'])} (RMS at LR = 1 and |r| = 1)."
        local = document["local_exponent"]
        if math.isfinite(local):
            answer += (
                f" Near width {document['width']}, with the vocabulary held, this grows like "
                f"d^{number(local)}, so a learning rate like d^{number(-local)} keeps it the same."
            )
    return textwrap.fill(answer, 100)


def _formula(options: Derive) -> tuple[derivations.Derivation, sp.Expr]:
    """The RMS with its derivation, and its exponent."""
    import derivations

    asked, optimizer = _of_first_step(options)
    tokens: dict[str, Any] = {
        "of_one_token": options.rank is not None,
        "mini_batch": options.batch_size > 0,
    }
    if not _reads_features(options):
        shape = {**tokens, "init": options.init}
        layer = cast("derivations.Layer", asked)
        many = (options.outputs or 1) > 1
        _, rms = derivations.first_step(layer, optimizer, **shape, many_outputs=many)
        exponent = derivations.exponent(layer, optimizer, **shape)
        return _in_law_symbols(rms, options), _at_zipf_exponent(exponent, options)
    _, rms = derivations.feature_first_step(optimizer)
    law = derivations.unequal_alignment_square()
    if not options.batch_size and optimizer != "sgd":
        rms = replace(
            rms,
            assumptions=(*rms.assumptions, *law.assumptions),
            steps=(*rms.steps[:-1], *law.steps, rms.steps[-1]),
            source=f"{rms.source}; {law.source}",
        )
    elif options.batch_size:
        rms = replace(rms, assumptions=(*rms.assumptions, derivations.SIZES_CANCEL))
    exponent = derivations.feature_exponent(optimizer, **tokens, common_mean=_common_mean(options))
    return rms, _at_zipf_exponent(exponent, options)


def _reads_features(options: Derive) -> bool:
    """Whether the formula is that of a matrix that reads features, or has unequal residuals."""
    plain = options.activation == "identity" and options.residuals == "equal"
    return options.layer == "readout" or options.matrix > 1 or not plain


def _common_mean(options: Derive) -> bool:
    """Whether the features have a mean over tokens, and so have the residuals."""
    from dynsim.theory import has_common_mean

    level = options.depth if options.layer == "readout" else options.matrix - 1
    return has_common_mean(options.activation, level) and options.mean_residual != 0


def _holds_for(options: Derive) -> str:
    from dynsim.theory import holds_for

    return holds_for(
        options.layer, options.activation, options.matrix, options.depth, options.residuals
    )


def _check(options: Derive) -> None:
    """Raises `InputError` for a value out of range and for a width without a vocabulary."""
    check_law_name("tokens", options.tokens)
    check_integer("batch_size", options.batch_size, 0, 2**53)
    if options.tokens.startswith("counts:"):
        read_counts(Path(options.tokens.partition(":")[2]))  # say at once that it cannot be read
    if (options.width is None) != (options.vocab_size is None):
        given, other = ("width", "vocab_size")[:: 1 if options.width is not None else -1]
        raise InputError(other, None, f"must be given together with `{given}`")
    if options.width is None and options.files.wanted:
        field = "plot" if options.files.plot is not None else "out"
        path = str(options.files.plot or options.files.out)
        raise InputError(field, path, "needs `width` and `vocab_size`, around which it draws")
    if options.width is not None:
        check_integer("width", options.width, 1, MAX_WIDTH)
    if options.rank is not None:
        check_integer("rank", options.rank, 1)
    if reads_bigrams(options):
        check_head_options(options, _of_features(options))
        return
    if options.optimizer == "muon":
        check_muon_options(options, _of_features(options))
        return
    from dynsim.theory import check_features, check_outputs

    check_outputs(options.layer, 1 if options.outputs is None else options.outputs)
    check_features(
        _of_first_step(options)[0],
        options.activation,
        options.matrix,
        options.depth,
        options.residuals,
        options.batch_size,
        options.mean_residual,
    )
    for name, value in _of_features(options).items():
        if OF_ONE_LAYER.get(name, options.layer) != options.layer:
            raise InputError(name, value, f"must be left out with `layer` {options.layer}")


def _of_features(options: Derive) -> dict[str, Any]:
    """Options of layers that read features, as far as they are given."""
    return {name: one for name, one in given_options(options).items() if name in OF_FEATURES}


def _path(options: Derive, exponent: sp.Expr, at: Mapping[sp.Symbol, float] | None = None) -> str:
    """Along which path of sizes and for which tokens an exponent is one; `at`: with the powers."""
    from derivations import symbols as s

    powers = {s.vocab_exponent: "m", s.rank_exponent: "i", s.batch_exponent: "B"}
    grown = [
        f"{size} = d^{symbol if at is None else number(at[symbol])}"
        for symbol, size in powers.items()
        if symbol in exponent.free_symbols
    ]
    family, _, parameter = options.tokens.partition(":")
    tokens = {"uniform": "uniform tokens", "zipf": f"Zipf alpha = {parameter}"}.get(family, "")
    if s.zipf_exponent in exponent.free_symbols:
        fitted = "alpha" if at is None else f"alpha = {number(at[s.zipf_exponent])}"
        tokens = f"{fitted}, the fitted Zipf exponent"
    of_tokens = f"with {tokens}" if tokens else ""
    if grown:
        return f"along {', '.join(grown)} {of_tokens}".rstrip()
    return f"{of_tokens}, whatever powers of d other sizes are".removeprefix(", ")


def _lines(document: dict[str, Any], exponent: sp.Expr) -> list[str]:
    """The numbers of `_numbers` as text, with the formula of the exponent."""
    general = f": {exponent}" if exponent.free_symbols else ""
    rank = f", rank {document['rank']}" if document["rank"] else ""
    lines = [
        f"width {document['width']}, vocabulary size {document['vocab_size']}, "
        f"tokens {document['tokens']}{rank}",
        f"  holds for       {document['holds_for']}",
        f"  RMS             {number(document['rms'])}",
        f"  mean            {number(document['mean'])}   (for a residual of +1)",
        f"  local exponent  {number(document['local_exponent'])}   "
        "(d ln RMS / d ln d; vocabulary, tokens and batch held)",
        f"  exponent        {number(document['exponent'])}   (of d {document['path']}{general})",
    ]
    if document.get("regime"):
        lines.append(
            f"  regime          {document['regime']}: rho = {number(document['coherence_ratio'])}, "
            "averaged over tokens; muP from 1 on, LV below"
        )
    if document.get("crossover_vocab_size"):
        lines.append(
            f"  muP regime      up to a vocabulary of {document['crossover_vocab_size']} "
            "(at this width; rho = 1 there)"
        )
    elif document.get("mup_regime_reaches"):
        lines.append(
            f"  muP regime      at every vocabulary tried, up to {document['mup_regime_reaches']}"
        )
    if document["feature_overlap"] is not None:
        lines.append(
            f"  features        overlap of two tokens {number(document['feature_overlap'])}, "
            f"root mean square {number(document['feature_rms'])} (the unit of the RMS)"
        )
        lines.append(f"  alignment       C = {number(document['alignment_square'])}")
    lines += _self_term_lines(document)
    return lines


def _self_term_lines(document: dict[str, Any]) -> list[str]:
    """What the initial output changes, which the RMS above holds where kappa is not small."""
    kappa = document.get("kappa")
    if kappa is None:
        return []
    told = f"kappa = {number(kappa)}; mse, targets of unit variance"
    if document.get("rms_without_self_term"):
        plain, slope = "rms_without_self_term", "local_exponent_without_self_term"
        return [
            f"  self term       in the RMS and its local exponent ({told}); without it, at small",
            f"                  initial output, RMS {number(document[plain])} and exponent "
            f"{number(document[slope])}",
        ]
    if document["self_term"]:
        return [f"  with self term  {number(document['self_term']['rms'])}   ({told})"]
    if kappa >= SMALL_RATIO:
        return [
            f"  self term       left out although kappa = {number(kappa)} is not small: the RMS is",
            f"                  that of a small initial output ({document['self_term_left_out']})",
        ]
    return []


def _in_law_symbols(rms: derivations.Derivation, options: Derive) -> derivations.Derivation:
    """The RMS with a uniform or Zipf law's own symbols in place of P_2, P_3 and p_i."""
    import derivations

    family = options.tokens.partition(":")[0]
    if family == "uniform":
        law, reason = derivations.UNIFORM_LAW, "Uniform tokens: p_i = 1/m."
    elif family == "zipf":
        law = derivations.zipf_law(of_one_token=options.rank is not None)
        reason = "Zipf tokens: p_i = i^-alpha / H_alpha(m), H a generalised harmonic number."
    else:
        return rms
    return rms.specialise(law, reason, (f"{family} token law",))


def _at_zipf_exponent(exponent: sp.Expr, options: Derive) -> sp.Expr:
    """The exponent with the law's alpha put in, where its name says it."""
    import sympy as sp

    from derivations import symbols as s

    family, _, parameter = options.tokens.partition(":")
    if family not in ("uniform", "zipf"):
        return exponent
    return exponent.subs(s.zipf_exponent, sp.Rational(str(float(parameter or 0))))


def _numbers(options: Derive, width: int, law: TokenLaw) -> dict[str, Any]:
    from dynsim import first_step
    from experiments.precision import enable_x64

    enable_x64()
    step = first_step(
        *_of_first_step(options),
        float(width),
        law,
        rank=options.rank,
        batch_size=options.batch_size,
        init=options.init,
        outputs=options.outputs or 1,
        **{name: getattr(options, name) for name in OF_FEATURES},
    )
    result: dict[str, Any] = {
        "width": width,
        "vocab_size": law.vocab_size,
        "rank": options.rank,
        "batch_size": options.batch_size,
        "rms": float(step.rms),
        "mean": float(step.mean),
        "local_exponent": float(step.local_exponent),
        "alignment_square": step.alignment_square,
        "feature_overlap": None if step.features is None else step.features.overlap,
        "feature_rms": None if step.features is None else step.features.root_mean_square,
    }
    if options.layer == "projection" and options.rank is None:
        from dynsim.maps import average_coherence, crossover_vocab_size, mup_regime_reaches

        optimizer, batch = _of_first_step(options)[1], options.batch_size
        for find in (crossover_vocab_size, mup_regime_reaches):
            result[find.__name__] = find(width, law, optimizer=optimizer, batch_size=batch)
        ratio = average_coherence(width, law, optimizer=optimizer, batch_size=batch)
        result |= {"coherence_ratio": ratio, "regime": "muP" if ratio >= 1 else "LV"}
    if options.layer == "projection" and options.optimizer != "sgd":
        result |= _self_term(options, width, law, result)
    return result


def _self_term(
    options: Derive, width: int, law: TokenLaw, without: dict[str, Any]
) -> dict[str, Any]:
    """The numbers with the self term, which lead where the initial output is not small."""
    import derivations
    from dynsim.theory import initial_output_ratio, self_term_step, self_term_undetermined

    kappa = initial_output_ratio(float(width), law, init=options.init)
    average = options.rank is None and not options.batch_size and options.residuals == "equal"
    reason = self_term_undetermined(float(width), law) if average else NOT_AVERAGED
    if reason is not None:
        return {"self_term": None, "kappa": kappa, "self_term_left_out": reason}
    step = self_term_step(float(width), law, init=options.init)
    found: dict[str, Any] = {
        "kappa": kappa,
        "self_term": {
            "kappa": kappa,
            "rms": step.rms,
            "local_exponent": step.local_exponent,
            "assumptions": [
                *derivations.self_term_second_moment().assumptions,
                "mean squared error, targets of unit variance",
            ],
        },
    }
    if kappa >= SMALL_RATIO:
        found |= {
            "rms": step.rms,
            "local_exponent": step.local_exponent,
            "rms_without_self_term": without["rms"],
            "local_exponent_without_self_term": without["local_exponent"],
        }
    return found


def _around(options: Derive, width: int, law: TokenLaw) -> xr.Dataset:
    """First steps at widths a factor 32 up and down, the width itself among them and marked."""
    from dynsim import first_step

    widths = width * 2.0 ** (np.arange(-10, 11) / 2)
    step = first_step(
        *_of_first_step(options),
        widths[widths >= 1],
        law,
        rank=options.rank,
        batch_size=options.batch_size,
        init=options.init,
        outputs=options.outputs or 1,
        **{name: getattr(options, name) for name in OF_FEATURES},
    )
    return step.to_xarray().assign_attrs(marked_width=width)


def _exponent_at(exponent: sp.Expr, at: Mapping[sp.Symbol, float] | None) -> float | None:
    """The asymptotic exponent along the path through these sizes, None where there is none."""
    return None if at is None else float(exponent.subs(tuple(at.items())))


def _powers(
    width: int, law: TokenLaw, rank: int | None, batch_size: int
) -> dict[sp.Symbol, float] | None:
    """The mu, iota and beta that sizes stand for, and alpha.

    Counts and corpora take their fitted Zipf exponent. None for width 1, which has no powers, and
    for a law that has no exponent.
    """
    from derivations import symbols as s

    if width == 1:
        return None
    family, _, parameter = law.name.partition(":")
    if family == "zipf":
        alpha = float(parameter)
    else:
        alpha = 0.0 if family == "uniform" else law.zipf_exponent.value
    if not math.isfinite(alpha):
        return None
    logarithm = math.log(width)
    return {
        s.zipf_exponent: max(0.0, alpha),
        s.vocab_exponent: math.log(law.vocab_size) / logarithm,
        s.rank_exponent: math.log(rank or 1) / logarithm,
        s.batch_exponent: math.log(batch_size or 1) / logarithm,
    }
