"""The directive `claims`: the verdicts on the stored studies, judged when the page is built."""

from __future__ import annotations

from typing import Any

HEADS = ("claim", "quantity", "prediction", "predicted", "simulated", "measured", "verdict")
WIDTHS = (18, 20, 24, 10, 8, 16, 8)


def rows(study: str) -> list[tuple[str, ...]]:
    """One row for every claim on the stored data of a study."""
    from experiments.claims import CLAIMS
    from experiments.output import number
    from experiments.precision import enable_x64
    from experiments.results import STORED, load

    enable_x64()
    data = load(STORED / f"{study}.nc")
    found = []
    for claim in (one for one in CLAIMS.values() if one.study == study):
        evidence = claim.evidence(data)
        measured = evidence.measured
        interval = f"[{number(measured.low)}, {number(measured.high)}]"
        found.append(
            (
                claim.name,
                f"{claim.statement}. {claim.quantity}",
                claim.prediction,
                f"{number(evidence.predicted)} ± {number(claim.tolerance)}",
                number(evidence.simulated),
                f"{number(measured.value)} {interval}",
                claim.verdict(evidence),
            )
        )
    return found


def setup(app: Any) -> dict[str, bool]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class Claims(SphinxDirective):
        """Arguments: names of studies."""

        required_arguments = 1
        optional_arguments = 100

        def run(self) -> list[nodes.Node]:
            from experiments.results import STORED

            body = nodes.tbody()
            for study in self.arguments:
                self.env.note_dependency(str(STORED / f"{study}.nc"))
                body += [_row(nodes, cells) for cells in rows(study)]
            group = nodes.tgroup(cols=len(HEADS))
            group += [nodes.colspec(colwidth=width) for width in WIDTHS]
            group += [nodes.thead("", _row(nodes, HEADS)), body]
            block = nodes.table()
            block += group
            return [block]

    app.add_directive("claims", Claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _row(nodes: Any, cells: tuple[str, ...]) -> Any:
    row = nodes.row()
    row += [nodes.entry("", nodes.paragraph(text=cell)) for cell in cells]
    return row
