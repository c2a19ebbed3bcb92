"""The command line: options and exit codes. Each command's work lives in a module of its own.

Nothing here imports jax or sympy, so that `dynsim --help` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dynsim import InputError, Setup
from dynsim.laboratory import NetworkSetup

Json = Annotated[
    bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print one JSON document to stdout")
]


@dataclass(frozen=True)
class Derive:
    """First-step update of a layer: derivation, formula and value.

    Without --width and --vocab-size the formula and its derivation; with both, the numbers at
    LR = 1 and |r| = 1 for one output, averaged over tokens by frequency or for one --rank.
    """

    layer: Literal["embedding", "projection", "hidden"]
    """whose contribution to its output"""
    optimizer: Literal["sgd", "sign", "adam"] = "sign"
    """whose first step"""
    width: int | None = None
    """width d"""
    vocab_size: int | None = None
    """vocabulary size m"""
    tokens: str = "uniform"
    """token law: uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH"""
    rank: int | None = None
    """the token of this rank (1 the most frequent) in place of the average"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    init: Literal["mup", "sp"] = "mup"
    """standard deviation of the projection's entries: mup 1/width, sp 1/sqrt(width)"""
    format: Literal["text", "latex"] = "text"
    """how to print the derivation"""
    json: Json = False

    def run(self) -> int:
        from .derive import run_derive

        return run_derive(self)


@dataclass(frozen=True)
class Tokens:
    """A token law: frequencies, effective vocabulary, Zipf exponent, regime at a width."""

    law: Annotated[str, tyro.conf.Positional] = "corpus"
    """uniform, zipf:ALPHA, counts:FILE, corpus or corpus:PATH"""
    vocab_size: int = 4096
    """vocabulary size m"""
    width: int = 1024
    """width d at which the regime of each token is judged"""
    json: Json = False

    def run(self) -> int:
        from .tokens import run_tokens

        return run_tokens(self)


@dataclass(frozen=True)
class Train:
    """Train finite-width linear networks and record loss and updates step by step."""

    setup: Annotated[Setup, tyro.conf.arg(name="")]
    seeds: int = 4
    """independent initialisations (and batch streams) to average over"""
    json: Json = False

    def run(self) -> int:
        from .training import run_train

        return run_train(self)


# No option: the grid sets it. (With Any in place of the types tyro's cache takes 0.0 for 0.)
GridSize = tyro.conf.Suppress[tyro.conf.Fixed[int]]
GridRate = tyro.conf.Suppress[tyro.conf.Fixed[float]]


@dataclass(frozen=True)
class SizedSetup(NetworkSetup):
    """What networks of several sizes share. It is checked at every size, not here."""

    width: GridSize = 0
    vocab_size: GridSize = 0

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True)
class SharedSetup(SizedSetup):
    """What the networks of a sweep share: no option for what its grid sets."""

    embedding_lr: GridRate = 0.0
    hidden_lr: GridRate = 0.0


@dataclass(frozen=True)
class Sweep:
    """Train networks over widths, vocabularies, learning rates and seeds, into one file.

    What is finished survives any interruption: the same command with --resume goes on after it,
    and ends in the same numbers.
    """

    setup: Annotated[SharedSetup, tyro.conf.arg(name="")]
    widths: tuple[int, ...]
    """widths d"""
    vocab_sizes: tuple[int, ...]
    """vocabulary sizes m"""
    embedding_lrs: str
    """embedding learning rates at base_width: LO:HI:N (N log-spaced), 0,LO:HI:N (0 too: a frozen
    layer) or one number"""
    hidden_lrs: str
    """the same for hidden layers (of linear: the projection)"""
    out: Path
    """netCDF file to write; until it is, finished tasks are kept in FILE.cells"""
    seeds: int = 4
    """independent initialisations and batch streams"""
    horizons: tuple[int, ...] = ()
    """steps after which to evaluate the loss (default: --steps)"""
    train_loss: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """keep the loss of every step's batch too"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """go on where an earlier run of this command stopped"""
    executor: str = "local"
    """local: this process; dask: two processes of this machine; dask:ADDRESS: a cluster's"""
    memory_gb: float | None = None
    """memory for the networks a process trains side by side (default: a CPU's cache, or half of a
    GPU)"""
    json: Json = False

    def run(self) -> int:
        from .sweep import run_sweep

        return run_sweep(self)


@dataclass(frozen=True)
class Optima:
    """Optimal learning rates of a sweep, and their powers of width and vocabulary.

    Per size the best base learning rates and all that are nearly as good; exponents with 95 %
    intervals over seeds. Optima at the end of their grid are left out and counted.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """netCDF file of a sweep"""
    horizon: int | None = None
    """training steps after which the loss is judged (default: each of the sweep's)"""
    out: Path | None = None
    """folder for figures (PNG, PDF)"""
    json: Json = False

    def run(self) -> int:
        from .optima import run_optima

        return run_optima(self)


@dataclass(frozen=True)
class CoordinateCheck:
    """Does every term of every layer grow with the width as its parametrization prescribes?

    Trains small networks for a few steps at several widths and vocabularies and fits the powers of
    the width in each matrix's update terms. Exit code 1 if a layer fails: a learning rate,
    multiplier or initialisation that is not what --parametrization says.
    """

    setup: Annotated[SizedSetup, tyro.conf.arg(name="")]
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """widths d, two or more"""
    vocab_sizes: tuple[int, ...] = (32, 512)
    """vocabulary sizes m"""
    record: tuple[int, ...] = (1, 2, 4, 8)
    """numbers of steps after which to measure"""
    seeds: int = 8
    """independent initialisations and batch streams"""
    tolerance: float = 0.15
    """how far a power may be from what is prescribed"""
    out: Path | None = None
    """folder for the figure (PNG, PDF) and the numbers (netCDF)"""
    json: Json = False

    def run(self) -> int:
        from .coordinate_check import run_coordinate_check

        return run_coordinate_check(self)


@dataclass(frozen=True)
class Predict:
    """Predict what a wide network does, without training one: mean-field theory at any m/d.

    The same setup and output as train, with `loss_error`, the numerical error of the prediction.
    """

    setup: Annotated[Setup, tyro.conf.arg(name="")]
    particles: int | None = None
    """token particles of the solver (default: 2048, or what outputs and steps need)"""
    replicas: int | None = None
    """independent solutions that are averaged (default: 16, and 128 for small vocabularies)"""
    json: Json = False

    def run(self) -> int:
        from .training import run_predict

        return run_predict(self)


@dataclass(frozen=True)
class Flow:
    """Gradient flow, the limit of small steps: finite, infinitely wide, or both large.

    The setup of train, with optimizer sgd (the default) or smoothed-sign. A time of 1 is one step,
    `step` of train.
    """

    setup: Annotated[Setup, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Setup(optimizer="sgd")
    )
    time: float | None = None
    """end of the flow, in steps (default: --steps)"""
    points: int = 101
    """times to record, from 0 to the end"""
    limit: Literal["finite", "infinite", "proportional"] = "finite"
    """finite: one network, drawn from the seed; infinite: infinite width at this vocabulary;
    proportional: both to infinity at this ratio (uniform tokens)"""
    nodes: int = 30
    """quadrature nodes: blocks of effective tokens, or nodes of the Marchenko-Pastur law"""
    particles: int = 2048
    """neuron particles of the smoothed sign at infinite width"""
    solver: Literal["explicit", "implicit"] = "explicit"
    """implicit: for stiff flows of few effective tokens"""
    tolerance: float = 1e-8
    """relative tolerance of the solver"""
    max_steps: int = 100_000
    """most steps of the solver"""
    json: Json = False

    def run(self) -> int:
        from .flow import run_flow

        return run_flow(self)


@dataclass(frozen=True)
class Lifetime:
    """How long the LV regime lives: steps until learned embeddings restore alignment.

    Sign descent (or Adam in full batch) on uniform tokens, while residuals keep their size. The
    regime ends where coherent and incoherent power of a step are equal: exponent 3/4.
    """

    width: int = 1024
    """width d"""
    vocab_size: int = 32768
    """vocabulary size m"""
    outputs: float = 1.0
    """independent directions of the residuals n_eff (1: one output)"""
    embedding_lr: float = 0.01
    """learning rate of the embedding, in its initial standard deviations"""
    batch_size: int = 0
    """tokens per batch, 0 for the full batch"""
    json: Json = False

    def run(self) -> int:
        from .lifetime import run_lifetime

        return run_lifetime(self)


@dataclass(frozen=True)
class Verify:
    """Measure every claim on trained networks and print prediction, value and verdict.

    Writes studies (netCDF) and figures (PNG, PDF) to --out and reuses the studies found there
    when code, libraries and device are the same, so an interrupted run goes on where it stopped.
    """

    claim: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """check this claim only (may be repeated)"""
    study: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """run this study and its claims only (may be repeated); those of the laboratory (minutes to an
    hour each: update_magnitude, optimal_ratio, race, transfer_networks) run only when asked for"""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """larger sizes and more seeds; for a study of the laboratory, those for a GPU"""
    out: Path = Path("dynsim-verify")
    """folder for studies and figures"""
    json: Json = False

    def run(self) -> int:
        from .verify import run_verify

        return run_verify(self)


@dataclass(frozen=True)
class Parametrize:
    """Largest stable learning-rate exponents of a parametrization, layer by layer.

    Exponents x are powers of the width (LR ~ d^x), exact, and may be given as fractions (1/2).
    With --compare, what published rules prescribe at --width and --vocab-size, in one gauge.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """sp, ntk, mup, mfp, umup (u-muP) or lv (the square-root-of-width rule)"""
    optimizer: str = "adam"
    """sgd, momentum, sign, adam, adamw, adafactor or muon"""
    alignment: Literal["full", "none", "vocabulary"] = "full"
    """alignment of updates with what they act on; vocabulary: the first matrix that reads the
    embedding takes it from the token law"""
    update_alignment: Literal["none", "full"] | None = None
    """with --alignment vocabulary, of updates with learned inputs: none (young network, default)
    or full (old network)"""
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
    format: Literal["table", "latex"] = "table"
    """how to print"""
    json: Json = False

    def run(self) -> int:
        from .parametrization import run_parametrization

        return run_parametrization(self)


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
    json: Json = False

    def run(self) -> int:
        from .recommendation import run_recommend

        return run_recommend(self)


@dataclass(frozen=True)
class Transfer:
    """How well a learning rate transfers across width: E, kappa and R_inf of sweeps.

    Reads runs from netCDF sweeps, or CSV and parquet tables with the columns width, learning_rate
    (base rates: the parametrization's rule divided out), seed and loss.
    """

    file: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...")]
    """tables of runs (.nc, .csv, .parquet), taken together"""
    group_by: tuple[str, ...] = ()
    """columns that name a group, one result each (default: every other column that varies, and the
    file where none tells the files apart)"""
    within: tuple[str, ...] = ()
    """columns whose values groups must share to be compared: one reference of R_inf for each set
    (default: all groups together)"""
    factor: float = 1.35
    """points with a loss within this factor of the width's lowest are fitted"""
    rate: Literal["hidden", "embedding", "both"] | None = None
    """learning rate of a netCDF sweep: hidden or embedding (the other at its best), or both along
    each ratio (default: the one that varies, hidden if both do)"""
    out: Path | None = None
    """folder for the figure (PNG, PDF)"""
    json: Json = False

    def run(self) -> int:
        from .transfer import run_transfer

        return run_transfer(self)


@dataclass(frozen=True)
class Regimes:
    """Draw the figures from stored studies: interpolation, regime map, ranks, LR ratio."""

    out: Path = Path("dynsim-regimes")
    """folder for the figures"""
    data: Path | None = None
    """folder of stored studies (default: those that come with dynsim)"""
    json: Json = False

    def run(self) -> int:
        from .regimes import run_regimes

        return run_regimes(self)


FLAGS = ("--json", "--full", "--compare", "--resume", "--train-loss", "--help")
COMMANDS: dict[str, type] = {
    "derive": Derive,
    "tokens": Tokens,
    "train": Train,
    "sweep": Sweep,
    "optima": Optima,
    "coordinate-check": CoordinateCheck,
    "predict": Predict,
    "flow": Flow,
    "lifetime": Lifetime,
    "verify": Verify,
    "parametrization": Parametrize,
    "recommend": Recommend,
    "transfer": Transfer,
    "regimes": Regimes,
}


def parse(arguments: Sequence[str]) -> Any:
    """The command that `arguments` ask for.

    Raises `InputError` with one line for what cannot be parsed, and `SystemExit` after --help.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise InputError("command", arguments[0], "must be one of " + ", ".join(COMMANDS))
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if equals and flag in FLAGS:
            raise InputError(flag, value, "takes no value")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="dynsim",
                description="Infinite-width training dynamics: learning-rate scaling in width and "
                "vocabulary.",
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ParseError(_one_line(errors.getvalue())) from None


class ParseError(ValueError):
    """The command line does not parse; the message is one line."""


def _one_line(box: str) -> str:
    """The message of a parser's boxed report, without frame, help text and line breaks."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    message: list[str] = []
    for line in lines[1:]:
        if not set(line) <= {"─", "-"}:
            message.append(line)
        elif message:
            break
    text = re.sub(r"\s+", " ", " ".join(message)).strip()
    text = text.replace("invalid literal for int() with base 10:", "must be an integer, not")
    # Options that may be left out report every type they might have had.
    untyped = r"no type matching \S+ could be instantiated from \[(.*?)\].*"
    return re.sub(untyped, r"must be an integer, not \1", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code (0, 1 a claim fails, 2 bad input, 130 interrupted)."""
    own_process = arguments is None
    try:
        return parse(sys.argv[1:] if arguments is None else arguments).run()
    except (InputError, ParseError) as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt as interruption:
        _complain(f"interrupted; {str(interruption) or 'what was finished is kept'}", 130)
        if own_process:
            os._exit(130)  # leaving an interrupted compilation in order can end in a crash
        return 130
    except MemoryError:
        return _complain("not enough memory for this size; take a smaller one", 2)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _complain("not enough memory on the device for this size; take a smaller one", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str, code: int) -> int:
    print(f"dynsim: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
