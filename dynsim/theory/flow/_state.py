"""What flows: the Gram matrices, or the weights where these are smaller or asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dynsim._setup import Experiment

from ._network import FlowNetwork
from ._starts import FlowStart

Numbers = Any  # numpy's outside of a compiled function, a JAX array inside


class HiddenTask(NamedTuple):
    """What stays of hidden layers."""

    initial: Numbers  # matrices, (depth, D, D)
    initial_embedding: Numbers  # (M, D)
    initial_readout: Numbers  # (n, D), pulled down to level 0
    lrs: Numbers  # (depth,)
    skip: Numbers  # 1 with skip connections, 0 without
    width: Numbers


class Task(NamedTuple):
    """What stays. M effective tokens, n outputs, D columns of neurons."""

    frequencies: Numbers  # (M,)
    targets: Numbers  # (M, n)
    initial_output: Numbers  # (M, n)
    initial_projection: Numbers  # (n, D); (n, 0) for Grams
    neurons_each: Numbers
    embedding_lr: Numbers
    projection_lr: Numbers
    smoothing: Numbers
    hidden: HiddenTask | None = None  # None where no layer is hidden


class Grams(NamedTuple):
    """The closed state of gradient flow; fields as in `derivations.FlowState`."""

    output: Numbers  # (M, n), F = E W^T
    embedding_gram: Numbers  # (M, M)
    projection_gram: Numbers  # (n, n)
    first_output: Numbers  # (M, n), H = E W_0^T
    projection_overlap: Numbers  # (n, n), C = W W_0^T


class Weights(NamedTuple):
    embedding: Numbers  # (M, D)
    projection: Numbers  # (n, D)
    hidden: Numbers = None  # (depth, D, D); None where no layer is hidden


def state_size(
    tokens: int, outputs: int, columns: int | None, *, weights: bool, depth: int = 0
) -> int:
    """How many numbers flow: those of the Grams, or of the weights of `columns` neurons.

    The weights flow where `weights` asks for them, where they are smaller and where there are
    hidden layers, whose Grams are not closed.
    """
    if depth and columns is not None:
        return (tokens + outputs + depth * columns) * columns
    grams = tokens**2 + 2 * outputs * (tokens + outputs)
    if columns is None:
        return grams
    held = (tokens + outputs) * columns
    return held if weights else min(grams, held)


def task_and_state(
    setup: Experiment, network: FlowNetwork, start: FlowStart, *, weights: bool
) -> tuple[Task, Grams | Weights]:
    """What stays and what flows; Grams where they are smaller than the weights.

    Nothing of a Gram flow has the width's shape, so that all widths share one program.
    """
    tokens, n = start.targets.shape
    common = start.frequencies, start.targets
    rates = network.rates
    numbers = tuple(
        map(np.float64, (start.neurons_each, rates.embedding, rates.projection, setup.epsilon))
    )
    if start.embedding is None or start.projection is None:
        grams = start.embedding_square * np.eye(tokens), start.projection_square * np.eye(n)
        output = np.zeros((tokens, n))
    else:
        e, w = start.embedding, start.projection
        if start.hidden is not None:
            return _deep(setup, network, start, numbers)
        output = start.neurons_each * e @ w.T
        if weights or state_size(tokens, n, None, weights=False) > e.size + w.size:
            return Task(*common, output, w, *numbers, hidden=None), Weights(e, w)
        grams = e @ e.T, w @ w.T
    task = Task(*common, output, np.zeros((n, 0)), *numbers, hidden=None)
    return task, Grams(output, *grams, output, grams[1])


def _deep(
    setup: Experiment, network: FlowNetwork, start: FlowStart, numbers: tuple[np.float64, ...]
) -> tuple[Task, Weights]:
    """The same with hidden layers, whose weights flow."""
    e, w = start.embedding, start.projection
    assert e is not None
    assert w is not None
    skip, readout = float(network.residual), w
    assert start.hidden is not None
    for matrix in start.hidden[::-1]:
        readout = skip * readout + readout @ matrix
    fixed = map(np.asarray, (network.rates.hidden, skip, float(setup.width)))
    hidden = HiddenTask(start.hidden, e, readout, *fixed)
    task = Task(start.frequencies, start.targets, e @ readout.T, w, *numbers, hidden=hidden)
    return task, Weights(e, w, start.hidden)
