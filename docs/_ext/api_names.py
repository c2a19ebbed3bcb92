"""One description for each name of the API: names of `dynsim` itself are described on its page.

The page of a subpackage describes the rest; its directive `described-in-dynsim` lists the names
that are left to the page of `dynsim`.
"""

from __future__ import annotations

from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FLAT_PAGE = "api/dynsim"


def flat(package: str) -> list[str]:
    """Names of a subpackage that `dynsim` has too, as the same objects."""
    import dynsim

    module = import_module(package)
    return [
        name for name in sorted(module.__all__) if _is_flat(dynsim, name, getattr(module, name))
    ]


def _is_flat(dynsim: object, name: str, value: object) -> bool:
    return name in dynsim.__all__ and getattr(dynsim, name) is value  # type: ignore[attr-defined]


def skip(app: Sphinx, what: str, name: str, value: object, skipped: bool, options: object):
    """Leaves a name of `dynsim` out of the page of a subpackage."""
    import dynsim

    if what == "module" and app.env.docname != FLAT_PAGE and _is_flat(dynsim, name, value):
        return True
    return None


class DescribedInDynsim(SphinxDirective):
    """Argument: name of a subpackage."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        paragraph = nodes.paragraph("", f"Names of {package} described with dynsim itself: ")
        for number, name in enumerate(flat(package)):
            paragraph += nodes.Text(", " * (number > 0))
            paragraph += nodes.literal(text=name)
        paragraph += nodes.Text(".")
        return [paragraph]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", skip)
    app.add_directive("described-in-dynsim", DescribedInDynsim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
