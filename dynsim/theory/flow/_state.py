"""What flows: the Gram matrices, or the weights where these are smaller or asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dynsim._setup import Setup

from ._starts import FlowStart

Numbers = Any  # numpy's outside of a compiled function, a JAX array inside


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


def state_size(tokens: int, outputs: int, columns: int | None, *, weights: bool) -> int:
    """How many numbers flow: those of the Grams, or of the weights of `columns` neurons.

    The weights flow where `weights` asks for them or where they are smaller.
    """
    grams = tokens**2 + 2 * outputs * (tokens + outputs)
    if columns is None:
        return grams
    held = (tokens + outputs) * columns
    return held if weights else min(grams, held)


def task_and_state(
    setup: Setup, start: FlowStart, *, weights: bool
) -> tuple[Task, Grams | Weights]:
    """What stays and what flows; Grams where they are smaller than the weights.

    Nothing of a Gram flow has the width's shape, so that all widths share one program.
    """
    tokens, n = start.targets.shape
    common = start.frequencies, start.targets
    numbers = map(
        np.float64, (start.neurons_each, setup.embedding_lr, setup.projection_lr, setup.epsilon)
    )
    if start.embedding is None or start.projection is None:
        grams = start.embedding_square * np.eye(tokens), start.projection_square * np.eye(n)
        output = np.zeros((tokens, n))
    else:
        e, w = start.embedding, start.projection
        output = start.neurons_each * e @ w.T
        if weights or state_size(tokens, n, None, weights=False) > e.size + w.size:
            return Task(*common, output, w, *numbers), Weights(e, w)
        grams = e @ e.T, w @ w.T
    task = Task(*common, output, np.zeros((n, 0)), *numbers)
    return task, Grams(output, *grams, output, grams[1])
