"""Options of a command in groups, for its help; no flag has another name than without."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

GROUPS: Mapping[str, tuple[str, ...]] = {
    "size": (
        *("width", "widths", "vocab_size", "vocab_sizes", "outputs", "depth"),
        *("head_width", "context", "base_width", "base_vocab_size", "base_outputs"),
    ),
    "network": (
        *("network", "activation", "residual", "normalisation", "tied", "parametrization"),
        *("lr_exponents", "init_exponents", "init", "precision"),
    ),
    "task": (
        *("tokens", "targets", "target_rank", "loss", "batch_size", "rank"),
        *("residuals", "mean_residual"),
    ),
    "optimizer": (
        *("optimizer", "beta1", "beta2", "epsilon", "weight_decay", "decay", "schedule"),
        *("warmup_steps", "steps", "embedding_lr", "embedding_lrs", "hidden_lr", "hidden_lrs"),
        *("projection_lr", "readout_lr", "readout_ratio", "vector_ratio"),
        *("base_embedding_lr", "base_hidden_lr", "base_readout_lr"),
    ),
    "output": ("plot", "out", "format", "json"),
}
FEWEST = 2  # options that make a group


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Options of a command as its help groups them."""

    def command(self, kind: type) -> Any:
        """The command, of class `kind`, with these options."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.startswith(GROUP):
                values |= {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
            else:
                values[field.name] = value
        return _assembled(kind, values)


GROUP = "group_of_"


def grouped(command: type) -> type[Grouped]:
    """A description of the options of a command in which those of a group stand together."""
    (positional,) = get_args(tyro.conf.Positional[int])[1:]
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    members: dict[str, list[Any]] = {group: [] for group in GROUPS}
    alone: list[Any] = []
    for name, hint, default in _options(command):
        apart = positional in get_args(hint)[1:] or name not in group_of
        (alone if apart else members[group_of[name]]).append((name, hint, default))
    fields = list(alone)
    for group, found in members.items():
        if len(found) < FEWEST:
            fields += found
            continue
        kind = dataclasses.make_dataclass(group, found, frozen=True, kw_only=True)
        kind.__doc__ = ""
        required = any(
            default.default is default.default_factory is dataclasses.MISSING
            for *_, default in found
        )
        default = dataclasses.field() if required else dataclasses.field(default_factory=kind)
        mark = tyro.conf.arg(name=group, help="")
        fields.append((f"{GROUP}{group}", Annotated[(kind, mark)], default))
    made = dataclasses.make_dataclass(
        command.__name__, fields, bases=(Grouped,), frozen=True, kw_only=True
    )
    made.__doc__ = command.__doc__
    return made


def _options(described: type, given: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Name, type with its help, and default of every option, those of its parts among them.

    `given`: an instance that has the defaults.
    """
    from .commands._path_options import documented

    hints, words = get_type_hints(described, include_extras=True), documented(described)
    for field in dataclasses.fields(described):
        hint = hints[field.name]
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        default = dataclasses.field(default=field.default, default_factory=field.default_factory)
        if given is not None:
            default = dataclasses.field(default=getattr(given, field.name))
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            whole = default.default if default.default is not dataclasses.MISSING else None
            if default.default_factory is not dataclasses.MISSING:
                whole = default.default_factory()
            yield from _options(kind, whole)
            continue
        if field.name in words:
            marks = [tyro.conf.arg(help=words[field.name]), *marks]  # its own are stronger
        yield field.name, Annotated[(kind, *marks)] if marks else kind, default


def _assembled(kind: type, values: Mapping[str, Any]) -> Any:
    """An instance of a class whose parts take their own of the values."""
    hints, own = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        part = hints[field.name]
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            own[field.name] = _assembled(part, values)
        else:
            own[field.name] = values[field.name]
    return kind(**own)
