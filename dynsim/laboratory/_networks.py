"""Toy networks: linear, residual MLP and decoder-only transformer, as equinox modules.

A module holds trained weights only. Multipliers are arguments of the forward pass, so that a
parametrization is no part of what is compiled. Every matrix acts as (multiplier) W z, and a
forward pass also returns the inputs z of each, under the matrix's name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynsim._activation import NORM_EPSILON, activated
from dynsim._initial import initial_deep_weights, matrix_draws, matrix_keys
from dynsim._layers import Label, LayerValues
from dynsim._network_setup import NetworkName, NetworkSetup

MLP_RATIO = 4
ROTARY_BASE = 10_000.0


class NetworkShape(NamedTuple):
    """What of a setup a network's forward pass depends on: never a learning rate or an init."""

    network: NetworkName
    width: int
    vocab_size: int
    outputs: int
    depth: int
    residual: str
    head_width: int
    activation: str
    normalisation: str
    tied: bool
    precision: str

    @property
    def dtype(self) -> str:
        """Precision of weights and sums."""
        return "float64" if self.precision == "float64" else "float32"


def network_shape(setup: NetworkSetup) -> NetworkShape:
    """The shape of the setup's network.

    **Example:**

    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import network_shape
    >>> shape = network_shape(NetworkSetup(network="mlp", width=16, vocab_size=32))
    >>> shape.width, shape.vocab_size
    (16, 32)
    """
    values = {name: getattr(setup, name) for name in NetworkShape._fields if name != "outputs"}
    return NetworkShape(**values, outputs=setup.output_count)


class Forward(NamedTuple):
    """Outputs (..., n), and the input (..., fan-in) of every matrix by parameter name."""

    outputs: Array
    inputs: dict[str, Array]


def _normalised(gain: Array | None, x: Array) -> Array:
    """x / sqrt(mean x^2) times the gain, over the last axis; x itself without a gain."""
    return x if gain is None else rms_norm(gain, x)


def _centred(x: Array) -> Array:
    return x - _mean(x)


@jax.custom_vjp
def rms_norm(gain: Array, x: Array) -> Array:
    return _rms_norm_forward(gain, x)[0]


def _rms_norm_forward(gain: Array, x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    inverse = jax.lax.rsqrt(_mean(jnp.square(x)) + NORM_EPSILON)
    return x * inverse * _over_rows(gain, x), (gain, x, inverse)


def _rms_norm_backward(kept: tuple[Array, Array, Array], pulled: Array) -> tuple[Array, Array]:
    """With u = x/rms and v = (gradient)(gain): dx = (v - u mean(u v))/rms."""
    gain, x, inverse = kept
    unit = x * inverse
    by_unit = pulled * _over_rows(gain, x)
    by_x = inverse * (by_unit - unit * _mean(by_unit * unit))
    rows = (pulled * unit).reshape(-1, x.shape[-1])
    return jnp.ones(len(rows), x.dtype) @ rows, by_x


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


def _over_rows(gain: Array, x: Array) -> Array:
    """The gain (d,) with the rank of x (..., d)."""
    return jnp.expand_dims(gain, tuple(range(x.ndim - 1)))


def _mean(x: Array) -> Array:
    """Mean over the last axis, as a matrix product: XLA's reductions are several times slower on
    a CPU, enough to dominate a small network."""
    weight = jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)
    return jnp.matmul(
        x, weight, preferred_element_type=jnp.promote_types(x.dtype, "float32")
    ).astype(x.dtype)


class Linear(eqx.Module):
    """f = W e_i: embedding (m, d), readout (n, d)."""

    embedding: Array
    readout: Array

    def __call__(self, tokens: Array, multipliers: LayerValues) -> Forward:
        stream = multipliers.embedding * self.embedding[tokens]
        return Forward(multipliers.readout * stream @ self.readout.T, {"readout": stream})


class ResidualMLP(eqx.Module):
    """h_0 = e_i, h_l = h_{l-1} + W_l phi(norm(h_{l-1})), f = W phi(norm(h_L)).

    Without `residual` h_{l-1} is not added. If `centred`, norm subtracts the mean first.

    Embedding (m, d), L hidden matrices (d, d), L + 1 norm gains (d,) or None each, readout (n, d)
    or None when tied. phi is not applied to the embedding itself: W_1 reads norm(e_i).
    """

    embedding: Array
    hidden: tuple[Array, ...]
    gains: tuple[Array | None, ...]
    readout: Array | None
    activation: str = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    centred: bool = eqx.field(static=True)

    def _norm(self, level: int, stream: Array) -> Array:
        return _normalised(self.gains[level], _centred(stream) if self.centred else stream)

    def __call__(self, tokens: Array, multipliers: LayerValues) -> Forward:
        inputs = {}
        stream = multipliers.embedding * self.embedding[tokens]
        for layer, weight in enumerate(self.hidden):
            z = self._norm(layer, stream)
            z = activated(self.activation, z) if layer else z
            inputs[f"hidden.{layer}"] = z
            added = multipliers.hidden * z @ weight.T
            stream = stream + added if self.residual else added
        z = activated(self.activation, self._norm(-1, stream))
        inputs["readout"] = z
        readout = self.embedding if self.readout is None else self.readout
        return Forward(multipliers.readout * z @ readout.T, inputs)


class Block(eqx.Module):
    """Causal attention and an MLP, each after RMSNorm and added to the residual stream.

    query, key, value, output (d, d); up (4d, d), down (d, 4d); gains (d,).
    """

    attention_gain: Array
    query: Array
    key: Array
    value: Array
    output: Array
    mlp_gain: Array
    up: Array
    down: Array

    def __call__(
        self, stream: Array, multiplier: Array | float, head_width: int, activation: str
    ) -> Forward:
        """Maps a stream (S, C, d) to the next one."""
        z = _normalised(self.attention_gain, stream)
        heads = (*z.shape[:-1], z.shape[-1] // head_width, head_width)
        query, key, value = (
            (multiplier * z @ weight.T).reshape(heads)
            for weight in (self.query, self.key, self.value)
        )
        mixed = _attention(rotated(query), rotated(key), value).reshape(z.shape)
        stream = stream + multiplier * mixed @ self.output.T
        x = _normalised(self.mlp_gain, stream)
        y = activated(activation, multiplier * x @ self.up.T)
        inputs = {"query": z, "key": z, "value": z, "output": mixed, "up": x, "down": y}
        return Forward(stream + multiplier * y @ self.down.T, inputs)


class Transformer(eqx.Module):
    """Decoder-only transformer: embedding (m, d), blocks, final gain (d,), readout (n, d) or None
    when tied. Positions enter through rotations of query and key alone."""

    embedding: Array
    blocks: tuple[Block, ...]
    gain: Array
    readout: Array | None
    head_width: int = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    def __call__(self, tokens: Array, multipliers: LayerValues) -> Forward:
        inputs = {}
        stream = multipliers.embedding * self.embedding[tokens]
        for place, block in enumerate(self.blocks):
            stream, read = block(stream, multipliers.hidden, self.head_width, self.activation)
            inputs |= {f"blocks.{place}.{name}": z for name, z in read.items()}
        z = _normalised(self.gain, stream)
        inputs["readout"] = z
        readout = self.embedding if self.readout is None else self.readout
        return Forward(multipliers.readout * z @ readout.T, inputs)


Network = Linear | ResidualMLP | Transformer
Tree = Any  # of the network's structure: gradients, steps, labels


def rotated(x: Array) -> Array:
    """Rotary positions (Su et al. 2021): pairs of (S, C, heads, head_width) turned by C angles."""
    half = x.shape[-1] // 2
    frequency = ROTARY_BASE ** -(np.arange(half) / half)
    angle = (np.arange(x.shape[1])[:, None] * frequency)[None, :, None, :]
    cos, sin = jnp.asarray(np.cos(angle), x.dtype), jnp.asarray(np.sin(angle), x.dtype)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _attention(query: Array, key: Array, value: Array) -> Array:
    """Causal softmax attention of (S, C, heads, head_width), scores over sqrt(head_width).

    `jax.nn.dot_product_attention` is the same, but rounds the scores of float64 to float32.
    """
    sums = jnp.promote_types(query.dtype, "float32")
    scores = jnp.einsum("sihk,sjhk->shij", query, key, preferred_element_type=sums)
    shares = causal_shares(scores * query.shape[-1] ** -0.5).astype(value.dtype)
    return jnp.einsum("shij,sjhk->sihk", shares, value)


def causal_shares(scores: Array) -> Array:
    """Softmax over the last of two axes of positions, up to each position itself."""
    past = np.tri(scores.shape[-1], dtype=bool)
    return jax.nn.softmax(jnp.where(past, scores, -jnp.inf), axis=-1)


def initial_network(shape: NetworkShape, init_factor: LayerValues, key: Array) -> Network:
    """A network with Gaussian weights: standard deviation 1 (embedding) or 1/sqrt(fan-in), times
    the layer's `init_factor`; gains start at 1. Weights are float32, or float64 if so asked.

    Shapes: `key` is one key of `jax.random`, without a shape of its own.

    **Example:**

    >>> import jax
    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import initial_network, network_shape, scales
    >>> setup = NetworkSetup(network="mlp", width=16, vocab_size=32, base_width=16)
    >>> key, factors = jax.random.key(0), scales(setup).init_factor
    >>> network = initial_network(network_shape(setup), factors, key)
    >>> network.embedding.shape, network.hidden[0].shape
    ((32, 16), (16, 16))
    """
    return network_of_keys(shape, init_factor, matrix_keys(shape.depth, key))


def network_of_keys(shape: NetworkShape, init_factor: LayerValues, keys: Array) -> Network:
    """The same from the keys of its matrices, which a program of a size need not make."""
    width, depth = shape.width, shape.depth
    sizes = shape.vocab_size, shape.outputs, width

    def gain() -> Array:
        return jnp.ones(width, shape.dtype)

    if shape.network == "mlp":
        weights = initial_deep_weights(
            sizes, depth, init_factor, keys, shape.dtype, tied=shape.tied
        )
        normalised = shape.normalisation != "none"
        gains = tuple(gain() if normalised else None for _ in range(depth + 1))
        return ResidualMLP(
            weights.embedding,
            weights.hidden,
            gains,
            weights.readout,
            shape.activation,
            shape.residual == "yes",
            shape.normalisation == "layer",
        )
    matrix = matrix_draws(init_factor, keys, shape.dtype)

    def block() -> Block:
        query, key, value, output = (matrix("hidden", width, width) for _ in range(4))
        up = matrix("hidden", MLP_RATIO * width, width)
        down = matrix("hidden", width, MLP_RATIO * width)
        return Block(gain(), query, key, value, output, gain(), up, down)

    embedding = matrix("embedding", shape.vocab_size, width)
    readout = None if shape.tied else matrix("readout", shape.outputs, width)
    if shape.network == "transformer":
        blocks = tuple(block() for _ in range(depth))
        return Transformer(embedding, blocks, gain(), readout, shape.head_width, shape.activation)
    assert readout is not None
    return Linear(embedding, readout)


def parameter_names(network: Tree) -> list[str]:
    """Names of the parameters in the order of the tree's leaves, such as `blocks.0.query`."""
    paths, _ = jax.tree_util.tree_flatten_with_path(network)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def label_of(name: str) -> Label:
    """The label of a parameter by its name."""
    last = name.rpartition(".")[2]
    if name == "embedding" or name == "readout":
        return name
    return "vector" if last.endswith("gain") or name.startswith("gains") else "hidden"


def parameter_labels(network: Tree) -> Tree:
    """A tree like the network's, with a label in place of each parameter.

    **Example:**

    >>> import jax
    >>> from dynsim import NetworkSetup
    >>> from dynsim.laboratory import initial_network, network_shape, parameter_labels, scales
    >>> setup = NetworkSetup(network="linear", width=16, vocab_size=32, base_width=16)
    >>> key, factors = jax.random.key(0), scales(setup).init_factor
    >>> network = initial_network(network_shape(setup), factors, key)
    >>> parameter_labels(network)
    Linear(embedding='embedding', readout='readout')
    """
    labels = [label_of(name) for name in parameter_names(network)]
    return jax.tree.unflatten(jax.tree.structure(network), labels)
