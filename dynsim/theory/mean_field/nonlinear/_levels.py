"""What a matrix reads of the stream below it, neuron by neuron: phi(norm(h)), and its pull-back.

A norm divides by the root mean square over neurons, and layer norm subtracts their mean first; both
are means over neuron particles. W_1 reads norm(h_0) without phi, as in the trained networks.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from dynsim._activation import NORM_EPSILON, activated
from dynsim.theory.mean_field._population import Population

Pull = Callable[
    [Float[Array, "N m"]], tuple[Float[Array, "N m"], Float[Array, " N"]]
]  # from dL/d(features) to dL/d(stream) and dL/d(gain)


def features(
    population: Population,
    activation: str,
    normalisation: str,
    stream: Float[Array, "N m"],
    gain: Float[Array, " N"],
) -> tuple[Float[Array, "N m"], Pull]:
    """Of every neuron and token, and how gradients are pulled back through them."""

    def of(stream: Float[Array, "N m"], gain: Float[Array, " N"]) -> Float[Array, "N m"]:
        share = population.metric / population.width
        if normalisation == "layer":
            stream = population.used * (stream - (share @ stream)[None, :])
        if normalisation != "none":
            square = share @ stream**2
            stream = gain[:, None] * stream * jax.lax.rsqrt(square + NORM_EPSILON)[None, :]
        return activated(activation, stream)

    return jax.vjp(of, stream, gain)
