"""Training steps per second of one device, beside PyTorch and beside what the device can do.

One-hot classes, Adam, the losses of every step recorded by both. dynsim trains networks side by
side; PyTorch trains one after another, by autograd, its fused Adam and its fused attention, without
being compiled. What the device can do is the rate of one large product in the cell's precision, and
that of a copy.

dynsim's float32 has full products. `tensorfloat32` is what its training would take with products
of that kind, which it does not offer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import laboratory_throughput as laboratory
from benchmarks._step_pieces import evaluated_tokens
from dynsim import NetworkSetup
from dynsim.laboratory import learning_rate_factors, parameter_count, train_networks
from dynsim.laboratory._networks import label_of

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
REPEATS = 3
TORCH_RUNS = 2
RATE = 1e-3


def setup_of(
    network: str, width: int, vocab_size: int, batch_size: int, steps: int, precision: str
) -> NetworkSetup:
    """A network with as many classes as token types."""
    return NetworkSetup(
        network=network,  # type: ignore[arg-type]
        width=width,
        vocab_size=vocab_size,
        outputs=vocab_size,
        tokens="zipf:1",
        targets="onehot",
        batch_size=batch_size,
        head_width=min(64, width // 2),
        steps=steps,
        precision="bfloat16" if precision == "bfloat16" else "float32",
    )


def measure(
    network: str,
    width: int,
    precision: str,
    vocab_size: int,
    batch_size: int,
    steps: int,
    runs: int,
    product: int,
    copied: int,
) -> Any:
    """One cell: `runs` networks of dynsim, and as many or `TORCH_RUNS` of PyTorch.

    `product` is the size of the square product, `copied` the bytes of the copy.
    """
    setup = setup_of(network, width, vocab_size, batch_size, steps, precision)
    rates = np.full(runs, RATE)

    def ours() -> None:
        train_networks(setup, rates, rates, np.arange(runs))

    with products_in(precision):
        first = seconds(ours)
        each = min(seconds(ours) for _ in range(REPEATS))
        matmul = product_rate(product, precision)
    theirs, unit = torch_steps(setup, precision, min(runs, TORCH_RUNS)), runs * steps
    operations = laboratory.operations(setup, evaluated_tokens(setup))
    return {
        "steps_per_second": ((), unit / each),
        "compile_seconds": ((), first - each),
        "torch_steps_per_second": ((), theirs),
        "ratio": ((), unit / each / theirs),
        "product_rate": ((), matmul),
        "copy_rate": ((), copy_rate(copied)),
        "product_share": ((), operations * unit / each / matmul),
        "parameters": ((), float(parameter_count(setup))),
    }


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Within it the products of float32 that are asked to be exact are TensorFloat-32."""
    if precision != "tensorfloat32":
        yield
        return
    original = jax.default_matmul_precision

    def shorter(asked: str) -> Any:
        return original("tensorfloat32")

    jax.clear_caches()
    try:
        with mock.patch.object(jax, "default_matmul_precision", shorter):
            yield
    finally:
        jax.clear_caches()


def product_rate(size: int, precision: str) -> float:
    """Operations per second of a product of two square matrices."""
    kind = "bfloat16" if precision == "bfloat16" else "float32"
    exact = {"float32": "highest", "tensorfloat32": "tensorfloat32"}.get(precision)
    matrix = jax.random.normal(jax.random.key(0), (size, size), kind)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=exact))
    return 2 * size**3 / best_seconds(lambda: multiply(matrix))


def copy_rate(size: int) -> float:
    """Bytes per second read and written by adding one to `size` bytes."""
    numbers = jnp.zeros(size // 4, "float32")
    add = jax.jit(lambda x: x + 1)
    return 2 * size / best_seconds(lambda: add(numbers))


def best_seconds(work: Callable[[], Any], times: int = 10) -> float:
    """Of one call, the best of `REPEATS` rows of `times`."""
    work().block_until_ready()

    def row() -> None:
        results = [work() for _ in range(times)]
        results[-1].block_until_ready()

    return min(seconds(row) for _ in range(REPEATS)) / times


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def torch_steps(setup: NetworkSetup, precision: str, runs: int) -> float:
    """Network-steps per second in PyTorch on the card, or the CPU; NaN where PyTorch is missing."""
    torch = laboratory.torch
    if torch is None:
        return float("nan")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tensorfloat32"
    torch.backends.cudnn.allow_tf32 = precision == "tensorfloat32"
    start, tokens, classes = laboratory.start_and_batches(setup)
    tokens, classes = (torch.from_numpy(x).long().to(device) for x in (tokens, classes))
    first = {name: torch.from_numpy(weight).to(device) for name, weight in start.items()}
    with torch.device(device):
        turn = laboratory.rotation(setup, first["embedding"].dtype)
    factors, by = learning_rate_factors(setup), laboratory.scales(setup).multiplier

    def train() -> None:
        curve = []
        weights = {name: value.clone().requires_grad_() for name, value in first.items()}
        groups = [
            {"params": [weights[name]], "lr": RATE * factors.of(label_of(name))} for name in weights
        ]
        betas = setup.beta1, setup.beta2
        adam = torch.optim.Adam(groups, betas=betas, eps=setup.epsilon, fused=True)
        for step in range(setup.steps):
            shorter = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
            with shorter:
                outputs = laboratory.torch_outputs(setup, by, weights, tokens[step], turn)
                flat = outputs.flatten(0, 1).float()
                loss = laboratory.functional.cross_entropy(flat, classes[step].flatten())
            adam.zero_grad()
            loss.backward()
            adam.step()
            curve.append(loss.detach())
        torch.stack(curve).cpu()  # waits for the device

    train()
    each = min(seconds(train) for _ in range(runs))
    return setup.steps / each
