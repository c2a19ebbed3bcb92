"""The routes to a setup's dynamics, each as curves at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dynsim._errors import InputError
from dynsim._network_setup import NetworkSetup
from dynsim._outcome import OK, Outcome, Status
from dynsim._seed_means import seed_mean, seed_rms
from dynsim._setup import Setup
from dynsim.laboratory._linear_training import train_linear
from dynsim.laboratory._training import train_networks
from dynsim.theory.flow._gradient_flow import Flow, gradient_flow
from dynsim.theory.mean_field._predict import predict

from ._linearised import linearised_curves
from ._linearised_networks import linearised_network_curves
from ._result import QUANTITIES, Curves

AnySetup = Setup | NetworkSetup
Progress = Callable[[float], object]
Seeds = NDArray[np.int64]
FLOW_STEPS, FLOW_STEPS_A_TIME = 2000, 50  # of the solver
FOLLOWED = 150.0  # the fastest rate of change that these steps follow


def networks(setup: AnySetup, seeds: Seeds, report: Progress) -> Curves:
    """Trained networks in float64, the mean over seeds and its 95 % interval."""
    if isinstance(setup, Setup):
        found = train_linear(setup, seeds, dtype="float64", progress=report)
        runs = [getattr(found, name)[0] for name in QUANTITIES]
    else:
        double = replace(setup, precision="float64")
        evaluated = range(1, setup.steps)
        options = {"horizons": evaluated, "record_updates": True, "progress": report}
        found = train_networks(double, seeds=seeds, **options)
        loss = np.hstack([found.initial_loss[:, None], found.loss])
        runs = [loss, found.projection_update_rms, found.embedding_update_rms]
        assert found.hidden_update_rms is not None
        runs += list(np.moveaxis(found.hidden_update_rms, -1, 0))
    bands = [seed_mean(runs[0], axis=0), *(seed_rms(run, axis=0) for run in runs[1:])]
    lost = int(found.diverged.sum())
    message = f"{lost} of {len(seeds)} networks"
    mean, low, high = (np.stack(part) for part in zip(*bands, strict=True))
    return Curves(mean, low, high, Outcome(Status.DIVERGED, message) if lost else OK)


def mean_field(
    setup: AnySetup,
    seeds: Seeds,
    report: Progress,
    *,
    particles: int | None = None,
    replicas: int | None = None,
) -> Curves:
    """The mean-field prediction, finite-width correction included, with its numerical error."""
    found = predict(setup, particles=particles, replicas=replicas, progress=report)
    values = [getattr(found, name)[0] for name in QUANTITIES]
    errors = [getattr(found, f"{name}_error")[0] for name in QUANTITIES]
    if found.hidden_update_rms is not None and found.hidden_update_rms_error is not None:
        values += list(found.hidden_update_rms[0].T)
        errors += list(found.hidden_update_rms_error[0].T)
    value, error = np.stack(values), np.stack(errors)
    return Curves(value, value - error, value + error, found.outcome[0])


class NoCurve(Exception):
    """A route that covers a setup did not get as far as its first step; the text says why."""


def flow(setup: AnySetup, seeds: Seeds, report: Progress) -> Curves:
    """Gradient flow, or smoothed-sign flow, from each network: step t is time t.

    An explicit solver takes about r/3.3 steps in a unit of time where the fastest rate of change is
    r (its limit of stability), and descent is stable for r up to 2. The limit on steps, 50 a unit
    of time and 2000 at least, is reached by rates above 150. Raises `NoCurve` for a flow that is
    not followed for one step of descent within it.
    """
    loss, error, updates, outcomes = [], [], [], []
    times, most = np.arange(setup.steps), max(FLOW_STEPS, FLOW_STEPS_A_TIME * setup.steps)
    for seed in seeds:
        found = gradient_flow(setup, times, network=int(seed), max_steps=most)
        outcome = found.outcome if found.outcome.ok else _stopped(setup, found)
        if found.reached < 1 and not outcome.ok:
            raise NoCurve(outcome.message)
        loss.append(found.loss)
        error.append(np.nan_to_num(found.loss_error))
        hidden = () if found.hidden_update_rms is None else found.hidden_update_rms.T
        updates.append([found.projection_update_rms, found.embedding_update_rms, *hidden])
        outcomes.append(outcome)
        report(1 / len(seeds))
    squares = np.sqrt(np.mean(np.square(updates), axis=0))
    value = np.stack([np.mean(loss, axis=0), *squares])
    # The error of the loss, relative to it, stands for those of the updates.
    with np.errstate(all="ignore"):
        share = np.nan_to_num(np.mean(error, axis=0) / value[0])
    return Curves(value, value * (1 - share), value * (1 + share), _worst(outcomes))


def _stopped(setup: AnySetup, found: Flow) -> Outcome:
    """Why a flow was not followed to the end, with remedies that a comparison has."""
    rates = found.fastest_rate
    text = f"the flow stopped at t = {found.reached:.3g} after {found.solver_steps} solver steps: "
    if not np.isfinite(sum(rates)):
        other = "hidden_lr" if isinstance(setup, NetworkSetup) else "projection_lr"
        text += f"its state is not finite; lower `embedding_lr` or `{other}`"
        return Outcome(found.outcome.status, text)
    largest = rates.index(max(rates))
    layer = ("projection", "embedding", *("hidden",) * len(rates))[largest]
    if setup.optimizer == "smoothed-sign":  # whose fastest rate is that of gradients near 0
        remedy = f"raise `epsilon` to about {sum(rates) / FOLLOWED * setup.epsilon:.1g}"
    elif layer == "projection" and isinstance(setup, NetworkSetup):
        remedy = "lower `readout_ratio`"
    else:
        remedy = f"lower `{layer}_lr`"
    text += f"it is stiff, as changes may be as fast as {sum(rates):.2g} per step of descent"
    return Outcome(found.outcome.status, f"{text}; {remedy}")


def linearised(setup: AnySetup, seeds: Seeds, report: Progress) -> Curves:
    """The dynamics linearised about each network's initial weights."""
    curves, outcomes = [], []
    for seed in seeds:
        if isinstance(setup, Setup):
            own, found = linearised_curves(setup, int(seed))
        else:
            own, found = linearised_network_curves(setup, int(seed))
        curves.append(own)
        outcomes.append(found.outcome)
        report(1 / len(seeds))
    loss, *updates = np.moveaxis(np.array(curves), 1, 0)
    with np.errstate(all="ignore"):
        squares = [np.sqrt(np.mean(np.square(own), axis=0)) for own in updates]
        value = np.stack([loss.mean(axis=0), *squares])
    return Curves(value, value, value, _worst(outcomes))


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    return next((one for one in outcomes if not one.ok), OK)


def why_not(error: InputError | NoCurve) -> str:
    """Why a route has no curve of a setup, in one line; fields stand between backticks."""
    if isinstance(error, NoCurve):
        return str(error)
    return f"`{error.field}` {error.value}: {error.allowed}"
