"""The table of verdicts in README.md: `python docs/_ext/readme_table.py` writes it.

Numbers and verdicts are those of `tests/experiments/stored_numbers.json`, which a test compares
with the stored studies. A test compares the table with what this module writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PINNED = ROOT / "tests/experiments/stored_numbers.json"
START, END = "<!-- verdicts: python docs/_ext/readme_table.py -->", "<!-- end of verdicts -->"
HEAD = (
    *("claim", "quantity", "predicted", "simulated"),
    *("measured, 95 % interval", "verdict", "fresh seeds"),
)

# A selection, in the order of the table.
SHOWN = (
    "projection-exponent-mup",
    "projection-exponent-lv",
    "data-collapse",
    "lr-ratio-fixed-vocab",
    "lr-ratio-proportional",
    "lr-ratio-self-term",
    "corpus-rank-crossover",
    "minibatch-effective-vocab",
    "lv-age-update",
    "lv-lifetime-width",
    "lv-lifetime-vocab",
    "lv-lifetime-outputs",
    "lv-entered-frozen-embedding",
    "lv-not-entered-trained-embedding",
    "flow-infinite-width",
    "flow-proportional",
    "lazy-keeps-lv",
    "optimum-late-fixed-vocab",
    "optimum-late-proportional",
    "optimum-superlinear",
    "optimum-late-sp",
    "optimum-mean-field",
    "joint-flat",
    "mean-field-loss",
    "mean-field-updates",
    "mean-field-converges-in-width",
    "update-magnitude-mlp-formula",
    "update-magnitude-transformer-formula",
    "update-magnitude-transformer-restored",
    "hidden-ratio-fixed",
    "hidden-ratio-proportional",
    "hidden-ratio-superlinear",
    "hidden-ratio-sign",
    "hidden-ratio-muon",
    "transfer-embedding-transformer",
    "not-seen-transfer-embedding-mlp",
    "control-sign-kernel-linear",
    "control-ratio-aligned-part",
    "control-lv-lifetime-field-age",
    "control-lv-entered-trained-embedding",
    "control-optimum-first-step",
    "control-joint-first-step",
    "control-joint-flat-embedding",
    "control-without-responses",
    "control-update-magnitude-random-sum",
    "control-text-mlp-root",
    "control-text-transformer-root",
)


def pinned() -> dict[str, dict[str, Any]]:
    """What every claim came down to in the stored studies, by its name."""
    studies = json.loads(PINNED.read_text(encoding="utf-8"))
    return {name: found for study in studies.values() for name, found in study["claims"].items()}


def table() -> str:
    """The table as Markdown."""
    from experiments.output import number
    from experiments.replication.shares import fresh_runs, stored_replication
    from experiments.topics._registry import CLAIMS

    numbers, fresh = pinned(), fresh_runs(stored_replication())
    lines = [HEAD, ("---",) * len(HEAD)]
    for name in SHOWN:
        found = numbers[name]
        interval = f"[{number(found['low'])}, {number(found['high'])}]"
        lines.append(
            (
                f"`{name}`",
                CLAIMS[name].quantity.replace("|", "\\|").replace("*", "\\*"),
                f"{number(found['predicted'])} ± {number(found['tolerance'])}",
                number(found["simulated"]),
                f"{number(found['measured'])} {interval}",
                found["verdict"],
                fresh.get(name, "-"),
            )
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_table(readme: str) -> str:
    """The text of README.md with the table as it should be. Raises `ValueError` without marks."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md must hold {START} and {END}")
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
