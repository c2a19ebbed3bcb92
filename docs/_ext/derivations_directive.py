"""The directive `derivation`: an equation of the docs, taken from `derivations` at build time.

    ```{derivation} update_second_moment projection sign
    ```

calls `derivations.update_second_moment("projection", "sign")` and shows its name, result,
assumptions, steps and source. With the option `:result:` it shows the equation alone, and the
call under it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import sympy as sp
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import derivations


class DerivationDirective(SphinxDirective):
    """Argument: the name of a function of `derivations`, then its positional arguments."""

    required_arguments = 1
    optional_arguments = 8
    option_spec: ClassVar = {"result": directives.flag}

    def run(self) -> list[nodes.Node]:
        for source in Path(derivations.__file__).parent.glob("*.py"):
            self.env.note_dependency(str(source))
        name, *texts = self.arguments
        arguments = [int(one) if one.isdigit() else one for one in texts]
        try:
            derived = getattr(derivations, name)(*arguments)
        except (AttributeError, TypeError, KeyError) as error:
            raise self.error(f"derivations has no {' '.join(self.arguments)}: {error}") from error
        if not isinstance(derived, derivations.Derivation):
            raise self.error(f"derivations.{name} gives no Derivation")
        result = equation(derived.latex_left, derived.expression)
        if "result" not in self.options:
            return [whole(derived, result)]
        call = f"derivations.{name}({', '.join(map(repr, arguments))})"
        return [result, nodes.paragraph("", "", nodes.literal(text=call))]


def whole(derived: derivations.Derivation, result: nodes.math_block) -> nodes.container:
    """Name, result, assumptions, numbered steps and source."""
    assumptions = nodes.bullet_list()
    assumptions += [item(nodes.paragraph(text=words)) for words in derived.assumptions]
    steps = nodes.enumerated_list(enumtype="arabic", prefix="", suffix=".")
    steps += [
        item(nodes.paragraph(text=step.reason), equation(step.latex_left, step.right))
        for step in derived.steps
    ]
    block = nodes.container(classes=["derivation"])
    block += [nodes.rubric(text=derived.name), result]
    block += [nodes.paragraph("", "", nodes.strong(text="Assumptions")), assumptions]
    block += [nodes.paragraph("", "", nodes.strong(text="Steps")), steps]
    block += nodes.paragraph("", "", nodes.emphasis(text=f"Source: {derived.source}"))
    return block


def equation(left: str, right: sp.Expr) -> nodes.math_block:
    latex = rf"{left} = {sp.latex(right)}"
    # Sphinx before 8.2 asks for `nowrap`, later ones for `no-wrap`.
    return nodes.math_block(
        latex, latex, **{"number": None, "label": None, "nowrap": False, "no-wrap": False}
    )


def item(*children: nodes.Node) -> nodes.list_item:
    return nodes.list_item("", *children)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("derivation", DerivationDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
