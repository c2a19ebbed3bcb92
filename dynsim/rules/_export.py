"""Per-layer learning rates as an optax transformation and as PyTorch parameter groups.

Neither needs to know the model: the user labels each parameter by its name as `embedding`,
`hidden`, `readout` or `vector` (biases and norm gains).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from dynsim._errors import InputError, check_choice
from dynsim._layers import LABELS, Label, LayerValues

from ._labels import READOUT_NAMES, found_parameters, label_of_name, proposed_labels

if TYPE_CHECKING:
    import optax

Labelling = Mapping[str, str] | Callable[[str], str | None]
Tied = Literal["slower", "embedding"]
Builder = Callable[..., "optax.GradientTransformation"]


class NamedParameters(Protocol):
    """What a `torch.nn.Module` offers: its parameters with their names."""

    def named_parameters(self) -> Iterable[tuple[str, Any]]: ...


def label_parameters(
    model: Any, labels: Labelling | None = None, *, wider: Any = None
) -> dict[str, Label]:
    """The label of every parameter: proposed for a model, or of names by a mapping.

    For a model (a `torch.nn.Module`, a flax or equinox module or its parameters, a tree of arrays)
    labels are proposed from module types, names and shapes. Print the result for the table with
    the reason of each. `labels` settles what is ambiguous and comes first. With `wider`, the same
    model at another width (on the meta device, if you like), the sides that grow are known.

    For names, `labels` is a function of the name, or a mapping whose keys are names or patterns
    such as `"*.bias"` (`*`, `?` and `[...]` as in file names; the first key that matches counts).
    Parts that wrappers put into names (`module.` of DDP, `_orig_mod.` of `torch.compile`, FSDP,
    activation checkpointing) need not be written.

    Raises `InputError` that names the parameters without a label, and for a label that is not
    embedding, hidden, readout or vector.

    **Example:**

    >>> import numpy as np
    >>> from dynsim import label_parameters
    >>> names = {"embed.weight": "embedding", "blocks.*": "hidden"}
    >>> model = {"embed": {"weight": np.ones((8, 4))}, "blocks": {"0": np.ones((4, 4))}}
    >>> labels = label_parameters(model, names)
    >>> labels["embed.weight"], labels["blocks.0"]
    ('embedding', 'hidden')
    """
    if _is_model(model):
        by_name = labels
        if callable(labels):
            given = {one.name: labels(one.name) for one in found_parameters(model)}
            by_name = {name: label for name, label in given.items() if label is not None}
        assert by_name is None or isinstance(by_name, Mapping)
        return proposed_labels(model, by_name, wider)
    if wider is not None or labels is None:
        needed = "labels" if labels is None else "wider"
        raise InputError(needed, None if labels is None else "given", "names alone need `labels`")
    return _labels_of_names(list(model), labels)


def _is_model(model: Any) -> bool:
    if hasattr(model, "named_parameters"):
        return hasattr(model, "named_modules")
    if isinstance(model, str):
        raise InputError("model", model, "must be a model, or a list of names")
    if isinstance(model, Mapping):
        return any(not isinstance(value, str | bool | None) for value in model.values())
    if isinstance(model, list | tuple):
        return not all(isinstance(name, str) for name in model)
    return not isinstance(model, Iterable)


def _labels_of_names(names: list[str], labels: Labelling) -> dict[str, Label]:
    if callable(labels):
        found = {name: labels(name) for name in names}
    else:
        found = {name: label_of_name(name, labels) for name in names}
    known: dict[str, Label] = {label: label for label in LABELS}
    for name, label in found.items():
        if label is not None and label not in known:
            raise InputError(
                "label", label, f"of parameter {name} must be one of {', '.join(LABELS)}"
            )
    missing = [name for name in names if found[name] is None]
    if missing:
        raise InputError(
            "labels",
            f"for {len(found) - len(missing)} of {len(found)} parameters",
            f"must also cover {', '.join(missing)} ({', '.join(LABELS)})",
        )
    return {name: known[label] for name, label in found.items() if label is not None}


def optax_optimizer(
    learning_rates: LayerValues,
    labels: Labelling,
    optimizer: Builder | Mapping[str, Builder] | None = None,
    *,
    weight_decays: LayerValues | None = None,
) -> optax.GradientTransformation:
    """An optax optimizer with one learning rate for each label (`optax.partition`).

    Parameter names are the paths in the parameter tree, joined by dots: `layers.0.weight`.

    **Arguments:**

    - `learning_rates`: as in `RuleAnswer.learning_rates`.
    - `optimizer`: builds the transformation from a learning rate, default `optax.adam`
      (`optax.adamw` with `weight_decays`). For a schedule, pass
      `lambda rate: optax.adam(optax.cosine_decay_schedule(rate, steps))`. A mapping gives a builder
      by label, such as `{"hidden": optax.contrib.muon}`; labels that it lacks have the default.
    - `weight_decays`: passed on as `weight_decay=`, as in `RuleAnswer.weight_decays`.

    Unlabelled or wrongly labelled parameters raise `InputError` when the optimizer is initialised.

    **Example:**

    >>> import jax.numpy as jnp
    >>> from dynsim import LayerValues, optax_optimizer
    >>> rates = LayerValues(embedding=1e-2, hidden=1e-3, readout=1e-3, vector=1e-2)
    >>> optimizer = optax_optimizer(rates, {"embed": "embedding", "*": "hidden"})
    >>> params = {"embed": jnp.ones(2), "block": jnp.ones(2)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> {name: round(float(update[0]), 4) for name, update in updates.items()}
    {'block': -0.001, 'embed': -0.01}
    """
    import jax
    import optax

    default: Any = optax.adam if weight_decays is None else optax.adamw
    builders = _builders(optimizer)

    def transformation(label: Label) -> optax.GradientTransformation:
        rate, build = learning_rates.of(label), builders.get(label, default)
        if weight_decays is None:
            return build(rate)
        return build(rate, weight_decay=weight_decays.of(label))

    def tree_labels(parameters: Any) -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(parameters)
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        found = _labels_of_names(names, labels)
        return jax.tree_util.tree_unflatten(structure, [found[name] for name in names])

    return optax.partition({label: transformation(label) for label in LABELS}, tree_labels)


def _builders(optimizer: Builder | Mapping[str, Builder] | None) -> Mapping[str, Builder]:
    """Builders by label. Raises `InputError` for a label that there is not, or for no builder."""
    if optimizer is None:
        return {}
    each = optimizer if isinstance(optimizer, Mapping) else dict.fromkeys(LABELS, optimizer)
    for label, build in each.items():
        check_choice("optimizer", label, LABELS)
        if not callable(build):
            allowed = f"must build the {label} transformation from a learning rate, as optax.adam"
            raise InputError("optimizer", build, allowed)
    return each


def torch_parameter_groups(
    model: NamedParameters | Iterable[tuple[str, Any]],
    labels: Labelling | None,
    learning_rates: LayerValues,
    *,
    weight_decays: LayerValues | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
    tied: Tied | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for any `torch.optim` optimizer: one for each label that occurs.

    Each group has `params`, `lr`, `label` and, if given, `weight_decay`. torch itself is not
    imported. Parameters may be sharded or on the meta device, and the model wrapped by
    `torch.compile`, DDP, FSDP or activation checkpointing. A frozen parameter needs no label, and
    without one stands in no group.

    A weight with two roles, an embedding that is the readout too, occurs once. With the rates of
    `recommend(..., tied=True)` both roles have the same. Of two rates it has the smaller one,
    unless `tied` says otherwise, and a warning names both roles. The smaller rate bounds its own
    update. What its initial entries, as large as an embedding's, make of learned inputs still grows
    with the width, unless the model multiplies its outputs by (base width)/(width).

    **Arguments:**

    - `model`: a `torch.nn.Module` or its named parameters; `labels` None proposes them
      (`label_parameters`), which needs the module. The others are those of `optax_optimizer`.
    - `groups`: groups of your own, such as one without weight decay. Each is split by label and
      keeps all its options but the learning rate; a weight decay of 0 stays 0, others follow
      `weight_decays`.
    - `tied`: `slower`, the smaller rate; `embedding`, the embedding's, which is right for a model
      with that multiplier and grows without it.

    Raises `InputError` for parameters without a name or a label, an unknown label, and for `groups`
    that leave out a trained parameter or hold one twice.

    **Example:**

    >>> import torch
    >>> from dynsim import LayerValues, torch_parameter_groups
    >>> parts = {"embed": torch.nn.Embedding(8, 4), "head": torch.nn.Linear(4, 8)}
    >>> model = torch.nn.ModuleDict(parts)
    >>> labels = {"embed.*": "embedding", "head.weight": "readout", "head.*": "vector"}
    >>> rates = LayerValues(embedding=1e-2, hidden=1e-3, readout=1e-3, vector=1e-2)
    >>> groups = torch_parameter_groups(model, labels, rates)
    >>> [(group["label"], group["lr"]) for group in groups]
    [('embedding', 0.01), ('readout', 0.001), ('vector', 0.01)]
    """
    if tied is not None:
        check_choice("tied", tied, get_args(Tied))
    roles = _roles(model)
    parameters = {names[0]: parameter for names, parameter in roles}
    if labels is None:
        if not _is_model(model):
            raise InputError("labels", None, "must be given with named parameters alone")
        labels = dict(label_parameters(model))
    label_of = _labels_of_trained(roles, labels)
    shared = _tied_weights(roles, labels)
    if learning_rates.embedding != learning_rates.readout:
        _warn_of_tied(shared, tied)
    own = [{"params": list(parameters.values())}]
    if groups is not None:
        own = _listed_groups(groups)
        _check_groups(own, parameters)
    names = {id(parameter): name for name, parameter in parameters.items()}
    result: list[dict[str, Any]] = []
    for group in own:
        parts: dict[tuple[Label, float], list[Any]] = {}
        for parameter in group["params"]:
            name = names[id(parameter)]
            if name in label_of:
                label = label_of[name]
                rate = learning_rates.of(label)
                if name in shared:
                    slower = min(learning_rates.embedding, learning_rates.readout)
                    rate = learning_rates.embedding if tied == "embedding" else slower
                parts.setdefault((label, rate), []).append(parameter)
        ordered = sorted(parts.items(), key=lambda part: LABELS.index(part[0][0]))
        for (label, rate), members in ordered:
            made = {**group, "params": members, "lr": rate, "label": label}
            if weight_decays is not None and group.get("weight_decay") != 0:
                made["weight_decay"] = weight_decays.of(label)
            result.append(made)
    return result


def _roles(model: NamedParameters | Iterable[tuple[str, Any]]) -> list[tuple[list[str], Any]]:
    """Every parameter with all its names, wrappers left out. Raises `InputError` without names."""
    named = getattr(model, "named_parameters", None)
    if named is None:
        if isinstance(model, Mapping):
            allowed = "must be a module or model.named_parameters(): a state dict has no parameters"
            raise InputError("model", type(model).__name__, allowed)
        pairs: list[Any] = list(model)  # type: ignore[arg-type]
        if not all(isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
            allowed = "must be a module or model.named_parameters(): parameters need their names"
            raise InputError("model", type(model).__name__, allowed)
    else:
        try:
            pairs = list(named(remove_duplicate=False))
        except TypeError:  # of something that only looks like a module
            pairs = list(named())
    found: dict[int, tuple[list[str], Any]] = {}
    for name, parameter in pairs:
        found.setdefault(id(parameter), ([], parameter))[0].append(name)
    return list(found.values())


def _labels_of_trained(
    roles: Sequence[tuple[list[str], Any]], labels: Labelling
) -> dict[str, Label]:
    """The label of every parameter by its first name; frozen ones may lack it."""
    frozen = [names[0] for names, p in roles if not getattr(p, "requires_grad", True)]
    needed = [names[0] for names, _ in roles if names[0] not in frozen]
    found = _labels_of_names(needed, labels)
    for name in frozen:
        try:
            found |= _labels_of_names([name], labels)
        except InputError as error:
            if error.field == "label":
                raise
    return found


def _tied_weights(
    roles: Sequence[tuple[list[str], Any]], labels: Labelling
) -> dict[str, list[str]]:
    """Weights that are embedding and readout at once, by their first name, with all names.

    The label of each name counts, where there is one; a matrix named as a readout is one too.
    """
    shared = {}
    for names, _ in roles:
        if len(names) < 2:
            continue
        found: set[str] = set()
        for name in names:
            label = labels(name) if callable(labels) else label_of_name(name, labels)
            owner = name.rpartition(".")[0].rpartition(".")[2]
            found |= {label} if label else {"readout"} if owner in READOUT_NAMES else set()
        if {"embedding", "readout"} <= found:
            shared[names[0]] = names
    return shared


def _warn_of_tied(shared: Mapping[str, list[str]], tied: Tied | None) -> None:
    if tied is None:
        for names in shared.values():
            warnings.warn(
                f"{' and '.join(names)} are one weight, embedding and readout at once: it gets the "
                "smaller of the two learning rates. As a readout its initial entries still are an "
                "embedding's: outputs stay stable with the width if the model multiplies them by "
                '(base width)/(width), and then tied="embedding" is the right rate. '
                'tied="slower" keeps the smaller one without this warning',
                stacklevel=3,
            )


def _listed_groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Groups with their parameters as lists, whether given as one, an iterator or with names."""
    listed = []
    for group in groups:
        if not isinstance(group, Mapping) or "params" not in group:
            raise InputError("groups", type(group).__name__, "must be mappings with `params`")
        params = group["params"]
        members = [params] if hasattr(params, "shape") else list(params)
        members = [one[1] if isinstance(one, tuple) else one for one in members]
        listed.append({**group, "params": members})
    return listed


def _check_groups(groups: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> None:
    """Raises `InputError` unless every trained parameter stands in one group."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    seen: set[int] = set()
    for group in groups:
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise InputError("groups", None, "must hold parameters of the model alone")
            if id(parameter) in seen:
                raise InputError("groups", names[id(parameter)], "stands in two groups")
            seen.add(id(parameter))
    left = [
        name
        for name, parameter in parameters.items()
        if id(parameter) not in seen and getattr(parameter, "requires_grad", True)
    ]
    if left:
        raise InputError("groups", f"without {', '.join(left)}", "must hold all trained parameters")
