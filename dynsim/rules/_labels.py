"""Labels of parameters, proposed from module types, names and shapes.

A label says how a parameter's sides grow with the width: `embedding` fixed -> width, `hidden`
width -> width, `readout` width -> fixed where the outputs are the model's, `vector` one side. A
matrix that maps the width to a fixed number inside the model (a router, the first factor of LoRA)
starts and learns like a hidden one, so that its outputs are of order one: it is `hidden`. The
second factor of LoRA reads a fixed number of inputs: it is `embedding`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from dynsim._errors import InputError
from dynsim._layers import LABELS, Label

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""what DDP, torch.compile, FSDP and activation checkpointing put into names"""
_WRAPPED = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(WRAPPERS)})\.")
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.(?:original\d*|0\.\w+)$")
READOUT_NAMES = frozenset(
    [
        *("lm_head", "head", "output", "output_layer", "readout", "unembed", "unembedding"),
        *("embed_out", "classifier", "score", "logits", "to_logits", "decoder", "vocab_proj"),
    ]
)
ROUTER_NAMES = frozenset(["router", "gate", "gating", "switch"])
EMBEDDING_WORDS = re.compile(r"embed|(^|[._])(wte|wpe|tok|pos)([._]|$)|position|patch")
NORM_WORDS = re.compile(r"norm|(^|[._])ln(_?\w+)?([._]|$)", re.IGNORECASE)
LEAST_SHARE = 16  # a side below 1/16 of the width counts as one that does not grow with it


@dataclass(frozen=True)
class Proposal:
    """A parameter's proposed label (None: it must be asked for) and why."""

    name: str
    shape: tuple[int, ...]
    label: Label | None
    reason: str


@dataclass(frozen=True)
class Found:
    """A parameter of a model as the rules see it.

    - `kind`: embedding, linear, conv, norm, or unknown, from the type of its module.
    - `sides`: (fan-in, fan-out) of a matrix, None if unknown.
    - `other_names`: of a tied parameter, where else it stands.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    sides: tuple[int, int] | None = None
    trained: bool = True
    other_names: tuple[str, ...] = ()

    @property
    def is_head(self) -> bool:
        """Whether one of its names says that it gives the model's outputs."""
        return any(map(_names_a_head, (self.name, *self.other_names)))


def _names_a_head(name: str) -> bool:
    return (
        bool(set(clean_name(name).split(".")[-2:]) & READOUT_NAMES) and "attn" not in name.lower()
    )


class ParameterLabels(dict[str, Label]):
    """The label of every parameter, in the order of the model; its `repr` is the table.

    **Fields:** `proposals`, with a reason each.
    """

    def __init__(self, proposals: Sequence[Proposal]):
        self.proposals = tuple(proposals)
        super().__init__({row.name: row.label for row in proposals if row.label is not None})

    def __repr__(self) -> str:
        return label_table(self.proposals)


def label_table(proposals: Sequence[Proposal]) -> str:
    """The table: name, shape, label and reason."""
    rows = [("parameter", "shape", "label", "why")]
    for row in proposals:
        shape = " x ".join(map(str, row.shape)) or "number"
        rows.append((row.name, shape, row.label or "?", row.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def clean_name(name: str) -> str:
    """A parameter's name without what wrappers put into it."""
    return _PARAMETRIZED.sub(r"\1", _WRAPPED.sub("", name))


def label_of_name(name: str, labels: Mapping[str, str]) -> str | None:
    """The label of the first key that is the name or a pattern of it, wrappers left out if need
    be."""
    for written in dict.fromkeys((name, clean_name(name))):
        if written in labels:
            return labels[written]
        for key in labels:
            if fnmatchcase(written, key):
                return labels[key]
    return None


def proposed_labels(
    model: Any, labels: Mapping[str, str] | None = None, wider: Any = None
) -> ParameterLabels:
    """The labels that types, names and shapes of a model's parameters suggest.

    `labels`, by name or pattern, come first. With `wider`, the same model at another width, the
    sides that grow are known and only names that say nothing are asked for.

    Raises `InputError` with the parameters that remain unlabelled.
    """
    found = found_parameters(model)
    if not found:
        raise InputError("model", type(model).__name__, "must have parameters to label")
    grown = None if wider is None else _grown(found, found_parameters(wider))
    rows = proposals(found, labels or {}, grown)
    asked = [row for row, one in zip(rows, found, strict=True) if row.label is None and one.trained]
    if asked:
        text = "; ".join(
            f"{row.name} ({' x '.join(map(str, row.shape))}: {row.reason})" for row in asked
        )
        raise InputError(
            "labels",
            f"for {len(rows) - len(asked)} of {len(rows)} parameters",
            f"must also cover {text}; labels are {', '.join(LABELS)}",
        )
    return ParameterLabels(rows)


def proposals(
    found: Sequence[Found],
    labels: Mapping[str, str],
    grown: Mapping[str, tuple[bool, ...]] | None = None,
) -> list[Proposal]:
    """A proposal for every parameter. Raises `InputError` for an unknown label."""
    width, vocab_size = _sizes(found)
    has_head = any(one.is_head for one in found)
    rows = []
    for one in found:
        given = label_of_name(one.name, labels)
        if given is not None:
            if given not in LABELS:
                allowed = f"of parameter {one.name} must be one of {', '.join(LABELS)}"
                raise InputError("label", given, allowed)
            known: dict[str, Label] = {label: label for label in LABELS}
            rows.append(Proposal(one.name, one.shape, known[given], "given"))
            continue
        label, reason = _by_rules(
            one, width, vocab_size, has_head, None if grown is None else grown[one.name]
        )
        rows.append(Proposal(one.name, one.shape, label, reason))
    return rows


def _sizes(found: Sequence[Found]) -> tuple[int, int | None]:
    """Width and vocabulary, of the embedding with the most rows; else the most common side."""
    tables = [one.shape for one in found if one.kind == "embedding" and len(one.shape) == 2]
    if tables:
        rows, columns = max(tables)
        return columns, rows
    counts = Counter(side for one in found if one.sides is not None for side in one.sides)
    return max(counts, key=lambda side: (counts[side], side), default=1), None


def _like_width(side: int, width: int) -> bool:
    """Whether a side seems to grow with the width: a multiple or a large part of it."""
    return 2 * side >= width or (width % side == 0 and LEAST_SHARE * side >= width)


def _by_rules(
    one: Found,
    width: int,
    vocab_size: int | None,
    has_head: bool,
    grows: tuple[bool, ...] | None,
) -> tuple[Label | None, str]:
    name = clean_name(one.name)
    parts = name.split(".")
    words = set(parts[:-1]) | ({parts[-1]} if one.kind == "unknown" else set())
    if one.kind == "embedding":
        return "embedding", "rows are looked up"
    if one.kind == "norm" or sum(side > 1 for side in one.shape) <= 1 or parts[-1] == "bias":
        return "vector", "a norm's gain or bias" if one.kind == "norm" else "one side"
    if any(part.startswith("lora_A") for part in parts):
        return "hidden", "first factor of LoRA: reads the width"
    if any(part.startswith("lora_B") for part in parts):
        return "embedding", "second factor of LoRA: reads its rank, which is fixed"
    if one.kind == "unknown" and EMBEDDING_WORDS.search(name):
        return "embedding", "its name says so"
    is_head = _names_a_head(name)
    if grows is not None:
        if (
            one.sides is not None
            and one.sides[1] == vocab_size
            and not _growing_sides(one, grows)[1]
        ):
            return "readout", "one output for each token"
        return _by_growth(one, grows, is_head, words)
    if one.sides is not None and one.sides[1] == vocab_size:
        if is_head or one.sides[1] % width:
            return "readout", "one output for each token"
        if not has_head:  # as wide as a branch of the width may be
            return None, "readout if it gives the model's outputs, else hidden?"
    if one.sides is None:
        return None, "what its sides are is not known from its type"
    fan_in, fan_out = one.sides
    if words & ROUTER_NAMES and fan_out <= fan_in:
        return "hidden", "a router: reads the width"
    if is_head and fan_out <= max(fan_in, vocab_size or 0):
        return "readout", "its name says so"
    if not _like_width(fan_in, width):
        return None, "embedding if it reads a fixed number of inputs, else hidden?"
    if not _like_width(fan_out, width):
        return None, "readout if it gives the model's outputs, else hidden?"
    return "hidden", "both sides grow with the width"


def _by_growth(
    one: Found, grows: tuple[bool, ...], is_head: bool, words: set[str]
) -> tuple[Label | None, str]:
    """By the sides that grow from the model to the wider one."""
    if sum(grows) == 0:
        return "vector", "does not grow with the width"
    if one.sides is None:
        if sum(grows) >= 2:
            return "hidden", "two sides grow with the width"
        return None, "one of its sides grows: embedding if that is the output, else readout?"
    reads, gives = _growing_sides(one, grows)
    if reads and gives:
        return "hidden", "both sides grow with the width"
    if gives:
        return "embedding", "its inputs do not grow with the width"
    if is_head:
        return "readout", "reads the width, and its name says so"
    if words & ROUTER_NAMES:
        return "hidden", "a router: reads the width"
    return None, "reads the width: readout if it gives the model's outputs, else hidden?"


def _growing_sides(one: Found, grows: tuple[bool, ...]) -> tuple[bool, bool]:
    """Whether the inputs and the outputs of a matrix grow."""
    if one.kind == "kernel":  # inputs first
        return grows[0], any(grows[1:])
    return any(grows[1:]), grows[0]


def _grown(found: Sequence[Found], wider: Sequence[Found]) -> dict[str, tuple[bool, ...]]:
    """Which sides of every parameter differ between two models of one family."""
    shapes = {clean_name(one.name): one.shape for one in wider}
    missing = [one.name for one in found if clean_name(one.name) not in shapes]
    if missing or len(shapes) != len(found):
        names = ", ".join(missing[:3]) or ", ".join(
            sorted(set(shapes) - {clean_name(one.name) for one in found})[:3]
        )
        raise InputError("wider", None, f"must have the same parameters; they differ in {names}")
    result = {}
    for one in found:
        other = shapes[clean_name(one.name)]
        if len(other) != len(one.shape):
            raise InputError("wider", one.name, "must have as many sides in both models")
        result[one.name] = tuple(a != b for a, b in zip(one.shape, other, strict=True))
    if not any(map(any, result.values())):
        raise InputError("wider", None, "must have another width: all shapes are the same")
    return result


def found_parameters(model: Any) -> list[Found]:
    """The parameters of a PyTorch module, of a flax or equinox module, or of a tree of arrays."""
    if hasattr(model, "named_modules") and hasattr(model, "named_parameters"):
        return _torch_parameters(model)
    return _tree_parameters(model)


def _torch_parameters(model: Any) -> list[Found]:
    found: dict[int, Found] = {}
    for path, module in model.named_modules():
        for leaf, parameter in getattr(module, "_parameters", {}).items():
            if parameter is None:
                continue
            name = f"{path}.{leaf}" if path else leaf
            if id(parameter) in found:
                first = found[id(parameter)]
                found[id(parameter)] = replace(first, other_names=(*first.other_names, name))
                continue
            shape = tuple(int(side) for side in parameter.shape)
            kind, sides = _torch_kind(module, path, leaf, shape)
            found[id(parameter)] = Found(name, shape, kind, sides, bool(parameter.requires_grad))
    return list(found.values())


def _torch_kind(
    module: Any, path: str, leaf: str, shape: tuple[int, ...]
) -> tuple[str, tuple[int, int] | None]:
    kinds = {kind.__name__ for kind in type(module).__mro__}
    written = type(module).__name__
    if "_ConvNd" in kinds and leaf == "weight":
        return "conv", (math.prod(shape[1:]), shape[0])
    if kinds & {"Embedding", "EmbeddingBag"} and leaf == "weight":
        return "embedding", None
    if "Norm" in written or "_NormBase" in kinds or (len(shape) == 1 and NORM_WORDS.search(path)):
        return "norm", None
    if "Conv1D" in kinds and len(shape) == 2:  # of transformers: (in, out)
        return "kernel", (shape[0], shape[1])
    if ("Linear" in written or "Linear" in kinds or hasattr(module, "in_features")) and len(
        shape
    ) == 2:
        return "linear", (shape[1], shape[0])
    if "ParametrizationList" in kinds and len(shape) == 2:
        return "linear", (shape[1], shape[0])
    if len(shape) >= 2 and leaf.startswith("in_proj"):  # of MultiheadAttention
        return "linear", (shape[1], shape[0])
    if len(shape) == 3:  # experts, stacked: whichever of the two is read, both are sides
        return "stacked", (shape[1], shape[2])
    return "unknown", (shape[-1], shape[-2]) if len(shape) == 2 else None


def _tree_parameters(tree: Any) -> list[Found]:
    """Of flax and equinox: by the names of leaves and the types of the modules that hold them."""
    import jax

    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            continue  # static parts of modules, such as functions and flags
        if leaf.dtype.kind not in "fcV" and "float" not in str(leaf.dtype):
            continue
        name = tree_name(path)
        shape = tuple(int(side) for side in leaf.shape)
        kind, sides = _tree_kind(_holder(tree, path), name, shape)
        found.append(Found(name, shape, kind, sides))
    return found


def tree_name(path: Sequence[Any]) -> str:
    """A leaf's path joined by dots: `layers.0.weight`."""
    import jax

    name = jax.tree_util.keystr(tuple(path), simple=True, separator=".")
    return re.sub(r"\.value$", "", name)  # variables of flax.nnx


def _holder(tree: Any, path: Sequence[Any]) -> str:
    """The class of the innermost module on the way to a leaf."""
    held = ""
    for key in path:
        if type(tree).__module__.split(".")[0] not in ("builtins", "jax", "jaxlib", "numpy"):
            held = type(tree).__name__
        for attribute, take in (
            ("name", lambda tree, key: getattr(tree, key)),
            ("key", lambda tree, key: tree[key]),
            ("idx", lambda tree, key: tree[key]),
        ):
            if hasattr(key, attribute):
                try:
                    tree = take(tree, getattr(key, attribute))
                except (AttributeError, KeyError, IndexError, TypeError):
                    return held
                break
    return held


def _tree_kind(
    holder: str, name: str, shape: tuple[int, ...]
) -> tuple[str, tuple[int, int] | None]:
    leaf = name.rpartition(".")[2]
    owner = name.rpartition(".")[0].rpartition(".")[2]
    if leaf == "embedding" or holder == "Embedding" or holder == "Embed":
        return "embedding", None
    if "Norm" in holder or leaf == "scale" or (len(shape) == 1 and NORM_WORDS.search(owner)):
        return "norm", None
    if leaf == "kernel" and len(shape) >= 2:  # flax: inputs first
        return "kernel", (shape[0], math.prod(shape[1:]))
    if holder == "Linear" and len(shape) == 2:  # equinox: outputs first
        return "linear", (shape[1], shape[0])
    if "Conv" in holder and len(shape) > 2:
        return "conv", (math.prod(shape[1:]), shape[0])
    if len(shape) == 2:
        return "unknown", (shape[0], shape[1])
    return "unknown", None
