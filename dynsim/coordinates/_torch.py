"""A recorder that is attached to a PyTorch model and keeps the sizes of its terms.

torch is an optional extra: `pip install 'dynsim[torch]'`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

try:
    import torch  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("needs PyTorch: pip install 'dynsim[torch]'") from error

from dynsim._errors import InputError
from dynsim._layers import Label
from dynsim.rules._labels import clean_name, label_of_name, proposed_labels

from ._records import Matrix, RecordFile, recorded_steps
from ._torch_products import Pass, Product, Scores, observed_pass

Tensor = torch.Tensor
LARGEST_SCORES = 2**20  # entries of attention scores that are compared
OUTPUTS = "model"  # the module under which the model's outputs stand


@dataclass
class _Start:
    """A product at step 0: inputs and, of routed ones, which tokens they are, on the CPU."""

    inputs: Tensor
    rows: Tensor | None


class CoordinateRecorder:
    """Records how large every term of every matrix of a PyTorch model is while it trains.

    It keeps the initial weights and, for a fixed probe batch, the initial inputs of every matrix on
    the CPU (`memory` bytes in all). After each of `steps` optimizer steps it runs the probe once,
    without dropout, gradients or autocast, and writes the sizes of W0 z0, dW z0, W0 dz and dW dz
    to `file`. The training itself is not changed: no random numbers are drawn, no gradient is
    touched.

    **Arguments:**

    - `model`: any `torch.nn.Module`, also wrapped by `torch.compile` or DDP.
    - `probe`: the inputs of one forward pass: a tensor, a tuple of arguments or a dict of keywords.
    - `width`, `vocab_size`, `seed`: what the run is filed under.
    - `optimizer`: the optimizer, or several of them. They are watched, so that a recorded step
      is an optimizer step whatever the number of accumulated gradients; without one call
      `after_step()` yourself. Learning rate, weight decay and epsilon are recorded too.
    - `steps`: the numbers of steps after which to record.
    - `file`: `.csv` or `.nc`; the runs of several widths and seeds may share it, one after another.
    - `labels`: names or patterns, for what `label_parameters` cannot tell (see there).
    - `multipliers`: constants that the model multiplies a matrix's outputs with, by name or
      pattern, where they do not stand right beside the matrix.

    Raises `InputError` for what cannot be recorded: a model without a matrix, a recorder that is
    attached after the first step, a weight in two parameter groups, a file that holds the run.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        probe: Any,
        *,
        width: int,
        vocab_size: int,
        seed: int = 0,
        optimizer: Any = None,
        steps: Sequence[int] = (1, 2, 4, 8),
        file: str | Path | None = "coordinates.csv",
        labels: Mapping[str, str] | None = None,
        multipliers: Mapping[str, float] | None = None,
    ):
        if not isinstance(model, torch.nn.Module):
            raise InputError("model", type(model).__name__, "must be a torch.nn.Module")
        self.model = _unwrapped(model)
        self.steps = recorded_steps(steps)
        self.records = RecordFile(file, width, vocab_size, seed)
        self.step = 0
        self._probe = probe
        self._multipliers = dict(multipliers or {})
        self._optimizers = [] if optimizer is None else _listed(optimizer)
        self._counts = [0] * len(self._optimizers)
        proposed = proposed_labels(self.model, labels)
        self.labels: dict[str, Label] = {clean_name(n): label for n, label in proposed.items()}
        self._names = _aliases(self.model)
        self._parameters = {
            clean_name(name): parameter
            for name, parameter in self.model.named_parameters(remove_duplicate=False)
        }
        self._trained = {id(p) for p in self.model.parameters() if p.requires_grad}
        self._check_optimizers()
        self._matrices: dict[str, Matrix] = {}
        self._weights: dict[int, Tensor] = {}
        self._starts: dict[str, _Start] = {}
        self._scores: dict[str, Tensor] = {}
        self._outputs: Tensor | None = None
        with _undisturbed(self.model):
            self._start()
        self._handles = [
            one.register_step_post_hook(self._stepped(place))
            for place, one in enumerate(self._optimizers)
        ]

    def __repr__(self) -> str:
        return self.records.described(
            f"Recorder of {len(self._matrices)} matrices after {self.step} steps",
            self.steps,
            f"{self.memory / 2**20:.1f} MiB on the CPU",
        )

    @property
    def memory(self) -> int:
        """Bytes of initial weights, inputs, scores and outputs that are kept on the CPU."""
        kept = [*self._weights.values(), *(start.inputs for start in self._starts.values())]
        kept += [*self._scores.values(), *([] if self._outputs is None else [self._outputs])]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def after_step(self) -> None:
        """Counts an optimizer step, and records if it is one of `steps`."""
        if self._optimizers:
            raise InputError("optimizer", "given", "is watched already: leave out after_step()")
        self._count()

    def close(self) -> None:
        """Stops watching and lets the kept tensors go; what was recorded stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._weights, self._starts, self._scores, self._outputs = {}, {}, {}, None

    def __enter__(self) -> CoordinateRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # How steps are counted

    def _stepped(self, place: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._counts[place] += 1
            if min(self._counts) > self.step:
                self._count()

        return hook

    def _count(self) -> None:
        self.step += 1
        if self.step in self.steps and self._starts:
            self._record()
        if self.step >= self.steps[-1]:
            self.close()

    # What is checked when it is attached

    def _check_optimizers(self) -> None:
        held: dict[int, str] = {}
        for one in self._optimizers:
            for value in one.state.values():
                if value:
                    raise InputError(
                        "optimizer",
                        type(one).__name__,
                        "has taken steps already: attach the recorder before training begins",
                    )
            for group in one.param_groups:
                for parameter in group["params"]:
                    here = f"a group of learning rate {float(group['lr']):.3g}"
                    if id(parameter) in held:
                        name = " = ".join(self._names.get(id(parameter), ["a parameter"]))
                        allowed = (
                            f"must stand in one parameter group; it stands in "
                            f"{held[id(parameter)]} and in {here}"
                        )
                        raise InputError("optimizer", name, allowed)
                    held[id(parameter)] = here

    # Passes

    def _run(self) -> Pass:
        def call() -> Any:
            if isinstance(self._probe, Mapping):
                return self.model(**self._probe)
            if isinstance(self._probe, tuple | list):
                return self.model(*self._probe)
            return self.model(self._probe)

        return observed_pass(self.model, call)

    def _named(self, seen: Pass) -> dict[str, Product]:
        """The products of a pass by the name of their matrix, in order."""
        found: dict[str, Product] = {}
        for product in seen.products:
            held = self._parameters.get(clean_name(product.name))
            if held is None or sum(side > 1 for side in product.parameter.shape) < 2:
                continue
            product.parameter = held  # of a sharded model the shards, which the optimizer holds
            names = self._names[id(held)]
            name = next((n for n in names if n.rpartition(".")[0] == product.path), names[0])
            module = name.removesuffix(".weight") + product.part
            looked_up = any(p.parameter is product.parameter and p.lookup for p in found.values())
            if not product.lookup and looked_up and module in found:
                module = f"{module} as readout"
            unique, count = module, 1
            while unique in found:
                count += 1
                unique = f"{module}#{count}"
            found[unique] = product
        return found

    def _start(self) -> None:
        seen = self._run()
        products = self._named(seen)
        if not products:
            raise InputError(
                "model", type(self.model).__name__, "multiplies nothing by a parameter in the probe"
            )
        uses: dict[int, set[bool]] = {}
        for product in products.values():
            uses.setdefault(id(product.parameter), set()).add(product.lookup)
        for name, product in products.items():
            self._matrices[name] = self._matrix(name, product, len(uses[id(product.parameter)]) > 1)
            self._starts[name] = _Start(
                product.inputs.detach().to("cpu", copy=True),
                None if product.rows is None else product.rows.to("cpu", copy=True),
            )
            self._keep(product.parameter)
        for parameter in self.model.parameters():
            if self._is_vector(parameter) and parameter.requires_grad:
                self._keep(parameter)
        for name, scores in _scores(seen).items():
            self._scores[name] = _few(scores.values).float().to("cpu", copy=True)
            self._matrices[name] = Matrix(name, "scores", fan_in=scores.head_width)
        outputs = _logits(seen.outputs)
        if outputs is not None:
            self._outputs = outputs.detach().float().to("cpu", copy=True)
        self._write(0, seen)

    def _keep(self, parameter: Tensor) -> None:
        if id(parameter) not in self._weights:
            self._weights[id(parameter)] = _whole(parameter).to("cpu", copy=True)

    def _is_vector(self, parameter: Tensor) -> bool:
        names = self._names.get(id(parameter), [])
        return bool(names) and self.labels.get(names[0]) == "vector"

    def _matrix(self, name: str, product: Product, tied: bool) -> Matrix:
        names = self._names[id(product.parameter)]
        label = next(self.labels[n] for n in names if n in self.labels)
        if tied:
            label = "embedding" if product.lookup else "readout"
        shape = product.parameter.shape
        read = 1 if product.lookup else int(product.inputs.shape[-1])
        entries = math.prod(product.entries(product.parameter).shape[-2:])
        return Matrix(
            name,
            label,
            fan_in=read,
            fan_out=int(shape[-1]) if product.lookup else entries // max(read, 1),
            reads_embedding=product.reads_embedding,
            tied=tied,
            trained=id(product.parameter) in self._trained,
        )

    def _record(self) -> None:
        with _undisturbed(self.model):
            self._write(self.step, self._run())

    # Sizes

    def _write(self, step: int, seen: Pass) -> None:
        for name, product in self._named(seen).items():
            if name in self._starts:
                for matrix, sizes in self._sizes(step, name, product):
                    self.records.add(step, matrix, sizes)
        for parameter in self.model.parameters():
            if self._is_vector(parameter) and id(parameter) in self._weights:
                self._write_vector(step, parameter)
        scores = _scores(seen)
        for name, start in self._scores.items():
            if name in scores:
                now = _few(scores[name].values).float().cpu()
                self.records.add(step, self._matrices[name], _change(step, start, now))
        outputs = _logits(seen.outputs)
        if outputs is not None and self._outputs is not None:
            sizes = _change(step, self._outputs, outputs.float().cpu())
            self.records.add(step, Matrix(OUTPUTS, "outputs"), sizes)
        if _is_first_rank():
            self.records.save()

    def _write_vector(self, step: int, parameter: Tensor) -> None:
        name = self._names[id(parameter)][0]
        start = self._weights[id(parameter)].float()
        matrix = Matrix(name, "vector", fan_in=1, fan_out=start.numel())
        if step == 0:
            self.records.add(step, matrix, {"weight": _rms(start)})
            return
        update = _whole(parameter).float().cpu() - start
        sizes = {"weight_update": _rms(update)} | self._of_optimizer(parameter)
        self.records.add(step, matrix, sizes)

    def _sizes(
        self, step: int, name: str, product: Product
    ) -> Iterator[tuple[Matrix, dict[str, float]]]:
        matrix, start = self._matrices[name], self._starts[name]
        device = product.inputs.device
        weight = self._weights[id(product.parameter)].to(device).float()
        change = _whole(product.parameter).to(device).float() - weight
        factor = self._factor(name, matrix.label, product)
        z0 = start.inputs.to(device)
        z, z0_common = _common(product, start, z0)
        before = product.before if matrix.label == "readout" else 1.0
        if not product.lookup:
            z0 = z0.float() / before
            z = None if z is None else z.float() / before
            z0_common = None if z0_common is None else z0_common.float() / before
        experts = product.parameter.shape[0] if _is_stacked(product) else 0
        for expert in range(experts) if experts else (None,):
            one = matrix
            w0, dw, share = weight, change, 1.0
            if expert is not None:
                one = replace(matrix, module=f"{name}[{expert}]")
                w0, dw = (_only(value, expert) for value in (weight, change))
                share = math.sqrt(experts)

            def size(inputs: Tensor, value: Tensor, share: float = share) -> float:
                return factor * share * _rms(product.apply(inputs, value))

            sizes: dict[str, float] = {}
            if step == 0:
                sizes["initial"] = size(z0, w0)
                entries = w0 if expert is None else weight[expert]
                if product.lookup:
                    sizes["weight"] = sizes["initial"]
                else:
                    replayed = product.entries(entries) if expert is None else entries
                    sizes["weight"] = factor * _rms(replayed)
                    sizes["input"] = _rms(z0)
                sizes["output"] = sizes["initial"]
            else:
                sizes["update_on_initial"] = size(z0, dw)
                if product.lookup:
                    sizes["weight_update"] = sizes["update_on_initial"]
                    sizes["output"] = size(z0, w0 + dw)
                else:
                    replayed = product.entries(change) if expert is None else change[expert]
                    sizes["weight_update"] = factor * _rms(replayed)
                    sizes |= self._learned(product, z, z0_common, w0, dw, size)
            sizes |= {} if step == 0 else self._of_optimizer(product.parameter)
            yield one, sizes

    def _learned(
        self,
        product: Product,
        z: Tensor | None,
        z0: Tensor | None,
        w0: Tensor,
        dw: Tensor,
        size: Callable[[Tensor, Tensor], float],
    ) -> dict[str, float]:
        """Terms of the learned inputs; none if no token reaches the matrix at both steps."""
        if z is None or z0 is None or z.numel() == 0:
            return {}
        learned = z - z0
        return {
            "input": _rms(z),
            "learned_input": _rms(learned),
            "initial_on_learned": size(learned, w0),
            "update_on_learned": size(learned, dw),
            "output": size(z, w0 + dw),
        }

    def _factor(self, name: str, label: str, product: Product) -> float:
        given = label_of_name(name, {k: str(v) for k, v in self._multipliers.items()})
        if given is not None:
            return abs(float(given))
        if label == "readout":
            return abs(product.before * product.after)
        return abs(product.after) if label == "embedding" and product.lookup else 1.0

    def _of_optimizer(self, parameter: Tensor) -> dict[str, float]:
        """Learning rate, what a step shrinks the weight by, and epsilon over gradient entries."""
        for one in self._optimizers:
            for group in one.param_groups:
                if any(parameter is other for other in group["params"]):
                    return _settings(one, group, parameter)
        return {}


def _settings(optimizer: Any, group: Mapping[str, Any], parameter: Tensor) -> dict[str, float]:
    rate, decay = float(group["lr"]), float(group.get("weight_decay", 0) or 0)
    found = {"learning_rate": abs(rate)}
    decoupled = "AdamW" in type(optimizer).__name__ or group.get("decoupled_weight_decay", False)
    if decay and decoupled:
        found["decay"] = abs(rate * decay)
    state = optimizer.state.get(parameter, {})
    squares, epsilon = state.get("exp_avg_sq"), group.get("eps")
    if squares is not None and epsilon:
        squares = _whole(squares).float()
        steps = float(state.get("step", 1))
        squares = squares / (1 - float(group["betas"][1]) ** max(steps, 1))
        moved = squares[squares > 0]
        if moved.numel():
            found["epsilon"] = float(epsilon) / math.sqrt(float(moved.mean()))
    return found


def _listed(optimizer: Any) -> list[Any]:
    given = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    for one in given:
        if not hasattr(one, "param_groups"):
            raise InputError("optimizer", type(one).__name__, "must be a torch optimizer")
    return given


def _unwrapped(model: Any) -> torch.nn.Module:
    """The model inside torch.compile and data-parallel wrappers, which share its parameters."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            model = model.module
        else:
            return model


def _aliases(model: torch.nn.Module) -> dict[int, list[str]]:
    """All names of every parameter, wrappers left out."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(clean_name(name))
    return names


@contextlib.contextmanager
def _undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, autocast and compilation; training goes on as before."""
    modes = {module: module.training for module in model.modules()}
    device = next(iter(model.parameters())).device.type
    stance = getattr(torch.compiler, "set_stance", None)
    eager = contextlib.nullcontext() if stance is None else stance("force_eager")
    model.eval()
    try:
        with (
            torch.random.fork_rng(),
            torch.no_grad(),
            torch.autocast(device, enabled=False),
            eager,
        ):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _whole(tensor: Tensor) -> Tensor:
    """The tensor itself, gathered if it is sharded."""
    tensor = tensor.detach()
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def _is_first_rank() -> bool:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    return distributed.get_rank() == 0


def _is_stacked(product: Product) -> bool:
    """Whether the parameter holds experts, one a first index."""
    return product.parameter.ndim == 3 and not product.part and not product.lookup


def _only(value: Tensor, expert: int) -> Tensor:
    alone = torch.zeros_like(value)
    alone[expert] = value[expert]
    return alone


def _common(product: Product, start: _Start, z0: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Inputs now and at the start, of the tokens that reach the matrix both times."""
    z = product.inputs
    if product.rows is None or start.rows is None:
        return (z, z0) if z.shape == z0.shape else (None, None)
    then, now = start.rows.tolist(), product.rows.tolist()
    if then == now and z.shape == z0.shape:
        return z, z0
    axis = next((k for k, side in enumerate(z.shape[:-1]) if side == len(now)), None)
    both = sorted(set(then) & set(now))
    if axis is None or not both or len(set(now)) < len(now):
        return None, None

    def chosen(x: Tensor, rows: list[int]) -> Tensor:
        places = torch.tensor([rows.index(row) for row in both], device=x.device)
        return x.index_select(axis, places)

    return chosen(z, now), chosen(z0, then)


def _rms(x: Tensor) -> float:
    return float(x.float().norm()) / math.sqrt(x.numel()) if x.numel() else math.nan


def _change(step: int, start: Tensor, now: Tensor) -> dict[str, float]:
    """Size at the start, or change and size now, of entries that are finite both times."""
    if start.shape != now.shape:
        return {}
    used = torch.isfinite(start) & (start > -1e30)  # masked scores
    if step == 0:
        return {"initial": _rms(start[used]), "output": _rms(start[used])}
    return {"update": _rms((now - start)[used]), "output": _rms(now[used])}


def _scores(seen: Pass) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for scores in seen.scores:
        name, count = f"{clean_name(scores.path + '.').rstrip('.')} scores".strip(), 1
        while (unique := name if count == 1 else f"{name}#{count}") in found:
            count += 1
        found[unique] = scores
    return found


def _few(scores: Tensor) -> Tensor:
    """At most `LARGEST_SCORES` entries, whole matrices of scores."""
    flat = scores.reshape(-1, *scores.shape[-2:])
    most = max(1, LARGEST_SCORES // math.prod(scores.shape[-2:]))
    return flat[:: max(1, math.ceil(len(flat) / most))]


def _logits(outputs: Any) -> Tensor | None:
    """The model's outputs: `logits`, or the first tensor of two or more sides."""
    if isinstance(outputs, Tensor):
        return outputs if outputs.ndim >= 1 else None
    for name in ("logits", "last_hidden_state"):
        value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(value, Tensor):
            return value
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    if isinstance(values, tuple | list) or hasattr(values, "__iter__"):
        return next((x for x in values if isinstance(x, Tensor) and x.ndim >= 2), None)
    return None
