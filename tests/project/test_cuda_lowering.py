"""Every compiled program is lowered for CUDA, on a machine that has no GPU.

Public functions are called at tiny sizes. Meanwhile every jitted function of the project is
replaced by one that lowers it (`jax.export`) for the arguments it is called with, and returns ones
in the shapes of its results: nothing is compiled, and no number means anything. A jitted function
that none of the calls reaches fails the last test: a new program needs a call in `CALLS`.
"""

from __future__ import annotations

import ast
import importlib
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from jax import export

from derivations._gaussian import hyperu
from dynsim import NetworkSetup, Setup, gradient_flow, predict, predict_linearized
from dynsim._compiled import _jitted
from dynsim._draws import FEW
from dynsim._linear_algebra import eigh, spectral_norm
from dynsim._programs import Program
from dynsim.laboratory import (
    network_coordinates,
    token_updates,
    train_linear,
    train_networks,
)
from dynsim.laboratory._linear_training import STEPS_PER_CALL
from dynsim.theory import max_learning_rate, tangent_kernel, tangent_kernel_product
from experiments.topics._registry import STUDIES
from experiments.topics.bigram_anchors import study as bigrams
from experiments.topics.depth_ratio.networks import network_losses
from experiments.topics.muon_rows import networks as muon_rows_networks
from experiments.topics.muon_rows import scales
from experiments.topics.weight_decay import study as decay

ROOT = Path(__file__).parents[2]
ROOMS = ("dynsim", "experiments")
JITTED = type(jax.jit(lambda: 0))
MAKERS = {"dynsim/_programs.py", "dynsim/_compiled.py"}  # they jit what they are given
KINDS = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "decay": "independent"},
    "momentum": {"optimizer": "momentum", "schedule": "cosine", "warmup_steps": 1},
    "muon": {"optimizer": "muon"},
    "sgd": {"optimizer": "sgd"},
    "sign": {"optimizer": "sign"},
    "smoothed-sign": {"optimizer": "smoothed-sign", "epsilon": 0.1},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"depth": 1},
    "transformer": {"depth": 1, "batch_size": 8, "context": 4, "head_width": 4},
}
CLASSES: dict[str, Any] = {"targets": "onehot", "loss": "ce", "outputs": 3}
SIZES: dict[str, Any] = {"width": 8, "vocab_size": 16, "steps": 2}


class Lowered:
    """Stands in for a jitted function: lowers it for CUDA and returns ones."""

    def __init__(self, jitted: Any, name: str, called: set[str]):
        self._jitted, self._name, self._called = jitted, name, called
        self._found: dict[Any, Any] = {}  # what it returns, by kind of arguments

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._called.add(self._name)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((arguments, named))):
            return self._jitted(*arguments, **named)  # a part of what is lowered as a whole
        kind = kind_of(arguments, named)
        if kind not in self._found:
            exported = lowered(self._jitted, *arguments, **named)
            ones = [jnp.ones(one.shape, one.dtype) for one in exported.out_avals]
            self._found[kind] = jax.tree.unflatten(exported.out_tree, ones)
        return jax.tree.map(jnp.copy, self._found[kind])  # which the caller may give away


def kind_of(arguments: Any, named: Any) -> Any:
    """Equal for calls that one program serves."""
    leaves, structure = jax.tree.flatten((arguments, named))
    return structure, tuple(
        (np.shape(leaf), str(leaf.dtype)) if hasattr(leaf, "dtype") else leaf for leaf in leaves
    )


def lowered(program: Any, *arguments: Any, **named: Any) -> export.Exported:
    """The program for CUDA. It may not call back into Python, which a GPU would wait for."""
    jitted = program.jitted if isinstance(program, Program) else program
    exported = export.export(jitted, platforms=["cuda"])(*arguments, **named)
    assert exported.platforms == ("cuda",)
    assert "callback" not in exported.mlir_module()
    if "@cusolver" in exported.mlir_module():
        assert not in_batches(jitted, *arguments, **named)
    return exported


def in_batches(jitted: Any, *arguments: Any, **named: Any) -> list[str]:
    """Matrices that LAPACK decomposes in batches on a CPU: see `dynsim._linear_algebra`."""
    module = export.export(jitted, platforms=["cpu"])(*arguments, **named).mlir_module()
    operands = re.findall(r"custom_call @lapack_.* : \(tensor<([\dx]+)x\w+>", module)
    assert operands, "the operand is not where it was in this version of JAX"
    shapes = [tuple(map(int, operand.split("x"))) for operand in operands]
    return [str(one) for one in shapes if math.prod(one[:-2]) > 1 and one[-1] > 1]


def files() -> Iterator[tuple[str, str]]:
    """Path in the project and text of every module that jits something."""
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if re.search(r"jax\.jit|_programs import.*\bprogram\b", text):
                yield file.relative_to(ROOT).as_posix(), text


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Any]]:
    """The project's jitted functions by name, and under `called` the names of those called."""
    called: set[str] = set()
    stand_ins: dict[int, Lowered] = {}
    for path, _ in files():
        importlib.import_module(path.removesuffix(".py").replace("/", "."))
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith(ROOMS)]
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ones divide and take roots as they please
        # diffrax calls back where an argument is wrong. JAX builds such calls, but not without the
        # device; all else of a flow is lowered.
        patch.setattr("equinox._errors.EQX_ON_ERROR", "nan")
        for module in loaded:
            for name, value in list(vars(module).items()):
                if isinstance(value, Program | JITTED):
                    own = f"{value.__module__}.{value.__name__}"
                    stand_in = stand_ins.setdefault(id(value), Lowered(value, own, called))
                    patch.setattr(module, name, stand_in)
        yield {"all": {one._name for one in stand_ins.values()}, "called": called, "done": set()}
    jax.clear_caches()  # of flows without these checks


def networks(network: str, **fields: Any) -> None:
    setup = NetworkSetup(network=network, **SIZES | NETWORKS[network] | fields)
    train_networks(setup, seeds=2, horizons=(1, 2))


def linear(**fields: Any) -> None:
    setup = Setup(**SIZES | fields)
    train_linear(setup, 2, record_parts=True)
    train_linear(replace(setup, steps=STEPS_PER_CALL + 1), 1)  # whose first state is made apart
    train_linear(setup, FEW + 1)
    token_updates(setup)


def coordinates(network: str, **fields: Any) -> None:
    setup = NetworkSetup(network=network, **SIZES | NETWORKS[network] | fields)
    network_coordinates(setup, (1, 2), 2)


def updates() -> None:
    setup = NetworkSetup(network="mlp", **SIZES | NETWORKS["mlp"])
    train_networks(setup, record_updates=True)


def mean_field(**fields: Any) -> None:
    predict(Setup(**{"outputs": 3, "steps": 2} | fields), particles=32, replicas=2)


def similar_mean_field() -> None:
    setup = Setup(outputs=64, steps=2, width=64, vocab_size=128, optimizer="sign")
    predict(setup, output_sample=16, replicas=4)


def hidden_mean_field(**fields: Any) -> None:
    setup = NetworkSetup(
        network="mlp",
        depth=1,
        width=128,
        base_width=1,
        outputs=1,
        steps=2,
        normalisation="none",
        **fields,
    )
    predict(setup, replicas=2)


def flow(**options: Any) -> None:
    setup = {"optimizer": "sgd", "batch_size": 0, "steps": 2, "width": 8, "vocab_size": 8}
    options = dict(options)
    fields = options.pop("fields", {})
    gradient_flow(Setup(**setup | fields), [0.5, 1.0], **options)


def tanh(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["in"]) @ params["out"]


def transposed(params: Any, x: Any) -> Any:
    """Its outputs depend on all points."""
    return tanh(params, x).T


def wide(outputs: int = 2) -> tuple[Any, Any]:
    return {"in": jnp.ones((3, 8)), "out": jnp.ones((8, outputs))}, jnp.ones((5, 3))


def linearised(**options: Any) -> None:
    params, x = wide()
    targets = np.full((5, 2), 0.5)
    predict_linearized(tanh, params, x, targets, [1, 2], x_test=x[:2], **options)


def kernels() -> None:
    params, x = wide()
    for f in (tanh, transposed):
        tangent_kernel(f, params, x)
        tangent_kernel(f, params, x, per_example=True)
    for outputs in (1, 64):  # each has a cheapest way of its own
        tangent_kernel(tanh, wide(outputs)[0], x)
    tangent_kernel_product(tanh, params, x)(np.ones((5, 2)))
    max_learning_rate(tanh, params, x)


def special_functions() -> None:
    """An expression with what the project adds to JAX's functions."""
    x = sp.Symbol("x", positive=True)
    expression = hyperu(sp.Rational(3, 2), sp.Rational(1, 2), x) + sp.erf(x) + sp.erfc(x)
    compiled = _jitted(expression, (x,))
    lowered(compiled.alone, np.ones(4))
    lowered(compiled.within, np.ones(4))


def studies() -> None:
    """What some of them compile for themselves."""
    STUDIES["kernel"].measure(correlation=0.5, seeds=1, samples=4, neurons=2)
    STUDIES["mean_residual"].measure(width=4, vocab_size=8, outputs=2, seeds=1)
    fields = {"activation": "identity", "normalisation": "none", "lr_exponents": "0,0,0"}
    setup = NetworkSetup(network="mlp", parametrization="sp", **SIZES | fields)
    network_losses(setup, 0, *np.ones((3, 2)))
    STUDIES["head_updates"].measure(
        path="proportional", optimizer="adam", head="untied", width=32, seeds=1
    )


@jax.numpy_rank_promotion("allow")
def studies_of_rows() -> None:
    """What studies of single matrices compile."""
    key, square = jax.random.key(0), jnp.ones((8, 8))
    muon_rows_networks.row_squares(square, square, jnp.arange(8), jnp.ones(8), softmax=True)
    tokens, share = jnp.zeros((16, 8), "float32"), jnp.full(16, 1 / 16, "float32")
    trained_rows = partial(muon_rows_networks.excess_losses, "muon", "linear", 8, 4, 2)
    trained_rows(jnp.ones(2, "float32"), key, tokens, share)
    law = jnp.full(16, 1 / 16, "float32")
    scales.first_moves("match-rms", 8, jnp.full((16, 16), 1 / 16, "float32"), law, key)
    bigrams._gradient_losses(square, jnp.ones(8), square, jnp.ones(8), steps=2)
    bigrams._two_phases(square, 0.5, square, jnp.ones(8), 3)
    decay._noise("coupled", 2 * decay.LAG, 8, jnp.ones(3), 0.1, key)
    logits = jnp.zeros((decay.EDGES[-1], 4))
    law = jnp.full(len(logits), 1 / len(logits))
    decay._network("coupled", 2 * decay.LAG, 4, law, logits, 8, False, 0.1, key)
    decay._hidden(2 * decay.LAG, 8, 4, logits, 0.1, 0.1, key)


CALLS: dict[str, Callable[[], None]] = {
    **{f"mlp {name}": partial(networks, "mlp", **fields) for name, fields in KINDS.items()},
    "linear network": partial(networks, "linear", batch_size=4, **CLASSES),
    "transformer": partial(networks, "transformer", optimizer="muon", **CLASSES),
    "transformer in bfloat16": partial(networks, "transformer", precision="bfloat16"),
    "tied mlp in float64": partial(networks, "mlp", precision="float64", tied=True),
    "equal tokens merged": partial(
        networks, "mlp", batch_size=32, vocab_size=64, tokens="zipf:2", **CLASSES
    ),
    "recorded updates": updates,
    "coordinates": partial(coordinates, "transformer"),
    "linear model": linear,
    "linear model, mini-batches": partial(linear, batch_size=4, **CLASSES),
    "mean field": mean_field,
    "mean field, cross-entropy": partial(mean_field, tokens="zipf:1", batch_size=64, **CLASSES),
    "mean field of many outputs": similar_mean_field,
    "mean field of linear layers": partial(
        hidden_mean_field, vocab_size=64, activation="identity", optimizer="muon"
    ),
    "mean field of few tokens": partial(hidden_mean_field, vocab_size=4, activation="relu"),
    "mean field of many tokens": partial(
        hidden_mean_field, vocab_size=4096, activation="tanh", residual="no"
    ),
    "flow": flow,
    "linearised flow": partial(linearised),
    "linearised flow, dense": partial(linearised, kernel="dense"),
    "linearised flow, cross-entropy": partial(linearised, loss="ce", kernel="dense"),
    "linearised smoothed sign": partial(linearised, optimizer="smoothed-sign-flow", epsilon=0.1),
    "linearised adam": partial(linearised, optimizer="adam"),
    "kernels": kernels,
    "special functions": special_functions,
    "studies": studies,
    "studies of rows": studies_of_rows,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_lowers_for_cuda(name, programs):
    with np.errstate(all="ignore"):
        CALLS[name]()
    programs["done"].add(name)


def test_every_program_is_lowered(programs):
    for name in CALLS.keys() - programs["done"]:  # where this test runs alone
        test_lowers_for_cuda(name, programs)
    assert len(programs["all"]) > 20
    assert programs["called"] == programs["all"]


@pytest.mark.parametrize("decompose", [jnp.linalg.eigvalsh, jnp.linalg.svd, jnp.linalg.cholesky])
def test_decompositions_in_batches_are_found(decompose):
    matrices = jnp.ones((4, 3, 3))
    assert in_batches(jax.jit(jax.vmap(decompose)), matrices) == ["(4, 3, 3)"]
    assert in_batches(jax.jit(decompose), matrices[0]) == []
    assert in_batches(jax.jit(jax.vmap(decompose)), matrices[:, :1, :1]) == []


def test_decompositions_of_the_project_are_of_one_matrix_at_a_time(random):
    """With the values that batches have."""
    matrices = random.normal(size=(4, 2, 3, 3))
    matrices = jnp.asarray(matrices + np.swapaxes(matrices, -1, -2))
    together = jnp.linalg.eigh(matrices)
    for found, expected in zip(jax.vmap(jax.vmap(eigh))(matrices), together, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    norms = jax.vmap(jax.vmap(spectral_norm))(matrices)
    np.testing.assert_allclose(norms, jnp.abs(together[0]).max(axis=-1), rtol=1e-12)
    for decompose in (jax.vmap(jax.vmap(eigh)), jax.vmap(jax.vmap(spectral_norm))):
        assert in_batches(jax.jit(decompose), matrices) == []


def test_what_is_jitted_stands_at_module_level():
    """Where the tests above find it."""
    for path, text in files():
        inner = [
            call.lineno
            for function in ast.walk(ast.parse(text))
            if isinstance(function, ast.FunctionDef | ast.Lambda)
            for statement in (function.body if isinstance(function.body, list) else [function.body])
            for call in ast.walk(statement)
            if isinstance(call, ast.Attribute) and call.attr == "jit"
        ]
        assert path in MAKERS or not inner, (path, inner)
