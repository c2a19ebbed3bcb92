"""One formula, one place: what is evaluated is derived, and nothing derived is typed again."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import formulas
import pytest
import sympy as sp

import derivations

ROOT = Path(__file__).parents[2]


def _docs_extension():
    """`docs/_ext/compiled_formulas.py`, which the documentation's table comes from."""
    path = ROOT / "docs/_ext/compiled_formulas.py"
    spec = importlib.util.spec_from_file_location("compiled_formulas", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


compiled_formulas = _docs_extension()
SOURCES = compiled_formulas.sources()

# What numeric code may hold of `formulas.GAUSSIAN_FUNCTIONS` and `formulas.CONSTANTS`, and why.
ALLOWED = {
    ("dynsim/claims/_formula.py", "pi"): "a word of the language of formulas",
    ("dynsim/_compiled.py", "erf"): "the table of special functions of the compiler",
    ("dynsim/_compiled.py", "erfc"): "the same",
    ("dynsim/_compiled.py", "pi"): "the same",
    ("experiments/topics/depth_ratio/study.py", "pi"): "where a grid of rates is centred",
    (
        "experiments/topics/depth_ratio/study.py",
        "feature_update_second_moment: 2*chi/(pi*d)",
    ): "the same",
    ("experiments/explorer/javascript.py", "erf"): "the special function of printed formulas",
    ("experiments/explorer/javascript.py", "erfcx"): "the same",
}


# What is compiled


@pytest.fixture(scope="module")
def uses() -> list:
    return compiled_formulas.uses()


def test_every_compiled_expression_comes_from_a_derivation(uses):
    typed = [f"{use.module}:{use.line}" for use in uses if not use.derivations]
    assert not typed, f"evaluated, but not taken from derivations: {typed}"


def test_the_list_is_what_the_simulator_needs(uses):
    rows = dict(compiled_formulas.table(uses))
    expected = {
        "first_step": "dynsim/",
        "self_term_second_moment": "dynsim/",
        "optimal_projection_lr_with_self_term": "dynsim/",
        "coherence_ratio": "dynsim/",
        "gram_flow": "dynsim/",
        "smoothed_sign": "dynsim/",
        "arcsine_law": "experiments/",
        "crossover_vocab_size": "experiments/",
    }
    for name, room in expected.items():
        assert room in rows[name], name
    assert all(hasattr(derivations, name) for name in rows)


def test_every_call_in_the_text_is_in_the_list(uses):
    """The number of calls by a plain search of the words, comments and definitions aside."""
    for module, text in SOURCES.items():
        found = sum(use.module == module for use in uses)
        lines = [line.split("#")[0] for line in text.splitlines()]
        said = sum(line.count(" evaluate(") + line.count("(evaluate(") for line in lines)
        if module != compiled_formulas.DOOR and "import evaluate" in text:
            assert found >= said, module


FOLLOWED = """
import derivations
from derivations import arcsine_law as law
from dynsim._compiled import evaluate as number
from dynsim import _compiled

def value(x, formula=None):
    derived = derivations.coherence_ratio()
    mean, rms = derivations.first_step("projection", "sign")
    a = number(derived, {})
    b = [number(part, {}) for part in (mean, rms)]
    c = _compiled.evaluate(law().expression, {})
    d = number(formula, {})
    e = number(x**2 * 3, {})
    return a, b, c, d, e

def other():
    return value(3, formula=derivations.optimal_ratio())
"""


def test_values_are_followed_to_their_derivation():
    found = [sorted(use.derivations) for use in compiled_formulas.uses_in("a.py", FOLLOWED)]
    assert found == [["coherence_ratio"], ["first_step"], ["arcsine_law"], ["optimal_ratio"], []]


def test_the_table_is_in_the_docs():
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert "```{compiled-formulas}" in pages


# What is typed a second time


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_no_formula_is_typed_a_second_time(module):
    found = [
        f"{module}:{finding.line}: {finding.text} is {finding.formula}"
        for finding in formulas.findings(SOURCES[module])
        if (module, finding.formula) not in ALLOWED
    ]
    assert not found, "\n".join(found)


def test_what_is_allowed_is_there():
    for module, formula in ALLOWED:
        assert formula in {finding.formula for finding in formulas.findings(SOURCES[module])}


def test_every_module_of_derivations_is_searched():
    modules = {
        sys.modules[f"derivations.{file.stem}"]
        for file in (ROOT / "derivations").glob("_*.py")
        if "Derivation:" in file.read_text("utf-8") and file.stem not in ("__init__", "_derivation")
    }
    assert len(modules) > 6
    for module in modules:
        assert set(vars(module)) & set(formulas.derived()), f"nothing found in {module.__name__}"
    assert len(formulas.known_formulas()) > 300


PLANTED = {
    "interpolation": ("out = 1 + (2 / np.pi) * (n - 1) / vocab", "coherence_ratio|first_step"),
    "interpolation without pi": ("out = 1 + 0.63662 * (n - 1) / vocab", "2/pi"),
    "self-term second moment": (
        "t = k ** 2\nout = lr**2 * a**2 * n * (1 + 2 * n * (c2 + 2 * q * t) / (pi * (1 + t)))",
        "self_term_second_moment|mean_field",
    ),
    "optimal ratio": (
        "out = math.pi / 2 * v**0.5 + (n - 1) / math.sqrt(v)",
        "optimal_ratio_mup_uniform",
    ),
    "arcsine law": ("out = 2 / np.pi * np.arcsin(overlap)", "2*asin(c)/pi"),
    "arcsine law of the self term": (
        "out = 2 * np.arcsin(q / np.sqrt(1 + q**2)) / np.pi",
        "cross_term_second_moment|mean_field",
    ),
    "smoothed sign": ("out = grad / jnp.sqrt(grad**2 + delta**2)", "smoothed_sign"),
    "smoothed sign by hypot": ("out = grad / np.hypot(delta, grad)", "smoothed_sign"),
    "smoothed sign in two lines": (
        "size = np.sqrt(x * x + tol * tol)\nout = x / size",
        "smoothed_sign",
    ),
    "sgd's Wishart moment": ("out = s * n * (1 + (n + 1) * corr**2)", "update_second_moment"),
    "Gram flow of the output": (
        "out = -lr_a * (kernel @ delta) - lr_b * (delta @ small)",
        "gram_flow",
    ),
    "Gram flow of a Gram": (
        "turn = residual @ f.T\nout = -rate * (turn + f @ residual.T)",
        "gram_flow",
    ),
}


def planted(lines: str) -> str:
    body = "\n".join(f"    {line}" for line in lines.splitlines())
    return f"import math\nimport numpy as np\n\ndef planted(*args):\n{body}\n    return out\n"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_copy_is_found(name):
    lines, expected = PLANTED[name]
    found = [finding.formula for finding in formulas.findings(planted(lines))]
    assert any(part in formula for part in expected.split("|") for formula in found), found


INNOCENT = {
    "root mean square": "out = np.sqrt(np.mean(x**2, axis=0))",
    "standard error": "out = x.std(ddof=1) / np.sqrt(len(x) - 1)",
    "correlated normals": "out = c * x + np.sqrt(1 - c**2) * y",
    "softmax": "out = np.exp(x - top) / np.sum(np.exp(x - top))",
    "a step of descent": "out = weight - rate * (gradient + decay * weight)",
    "Pythagoras": "out = np.hypot(noise, drift)",
    "a length divided by it": "out = 3 * size / np.hypot(noise, drift)",
    "least squares": "out = np.sum((x - a) * (y - b)) / np.sum((x - a) ** 2)",
    "memory": "out = 8 * seeds * (vocab * width + outputs * width) * copies",
    "other interpolation": "out = 1 + 0.5 * (n + 3) / vocab",
    "matrix products": "out = a @ b + c @ d",
    "a weight that falls like a bell curve": "out = np.exp(-0.5 * (gap / scale) ** 2)",
}


@pytest.mark.parametrize("name", INNOCENT)
def test_innocent_arithmetic_is_not(name):
    assert not formulas.findings(planted(INNOCENT[name]))


@pytest.mark.parametrize(
    "lines",
    [
        "out = grad / jnp.sqrt(grad**2 + 2 * delta**2)",
        "out = grad / jnp.sqrt(grad**2 - delta**2)",
        "out = -lr_a * (kernel @ delta) - lr_b * (small @ delta) @ kernel",
        "out = s * n * (1 + (n + 2) * corr**2)",
    ],
)
def test_another_formula_is_not_taken_for_it(lines):
    assert not formulas.findings(planted(lines))


def test_fingerprint_knows_neither_names_nor_form():
    x, y, z = sp.symbols("x y z")
    one = sp.sqrt(x**2 + y) / (x * z) + sp.asin(z)
    other = (sp.asin(x) * z * x + sp.sqrt(z**2 + y)) / (z * x)
    assert formulas.fingerprint(one) == formulas.fingerprint(sp.expand(other))
    assert formulas.fingerprint(one) == formulas.fingerprint(1 / -other)
    assert formulas.fingerprint(one) != formulas.fingerprint(one + x)
    assert formulas.fingerprint(one) != formulas.fingerprint(one.subs(y, z))
