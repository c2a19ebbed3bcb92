"""`dynsim predict`: mean-field theory in place of a wide network, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from experiments.output import again, flag, print_json, print_next, print_wrapped, progress_bar

from ._files import print_files, with_files, write_files
from ._options import NO_FILES, AnyNetwork, Json, WrittenFiles
from .train import (
    HIDDEN_UPDATES,
    UPDATE_COLUMNS,
    hidden_columns,
    print_answer,
    print_curves,
    setup_options,
)


@dataclass(frozen=True)
class Predict:
    """Predict what a wide network does, without training one: mean-field theory at any m/d.

    It covers the linear model (--network linear) and up to eight hidden layers (--network mlp):
    linear ones (--activation identity --normalisation none) with any vocabulary, others where
    tokens times steps are at most 512, and beyond that one hidden layer with --residual no
    --normalisation none. The same options and output as train, with `loss_error`, the numerical
    error of the prediction.
    """

    setup: Annotated[AnyNetwork, tyro.conf.arg(name="")]
    accuracy: str | None = None
    """error of the loss that is allowed, over the initial loss: 1% (the default) or 0.01"""
    particles: int | None = None
    """token particles of the solver, in place of an accuracy (beside --replicas: 2048, or what
    outputs and steps need)"""
    replicas: int | None = None
    """independent solutions that are averaged, in place of an accuracy (beside --particles: 16, and
    128 for small vocabularies)"""
    output_sample: int | None = None
    """so many outputs stand for all, in linear networks that are smaller in all their sizes, for
    more steps times outputs than 8192: gaussian targets without a rank, sign or onehot, uniform
    tokens (beside --replicas: so many networks)"""
    files: WrittenFiles = NO_FILES
    json: Json = False

    def run(self) -> int:
        """Solves the mean-field equations and prints loss and updates by step."""
        from dynsim import predict
        from dynsim.theory.mean_field._model import model_of
        from dynsim.theory.mean_field._result import method_of
        from experiments.precision import enable_x64
        from experiments.results import provenance

        setup = self.setup.description(transformers=False)
        model_of(setup)  # refuses what theory does not cover, before any work
        if self.output_sample is not None:
            from dynsim.theory.mean_field._similar import check_similar

            check_similar(setup, self.output_sample)
        accuracy = None if self.accuracy is None else _share(self.accuracy)
        self.files.check()
        enable_x64()
        with progress_bar(1.0, "predict") as bar:
            result = predict(
                setup,
                accuracy=accuracy,
                particles=self.particles,
                replicas=self.replicas,
                output_sample=self.output_sample,
                progress=bar.update,
            )
        hidden = () if result.hidden_update_rms is None else (HIDDEN_UPDATES,)
        recorded = (*UPDATE_COLUMNS, *hidden)
        config = {
            **setup.resolved(),
            "particles": result.particles,
            "neurons": result.neurons,
            "replicas": result.replicas,
            "output_sample": result.output_sample,
            "rotated_outputs": result.rotated_outputs,
        }
        document = {
            "config": config,
            "step": list(range(setup.steps)),
            "loss": result.loss[0],
            "loss_error": result.loss_error[0],
            "finite_width_correction": result.finite_width_correction[0],
            **{
                column: getattr(result, column)[0]
                for name in recorded
                for column in (name, f"{name}_error")
            },
            "diverged": bool(result.diverged[0]),
            "accuracy": result.accuracy,
            "accuracy_reached": result.accuracy_reached,
            "status": result.outcome[0].written(flag),
            "provenance": provenance(config),
        }
        written = write_files(self.files, "predict", result.to_xarray, config)
        if self.json:
            print_json(with_files(document, written))
            return 0
        print_answer(document)
        by_layer = hidden_columns(document)
        print_curves(document | by_layer, ("loss", "loss_error", *UPDATE_COLUMNS, *by_layer))
        print(f"status: {document['status']}")
        asked = "" if result.accuracy is None else f" (allowed: {100 * result.accuracy:.3g} %)"
        print_wrapped(
            f"largest error of the loss: {100 * result.accuracy_reached:.2g} % of the initial loss"
            f"{asked}, from {method_of(result)}"
        )
        print_files(written)
        if self.files.wanted:
            print_next("beside trained networks", ["compare", *setup_options(self.setup)])
        else:
            print_next("a figure", again("--plot", "predict.png"))
        return 0


def _share(text: str) -> float:
    """1% or 0.01 as a number. Raises `InputError` for what is neither."""
    from dynsim import InputError

    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise InputError("accuracy", text, "must be a percentage or a share, 1% or 0.01") from None
