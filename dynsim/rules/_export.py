"""Per-layer learning rates as an optax transformation and as PyTorch parameter groups.

Neither needs to know the model: the user labels each parameter by its name as `embedding`,
`hidden`, `readout` or `vector` (biases and norm gains).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

from dynsim._errors import InputError, check_choice
from dynsim._layers import LABELS, Label, LayerValues

if TYPE_CHECKING:
    import optax

Labelling = Mapping[str, str] | Callable[[str], str | None]
Builder = Callable[..., "optax.GradientTransformation"]


class NamedParameters(Protocol):
    """What a `torch.nn.Module` offers: its parameters with their names."""

    def named_parameters(self) -> Iterable[tuple[str, Any]]: ...


def label_parameters(names: Iterable[str], labels: Labelling) -> dict[str, Label]:
    """The label of every parameter name.

    `labels` is a function of the name, or a mapping whose keys are names or patterns such as
    `"*.bias"` (`*`, `?` and `[...]` as in file names; the first key that matches counts).

    Raises `InputError` that names the parameters without a label, and for a label that is not
    embedding, hidden, readout or vector.
    """
    names = list(names)
    if callable(labels):
        found = {name: labels(name) for name in names}
    else:
        found = {
            name: next((labels[key] for key in labels if fnmatchcase(name, key)), None)
            for name in names
        }
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
        found = label_parameters(names, labels)
        return jax.tree_util.tree_unflatten(structure, [found[name] for name in names])

    return optax.partition({label: transformation(label) for label in LABELS}, tree_labels)


def _builders(optimizer: Builder | Mapping[str, Builder] | None) -> Mapping[str, Builder]:
    """Builders by label. Raises `InputError` for a label that there is not."""
    if optimizer is None:
        return {}
    if not isinstance(optimizer, Mapping):
        return dict.fromkeys(LABELS, optimizer)
    for label in optimizer:
        check_choice("optimizer", label, LABELS)
    return optimizer


def torch_parameter_groups(
    model: NamedParameters | Iterable[tuple[str, Any]],
    labels: Labelling,
    learning_rates: LayerValues,
    *,
    weight_decays: LayerValues | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for any `torch.optim` optimizer: one for each label that occurs.

    Each group has `params`, `lr`, `label` and, if given, `weight_decay`. A tied weight occurs once,
    under the first of its names (PyTorch's rule). torch itself is not imported.

    **Arguments:** `model`, a `torch.nn.Module` or its named parameters; the others as for
    `optax_optimizer`.

    Raises `InputError` for parameters without a label or with an unknown one.
    """
    named = getattr(model, "named_parameters", None)
    pairs: Iterable[tuple[str, Any]] = model if named is None else named()  # pyright: ignore
    parameters: dict[str, Any] = {name: parameter for name, parameter in pairs}
    found = label_parameters(parameters, labels)
    groups: list[dict[str, Any]] = []
    for label in LABELS:
        members = [parameter for name, parameter in parameters.items() if found[name] == label]
        if not members:
            continue
        group = {"params": members, "lr": learning_rates.of(label), "label": label}
        if weight_decays is not None:
            group["weight_decay"] = weight_decays.of(label)
        groups.append(group)
    return groups
