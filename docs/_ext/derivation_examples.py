"""An example below every function of `derivations` on its API page, run when the page is built.

It calls the function. A formula of numbers gets numbers put in, and its value is shown; any other
formula, and any other result, is shown as it stands.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sympy as sp

import derivations

PARAMETERS: Mapping[str, str] = {
    "activation": '"relu"',
    "base_width": "256",
    "depth": "2",
    "directions": '"one"',
    "early": "False",
    "given": 'derivations.parametrization("mup")',
    "goal": '"rotation"',
    "init": '"mup"',
    "layer": '"projection"',
    "level": "1",
    "mini_batch": "False",
    "moves": "0",
    "name": '"mup"',
    "of_one_token": "False",
    "optimizer": '"sign"',
    "order": "2",
    "orders": "orders",
    "pair": '"hidden"',
    "part": '"coherent"',
    "passage": '"down"',
    "residuals": '"gaussian"',
    "side": '"token"',
    "spread": '"all-outputs"',
    "state": '"output"',
    "targets": '"gaussian"',
    "updates": '"proportional"',
    "vocab_exponent": "1",
    "vocab_size": "50257",
    "which": '"ratio"',
    "width": "4096",
}
"""what an argument without a default is, by its name"""
ARGUMENTS: Mapping[str, str] = {
    "as_exponent": '"3/2"',
    "base_rate": '{"embedding": 0, "projection": -1}, "sp", 1',
    "batch_pair_alignment": '"head"',
    "custom_parametrization": '(0, 0, 0), (0, "-1/2", -1)',
    "first_loss_power": "orders, [0]",
    "head_crossover": '"head"',
    "head_exponent": '"head"',
    "head_step": '"head", "sign"',
    "head_step_rms": '"head", "sign"',
    "hidden_update_growth": '4096, 256, 0.1, "adam"',
    "layer_alignment": "1, 1",
    "leading_order": "symbols.frequency * symbols.width, derivations.zipf_orders()",
    "local_exponent": "symbols.width * sp.sqrt(1 + symbols.width / symbols.vocab_size)",
    "muon_entry_rms": '"original"',
    "muon_filter": '"head"',
    "muon_operator_rms": '"original"',
    "muon_scale": '"original"',
    "path_orders": "sizes, 0",
    "phase_diagram": "[0, 1, 2], [0, 1]",
    "power_sum_order": "symbols.zipf_exponent",
    "restoration_power": (
        '"one", orders.with_orders({symbols.effective_outputs: Fraction(0)}), early=False'
    ),
    "step_decay_of": '"coupled"',
    "vocabulary_boundary": '"uniform"',
    "weight_gradient": '"embedding"',
    "weighted_share_sum": "2, 1, mini_batch=False",
}
"""all arguments, where their names do not tell"""
PATH = (
    "one, none = Fraction(1), Fraction(0)",
    "sizes = {symbols.width: one, symbols.vocab_size: one}  # m in proportion to d",
    "sizes |= {symbols.batch_size: none, symbols.outputs: none}",
    "sizes |= {symbols.embedding_lr: none, symbols.projection_lr: none}",
)
ORDERS = 'orders = derivations.path_orders(sizes, 0, init="mup")'
PARTS: Mapping[str, str] = {
    "AgedSignal": "on_learned",
    "Alignment": "alignment_square",
    "BaseRate": "exponent",
    "BoundaryFormula": "text",
    "Derivation": "expression",
    "Kernel": "second_moment",
    "NetworkAlignment": "hidden",
    "Parametrization": "hidden",
    "PathOrders": "of[symbols.frequency_square_sum]",
    "PathPower": "power",
    "PhaseDiagram": "hidden_lr_exponents",
    "RuleComparison": "ratio_factors",
    "StabilitySolution": 'layers["hidden"].lr_exponent',
}
"""what is shown of a result, by its type"""
VALUES: Mapping[str, float] = {
    "B": 512,
    "C": 0.05,
    "D": 1,
    "J": 0.01,
    "K": 3,
    "L": 2,
    "N_1": 20,
    "P_2": 1e-3,
    "P_3": 3e-6,
    "P_4": 1e-8,
    "P_5": 3.5e-11,
    "P_6": 1.3e-13,
    "R": 2,
    "S": 1e-3,
    "alpha": 0.75,
    "beta": 0.5,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "c": 0.1,
    "c_1": 0.03,
    "d": 1024,
    "d_0": 256,
    "delta": 0.01,
    "eta": 0.01,
    "eta_E": 0.01,
    "eta_W": 0.01,
    "f_0": 0.1,
    "i": 10,
    "iota": 0.5,
    "k": 16,
    "kappa": 0.5,
    "lambda": 1.5,
    "m": 4096,
    "mu": 1.5,
    "n": 4,
    "n_eff": 4,
    "p_i": 0.01,
    "phi": 3.5,
    "q": 0.1,
    "r": 1,
    "r_0": 0.995,
    "sigma_E": 1,
    "sigma_W": 0.03125,
    "t": 10,
    "tau": 0.5,
    "theta": 0.1,
    "Theta": 0.01,
    "y": 1,
}
"""the numbers that are put in, by the symbol's letter; other symbols are one half"""
PLACE_VALUES: Mapping[str, float] = {
    "decay_symbols.weight_decay": 0.1,
    "derivations.size_ratio": 4,
    "muon_symbols.columns": 1024,
    "muon_symbols.count": 3,
    "muon_symbols.rows": 4096,
}
"""the numbers of symbols that share a letter with others"""
HALF = 0.5
DIGITS = 4
LINE = 88
MODULES = ("symbols", "flow_symbols", "decay_symbols", "muon_symbols")
IMPORTS = (
    "from fractions import Fraction",
    "import sympy as sp",
    "import derivations",
    f"from derivations import {', '.join(MODULES)}",
)


class Example(NamedTuple):
    """Statements and what the last one shows; the numbers that were put into a formula."""

    code: tuple[str, ...]
    shown: str
    result: Any
    values: Mapping[sp.Basic, float]

    def lines(self) -> list[str]:
        """As they are typed at a prompt."""
        typed = []
        for statement in self.code:
            first, *others = statement.split("\n")
            typed += [f">>> {first}", *(f"... {line}" for line in others)]
        return [*typed, *self.shown.splitlines()]


def public_functions() -> dict[str, Callable[..., Any]]:
    """Functions of `derivations` without an underscore, by name."""
    return {
        name: one
        for name, one in vars(derivations).items()
        if not name.startswith("_") and callable(one) and inspect.isfunction(inspect.unwrap(one))
    }


def example(name: str) -> Example:
    """The example of a function, run."""
    before = statements_before(name)
    call = f"derivations.{name}({arguments(name)})"
    result = _run([*IMPORTS, *before, f"found = {call}"])["found"]
    made, last = "found", "found"
    if isinstance(result, tuple) and isinstance(result[-1], derivations.Derivation):
        made, result = "mean, found", result[-1]
    elif isinstance(result, tuple) and isinstance(result[0], derivations.PublishedRule):
        last = "[rule.name for rule in found]"
    code = [*before, f"{made} = {call}"]
    if (part := PARTS.get(type(result).__name__)) is not None:
        last = f"found.{part}"
        result = eval(f"result.{part}", {"result": result, "symbols": derivations.symbols})
    values: dict[sp.Basic, float] = {}
    if named := _names(name, result):
        values = {
            one: PLACE_VALUES.get(place, VALUES.get(str(one), HALF)) for one, place in named.items()
        }
        code += _dictionary("values", {named[one]: f"{value:g}" for one, value in values.items()})
        last += f".subs(values).evalf({DIGITS})"
    code.append(f"print({last})")
    code = [*_imports(code), *code]
    return Example(tuple(code), _run(code)["printed"].strip(), result, values)


def statements_before(name: str) -> list[str]:
    """What makes the orders of a path, for the functions that are given them."""
    words = arguments(name)
    if "orders" in words.replace("zipf_orders", ""):
        return [*PATH, ORDERS]
    return [*PATH] if "sizes" in words else []


def arguments(name: str) -> str:
    """What a function is called with."""
    if name in ARGUMENTS:
        return ARGUMENTS[name]
    given = []
    for one in inspect.signature(public_functions()[name]).parameters.values():
        if one.default is one.empty:
            keyword = f"{one.name}=" if one.kind is one.KEYWORD_ONLY else ""
            given.append(keyword + PARAMETERS[one.name])
    return ", ".join(given)


def _names(name: str, result: Any) -> dict[sp.Basic, str]:
    """Where each symbol of a function's formula is found.

    Nothing, if the result is no formula of numbers or one of its symbols has no place. Some
    letters have several names: those of the symbols that the function's file imports go first.
    """
    if (
        not isinstance(result, sp.Expr)
        or result.is_Matrix
        or result.has(sp.core.function.AppliedUndef, sp.MatrixSymbol, sp.Indexed)
    ):
        return {}
    source = inspect.getsource(sys.modules[public_functions()[name].__module__])
    homes = {module: getattr(derivations, module) for module in MODULES}
    first = [
        module for module in MODULES if f"_{module} import" in source or f" _{module} " in source
    ]
    places: dict[sp.Basic, str] = {}
    for module in (*first[::-1], "symbols", "derivations", *MODULES):
        for one, value in vars(homes.get(module, derivations)).items():
            if isinstance(value, sp.Symbol):
                same = getattr(derivations.symbols, one, None) == value
                places.setdefault(value, f"symbols.{one}" if same else f"{module}.{one}")
    for power, value in derivations.symbols.POWER_SUMS.items():
        places.setdefault(value, f"symbols.POWER_SUMS[{power}]")
    free = sorted(result.free_symbols, key=str)
    return {one: places[one] for one in free} if all(one in places for one in free) else {}


def _imports(code: Sequence[str]) -> list[str]:
    """The imports that statements need."""
    text = "\n".join(code)
    modules = [one for one in MODULES if re.search(rf"\b{one}\.", text)]
    needed = {
        "from fractions import Fraction": "Fraction(" in text,
        "import sympy as sp": "sp." in text,
        "import derivations": True,
        f"from derivations import {', '.join(modules)}": bool(modules),
    }
    return [line for line, used in needed.items() if used]


def _dictionary(name: str, entries: Mapping[str, str]) -> list[str]:
    """A statement that makes a dictionary, on several lines if it is long."""
    pairs = [f"{key}: {value}" for key, value in entries.items()]
    short = f"{name} = {{{', '.join(pairs)}}}"
    if len(short) <= LINE:
        return [short]
    return ["\n".join([f"{name} = {{", *(f"    {pair}," for pair in pairs), "}"])]


def _run(code: Sequence[str]) -> dict[str, Any]:
    """The names that statements leave behind, and what they print."""
    names: dict[str, Any] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec("\n".join(code), names)
    return {**names, "printed": out.getvalue()}


def add(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Adds the example to a docstring of `derivations` that has none."""
    package, _, function = name.rpartition(".")
    if package == "derivations" and function in public_functions() and ">>>" not in str(lines):
        lines += ["", "**Example:**", "", *example(function).lines(), ""]


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", add, priority=900)  # after the escapes
    return {"parallel_read_safe": True, "parallel_write_safe": True}
