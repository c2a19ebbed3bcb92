"""The directive `gallery`: a figure of the stored studies, how it is drawn, and its claims."""

from __future__ import annotations

import inspect
from typing import Any


def snippet(name: str) -> str:
    """Python that draws a figure from the stored studies."""
    from experiments.topics._figures import FIGURES

    function, needs = FIGURES[name]
    arguments = ", ".join(f'load(STORED / "{need}.nc")' for need in needs)
    lines = [
        "from dynsim.plots import style",
        "from experiments.precision import enable_x64",
        "from experiments.results import STORED, load",
        f"from {function.__module__} import {function.__name__}",
        "",
        "enable_x64()",
        "with style():",
        f"    figure = {function.__name__}({arguments})",
        f'    figure.savefig("{name}.pdf")',
    ]
    return "\n".join(lines)


def title(name: str) -> str:
    """The name of a figure as a heading."""
    words = name.replace("_", " ")
    return words.replace("lv", "LV", 1) if words.startswith("lv ") else words.capitalize()


def entry(name: str, says: str) -> str:
    """Markdown of a figure: title, image, what it says, what it shows, topic, claims and code."""
    from experiments.topics._figures import FIGURES
    from experiments.topics._registry import CLAIMS

    function, needs = FIGURES[name]
    topic = function.__module__.split(".")[-2]
    shows = " ".join(inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].split())
    claims = [one.name for one in CLAIMS.values() if one.study in needs]
    links = ", ".join(f"[{one}](#claim-{one})" for one in claims)
    evidence = f"Claims on its data: {links}." if links else "It is theory alone, without data."
    parts = (
        f"## {title(name)}",
        says,
        f"![{shows}](figures/{name}.png)",
        f"*{shows}* Topic: {{doc}}`topics/{topic}`. {evidence}",
        f"```python\n{snippet(name)}\n```",
    )
    return "\n\n".join(parts)


def setup(app: Any) -> dict[str, bool]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Gallery(SphinxDirective):
        """Argument: the name of a figure; the content says what it tells."""

        required_arguments = 1
        has_content = True

        def run(self) -> list[nodes.Node]:
            text = entry(self.arguments[0], "\n".join(self.content))
            return self.parse_text_to_nodes(text, allow_section_headings=True)

    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
