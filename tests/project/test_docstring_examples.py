"""Every public function of dynsim shows an example, which runs, and the shapes of its arrays."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pages import ROOT

STATED = re.compile(r"shapes?\b|labels", re.IGNORECASE)
ARRAY = re.compile(r"Array|Floats|Integers|ndarray")
WITH_SHAPE = re.compile(r"(?:Float|Int|Bool)\[")


def public_functions() -> dict[str, Callable[..., Any]]:
    """By name; a function that several packages have counts once."""
    stubs = [ROOT / "dynsim/__init__.pyi", *sorted(ROOT.glob("dynsim/*/__init__.pyi"))]
    found: dict[int, tuple[str, Callable[..., Any]]] = {}
    for stub in stubs:
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        module = importlib.import_module(package)
        for name in module.__all__:
            if name in NEEDS_TORCH and importlib.util.find_spec("torch") is None:
                continue
            value = getattr(module, name)
            if inspect.isfunction(inspect.unwrap(value) if callable(value) else value):
                found.setdefault(id(value), (f"{package}.{name}", value))
    return dict(found.values())


NEEDS_TORCH = ("CoordinateRecorder",)
FUNCTIONS = public_functions()


def without_shapes(function: Callable[..., Any]) -> list[str]:
    """Arguments that are arrays, of which neither annotation nor docstring says the shape."""
    words = (inspect.getdoc(function) or "").partition("**Example:**")[0]
    parameters = inspect.signature(function).parameters.items()
    annotations = {name: str(parameter.annotation) for name, parameter in parameters}
    return [
        name
        for name, annotation in annotations.items()
        if ARRAY.search(annotation)
        and not WITH_SHAPE.search(annotation)
        and not STATED.search(words)
    ]


def test_the_functions_are_found():
    assert len(FUNCTIONS) > 120
    assert {"dynsim.first_step", "dynsim.plots.write", "dynsim.maps.axis"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_says_the_shapes_of_its_arrays(name):
    assert without_shapes(FUNCTIONS[name]) == []


def test_an_array_without_a_shape_is_noticed():
    def silent(values: np.ndarray):
        """The mean."""

    assert without_shapes(silent) == ["values"]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_every_public_function_runs(name, tmp_path, monkeypatch):
    function = FUNCTIONS[name]
    monkeypatch.chdir(tmp_path)  # some write files of their own
    code = inspect.getdoc(function) or ""
    if "import torch" in code:
        pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
    example = doctest.DocTestParser().get_doctest(code, {}, name, None, None)
    assert example.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    told: list[str] = []
    runner.run(example, out=told.append)
    assert not told, "".join(told)


def test_a_wrong_example_is_noticed():
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert told
