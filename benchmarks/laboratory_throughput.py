"""Throughput of the laboratory: `train_networks` against the same training in PyTorch on the CPU.

    python -m benchmarks.laboratory_throughput [--json] [--compile [all]] [--pieces]
        [--only NETWORK,WIDTH]

Adam on one-hot targets, a grid of learning rates from one start; `head` is an mlp with one softmax
output per token type, on the next token of text. `train_networks` trains the networks of a grid in
threads. PyTorch trains them on batches that are drawn beforehand, in two ways: a `loop` over the
networks with autograd, its fused Adam and its fused attention, and all at once with `vmapped`
parameters (`torch.func`). Each is tried with one thread and with as many as cores. With `--compile`
the stacked parameters are tried through `torch.compile` too, with all cores, and with `--compile
all` both ways with either number of threads, which takes minutes a row. The table has the best of
each, and the ratio is to the fastest of all. Both sides record the loss of every step. Before they
are timed all must give the same losses in float64 from the same weights and batches (not for
`head`). PyTorch is optional (`pip install -c constraints.txt -e ".[bench]"`); without it that part
is left out.

Every program of `torch.compile` is made once and used for both lengths and all turns: made anew in
each training it is compiled again, and after eight times PyTorch silently runs it eager. For
stacked parameters it is two programs, the loss with its gradient and Adam's update.

The unit is milliseconds a network and step. It is the difference of two trainings, one of which is
three times as long, so that compilation, initial weights and evaluations do not count. Contestants
take turns, and every number is the least of the turns.

In a network that sees no sequences equal tokens of a batch do the same, so `train_networks`
evaluates each type once, weighted by its count (`dynsim.laboratory._tasks.room_for_types`). PyTorch
trains as its users do, on every token.

The roofline: `matmul` is the least time that the matrix products which dynsim makes in a step take
(forward, and twice that backward) at the rate of one square matmul of JAX on this machine, `share`
its part of the step, and `torch's` the same of the fastest way of PyTorch; `memory` is the least
time to read and write weights and Adam's two moments once each at the machine's copying rate.
`limit` names the larger one, or `rest` where both together are less than half of the step: handing
out work, drawing batches, and what acts on entries. With `--pieces` what a step cannot do without
is timed piece by piece too, as XLA compiles each alone (`benchmarks._step_pieces`): their sum is
the `floor` of any program of such pieces, and `most` is the ratio that it would have. That takes up
to a minute a row. The last table is the peak memory of this process after ever wider grids.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from benchmarks._step_pieces import evaluated_tokens, pieces_milliseconds
from benchmarks.sweep_throughput import matmul_rate, seconds
from dynsim.laboratory import (
    NetworkSetup,
    initial_network,
    learning_rate_factors,
    network_shape,
    scales,
    task,
    train_networks,
)
from dynsim.laboratory._memory import parameter_count, run_bytes
from dynsim.laboratory._networks import NORM_EPSILON, ROTARY_BASE, label_of, parameter_names
from dynsim.laboratory._training import run_key

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
    from torch.nn.attention import (  # pyright: ignore[reportMissingImports]
        SDPBackend,
        sdpa_kernel,
    )
except ImportError:
    torch: Any = None
    functional: Any = None
    SDPBackend: Any = None
    sdpa_kernel: Any = None

Compiled = Literal["stacked", "all"] | None
TURNS = 3
RUNS = 16
WIDTHS = (32, 64, 128, 256, 512)
LONGER = 3
STATE_BYTES = 24  # a float32 weight and its two moments, read and written
COPIED = 2**26  # numbers
AGREE_TO_WIDTH = 64  # wider networks are the same code, and take long in float64
GRIDS = (1, 16, 256)

BASE = NetworkSetup(
    vocab_size=512, tokens="zipf:1", targets="onehot", outputs=64, batch_size=256, head_width=16
)
SIZES = tuple(
    replace(BASE, network=network, width=width, steps=max(2, steps // width))
    for network, steps in (("linear", 6400), ("mlp", 4096), ("transformer", 512))
    for width in WIDTHS
)
HEAD = replace(
    BASE,
    network="mlp",
    depth=1,
    vocab_size=4096,
    outputs=None,
    tokens=None,
    targets="next-token",
    steps=2,
)
RATES = np.geomspace(1e-4, 1e-2, RUNS)


@dataclass(frozen=True)
class Row:
    """One line of the table; milliseconds a network and step, `None` where not measured."""

    network: str
    width: int
    parameters: int
    dynsim: float
    torch: dict[str, float]
    matmul: float
    matmul_apart: float  # with every token of a batch by itself, as in PyTorch
    memory: float
    limit: str
    pieces: dict[str, float]  # empty where they are not timed

    def of_torch(self, *words: str) -> float | None:
        """The fastest way of PyTorch whose name has all these words."""
        found = [ms for name, ms in self.torch.items() if all(word in name for word in words)]
        return min(found, default=None)

    @property
    def floor(self) -> float | None:
        """The least that XLA's pieces of a step take together."""
        return sum(self.pieces.values()) if self.pieces else None

    @property
    def ratio(self) -> float | None:
        return self._ratio_to(self.dynsim)

    @property
    def most(self) -> float | None:
        """The ratio that a step would have which consisted of its pieces alone."""
        return self._ratio_to(self.floor)

    def _ratio_to(self, time: float | None) -> float | None:
        best = self.of_torch()
        return None if best is None or time is None else best / time


def start_and_batches(setup: NetworkSetup) -> tuple[dict[str, Any], Any, Any]:
    """What `train_networks` gives to seed 0: weights by name, tokens and classes (T, S, C)."""
    key = run_key(setup, 0)
    prescribed = scales(setup)
    init = jax.jit(initial_network, static_argnums=0)
    network = init(network_shape(setup), prescribed.init_factor, jax.random.fold_in(key, 0))
    leaves = map(np.array, jax.tree.leaves(network))
    weights = dict(zip(parameter_names(network), leaves, strict=True))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, 1)))(np.arange(setup.steps))
    batches = jax.vmap(task(setup).batch)(keys)
    classes = batches.targets if setup.targets == "next-token" else batches.targets.argmax(-1)
    return weights, np.array(batches.tokens), np.array(classes)


def torch_outputs(setup: NetworkSetup, by: Any, w: dict[str, Any], tokens: Any, turn: Any) -> Any:
    """The forward pass, (S, C) to (S, C, n), with multipliers `by`."""

    def norm(x: Any, gain: str) -> Any:
        return functional.rms_norm(x, (setup.width,), w[gain], NORM_EPSILON)

    h = by.embedding * functional.embedding(tokens, w["embedding"])
    if setup.network == "mlp":
        for layer in range(setup.depth):
            z = norm(h, f"gains.{layer}")
            z = z.relu() if layer else z
            h = h + by.hidden * functional.linear(z, w[f"hidden.{layer}"])
        h = norm(h, f"gains.{setup.depth}").relu()
    if setup.network == "transformer":
        heads = (*tokens.shape, setup.width // setup.head_width, setup.head_width)
        for block in (f"blocks.{place}." for place in range(setup.depth)):
            z = norm(h, block + "attention_gain")
            q, k, v = (
                (by.hidden * functional.linear(z, w[block + name])).view(heads).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            mixed = functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(h.shape)
            h = h + by.hidden * functional.linear(mixed, w[block + "output"])
            z = functional.linear(norm(h, block + "mlp_gain"), w[block + "up"])
            h = h + by.hidden * functional.linear((by.hidden * z).relu(), w[block + "down"])
        h = norm(h, "gain")
    return by.readout * functional.linear(h, w["readout"])


def rotation(setup: NetworkSetup, dtype: Any) -> Any:
    """Rotary positions of (S, heads, C, head_width)."""
    half = setup.head_width // 2
    frequency = ROTARY_BASE ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(setup.context, dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def turn(x: Any) -> Any:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

    return turn


def torch_loss(setup: NetworkSetup, dtype: Any) -> Callable[..., Any]:
    """Mean cross-entropy of one network: (weights by name, tokens, classes) to a number."""
    turn, by = rotation(setup, dtype), scales(setup).multiplier

    def loss_of(w: dict[str, Any], tokens: Any, classes: Any) -> Any:
        outputs = torch_outputs(setup, by, w, tokens, turn).flatten(0, 1)
        return functional.cross_entropy(outputs, classes.flatten())

    return loss_of


@cache
def loop_program(setup: NetworkSetup, dtype: Any, compiled: bool) -> Callable[..., Any]:
    """The loss of one network, compiled or not."""
    loss_of = torch_loss(setup, dtype)
    return torch.compile(loss_of, dynamic=False) if compiled else loss_of


@cache
def stacked_programs(setup: NetworkSetup, dtype: Any, compiled: bool) -> tuple[Any, Any]:
    """Of stacked networks: gradients and losses, and Adam's update in place."""
    loss_of = torch_loss(setup, dtype)
    gradient = torch.func.vmap(torch.func.grad_and_value(loss_of), in_dims=(0, None, None))

    def update(w: Any, mean: Any, square: Any, rate: Any, gradients: Any, root: Any, by: Any):
        for name, g in gradients.items():
            mean[name].lerp_(g, 1 - setup.beta1)
            square[name].mul_(setup.beta2).addcmul_(g, g, value=1 - setup.beta2)
            size = square[name].sqrt().div_(root).add_(setup.epsilon)
            w[name].sub_(size.reciprocal_().mul_(mean[name]).mul_(rate[name]).mul_(by))

    if not compiled:
        return gradient, update
    return torch.compile(gradient, dynamic=False), torch.compile(update, dynamic=False)


def torch_losses(
    setup: NetworkSetup,
    start: dict[str, Any],
    tokens: Any,
    classes: Any,
    runs: int = RUNS,
    compiled: bool = False,
) -> NDArray[np.float64]:
    """The grid in PyTorch, one network after another: losses (runs, steps)."""
    tokens, classes = torch.from_numpy(tokens).long(), torch.from_numpy(classes).long()
    first = {name: torch.from_numpy(w) for name, w in start.items()}
    record = torch.empty((runs, setup.steps), dtype=first["embedding"].dtype)
    factors = learning_rate_factors(setup)
    loss_of = loop_program(replace(setup, steps=1), record.dtype, compiled)
    for run, rate in zip(record, RATES[:runs].tolist(), strict=True):
        w = {name: value.clone().requires_grad_() for name, value in first.items()}
        groups = [{"params": [w[n]], "lr": rate * factors.of(label_of(n))} for n in w]
        betas = setup.beta1, setup.beta2
        adam = torch.optim.Adam(groups, betas=betas, eps=setup.epsilon, fused=True)
        for step in range(setup.steps):
            loss = loss_of(w, tokens[step], classes[step])
            adam.zero_grad()
            loss.backward()
            adam.step()
            run[step] = loss.detach()
    return record.numpy().astype(np.float64)


def torch_vmapped_losses(
    setup: NetworkSetup,
    start: dict[str, Any],
    tokens: Any,
    classes: Any,
    runs: int = RUNS,
    compiled: bool = False,
) -> NDArray[np.float64]:
    """The grid in PyTorch, all networks at once: losses (runs, steps).

    Adam by hand, since PyTorch's takes one rate for the whole stack of weights; attention by its
    products, since its fused kernel has no rule for stacked parameters.
    """
    tokens, classes = torch.from_numpy(tokens).long(), torch.from_numpy(classes).long()
    w = {name: torch.from_numpy(one).repeat(runs, *[1] * one.ndim) for name, one in start.items()}
    record = torch.empty((runs, setup.steps), dtype=w["embedding"].dtype)
    factors = learning_rate_factors(setup)
    rates = torch.tensor(RATES[:runs], dtype=record.dtype)
    rate = {n: (rates * factors.of(label_of(n))).reshape(-1, *[1] * (w[n].ndim - 1)) for n in w}
    gradient, update = stacked_programs(replace(setup, steps=1), record.dtype, compiled)
    mean = {name: torch.zeros_like(one) for name, one in w.items()}
    square = {name: torch.zeros_like(one) for name, one in w.items()}
    for step in range(setup.steps):
        with sdpa_kernel(SDPBackend.MATH):
            gradients, losses = gradient(w, tokens[step], classes[step])
        record[:, step] = losses
        root = torch.tensor((1 - setup.beta2 ** (step + 1)) ** 0.5, dtype=record.dtype)
        growth = torch.tensor(1 / (1 - setup.beta1 ** (step + 1)), dtype=record.dtype)
        update(w, mean, square, rate, gradients, root, growth)
    return record.numpy().astype(np.float64)


def dynsim_losses(setup: NetworkSetup) -> NDArray[np.float64]:
    """The same in dynsim."""
    return train_networks(setup, RATES, RATES).train_loss


WAYS = {"loop": torch_losses, "vmapped": torch_vmapped_losses}


def check_agreement(setup: NetworkSetup) -> None:
    """Raises unless the float64 losses differ by rounding alone."""
    exact = replace(setup, precision="float64", steps=5)
    jax.config.update("jax_disable_most_optimizations", True)  # compiles several times sooner
    ours = dynsim_losses(exact)
    jax.config.update("jax_disable_most_optimizations", False)
    for way, losses in WAYS.items():
        theirs = losses(exact, *start_and_batches(exact))
        largest = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
        if not largest < 1e-7:
            raise RuntimeError(f"{setup.network} {setup.width}, {way}: off by {largest:.3g}")


def operations(setup: NetworkSetup, tokens: int) -> int:
    """Of the matrix products of one step: two a weight and token, thrice with the backward pass;
    attention's scores and mixtures on top."""
    read = parameter_count(setup) - setup.vocab_size * setup.width
    mixing = 2 * setup.depth * setup.context * setup.width if setup.network == "transformer" else 0
    return 6 * tokens * (read + mixing)


class Contestant(NamedTuple):
    """A way to train, and of how many networks it does."""

    train: Callable[[NetworkSetup], object]
    networks: int


def step_milliseconds(contestants: dict[str, Contestant], setup: NetworkSetup) -> dict[str, float]:
    """Of one network of each contestant, from two lengths of training.

    They take turns, since the machine's rate may waver; of each length the least turn counts.
    """
    lengths = setup, replace(setup, steps=LONGER * setup.steps)
    spent: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for turn in range(TURNS + 1):
        for name, contestant in contestants.items():
            took = [seconds(partial(contestant.train, one)) for one in lengths]
            if turn:  # the first compiles
                spent[name].append(took)
    found = {}
    for name, contestant in contestants.items():
        short, long = np.min(spent[name], axis=0)
        found[name] = 1e3 * (long - short) / ((LONGER - 1) * setup.steps * contestant.networks)
    return found


def copy_rate() -> float:
    """Bytes per second that a large array is read and written with."""
    array = jax.numpy.ones(COPIED, "float32")
    double = jax.jit(lambda x: x + 1)
    double(array).block_until_ready()
    return 8 * COPIED / min(seconds(lambda: double(array).block_until_ready()) for _ in range(3))


def torch_contestants(setup: NetworkSetup, cores: int, compiled: Compiled) -> dict[str, Contestant]:
    """Each way of PyTorch by its name."""
    torch.compiler.reset()
    loop_program.cache_clear()
    stacked_programs.cache_clear()
    batches = {
        steps: start_and_batches(replace(setup, steps=steps))
        for steps in (setup.steps, LONGER * setup.steps)
    }

    def contestant(way: str, as_compiled: bool, threads: int) -> Contestant:
        networks = 1 if way == "loop" else RUNS

        def train(one: NetworkSetup) -> object:
            torch.set_num_threads(threads)
            return WAYS[way](one, *batches[one.steps], networks, as_compiled)

        return Contestant(train, networks)

    found = {}
    for way in WAYS:
        too = compiled == "all" or (compiled == "stacked" and way == "vmapped")
        for as_compiled in (False, True) if too else (False,):
            one_too = not as_compiled or compiled == "all"
            for threads in sorted({1, cores} if one_too else {cores}):
                name = f"{way}, {'compiled' if as_compiled else 'eager'}, {threads} threads"
                found[name] = contestant(way, as_compiled, threads)
    return found


def measure(
    setup: NetworkSetup,
    rates: tuple[float, float],
    cores: int,
    compiled: Compiled,
    check: bool,
    pieces: bool = False,
) -> Row:
    contestants = {"dynsim": Contestant(dynsim_losses, RUNS)}
    if torch is not None:
        if check and setup.targets != "next-token" and setup.width <= AGREE_TO_WIDTH:
            check_agreement(setup)
        contestants |= torch_contestants(setup, cores, compiled)
    theirs = step_milliseconds(contestants, setup)
    ours = theirs.pop("dynsim")
    matmul = 1e3 * operations(setup, evaluated_tokens(setup)) / rates[0]
    memory = 1e3 * STATE_BYTES * parameter_count(setup) / rates[1]
    limit = "matmul" if matmul > memory else "memory"
    return Row(
        network="head" if setup.targets == "next-token" else setup.network,
        width=setup.width,
        parameters=parameter_count(setup),
        dynsim=ours,
        torch=theirs,
        matmul=matmul,
        matmul_apart=1e3 * operations(setup, setup.batch_size) / rates[0],
        memory=memory,
        limit=limit if matmul + memory > ours / 2 else "rest",
        pieces=pieces_milliseconds(setup) if pieces else {},
    )


def peak_memory() -> dict[int, float]:
    """Peak MiB of this process after grids of ever more runs of an MLP of 5 MB in training."""
    setup = replace(BASE, network="mlp", width=256, steps=1)
    peaks = {}
    for runs in GRIDS:
        train_networks(setup, np.geomspace(1e-4, 1e-2, runs))
        peaks[runs] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peaks


def table(rows: list[Row]) -> str:
    """Both ways of PyTorch eager and compiled, each by its better number of threads."""
    kinds = [(way, how) for way in WAYS for how in ("eager", "compiled")]
    lines = [
        f"{'network':>11}  width  parameters  dynsim  matmul  memory  share  torch's  limit   "
        + "  ".join(f"{way} {how}"[:13].rjust(13) for way, how in kinds)
        + "  ratio  floor   most"
    ]
    for row in rows:
        times = [row.of_torch(*kind) for kind in kinds]
        theirs = ["-" if ms is None else f"{ms:.3f}" for ms in times]
        ratio, most = ("-" if one is None else f"{one:.1f}" for one in (row.ratio, row.most))
        floor = "-" if row.floor is None else f"{row.floor:.3f}"
        best = row.of_torch()
        share = "-" if best is None else f"{row.matmul_apart / best:.0%}"
        lines.append(
            f"{row.network:>11}  {row.width:>5}  {row.parameters:>10,}  {row.dynsim:>6.3f}  "
            f"{row.matmul:>6.3f}  {row.memory:>6.3f}  {row.matmul / row.dynsim:>5.0%}  "
            f"{share:>7}  {row.limit:<6}  "
            + "  ".join(f"{one:>13}" for one in theirs)
            + f"  {ratio:>5}  {floor:>5}  {most:>5}"
        )
    return "\n".join(lines)


def sizes(only: str | None) -> list[NetworkSetup]:
    """All, or those whose network (or `head`) and width are written as in mlp,256."""
    heads = [replace(HEAD, width=width) for width in WIDTHS[1:4]]
    chosen = {tuple(one.split(",")) for one in (only or "").split()}
    names = {**{id(one): one.network for one in SIZES}, **{id(one): "head" for one in heads}}
    return [
        one
        for one in (*SIZES, *heads)
        if only is None or (names[id(one)], str(one.width)) in chosen
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The laboratory's grids against PyTorch.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    ways = {"nargs": "?", "const": "stacked", "choices": ("stacked", "all")}
    parser.add_argument("--compile", **ways, help="try torch.compile as well")
    parser.add_argument("--pieces", action="store_true", help="time the pieces of a step alone")
    parser.add_argument("--only", help="some sizes alone, unchecked: 'mlp,256 head,128'")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0))  # those this process is pinned to
    peaks = {} if arguments.only else peak_memory()  # before anything larger
    rates = max(matmul_rate() for _ in range(3)), copy_rate()
    rows = []
    for setup in sizes(arguments.only):
        how = arguments.compile, not arguments.only, arguments.pieces
        rows.append(measure(setup, rates, cores, *how))
        print(table(rows[-1:]), file=sys.stderr)
    about = {
        "runs": RUNS,
        "batch_size": BASE.batch_size,
        "cores": cores,
        "matmul_per_second": rates[0],
        "bytes_per_second": rates[1],
        "device": jax.default_backend(),
        "jax": jax.__version__,
        "torch": None if torch is None else torch.__version__,
    }
    if arguments.json:
        written = [
            {**asdict(row), "ratio": row.ratio, "floor": row.floor, "most": row.most}
            for row in rows
        ]
        rows_and_peaks = {"rows": written, "peak_mib": peaks}
        print(json.dumps({**about, **rows_and_peaks}, indent=2))
        return
    print(
        f"{RUNS} runs, {BASE.batch_size} tokens a batch, Adam, {cores} cores, JAX on "
        f"{jax.default_backend()}; milliseconds a network and step\n"
        f"This machine: {rates[0] / 1e9:.0f} GFLOP/s of float32 matmul, {rates[1] / 1e9:.1f} GB/s "
        "of copying\n"
    )
    print(table(rows))
    if torch is None:
        print('\nPyTorch is not installed: pip install -c constraints.txt -e ".[bench]"')
    wide = replace(BASE, network="mlp", width=256)
    print(f"\nPeak memory, networks of {run_bytes(wide) / 2**20:.1f} MiB in training:")
    print("\n".join(f"{runs:>5} runs  {peak:>6.0f} MiB" for runs, peak in peaks.items()))


if __name__ == "__main__":
    main()
