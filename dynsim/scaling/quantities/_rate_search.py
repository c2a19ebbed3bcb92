"""Losses on grids of learning rates around their optima: of trained networks or by mean field.

A seed is a task, with its own targets and weights. A grid has a fixed number of rates on each axis,
whatever its place and spacing, so that one size is compiled once. It is placed in two stages: a
few tasks on a coarse grid of octaves, which is moved until no lowest loss lies at its end, and then
all tasks on a fine grid around the lowest loss.

After one update of one layer a squared error is a parabola in that layer's rate. A grid of a few
octaves then gives the optimum exactly, and the coarse stage is a parabola too. After one update of
both layers it is a parabola in either rate, so a few pairs of rates give the whole grid. (Of a mean
field whose rare tokens are sampled it is so up to the sampling, which the fit averages over.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dynsim._compiled import SYMPY
from dynsim._network_setup import NetworkSetup
from dynsim._scales import scales
from dynsim._setup import MAX_SIZE, Setup
from dynsim.laboratory._linear_training import train_linear
from dynsim.statistics import fitted_parabola
from dynsim.theory._first_step import optimal_learning_rates
from dynsim.theory.mean_field._predict import enough_particles
from dynsim.theory.mean_field._quick import quick_means, quick_predictions

Floats = NDArray[np.float64]
How = Literal["layerwise", "joint"]
Progress = Callable[[float], object]
AnySetup = Setup | NetworkSetup
Losses = Callable[[Any, Floats, Floats], Floats]
"""Of a task at pairs of rates (L,): the loss before the first and after the last update, (2, L)."""

LAYERS = ("embedding", "projection")
HIDDEN_START = -0.75  # power of the width: between 1/d and 1/sqrt(d)
EXACT_OCTAVES = np.arange(-2.0, 3.0)
EXACT_PLACES = np.array([-2.0, 0.0, 2.0])  # of losses that are computed in double precision
STEPS_FROM_CENTRE = 4
FINE = {"layerwise": 1 / 3, "joint": 1 / 2}  # octaves between neighbours
MOST_SHIFTS = 6
SAME = 0.01  # of what training removes
MOST_MISFIT = 0.05  # of a loss; sampled tails are off by one or two percent
MOST_OCTAVES = 20.0  # of one move
COARSE_TASKS = 4  # of networks; one solution is enough
PARTICLES = 512
REPLICAS, MORE_REPLICAS = 2, (4, 8)  # more of fewer tokens: all average over both


@dataclass(frozen=True, eq=False)
class RateLosses:
    """Losses after the last update on a grid of rates, of S tasks.

    - `rates`: shape (2, K), of the embedding and of the projection, or of the hidden matrices of a
      network, at its base width; geometric.
    - `loss`: layer-wise (2, K, S), all else frozen; joint (K + 1, K + 1, S), where the first
      row and column have a frozen layer.
    - `initial_loss`: shape (S,).
    """

    rates: Floats
    loss: Floats
    initial_loss: Floats


def is_parabola(setup: AnySetup) -> bool:
    """Whether the loss is exactly quadratic in the rate of each layer: that of one update."""
    return isinstance(setup, Setup) and setup.steps == 2 and setup.loss_name == "mse"


def tasks(setup: AnySetup, labels: NDArray[np.int64]) -> list[Any]:
    """One setup a seed, with its own targets and weights."""
    return [replace(setup, seed=(setup.seed + int(label)) % (MAX_SIZE + 1)) for label in labels]


def network_losses(task: Setup, embedding_lrs: Floats, projection_lrs: Floats) -> Floats:
    """Losses of one finite network."""
    rates: Any = {"embedding_lrs": embedding_lrs, "projection_lrs": projection_lrs}
    trained = train_linear(task, 1, record_updates=False, **rates)
    return trained.loss[:, 0, [0, -1]].T


def mean_field_losses(task: AnySetup, embedding_lrs: Floats, second_lrs: Floats) -> Floats:
    """Losses of the mean-field solution, also of a network with linear hidden layers."""
    particles = enough_particles(task, PARTICLES)
    more = [one for one in MORE_REPLICAS if one * task.vocab_size <= particles]
    replicas = max([REPLICAS, *more])
    rates = embedding_lrs, second_lrs
    return quick_means(task, *rates, particles=particles, replicas=replicas)[:, [0, -1], 0].T


def deep_network_losses(task: NetworkSetup, embedding_lrs: Floats, hidden_lrs: Floats) -> Floats:
    """Losses of one finite network with hidden layers."""
    from dynsim.laboratory._training import train_networks  # theory is printed sooner without it

    horizon = task.steps - 1
    trained = train_networks(task, embedding_lrs, hidden_lrs, seeds=[0], horizons=[horizon])
    return np.stack([trained.initial_loss, trained.loss[:, 0]])


def own_factors(setup: NetworkSetup) -> Floats:
    """Of the rates of embedding and hidden layers at the base width: to the width's own, of weights
    with multiplier one. (A gradient has the multiplier as a factor, which counts where an update
    grows with its gradient.)"""
    at_width = scales(setup)
    power = 2 if setup.optimizer in ("sgd", "momentum") else 1
    return np.array(
        [
            at_width.learning_rate.of(name) * at_width.multiplier.of(name) ** power
            for name in ("embedding", "hidden")
        ]
    )


OF_NETWORKS: tuple[Losses, ...] = (network_losses, deep_network_losses)


def searched(
    setup: AnySetup,
    labels: NDArray[np.int64],
    how: How,
    losses: Losses,
    progress: Progress = lambda part: None,
) -> RateLosses:
    """Losses of all tasks on the fine grid, which the first few tasks place."""
    several = tasks(setup, labels)
    exact = how == "layerwise" and is_parabola(setup)
    centres = _centres(setup, losses)
    if exact:  # the closed form has mostly placed it already
        positions = np.tile(_exact_places(losses), (2, 1))
    else:
        positions = _placed(_few(several, losses), how, losses, centres, exact)
    found = _of_all(several, how, losses, centres, positions, progress)
    if exact and not _in_the_middle(found, positions):
        positions = _placed(_few(several, losses), how, losses, centres, exact)
        found = _of_all(several, how, losses, centres, positions, lambda part: None)
    return found


def _few(several: Sequence[Any], losses: Losses) -> Sequence[Any]:
    """The tasks that place a grid."""
    return several[: COARSE_TASKS if losses in OF_NETWORKS else 1]


def _exact_places(losses: Losses) -> Floats:
    return EXACT_OCTAVES if losses in OF_NETWORKS else EXACT_PLACES


def _of_all(
    several: Sequence[Any],
    how: How,
    losses: Losses,
    centres: Floats,
    positions: Floats,
    progress: Progress,
) -> RateLosses:
    rows = []
    for task in several:
        rows.append(_on_grid(task, how, losses, centres, positions))
        progress(1 / len(several))
    return _stacked(rows, centres, positions)


def _in_the_middle(found: RateLosses, positions: Floats) -> bool:
    """Whether the optima of both layers alone lie within an octave of the grid's middle."""
    curves, _ = _profiles(found, "layerwise")
    best = np.array([_vertex(*one) for one in zip(positions, curves, strict=True)])
    return bool(np.all(np.abs(best - positions[:, positions.shape[1] // 2]) <= 1))


def _centres(setup: AnySetup, losses: Losses) -> Floats:
    """Rates from which the search starts: the closed form of sign's first step, or, for optimizers
    whose moves have another size, the rates at which one update changes the outputs by one.

    Of a network with hidden layers: an embedding that moves by its initial size, and a hidden rate
    between those of aligned and of incoherent updates.
    """
    if isinstance(setup, NetworkSetup):
        power = HIDDEN_START + (setup.optimizer == "muon")
        return np.array([1.0, setup.width**power]) / own_factors(setup)
    if setup.optimizer in ("sign", "adam"):
        with SYMPY:  # networks of several sizes are trained in threads
            centres = optimal_learning_rates(setup.width, setup.law(), init=setup.init)
        return np.array([float(centre) for centre in centres])
    unit: Any = {"embedding_lr": 1.0, "projection_lr": 1.0}
    first: Any = replace(setup, steps=2, schedule="constant", warmup_steps=0, **unit)
    names = [f"{name}_update_rms" for name in LAYERS]
    if losses is network_losses:
        moved = train_linear(first, 1)
        sizes = [float(np.ravel(getattr(moved, name))[-1]) for name in names]
    else:
        particles = enough_particles(first, PARTICLES)
        (solved,) = quick_predictions([first], particles=particles, replicas=REPLICAS)
        sizes = [float(solved.values[name][-1]) for name in names]
    return 1 / np.maximum(sizes, 1e-30)


def _placed(
    several: Sequence[Any], how: How, losses: Losses, centres: Floats, exact: bool
) -> Floats:
    """Positions of the fine grid's rates in octaves from the centres, shape (2, K)."""
    steps = np.arange(-STEPS_FROM_CENTRE, STEPS_FROM_CENTRE + 1.0)
    offsets = _exact_places(losses) if exact else steps
    horizon = several[0].steps - 1
    middle = np.full(2, 0.0 if exact else -math.ceil(math.log2(horizon) / 2))
    best = middle
    for _ in range(MOST_SHIFTS):
        positions = middle[:, None] + offsets
        rows = [_on_grid(task, how, losses, centres, positions) for task in several]
        curves, at_rest = _profiles(_stacked(rows, centres, positions), how)
        if exact:
            best = np.array([_vertex(*one) for one in zip(positions, curves, strict=True)])
            if np.all(np.abs(best - middle) <= 1):
                return positions
            middle = np.round(best)
            continue
        lowest = curves.argmin(axis=1)
        best = positions[np.arange(2), lowest]
        smaller = (lowest == 0) & ~at_rest
        shift = (lowest == len(offsets) - 1) * 1.0 - smaller
        if not shift.any():
            break
        middle = middle + STEPS_FROM_CENTRE * shift
    return np.asarray(best)[:, None] + offsets * (1.0 if exact else FINE[how])


def _vertex(positions: Floats, curve: Floats) -> float:
    """Place, in octaves, of the minimum of a loss that is quadratic in the rate; where it has none
    on this side of 0, the grid's end towards which the loss falls."""
    middle = positions[len(positions) // 2]
    vertex, _, curvature = fitted_parabola(2.0 ** (positions - middle), curve)
    if curvature > 0 and vertex > 0:
        return float(middle + np.clip(np.log2(vertex), -MOST_OCTAVES, MOST_OCTAVES))
    return float(positions[0] if curve[0] < curve[-1] else positions[-1])


def _on_grid(
    task: AnySetup, how: How, losses: Losses, centres: Floats, positions: Floats
) -> tuple[Floats, float]:
    """One task's losses on the grid, shaped as `RateLosses.loss`, and its initial loss."""
    embedding, projection = centres[:, None] * 2.0**positions
    if how == "joint":
        axes = np.append(0.0, embedding), np.append(0.0, projection)
        return _on_joint_grid(task, losses, *axes)
    frozen = np.zeros_like(embedding)
    pairs = np.append(embedding, frozen), np.append(frozen, projection)
    initial, last = losses(task, *pairs)
    return last.reshape(2, -1), float(initial[0])


def _on_joint_grid(
    task: AnySetup, losses: Losses, embedding: Floats, projection: Floats
) -> tuple[Floats, float]:
    """Losses (K + 1, K + 1) at all pairs of these rates, the first of which are 0, and the initial.

    One update makes outputs (E + eta_E F)(W + eta_W G), so that a squared error is a polynomial of
    second degree in each rate. It is fitted to both ends and the middle of the grid, and to a
    frozen layer; where it does not fit, all pairs are computed.
    """
    rates = embedding, projection
    if is_parabola(task):
        last = len(embedding) - 1
        few = np.unique([0, 1, (1 + last) // 2, last])
        known, initial = _at_pairs(task, losses, embedding[few], projection[few])
        if np.all(np.isfinite(known) & (known > 0)):
            found, misfit = _of_second_degree(known, [one[few] for one in rates], rates)
            if misfit < MOST_MISFIT:
                return found, initial
    return _at_pairs(task, losses, *rates)


def _at_pairs(
    task: AnySetup, losses: Losses, embedding: Floats, projection: Floats
) -> tuple[Floats, float]:
    grid = np.meshgrid(embedding, projection, indexing="ij")
    initial, last = losses(task, grid[0].ravel(), grid[1].ravel())
    return last.reshape(grid[0].shape), float(initial[0])


def _of_second_degree(
    known: Floats, places: Sequence[Floats], wanted: Sequence[Floats]
) -> tuple[Floats, float]:
    """The polynomial of second degree in each of two places with the least relative error at pairs
    of `places`: its values at all pairs of `wanted`, and its largest relative error."""
    (first, first_wanted), (second, second_wanted) = (
        (np.vander(place / place[-1], 3), np.vander(axis / place[-1], 3))
        for place, axis in zip(places, wanted, strict=True)
    )
    design = np.kron(first, second) / known.reshape(-1, 1)
    sizes = np.linalg.norm(design, axis=0)
    solution = np.linalg.lstsq(design / sizes, np.ones(known.size))[0] / sizes
    found = np.einsum("xi,ij,yj->xy", first_wanted, solution.reshape(3, 3), second_wanted)
    return found, float(np.abs(design @ solution - 1).max())


def _stacked(
    rows: Sequence[tuple[Floats, float]], centres: Floats, positions: Floats
) -> RateLosses:
    loss = np.stack([loss for loss, _ in rows], axis=-1)
    initial = np.array([initial for _, initial in rows])
    return RateLosses(centres[:, None] * 2.0**positions, loss, initial)


def _profiles(found: RateLosses, how: How) -> tuple[Floats, NDArray[np.bool_]]:
    """Mean loss at every rate of each layer (2, K), jointly with the other layer tuned; and whether
    a layer does as well, to a hundredth of what training removes, where it is frozen."""
    mean, initial = np.nan_to_num(found.loss, nan=np.inf).mean(axis=-1), found.initial_loss.mean()
    if how == "layerwise":
        curves, frozen = mean, np.full(2, initial)
    else:
        curves = np.stack([mean[1:].min(axis=1), mean[:, 1:].min(axis=0)])
        frozen = np.array([mean[0].min(), mean[:, 0].min()])
    lowest = curves.min(axis=1)
    return curves, (frozen - lowest) <= SAME * np.maximum(initial - np.minimum(lowest, frozen), 0)
