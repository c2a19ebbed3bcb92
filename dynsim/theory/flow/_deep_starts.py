"""Where the flow of a network with hidden layers starts: one drawn network, or a limit.

Tokens are reduced as those of a network without hidden layers are. Neurons of a finite network are
all kept; those of a limit are the directions that a trial solution meets (`_trial`).
Source: docs/theory/gradient_flow.md#deep-flow-limits.
"""

from __future__ import annotations

import jax
import numpy as np

from dynsim._initial import initial_deep_weights, matrix_keys
from dynsim._network_setup import NetworkSetup
from dynsim._runs import check_fits, sized_key
from dynsim._scales import scales

from ._krylov import krylov_size, krylov_tokens
from ._network import FlowNetwork
from ._starts import CheckSize, FlowStart, check_uniform, effective_targets, occurring_tokens
from ._trial import Tokens, small_network

COPIES = 30  # of the weights, which an explicit solver of high order keeps


def drawn_start(
    setup: NetworkSetup, nodes: int, network: int, check_size: CheckSize, *, reduce: bool
) -> FlowStart:
    """The network that `train` draws in float64, multipliers included.

    Raises `InputError` for weights or a reduction that do not fit the memory, and what
    `check_size` raises.
    """
    law = setup.law().frequencies
    count = int(np.count_nonzero(law))
    columns = setup.output_count + setup.width
    if not reduce or krylov_size(law[:count], columns, nodes) >= count:
        check_size(count, setup.width)
    weights = (setup.vocab_size + setup.output_count + setup.depth * setup.width) * setup.width
    check_fits(8 * COPIES * weights, setup)
    prescribed = scales(setup)
    key = jax.random.fold_in(jax.random.fold_in(sized_key(setup), network), 0)
    sizes = setup.vocab_size, setup.output_count, setup.width
    keys = matrix_keys(setup.depth, key)
    drawn = initial_deep_weights(sizes, setup.depth, prescribed.init_factor, keys, "float64")
    multiplier = prescribed.multiplier
    hidden = multiplier.hidden * np.stack(drawn.hidden)
    p, y, embedding = occurring_tokens(setup, multiplier.embedding * np.asarray(drawn.embedding))
    exact = True
    if reduce:
        p, (y, embedding), exact = krylov_tokens(p, (y, embedding), nodes)
    projection = multiplier.readout * np.asarray(drawn.readout)
    return FlowStart(p, y, embedding, projection, 1.0, 0.0, 0.0, exact, hidden)


def limit_start(
    setup: NetworkSetup,
    network: FlowNetwork,
    nodes: int,
    end: float,
    tolerance: float,
    max_steps: int,
    check_size: CheckSize,
    *,
    proportional: bool,
    at_least: FlowStart | None = None,
) -> FlowStart:
    """Infinite width at fixed vocabulary, or both large at a fixed ratio, up to the time `end`.

    `tolerance` is the relative length of a new part of a vector that still is a direction. With
    `at_least` sizes are no smaller than those of this start, so that one program serves both.
    Raises `InputError` for a reduction that does not fit the memory, for tokens that are not
    uniform where both are large, and what `check_size` raises.
    """
    if proportional:
        p = check_uniform(setup)
        y = effective_targets(setup)
        tokens = Tokens(np.full(len(y), p), y, setup.vocab_size - len(y))
    else:
        p, y, _ = occurring_tokens(setup, np.zeros((setup.vocab_size, 0)))
        known = min(krylov_size(p, setup.output_count, nodes), len(p))
        check_size(known, known + setup.output_count)
        p, (y, _), _ = krylov_tokens(p, (y, np.zeros((len(p), 0))), nodes)
        tokens = Tokens(p, y, 0)
    sizes = (0, 0)
    if at_least is not None and at_least.embedding is not None:
        sizes = at_least.embedding.shape
    found = small_network(
        network, setup.width, tokens, end, tolerance, max_steps, check_size, sizes
    )
    ends = found.embedding, found.projection
    parts = found.frequencies, found.targets, *ends, 1.0, 0.0, 0.0, False
    return FlowStart(*parts, found.hidden, found.reached)


def wide_start(setup: NetworkSetup, network: FlowNetwork, nodes: int) -> FlowStart:
    """Infinite width at fixed vocabulary, without neurons: the Gram matrices of the start alone."""
    p, y, _ = occurring_tokens(setup, np.zeros((setup.vocab_size, 0)))
    p, (y, _), exact = krylov_tokens(p, (y, np.zeros((len(p), 0))), nodes)
    d, stds = float(setup.width), network.stds
    squares = d * stds.embedding**2, d * stds.projection**2
    return FlowStart(p, y, None, None, 1.0, *squares, exact)
