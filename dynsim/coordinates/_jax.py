"""A recorder around a JAX function: flax, equinox or plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynsim._errors import InputError
from dynsim.rules._labels import label_of_name, proposed_labels, tree_name

from ._jax_products import Pass, Product, observed_call
from ._records import Matrix, RecordFile, recorded_steps

OUTPUTS = "model"
LEAVES = (".kernel", ".weight", ".embedding")


class JaxRecorder:
    """Records how large every term of every matrix of a JAX model is while it trains.

    The counterpart of `CoordinateRecorder`. Call `after_step(params)` after every optimizer step.
    It keeps the initial parameters and the initial inputs of every matrix on the host.

    **Arguments:**

    - `apply`: `apply(params, *inputs)`, such as `model.apply` of flax or
      `lambda model, x: jax.vmap(model)(x)` of equinox, without dropout.
    - `params`: its first argument, any tree; what is no floating-point array is left as it is.
    - `inputs`: the probe, a tuple of the other arguments.
    - the others: as in `CoordinateRecorder`. Names are paths in the tree, joined by dots.

    Raises `InputError` as `CoordinateRecorder` does.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Any,
        inputs: tuple[Any, ...],
        *,
        width: int,
        vocab_size: int,
        seed: int = 0,
        steps: Sequence[int] = (1, 2, 4, 8),
        file: str | Path | None = "coordinates.csv",
        labels: Mapping[str, str] | None = None,
        multipliers: Mapping[str, float] | None = None,
    ):
        if not callable(apply):
            raise InputError(
                "apply", type(apply).__name__, "must be a function of params and inputs"
            )
        self.steps = recorded_steps(steps)
        self.records = RecordFile(file, width, vocab_size, seed)
        self.step = 0
        self._apply = apply
        self._inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self._multipliers = dict(multipliers or {})
        self.labels = proposed_labels(params, labels)
        self._start = {name: jnp.copy(leaf) for name, leaf in self._arrays(params).items()}
        seen = self._seen(params)
        products = self._named(seen)
        if not products:
            raise InputError("apply", None, "multiplies nothing by a parameter in the probe")
        looked_up = {product.name for product in products.values() if product.lookup}
        multiplied = {product.name for product in products.values() if not product.lookup}
        self._tied = looked_up & multiplied
        self._products = {name: jnp.copy(product.inputs) for name, product in products.items()}
        self._scores = self._of_scores(seen)
        self._outputs = jax.tree.leaves(seen.outputs)[0]
        self._write(params, seen)

    def __repr__(self) -> str:
        kept = [*self._start.values(), *self._products.values()]
        return self.records.described(
            f"Recorder of {len(self._products)} matrices after {self.step} steps",
            self.steps,
            f"{sum(one.nbytes for one in kept) / 2**20:.1f} MiB",
        )

    def after_step(self, params: Any) -> None:
        """Counts an optimizer step, and records `params` if it is one of `steps`."""
        self.step += 1
        if self.step in self.steps:
            self._write(params, self._seen(params))

    def _arrays(self, params: Any) -> dict[str, Array]:
        """Floating-point leaves by name."""
        return {
            tree_name(path): leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
            if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        }

    def _seen(self, params: Any) -> Pass:
        def function(arrays: dict[str, Array], *inputs: Any) -> Any:
            tree = jax.tree_util.tree_map_with_path(
                lambda path, leaf: arrays.get(tree_name(path), leaf), params
            )
            return self._apply(tree, *inputs)

        with jax.default_matmul_precision("highest"):
            return observed_call(function, self._arrays(params), self._inputs)

    def _named(self, seen: Pass) -> dict[str, Product]:
        found: dict[str, Product] = {}
        for product in seen.products:
            if product.name not in self.labels or self.labels[product.name] == "vector":
                continue
            module = product.name.removeprefix("params.")
            for leaf in LEAVES:
                module = module.removesuffix(leaf)
            module += product.part
            if module in found and found[module].lookup and not product.lookup:
                module = f"{module} as readout"
            unique, count = module, 1
            while unique in found:
                count += 1
                unique = f"{module}#{count}"
            found[unique] = product
        return found

    def _of_scores(self, seen: Pass) -> dict[str, tuple[Array, int]]:
        return {
            f"scores.{index}": (one.values, one.head_width) for index, one in enumerate(seen.scores)
        }

    def _write(self, params: Any, seen: Pass) -> None:
        now = self._arrays(params)
        with jax.default_matmul_precision("highest"):
            for name, product in self._named(seen).items():
                if name in self._products:
                    matrix = self._matrix(name, product)
                    self.records.add(self.step, matrix, self._sizes(name, product, matrix, now))
        for name, label in self.labels.items():
            if label == "vector" and name in self._start:
                start = self._start[name]
                size = _rms(start) if self.step == 0 else _rms(now[name] - start)
                term = "weight" if self.step == 0 else "weight_update"
                matrix = Matrix(name.removeprefix("params."), "vector", 1, int(start.size))
                self.records.add(self.step, matrix, {term: size})
        for name, (scores, head) in self._of_scores(seen).items():
            if name in self._scores:
                sizes = _change(self.step, self._scores[name][0], scores)
                self.records.add(self.step, Matrix(name, "scores", fan_in=head), sizes)
        outputs = jax.tree.leaves(seen.outputs)[0]
        sizes = _change(self.step, self._outputs, outputs)
        self.records.add(self.step, Matrix(OUTPUTS, "outputs"), sizes)
        self.records.save()

    def _matrix(self, name: str, product: Product) -> Matrix:
        tied = product.name in self._tied
        label = self.labels[product.name]
        if tied:
            label = "embedding" if product.lookup else "readout"
        shape = self._start[product.name].shape
        entries = product.entries(self._start[product.name]).size
        return Matrix(
            name,
            label,
            fan_in=product.fan_in,
            fan_out=shape[-1] if product.lookup else int(entries) // max(product.fan_in, 1),
            reads_embedding=product.reads_embedding,
            tied=tied,
        )

    def _sizes(
        self, name: str, product: Product, matrix: Matrix, now: Mapping[str, Array]
    ) -> dict[str, float]:
        w0, dw = self._start[product.name], now[product.name] - self._start[product.name]
        z0, z = self._products[name], product.inputs
        before = product.before if matrix.label == "readout" else 1.0
        factor = self._factor(name, matrix, product)
        if not product.lookup:
            z0, z = z0 / before, z / before

        def size(inputs: Array, weight: Array) -> float:
            return factor * _rms(product.apply(inputs, weight))

        if self.step == 0:
            initial = size(z0, w0)
            if product.lookup:
                return {"initial": initial, "weight": initial, "output": initial}
            weight = factor * _rms(product.entries(w0))
            return {"initial": initial, "weight": weight, "input": _rms(z0), "output": initial}
        on_initial = size(z0, dw)
        if product.lookup:
            return {
                "update_on_initial": on_initial,
                "weight_update": on_initial,
                "output": size(z0, w0 + dw),
            }
        sizes = {
            "update_on_initial": on_initial,
            "weight_update": factor * _rms(product.entries(dw)),
        }
        if z.shape != z0.shape:
            return sizes
        return sizes | {
            "input": _rms(z),
            "learned_input": _rms(z - z0),
            "initial_on_learned": size(z - z0, w0),
            "update_on_learned": size(z - z0, dw),
            "output": size(z, w0 + dw),
        }

    def _factor(self, name: str, matrix: Matrix, product: Product) -> float:
        given = label_of_name(name, {k: str(v) for k, v in self._multipliers.items()})
        if given is not None:
            return abs(float(given))
        if matrix.label == "readout":
            return abs(product.before * product.after)
        return abs(product.after) if product.lookup else 1.0


def _rms(x: Any) -> float:
    values = np.asarray(x, np.float32)
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else math.nan


def _change(step: int, start: Array, now: Array) -> dict[str, float]:
    """Size at the start, or change and size now, of entries that are not masked."""
    first, last = np.asarray(start, np.float32), np.asarray(now, np.float32)
    if first.shape != last.shape:
        return {}
    used = np.isfinite(first) & (first > -1e30)
    if step == 0:
        return {"initial": _rms(first[used]), "output": _rms(first[used])}
    return {"update": _rms(last[used] - first[used]), "output": _rms(last[used])}
