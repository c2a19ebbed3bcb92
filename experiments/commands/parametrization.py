"""`dynsim parametrization`: exponents of the width, and published rules side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from dynsim import InputError, check_integer
from experiments.output import flag, print_json, print_next, print_table, print_wrapped

from ._files import print_files, with_files, write_files
from ._latex import latex_table
from ._options import NO_FILES, Json, WrittenFiles, given_options
from ._published_rules import comparison_document, comparison_latex, print_comparison

if TYPE_CHECKING:
    import xarray as xr

    import derivations


T = TypeVar("T")
VOCABULARY_OPTIONS = ("update_alignment", "vocab_exponent", "zipf", "batch_exponent")
GIVEN = ("optimizer", "alignment", *VOCABULARY_OPTIONS)
MEASURED = "measured:"
COMPARED = ("adam", "adamw", "muon")  # optimizers of hidden matrices that rules are published for
COMPARE_DEFAULTS = {"width": 4096, "vocab_size": 50257, "base_width": 256}


@dataclass(frozen=True)
class Parametrize:
    """Largest stable learning-rate exponents of a parametrization, layer by layer.

    Exponents x are powers of the width (LR ~ d^x), exact, and may be given as fractions (1/2).
    With --compare, what published rules prescribe at --width and --vocab-size, in one gauge, for
    hidden matrices trained by Adam or by Muon (--optimizer), with or without a --tied readout.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """sp, ntk, mup, mfp, umup (u-muP) or lv (the square-root-of-width rule)"""
    optimizer: str = "adam"
    """sgd, momentum, sign, adam, adamw, adafactor or muon"""
    alignment: str = "full"
    """alignment of updates with what they act on: full, none, vocabulary (the first matrix that
    reads the embedding takes it from the token law) or measured:FILE (from runs of your own model
    that `dynsim.coordinates` recorded; several files separated by commas)"""
    update_alignment: Literal["none", "full"] | None = None
    """with --alignment vocabulary, of updates with learned inputs: none (while embeddings are close
    to their initial values, default) or full (learned embeddings)"""
    vocab_exponent: str | None = None
    """mu of m = d^mu, with --alignment vocabulary (default 1)"""
    zipf: str | None = None
    """Zipf exponent of the token law, with --alignment vocabulary (default 0, uniform)"""
    batch_exponent: str | None = None
    """beta of B = d^beta, with --alignment vocabulary (default: full batch)"""
    compare: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """compare published rules"""
    width: int | None = None
    """width for --compare (default 4096)"""
    base_width: int | None = None
    """width from which --compare scales (default 256)"""
    vocab_size: int | None = None
    """vocabulary size for --compare (default 50257)"""
    tied: Literal["yes", "no"] | None = None
    """whether the readout is the embedding, for --compare (default no)"""
    format: Literal["table", "latex", "json"] = "table"
    """how to print (json: as with --json)"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Prints one parametrization's exponents, or the comparison of published rules."""
        import derivations

        if self.compare:
            return _compare(self)
        if self.name is None:
            known = ", ".join(derivations.PARAMETRIZATIONS)
            raise InputError("NAME", None, f"must be one of {known}, or give `compare`")
        _refuse(self, (*COMPARE_DEFAULTS, "tied"), "only goes with `compare`")
        solution = _solution(self, self.name)
        self.files.check()
        layers = {layer: _layer(solution, layer) for layer in derivations.NETWORK_LAYERS}
        if self.alignment.startswith(MEASURED):
            _add_intervals(self, self.name, layers)
        setup = {"parametrization": self.name, **{name: getattr(self, name) for name in GIVEN}}
        dataset = partial(_dataset, layers, setup)
        written = write_files(self.files, "parametrization", dataset, setup)
        if self.json or self.format == "json":
            hidden = solution.alignment.hidden
            document = {
                "parametrization": solution.parametrization.name,
                "optimizer": solution.optimizer,
                "alignment": self.alignment,
                "hidden_alignment": {
                    "A": str(hidden.update_on_initial),
                    "U": str(hidden.update_on_learned),
                    "Omega": str(hidden.initial_on_learned),
                },
                "source": solution.parametrization.source,
            }
            print_json(with_files({**document, **layers}, written))
        elif self.format == "latex":
            print(latex_table(("layer", *COLUMNS.values()), _cells(layers, "--")))
        else:
            _print_layers(solution, layers, _presumed(self))
            print_files(written)
            self._print_next(self.name, _readout_excess(solution))
        return 0

    def _print_next(self, name: str, excess: float) -> None:
        """The check of small networks; of a parametrization that fails it, what mends it."""
        from dynsim._network_setup import NETWORK_OPTIMIZERS

        chosen = ["--parametrization", name, "--optimizer", self.optimizer]
        sizes = [word for size, value in COMPARE_DEFAULTS.items() for word in (flag(size), value)]
        if excess > 0:
            print_next("how the readout must start", ["recommend", *sizes, *chosen])
        elif self.optimizer in NETWORK_OPTIMIZERS and self.alignment == "full":  # what it presumes
            print_next("do small networks do so", ["coordinate-check", "--network", "mlp", *chosen])
        else:
            print_next("for a model of yours", ["recommend", *sizes, *chosen])


def _readout_excess(solution: derivations.StabilitySolution) -> float:
    from dynsim.rules._recommend import readout_excess

    return readout_excess(solution.parametrization)


def _refuse(options: Parametrize, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise InputError(name, getattr(options, name), reason)


def _checked(field: str, value: object, function: Callable[[], T]) -> T:
    """`function()`, its `ValueError` as bad input of a field."""
    try:
        return function()
    except ValueError as error:
        raise InputError(field, value, str(error)) from None


def _solution(options: Parametrize, name: str) -> derivations.StabilitySolution:
    import derivations

    if name not in derivations.PARAMETRIZATIONS:
        known = ", ".join(derivations.PARAMETRIZATIONS)
        raise InputError("NAME", name, f"must be one of {known}")
    given = derivations.parametrization(name)
    if options.optimizer not in derivations.TRAINING_OPTIMIZERS:
        known = ", ".join(derivations.TRAINING_OPTIMIZERS)
        raise InputError("optimizer", options.optimizer, f"must be one of {known}")
    optimizer: Any = options.optimizer
    if options.alignment == "vocabulary":
        alignment = _vocabulary_alignment(options, optimizer)
    elif options.alignment.startswith(MEASURED):
        _refuse(options, VOCABULARY_OPTIONS, "only goes with `alignment` vocabulary")
        alignment = _measured_alignment(options.alignment)
    else:
        if options.alignment not in ("full", "none"):
            allowed = "must be full, none, vocabulary or measured:FILE"
            raise InputError("alignment", options.alignment, allowed)
        _refuse(options, VOCABULARY_OPTIONS, "only goes with `alignment` vocabulary")
        full = options.alignment == "full"
        alignment = derivations.FULL_ALIGNMENT if full else derivations.NO_ALIGNMENT
    return _solved(options, given, alignment)


def _solved(
    options: Parametrize,
    given: derivations.Parametrization,
    alignment: derivations.NetworkAlignment,
) -> derivations.StabilitySolution:
    import derivations

    optimizer: Any = options.optimizer
    return _checked(
        "optimizer",
        options.optimizer,
        lambda: derivations.solve_stability(given, optimizer, alignment),
    )


def _measured_alignment(
    option: str, end: Literal["value", "low", "high"] = "value"
) -> derivations.NetworkAlignment:
    from dynsim.coordinates import recorded_alignment, stability_alignment

    files = [Path(name) for name in option.removeprefix(MEASURED).split(",") if name]
    return stability_alignment(recorded_alignment(files), end)


def _add_intervals(options: Parametrize, name: str, layers: dict[str, dict[str, Any]]) -> None:
    """LR exponents at the ends of the measured alignment: high alignment, low rate."""
    import derivations

    given = derivations.parametrization(name)
    for end, key in (("high", "lr_exponent_low"), ("low", "lr_exponent_high")):
        alignment = _measured_alignment(options.alignment, end)  # type: ignore[arg-type]
        solution = _solved(options, given, alignment)
        for layer in derivations.NETWORK_LAYERS:
            layers[layer][key] = float(solution.layers[layer].lr_exponent)


def _vocabulary_alignment(options: Parametrize, optimizer: Any) -> derivations.NetworkAlignment:
    import derivations

    def exponent(field: str, value: str) -> Fraction:
        exact = _checked(field, value, lambda: derivations.as_exponent(value))
        if exact < 0:
            raise InputError(field, value, "must not be negative")
        return exact

    batch = options.batch_exponent
    return derivations.vocabulary_alignment(
        optimizer,
        vocab_exponent=exponent("vocab_exponent", options.vocab_exponent or "1"),
        zipf_exponent=exponent("zipf", options.zipf or "0"),
        batch_exponent=None if batch is None else exponent("batch_exponent", batch),
        update_alignment=options.update_alignment or "none",
    )


def _layer(
    solution: derivations.StabilitySolution, name: derivations.NetworkLayer
) -> dict[str, Any]:
    """A layer's exponents, each as a number and exactly as text, and what limits its LR."""
    solved, layer = solution.layers[name], solution.parametrization.layer(name)
    exponents = {
        "init_std_exponent": layer.init_std,
        "multiplier_exponent": layer.multiplier,
        "lr_exponent": solved.lr_exponent,
        "epsilon_exponent": layer.epsilon,
        "weight_decay_exponent": layer.weight_decay,
    }
    numbers = {key: None if x is None else float(x) for key, x in exponents.items()}
    exact = {f"{key}_exact": None if x is None else str(x) for key, x in exponents.items()}
    return {**numbers, **exact, "binding_constraint": solved.binding_constraint}


def _dataset(layers: dict[str, dict[str, Any]], setup: dict[str, Any]) -> xr.Dataset:
    """The exponents of every layer as labelled arrays; NaN where there is none."""
    from dynsim._results import labelled

    arrays: dict[str, tuple[tuple[str, ...], Any]] = {"layer": (("layer",), list(layers))}
    for name in EXPONENTS:
        values = [math.nan if layer[name] is None else layer[name] for layer in layers.values()]
        arrays[name] = (("layer",), values)
    return labelled("Parametrization", arrays, setup)


def _rules_dataset(document: dict[str, Any], setup: dict[str, Any]) -> xr.Dataset:
    """LR exponents of the published rules, in one gauge, as labelled arrays."""
    from dynsim._results import labelled

    rules, derived = document["rules"], document["derived"]["lr_exponents"]
    layers = list(rules[0]["lr_exponents"])
    rows = [[float(Fraction(rule["lr_exponents"][layer])) for layer in layers] for rule in rules]
    factors = [[rule["factors"][layer] for layer in layers] for rule in rules]
    arrays: dict[str, tuple[tuple[str, ...], Any]] = {
        "lr_exponent": (("rule", "layer"), rows),
        "factor": (("rule", "layer"), factors),
        "ratio_exponent": (("rule",), [float(Fraction(rule["ratio_exponent"])) for rule in rules]),
        "derived": (("layer",), [float(Fraction(derived[layer])) for layer in layers]),
        "rule": (("rule",), [rule["name"] for rule in rules]),
        "layer": (("layer",), layers),
    }
    return labelled("PublishedRules", arrays, setup)


EXPONENTS = (
    "init_std_exponent",
    "multiplier_exponent",
    "lr_exponent",
    "epsilon_exponent",
    "weight_decay_exponent",
)
COLUMNS = {
    "init_std_exponent_exact": "init std",
    "multiplier_exponent_exact": "multiplier",
    "lr_exponent_exact": "LR",
    "epsilon_exponent_exact": "epsilon",
    "weight_decay_exponent_exact": "weight decay",
}


ALIGNMENT_EXPONENTS = (
    "A, U, Omega: 1 if the sum over the width adds up coherently, 1/2 if like a random walk. A: of "
    "the matrix's update on the initial input; U: of its update on what the input has learned; "
    "Omega: of its initial entries on that. r_1: the embedding's own update, which is no sum."
)


def _cells(layers: dict[str, dict[str, Any]], none: str, measured: bool = False) -> list[list[str]]:
    """Exponents as exact text; those of measured alignment, which are no fractions, as decimals."""

    def cell(layer: dict[str, Any], key: str) -> str:
        exact, value = layer[key], layer[key.removesuffix("_exact")]
        return none if exact is None else f"{value:.2f}" if measured else exact

    return [[name, *(cell(layer, key) for key in COLUMNS)] for name, layer in layers.items()]


def _presumed(options: Parametrize) -> str:
    """Of which updates the exponents are, with the path of the sizes that they depend on."""
    if options.alignment in ("full", "none"):
        return f"{options.alignment} alignment"
    if options.alignment.startswith(MEASURED):
        return "the alignment that was measured"
    batch = "in full batch"
    if options.batch_exponent is not None:
        batch = f"in batches of B = {_as_power(options.batch_exponent)} tokens"
    learned = "full" if options.update_alignment == "full" else "no"
    return (
        f"{learned} alignment of learned inputs, m = "
        f"{_as_power(options.vocab_exponent or '1')} token types of Zipf exponent "
        f"{options.zipf or '0'} and the alignment that these have {batch}"
    )


def _as_power(exponent: str) -> str:
    return f"d^{exponent}" if "/" not in exponent else f"d^({exponent})"


def _print_layers(
    solution: derivations.StabilitySolution, layers: dict[str, dict[str, Any]], presumed: str
) -> None:
    measured = all("lr_exponent_low" in layer for layer in layers.values())
    powers = ", ".join(f"{_power(layer, measured)} ({name})" for name, layer in layers.items())
    print_wrapped(
        f"Under {solution.parametrization.name} with {solution.optimizer} and {presumed} the "
        f"largest stable learning rates go like {powers} in the width d: scale each by this "
        "power, and updates keep their size."
    )
    print(
        f"\nhidden alignment {_alignment_text(solution.alignment.hidden, measured)}; powers of d:\n"
    )
    limits = (layer["binding_constraint"] for layer in layers.values())
    rows = [[*row, limit] for row, limit in zip(_cells(layers, "-", measured), limits, strict=True)]
    print_table(("layer", *COLUMNS.values(), "what limits the LR"), rows)
    print()
    print_wrapped(ALIGNMENT_EXPONENTS)
    excess = _readout_excess(solution)
    if excess > 0:
        print()
        print_wrapped(
            f"The readout starts like {_as_power(str(Fraction(excess) - 1))}. This is stable only "
            "while what the layers below learn is not aligned with it (Omega = 1/2). It is aligned "
            f"from the first step on (Omega = 1), and moves the output like "
            f"{_as_power(str(Fraction(excess)))}: coordinate-check fails this parametrization at "
            "the readout. A readout that starts like 1/d mends it."
        )
    if not measured:
        return
    readout = _alignment_text(solution.alignment.readout, measured)
    print(
        f"\nAlignment as measured, the largest over matrices and steps; of the readout {readout}.\n"
        "LR exponents within the intervals of the alignment:"
    )
    for name, layer in layers.items():
        print(f"  {name}: {layer['lr_exponent_low']:.2f} to {layer['lr_exponent_high']:.2f}")


def _power(layer: dict[str, Any], measured: bool) -> str:
    return _as_power(f"{layer['lr_exponent']:.2f}" if measured else layer["lr_exponent_exact"])


def _alignment_text(alignment: derivations.LayerAlignment, measured: bool) -> str:
    values = {
        "A": alignment.update_on_initial,
        "U": alignment.update_on_learned,
        "Omega": alignment.initial_on_learned,
    }
    return ", ".join(
        f"{name} = {float(value):.2f}" if measured else f"{name} = {value}"
        for name, value in values.items()
    )


def _compare(options: Parametrize) -> int:
    if options.name is not None:
        raise InputError("NAME", options.name, "does not go with `compare`")
    _refuse(options, VOCABULARY_OPTIONS, "does not go with `compare`")
    if options.optimizer not in COMPARED:
        known = f"must be {', '.join(COMPARED[:-1])} or {COMPARED[-1]} with `compare`"
        raise InputError("optimizer", options.optimizer, known)
    if "alignment" in given_options(options):
        raise InputError("alignment", options.alignment, "does not go with `compare`")
    sizes = {
        name: default if getattr(options, name) is None else getattr(options, name)
        for name, default in COMPARE_DEFAULTS.items()
    }
    for name, size in sizes.items():
        check_integer(name, size, 1, 2**31 - 1)
    options.files.check()
    document = comparison_document(sizes, options.optimizer, options.tied == "yes")
    setup = {**sizes, "optimizer": options.optimizer, "tied": document["tied"]}
    dataset = partial(_rules_dataset, document, setup)
    written = write_files(options.files, "parametrization", dataset, setup)
    if options.json or options.format == "json":
        print_json(with_files(document, written))
    elif options.format == "latex":
        print(comparison_latex(document))
    else:
        print_comparison(document)
        print_files(written)
        given = [word for name, size in sizes.items() for word in (flag(name), size)]
        tie = ["--tied", options.tied] if options.tied else []
        rates = ["recommend", *given, "--optimizer", options.optimizer, *tie]
        print_next("which of them here", rates)
    return 0
