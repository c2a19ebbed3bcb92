"""Why a flow's solver stopped: which learning rate makes it stiff, and what to change."""

from __future__ import annotations

import math

import numpy as np

import derivations
from derivations import flow_symbols as x
from derivations import symbols as s
from dynsim._compiled import evaluate
from dynsim._outcome import Outcome, Status

from ._kernels import Impulse, KernelTask, kernel_rates, rate_bounds
from ._state import Grams, HiddenTask, Task, Weights

STABILITY_LIMIT = 3.3  # largest stable product of a decay rate and an explicit solver's step
TOO_MANY_STEPS = 1e9  # a flow that needs more is not advised to raise `max_steps`
STIFF_SHARE = 0.3  # of the steps so far that stability asked for, from which a flow is stiff


def fastest_rates(
    task: Task | KernelTask, state: Grams | Weights | Impulse, *, smoothed: bool
) -> tuple[float, ...]:
    """(projection's, embedding's, each hidden layer's) share of the bound on the flow's rates.

    NaN if not finite.
    """
    if isinstance(task, KernelTask):
        return kernel_rates(task)
    assert not isinstance(state, Impulse)
    if task.hidden is not None:
        assert isinstance(state, Weights)
        return _of_hidden_layers(task, task.hidden, state)
    if not all(np.all(np.isfinite(part)) for part in state[:2]):
        return math.nan, math.nan
    p = np.asarray(task.frequencies)
    root = np.sqrt(p)[:, None]
    if isinstance(state, Grams):
        kernel = np.linalg.eigvalsh(root * state.embedding_gram * root.T)[-1]
        gram = state.projection_gram
    else:
        each = float(task.neurons_each)
        tall = root * state.embedding
        small = tall @ tall.T if len(p) < tall.shape[1] else tall.T @ tall
        kernel = each * np.linalg.eigvalsh(small)[-1]
        gram = each * state.projection @ state.projection.T
    sharpness = {
        x.embedding_sharpness: float(kernel),
        x.projection_sharpness: float(p.max() * np.linalg.eigvalsh(gram)[-1]),
    }
    steepest = float(1 / task.smoothing) if smoothed else 1.0

    def share(embedding_lr: float, projection_lr: float) -> float:
        rates = {s.embedding_lr: embedding_lr, s.projection_lr: projection_lr}
        return steepest * float(evaluate(derivations.fastest_rate(), sharpness | rates))

    return share(0.0, float(task.projection_lr)), share(float(task.embedding_lr), 0.0)


def _of_hidden_layers(task: Task, hidden: HiddenTask, state: Weights) -> tuple[float, ...]:
    """The same of a network with hidden layers, level by level."""
    parts = state.embedding, state.projection, *state.hidden
    if not all(np.all(np.isfinite(part)) for part in parts):
        return (math.nan,) * len(parts)
    skip, p = float(hidden.skip), np.asarray(task.frequencies)
    features, readouts = [np.sqrt(p)[:, None] * state.embedding], [state.projection]
    for matrix in state.hidden:
        features.append(skip * features[-1] + features[-1] @ matrix.T)
    for matrix in state.hidden[::-1]:
        readouts.insert(0, skip * readouts[0] + readouts[0] @ matrix)
    return rate_bounds(
        [np.linalg.norm(level, 2) ** 2 for level in features],
        [np.linalg.norm(level, 2) ** 2 for level in readouts],
        float(p.max()),
        (float(task.embedding_lr), float(task.projection_lr), np.asarray(hidden.lrs)),
    )


def failure(
    reason: str,
    rates: tuple[float, ...],
    steps: int,
    reached: float,
    end: float,
    *,
    solver: str,
    smoothed: bool,
    deep: bool = False,
) -> Outcome:
    """What stopped the solver at time `reached` of `end`; `rates` as in `fastest_rates`."""
    text = f"at t = {reached:.4g} of {end:.4g} after {steps} steps: {reason.strip()}"
    total = sum(rates)
    if not math.isfinite(total):
        other = "hidden_lr" if deep else "projection_lr"
        text += f" The state is not finite. What to change: lower `embedding_lr` or `{other}`"
        return Outcome(Status.STOPPED, text)
    largest = rates.index(max(rates))
    larger = ("projection", "embedding", *("hidden",) * len(rates))[largest]
    lower = "readout_ratio" if deep and larger == "projection" else f"{larger}_lr"
    text += (
        f" Fastest rate {total:.3g} per unit time ({max(rates) / max(total, 1e-300):.0%} from the "
        f"{larger}'s learning rate)"
    )
    needed = total * end / STABILITY_LIMIT
    if reached == 0 and needed > TOO_MANY_STEPS:
        remedies = ["raise `epsilon`"] if smoothed else []
    elif solver == "implicit":
        remedies = ["raise `max_steps`", "raise `tolerance`", "take `solver` explicit"]
    elif total * reached / STABILITY_LIMIT < STIFF_SHARE * steps:
        remedies = ["raise `max_steps`", "raise `tolerance`"]
    else:
        text += f", so the problem is stiff: an explicit solver needs about {needed:.2g} steps"
        remedies = ["raise `epsilon`" if smoothed else "take `solver` implicit"]
        if needed <= TOO_MANY_STEPS:
            remedies.insert(0, f"raise `max_steps` to about {math.ceil(1.5 * needed):.3g}")
    remedies += ["shorten `time`", f"lower `{lower}`"]
    text += f". What to change: {', '.join(remedies[:-1])} or {remedies[-1]}"
    return Outcome(Status.STOPPED, text)
