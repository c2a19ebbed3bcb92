"""`dynsim flow`: gradient flow and smoothed-sign flow, at finite, infinite or proportional size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import tyro

from dynsim import InputError, check_integer
from experiments.output import flag, print_json, print_next

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, AnyNetwork, Json, WrittenFiles
from .train import HIDDEN_UPDATES, hidden_columns, print_answer, print_curves, setup_options

COLUMNS = ("loss", "loss_error", "projection_update_rms", "embedding_update_rms")
MAX_POINTS = 100_000


@dataclass(frozen=True)
class Flow:
    """Gradient flow, the limit of small steps: finite, infinitely wide, or both large.

    It covers the linear model (--network linear) and linear hidden layers (--network mlp
    --activation identity --normalisation none, depth 1 to 8). The options of train, with optimizer
    sgd (the default) or, without hidden layers, smoothed-sign. A time of 1 is one step, `step` of
    train.
    """

    setup: Annotated[AnyNetwork, tyro.conf.arg(name="")] = field(
        default_factory=lambda: AnyNetwork(optimizer="sgd")
    )
    time: float | None = None
    """end of the flow, in steps (default: --steps)"""
    points: int = 101
    """times to record, from 0 to the end"""
    limit: Literal["finite", "infinite", "proportional"] = "finite"
    """finite: one network, drawn from the seed; infinite: infinite width at this vocabulary;
    proportional: both to infinity at this ratio (uniform tokens)"""
    linearised: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """follow the network linearised about its start, with a tangent kernel that stays what it is"""
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
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Solves the flow and prints its curves. A solver that stops early is a result."""
        from dynsim import gradient_flow
        from dynsim.theory.flow._network import flow_network
        from experiments.precision import enable_x64
        from experiments.results import provenance

        setup = self.setup.description(transformers=False)
        flow_network(setup)  # refuses what theory does not cover, before any work
        enable_x64()
        end = float(setup.steps) if self.time is None else self.time
        if not (np.isfinite(end) and end > 0):
            raise InputError("time", self.time, "must be a positive number")
        check_integer("points", self.points, 2, MAX_POINTS)
        self.files.check()
        result = gradient_flow(
            setup,
            np.linspace(0, end, self.points),
            limit=self.limit,
            linearised=self.linearised,
            nodes=self.nodes,
            particles=self.particles,
            solver=self.solver,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
        )
        config = setup.resolved() | {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("setup", "network", "files", "json")
        }
        config["time"] = end
        hidden = () if result.hidden_update_rms is None else (HIDDEN_UPDATES,)
        recorded = (*COLUMNS, *hidden)
        projection, embedding, *by_layer = result.fastest_rate
        fastest = {"projection": projection, "embedding": embedding}
        document = {
            "config": config,
            "time": result.times,
            **{name: getattr(result, name) for name in recorded},
            "finished": result.outcome.ok,
            "reached": result.reached,
            "effective_tokens": result.effective_tokens,
            "state_size": result.state_size,
            "solver_steps": result.solver_steps,
            "rejected_steps": result.rejected_steps,
            "fastest_rate": fastest | ({"hidden": by_layer} if by_layer else {}),
            "status": result.outcome.written(flag),
            "provenance": provenance(config),
        }
        written = write_files(self.files, "flow", result.to_xarray, config)
        if self.json:
            print_json(with_files(document, written))
            return 0
        print_answer(document, "time")
        layers = hidden_columns(document)
        print_curves(document | layers, (*COLUMNS, *layers), axis="time")
        print(f"status: {document['status']}; a time of 1 is one step of train")
        print_files(written)
        options = setup_options(self.setup)
        print_next("beside networks and mean field", ["compare", *options])
        return 0
