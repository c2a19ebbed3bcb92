"""The example below each function of `derivations` on its API page.

All of them are run when the documentation is built. Here a few are.
"""

from __future__ import annotations

import doctest
import importlib.util
import inspect
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from pages import ROOT

import derivations
from dynsim import evaluate


def _docs_extension():
    path = ROOT / "docs/_ext/derivation_examples.py"
    spec = importlib.util.spec_from_file_location("derivation_examples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


examples = _docs_extension()
RUN = (
    "crossover_vocab_size",
    "first_step",
    "kernel",
    "marchenko_pastur_density",
    "muon_scale",
    "optimal_ratio",
    "smoothed_speed",
    "unequal_residuals_error",
)
"""examples with numbers"""


def test_every_function_can_be_called_with_what_its_example_gives():
    functions = examples.public_functions()
    assert len(functions) > 200
    names = {"Fraction": Fraction, "sp": sp, "derivations": derivations}
    names |= {module: getattr(derivations, module) for module in examples.MODULES}
    exec("\n".join([*examples.PATH, examples.ORDERS]), names)
    for name, function in functions.items():
        bind = inspect.signature(function).bind
        eval(f"bind({examples.arguments(name)})", {**names, "bind": bind})
    assert set(examples.ARGUMENTS) <= set(functions)  # none is left from a function that is gone


@pytest.mark.parametrize("name", RUN)
def test_an_example_shows_what_numpy_computes(name):
    """Sympy evaluates the example; `evaluate` goes by numpy and scipy."""
    found = examples.example(name)
    assert found.values
    value = evaluate(found.result, {symbol: float(one) for symbol, one in found.values.items()})
    np.testing.assert_allclose(float(found.shown), value, rtol=1e-3)


@pytest.mark.parametrize("name", ["first_step", "token_output", "path_orders"])
def test_an_example_can_be_typed_as_it_stands(name):
    lines = examples.example(name).lines()
    test = doctest.DocTestParser().get_doctest("\n".join(lines), {}, name, None, None)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert test.examples
    assert not told, "".join(told)


def test_the_page_adds_an_example_where_there_is_none():
    for name, added in (("crossover_vocab_size", True), ("Derivation", False)):
        lines = ["words"]
        examples.add(None, "function", f"derivations.{name}", None, None, lines)
        assert (">>> import derivations" in lines) is added
