"""LaTeX tables of exponents."""

from __future__ import annotations

from collections.abc import Sequence


def latex_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX table; exponents are set as mathematics, first column and head as words."""
    lines = [r"\begin{tabular}{l" + "c" * (len(head) - 1) + "}", r"\hline"]
    lines.append(" & ".join(head) + r" \\ \hline")
    for first, *cells in rows:
        words = first.replace("&", r"\&")
        lines.append(" & ".join((words, *(f"${cell}$" for cell in cells))) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])
