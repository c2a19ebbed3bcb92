"""Every topic's figures by name, each a function of the stored studies that it names."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from ._parts import parts

FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    name: figure for module in parts("figures") for name, figure in module.FIGURES.items()
}
