"""Options that several commands share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dynsim import InputError, Setup
from dynsim._setup import Descent, LinearModel, Sizes, Task, check_covered
from dynsim.laboratory import HiddenRate, NetworkFamily, NetworkModel, NetworkSetup
from dynsim.plots._style import figure_format
from experiments.output import writable_file, writable_folder, written_options

# The parts of a description, imported above, are private. They exist so that an option is defined
# once; outside the library only this module needs them, to turn every option into a flag.

Json = Annotated[
    bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print one JSON document to stdout")
]


@dataclass(frozen=True)
class Files:
    """Where a figure, and the numbers that it shows, are written."""

    plot: Path | None = None
    """file for a figure of the result; its extension decides the format: png, pdf or svg"""
    out: Path | None = None
    """folder for the figure (PNG, PDF, SVG) and its numbers (netCDF, CSV)"""

    @property
    def wanted(self) -> bool:
        """Whether anything is to be written."""
        return self.plot is not None or self.out is not None

    def check(self) -> None:
        """Raises `InputError` for another extension, and for a place that cannot be written to.

        To be called before the work: its folders are made if need be.
        """
        if self.plot is not None:
            figure_format("plot", self.plot)
            writable_file("plot", self.plot)
        if self.out is not None:
            writable_folder("out", self.out)


NO_FILES = Files()
WrittenFiles = Annotated[Files, tyro.conf.arg(name="output")]

# Of the networks that share a description, options that mean nothing for one of them.
UNUSED = {
    "linear": (
        *("depth", "residual", "head_width", "context", "activation", "normalisation"),
        *("readout_ratio", "vector_ratio"),
    ),
    "mlp": ("head_width", "context"),
    "transformer": ("normalisation", "residual"),
}
# Of the optimizers, those that an option is for.
WITH_MOMENTS = ("adam", "adamw", "muon")
OF_OPTIMIZERS = {
    "beta1": ("momentum", *WITH_MOMENTS),
    "beta2": WITH_MOMENTS,
    "epsilon": ("smoothed-sign", *WITH_MOMENTS),
}


@dataclass(frozen=True, repr=False)
class RatedFamily(HiddenRate, NetworkFamily):
    """Networks of all sizes with their learning rates."""


def given_options(options: Any) -> dict[str, Any]:
    """Fields of a command or of a part of it that are on the command line or not at their default.

    An option that means nothing is refused with its default value too.
    """
    written = written_options()
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name in written or getattr(options, field.name) != field.default
    }


def check_meaningful(given: Mapping[str, Any], network: str) -> set[str]:
    """The names of a network's options.

    Raises `InputError` for one among those given that means nothing for it.
    """
    kind = Setup if network == "linear" else NetworkSetup
    known = {field.name for field in dataclasses.fields(kind)} | {"network"}
    known -= set(UNUSED.get(network, ()))
    _refuse(given, "network", network, lambda name: name in known)
    _check_optimizer(given, given.get("optimizer", Descent.optimizer))
    if given.get("readout_lr") is not None and "readout_ratio" in given:
        ratio = given["readout_ratio"]
        raise InputError("readout_ratio", ratio, "must be left out with `readout_lr`")
    return known


def _refuse(given: Mapping[str, Any], by: str, choice: str, means: Callable[[str], bool]) -> None:
    for name, value in given.items():
        if not means(name):
            allowed = f"must be left out with `{by}` {choice}, where it means nothing"
            raise InputError(name, value, allowed)


def _check_optimizer(given: Mapping[str, Any], optimizer: str) -> None:
    """Raises `InputError` for an option given that means nothing for this optimizer."""

    def means(name: str) -> bool:
        return name not in OF_OPTIMIZERS or optimizer in OF_OPTIMIZERS[name]

    _refuse(given, "optimizer", optimizer, means)


def check_family(setup: NetworkFamily) -> None:
    """Raises `InputError` for an option that is given and means nothing for this network."""
    given, unused = given_options(setup), UNUSED[setup.network]
    _refuse(given, "network", setup.network, lambda name: name not in unused)
    _check_optimizer(given, setup.optimizer)


@dataclass(frozen=True, repr=False)
class AnyNetwork(LinearModel, HiddenRate, Descent, Task, NetworkModel, Sizes):
    """Every option of every network. Each part checks its own; `description` checks the rest."""

    def description(self, transformers: bool = True) -> Setup | NetworkSetup:
        """What the chosen network is described by.

        Raises `InputError` for a transformer unless `transformers` are covered, before what is
        wrong with its options; for an option that is given and means nothing for the network or
        the optimizer; and for combinations that mean nothing.
        """
        if self.network == "transformer" and not transformers:
            allowed = "must be linear or mlp here: train covers transformer"
            raise InputError("network", self.network, allowed)
        kind = Setup if self.network == "linear" else NetworkSetup
        check_meaningful(given_options(self), self.network)
        values: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(kind)
        }
        return kind(**values)

    def covered_by(self, theory: str) -> Setup:
        """The linear model. Raises `InputError` for a network that `theory` does not cover."""
        setup = self.description() if self.network == "linear" else self
        check_covered(setup, theory)
        assert isinstance(setup, Setup)
        return setup
