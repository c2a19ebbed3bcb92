"""Where a PyTorch model multiplies by its parameters, seen in one forward pass.

Every operation of the pass goes through a dispatch mode. It follows what is made of parameters by
views, copies and constant factors, and keeps every product of such a tensor with something else:
tied weights, fused matrices, stacked experts and LoRA need nothing of their own. It also keeps
attention scores: what enters a softmax whose last two sides are equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.utils._python_dispatch import (  # pyright: ignore[reportMissingImports]
    TorchDispatchMode,
)
from torch.utils._pytree import tree_flatten  # pyright: ignore[reportMissingImports]

Tensor = torch.Tensor
Replay = Callable[[Tensor], Tensor]

VIEWS = frozenset(
    [
        *("t", "mT", "T", "transpose", "permute", "view", "_unsafe_view", "reshape", "expand"),
        *("unsqueeze", "squeeze", "flatten", "unflatten", "as_strided", "alias", "detach"),
        *("select", "slice", "narrow", "split", "split_with_sizes", "chunk", "unbind"),
        *("clone", "contiguous"),
    ]
)
COPIES = frozenset(["_to_copy", "to"])
FACTORS = frozenset(["mul", "div"])
# Where the two operands stand, and what multiplies them without a bias.
PRODUCTS: dict[str, tuple[int, int]] = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "matmul": (0, 1),
    "linear": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
    "addmv": (1, 2),
    "convolution": (0, 1),
}
LOOKUPS = frozenset(["embedding"])
SOFTMAX = frozenset(["_softmax", "_safe_softmax", "softmax"])


@dataclass(frozen=True)
class Derived:
    """A tensor made of a parameter by linear operations that `replay` repeats for other values."""

    parameter: Tensor
    name: str
    replay: Replay
    part: str = ""


@dataclass
class Product:
    """One product of a parameter with an input.

    - `name`: of the parameter, wrappers included; `path`: the module in which it happened;
      `lookup`: whether rows were looked up by index.
    - `inputs` z (of a lookup the indices); `apply(z, w)` repeats it, w a value of the parameter.
    - `rows`: which of the tokens the inputs are, if a router chose them.
    - `factors`: constants that multiply the inputs before it, and the outputs right after it.
    """

    parameter: Tensor
    name: str
    part: str
    path: str
    inputs: Tensor
    apply: Callable[[Tensor, Tensor], Tensor]
    entries: Replay
    lookup: bool = False
    reads_embedding: bool = False
    rows: Tensor | None = None
    before: float = 1.0
    after: float = 1.0


@dataclass
class _Known:
    """What is known of a tensor of the pass; the tensor is kept so that its id stays its own.

    `summed`: of a product of two activations, over how many entries it sums.
    """

    tensor: Tensor
    derived: Derived | None = None
    of_embedding: bool = False
    rows: Tensor | None = None
    factor: float = 1.0
    product: Product | None = None
    summed: int = 0


@dataclass(frozen=True)
class Scores:
    """Attention scores before the softmax, and the width of a head (0: not seen)."""

    path: str
    values: Tensor
    head_width: int


@dataclass
class Pass:
    """What one forward pass showed: products and scores, in order, and what the model returned."""

    products: list[Product] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    outputs: Any = None


def observed_pass(model: torch.nn.Module, call: Callable[[], Any]) -> Pass:
    """`call()`, one forward pass, with its products by the parameters of `model`."""
    seen = Pass()
    mode = _Products(seen)
    with _module_paths(model, mode), _decomposed_attention(), mode:
        seen.outputs = call()
    return seen


@contextlib.contextmanager
def _module_paths(model: torch.nn.Module, mode: _Products) -> Iterator[None]:
    """Hooks that tell the mode which module runs and which parameters it holds right now."""
    handles = []

    def enter(path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, *_: Any) -> None:
            mode.paths.append(path)
            mode.own(path, module)

        return hook

    def leave(*_: Any) -> None:
        if mode.paths:
            mode.paths.pop()

    for path, module in model.named_modules():
        mode.own(path, module)
        handles.append(module.register_forward_pre_hook(enter(path)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _decomposed_attention() -> Iterator[None]:
    """Attention as matrix products and a softmax, so that its scores can be seen."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Products(TorchDispatchMode):
    def __init__(self, seen: Pass):
        super().__init__()
        self.seen = seen
        self.paths: list[str] = []
        self._known: dict[int, _Known] = {}

    def own(self, path: str, module: torch.nn.Module) -> None:
        """Parameters that the module holds right now: sharded ones are others while it runs."""
        for leaf, parameter in module._parameters.items():
            if parameter is not None and self._of(parameter) is None:
                name = f"{path}.{leaf}" if path else leaf
                derived = Derived(parameter, name, lambda value: value)
                self._known[id(parameter)] = _Known(parameter, derived)

    def _of(self, value: Any) -> _Known | None:
        known = self._known.get(id(value))
        return known if known is not None and known.tensor is value else None

    def _note(self, tensor: Tensor) -> _Known:
        known = self._of(tensor)
        if known is None:
            known = self._known[id(tensor)] = _Known(tensor)
        return known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in SOFTMAX:
            scores = args[0]
            if scores.ndim >= 3 and scores.shape[-1] == scores.shape[-2]:
                known = self._of(scores)
                path = self.paths[-1] if self.paths else ""
                self.seen.scores.append(Scores(path, scores, 0 if known is None else known.summed))
        if name in LOOKUPS:
            self._lookup(func, args, kwargs, result)
        elif name in PRODUCTS:
            self._product(func, name, args, kwargs, result)
        else:
            self._follow(func, name, args, kwargs, result)
        return result

    def _lookup(self, func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
        known = self._of(args[0])
        if known is None or known.derived is None:
            return
        derived, rest = known.derived, args[2:]

        def apply(indices: Tensor, value: Tensor) -> Tensor:
            return func(derived.replay(value), indices, *rest, **kwargs)

        path = self.paths[-1] if self.paths else ""
        product = Product(
            derived.parameter,
            derived.name,
            derived.part,
            path,
            args[1],
            apply,
            derived.replay,
            lookup=True,
        )
        self.seen.products.append(product)
        note = self._note(result)
        note.of_embedding, note.product = True, product

    def _product(self, func: Any, name: str, args: Any, kwargs: Any, result: Tensor) -> None:
        first, second = PRODUCTS[name]
        pair = [self._of(args[place]) for place in (first, second)]
        held = [known is not None and known.derived is not None for known in pair]
        if sum(held) == 0 and result.ndim >= 3:
            self._note(result).summed = int(args[first].shape[-1])
        if sum(held) != 1:
            return
        at = held.index(True)
        known, read = pair[at], args[(first, second)[1 - at]]
        assert known is not None
        assert known.derived is not None
        derived = known.derived
        more = args[3:] if name == "convolution" else ()

        def apply(inputs: Tensor, value: Tensor) -> Tensor:
            weight = derived.replay(value)
            if name == "convolution":
                return func(inputs, weight, None, *more, **kwargs)
            if name == "linear":
                return torch.nn.functional.linear(inputs, weight)
            left, right = (weight, inputs) if at == 0 else (inputs, weight)
            return left @ right

        source = self._of(read)
        path = self.paths[-1] if self.paths else ""
        product = Product(
            derived.parameter,
            derived.name,
            derived.part,
            path,
            read,
            apply,
            derived.replay,
            reads_embedding=source is not None and source.of_embedding,
            rows=None if source is None else source.rows,
            before=1.0 if source is None else source.factor,
        )
        self.seen.products.append(product)
        note = self._note(result)
        note.product = product
        if product.rows is not None:
            note.rows = product.rows

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        known = [self._of(x) for x in tensors]
        outputs = [x for x in tree_flatten(result)[0] if isinstance(x, Tensor)]
        self._follow_parameters(func, name, args, kwargs, outputs)
        wide = [
            (x, of)
            for x, of in zip(tensors, known, strict=True)
            if x.is_floating_point() and x.numel() > 1 and (of is None or of.derived is None)
        ]
        for output in outputs:
            if any(output is x for x in tensors):
                continue  # in place: what was known still holds
            if (
                wide
                and output.is_floating_point()
                and all(of and of.of_embedding for _, of in wide)
            ):
                self._note(output).of_embedding = True
            self._follow_rows(name, args, wide, output)
            self._follow_factor(name, args, output)
            for _, of in wide:
                if of is not None and of.summed and of.tensor.shape[-2:] == output.shape[-2:]:
                    self._note(output).summed = of.summed

    def _follow_parameters(
        self, func: Any, name: str, args: Any, kwargs: Any, outputs: list[Tensor]
    ) -> None:
        source = self._of(args[0]) if args else None
        if source is None or source.derived is None:
            return
        derived = source.derived
        if name in COPIES:  # another precision or device: the terms are computed in single
            for output in outputs:
                self._note(output).derived = derived
            return
        if name in FACTORS:
            if _constant(args[1]) is None:
                return
        elif name not in VIEWS:
            return
        several = len(outputs) > 1
        for index, output in enumerate(outputs):
            part = derived.part
            deep = derived.parameter.ndim >= 3
            if deep and name == "select" and args[1] == 0 and not part:
                part = f"[{int(args[2])}]"
            elif deep and name == "unbind" and not part:
                part = f"[{index}]"

            def replay(value: Tensor, index: int = index, inner: Replay = derived.replay) -> Tensor:
                made = func(inner(value), *args[1:], **kwargs)
                return made[index] if several or isinstance(made, list | tuple) else made

            self._note(output).derived = Derived(derived.parameter, derived.name, replay, part)

    def _follow_rows(self, name: str, args: Any, wide: Any, output: Tensor) -> None:
        if name == "index" and args[0].is_floating_point():
            chosen = [x for x in args[1] if x is not None]
            if len(chosen) == 1:
                (index,) = chosen
                rows = index.nonzero()[:, -1] if index.dtype == torch.bool else index
                self._note(output).rows = rows.flatten()
            return
        for _, of in wide:
            if of is not None and of.rows is not None and len(of.rows) in output.shape[:-1]:
                self._note(output).rows = of.rows
                return

    def _follow_factor(self, name: str, args: Any, output: Tensor) -> None:
        """Constants between a product and what is read next, through views and copies."""
        if not args or not isinstance(args[0], Tensor):
            return
        source = self._of(args[0])
        if name in FACTORS and len(args) > 1:
            factor = _constant(args[1])
            if factor is None or factor == 0 or (source is not None and source.derived is not None):
                return
            factor = factor if name == "mul" else 1 / factor
            note = self._note(output)
            note.factor = factor * (source.factor if source is not None else 1.0)
            if source is not None:
                note.of_embedding, note.rows = source.of_embedding, source.rows
                if source.product is not None:
                    source.product.after *= factor
                    note.product = source.product
        elif (name in VIEWS or name in COPIES) and source is not None and source.derived is None:
            note = self._note(output)
            note.factor, note.product = source.factor, source.product


def _constant(value: Any) -> float | None:
    """A number, or a tensor of one entry that is no parameter; None for anything else."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
        return float(value)
    return None
