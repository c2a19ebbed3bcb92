"""Finds theory formulas that are typed a second time, whatever their names and their form.

Both sides become sympy expressions: everything that `derivations` derives, and every arithmetic
expression of a source text (single assignments inside a function put in). Two expressions are the
same formula if they take the same values at fixed numbers, over all ways to give these numbers to
their symbols; sign and reciprocal do not count. Matrix products are evaluated with 3 x 3 matrices.
A plain product or quotient, a Pythagorean sum, a bare bell curve and two correlated normals cannot
be told from other arithmetic.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import inspect
import itertools
import math
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import scipy.special
import sympy as sp

import derivations

MAX_SYMBOLS = 6
MAX_PARTS = 5  # of a sum or product, of which every part of it is looked at
MAX_INLINED = 4
VALUES = (0.613, 1.379, 1.871, 2.423, 2.903, 3.527)
MATRICES = np.random.default_rng(8).standard_normal((MAX_SYMBOLS, 3, 3))

_SCALAR = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.erf: scipy.special.erf,
    sp.erfc: scipy.special.erfc,
    sp.asin: np.arcsin,
    sp.acos: np.arccos,
    sp.atan: np.arctan,
    sp.tanh: np.tanh,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.Abs: np.abs,
    sp.sign: np.sign,
}
_CALLS: dict[str, Any] = {
    "sqrt": sp.sqrt,
    "square": lambda x: x**2,
    "rsqrt": lambda x: x ** sp.Rational(-1, 2),
    "hypot": lambda x, y: sp.sqrt(x**2 + y**2),
    "power": sp.Pow,
    "pow": sp.Pow,
    "multiply": sp.Mul,
    "divide": lambda x, y: x / y,
    "add": sp.Add,
    "subtract": lambda x, y: x - y,
    "reciprocal": lambda x: 1 / x,
    "arcsin": sp.asin,
    "arccos": sp.acos,
    "arctan": sp.atan,
    "float": lambda x: x,
    "asarray": lambda x: x,
    **{function.__name__: function for function in _SCALAR},
    "abs": sp.Abs,
}
_TRANSCENDENTAL = (sp.erf, sp.erfc, sp.asin, sp.acos, sp.atan, sp.log, sp.exp)
_MATRIX = (sp.MatAdd, sp.MatMul, sp.Transpose, sp.MatrixSymbol)

# What the theory's Gaussian averages leave behind; none of it belongs in numeric code.
CONSTANTS = {
    "pi": math.pi,
    "2 pi": 2 * math.pi,
    "pi/2": math.pi / 2,
    "2/pi": 2 / math.pi,
    "1/pi": 1 / math.pi,
    "sqrt(pi)": math.sqrt(math.pi),
    "sqrt(2/pi)": math.sqrt(2 / math.pi),
    "sqrt(pi/2)": math.sqrt(math.pi / 2),
    "sqrt(2 pi)": math.sqrt(2 * math.pi),
    "1/sqrt(2 pi)": 1 / math.sqrt(2 * math.pi),
}
GAUSSIAN_FUNCTIONS = {"erf", "erfc", "erfcx", "asin", "arcsin", "atan", "arctan", "acos", "arccos"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line that holds a formula or constant of the theory."""

    line: int
    text: str
    formula: str


def findings(text: str) -> list[Finding]:
    """Every second copy of a derived formula, and every characteristic constant, in a source."""
    return sorted({*_constants(text), *_copies(text)}, key=lambda found: (found.line, found.text))


# Constants


def _constants(text: str) -> Iterator[Finding]:
    for node in ast.walk(ast.parse(text)):
        what = None
        if isinstance(node, ast.Attribute | ast.Name | ast.alias):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
            name = node.name if isinstance(node, ast.alias) else name
            what = name if name == "pi" or name in GAUSSIAN_FUNCTIONS else None
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            digits = len(f"{node.value!r}".replace(".", "").lstrip("0"))
            close = (
                label
                for label, value in CONSTANTS.items()
                if digits >= 4 and abs(node.value / value - 1) < 5e-4
            )
            what = next(close, None)
        if what:
            yield Finding(node.lineno, ast.unparse(node), what)


# Derived formulas


def _calls_of(function: Any) -> Iterator[dict[str, Any]]:
    """Arguments to call it with: all choices of those parameters that have no default."""
    hints = typing.get_type_hints(function)
    choices: dict[str, tuple] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        if parameter.default is not inspect.Parameter.empty:
            continue
        if typing.get_origin(hint) is typing.Literal:
            choices[name] = typing.get_args(hint)
        elif hint is bool:
            choices[name] = (False, True)
        else:
            return
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def _expressions(value: Any) -> Iterator[sp.Basic]:
    """Every sympy expression inside what a function of `derivations` returns."""
    if isinstance(value, sp.Basic):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _expressions(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _expressions(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _expressions(part)


@cache
def derived() -> dict[str, tuple[sp.Basic, ...]]:
    """All expressions of the public functions of every module of `derivations`, by function."""
    found: dict[str, tuple[sp.Basic, ...]] = {}
    for module_info in pkgutil.iter_modules(derivations.__path__):
        module = importlib.import_module(f"derivations.{module_info.name}")
        for name, function in vars(module).items():
            plain = inspect.unwrap(function) if callable(function) else None
            if not inspect.isfunction(plain) or plain.__module__ != module.__name__:
                continue
            if name.startswith("_") or not _gives_formulas(plain):
                continue
            values = []
            for arguments in _calls_of(plain):
                with contextlib.suppress(ValueError):  # a combination that the theory refuses
                    values.append(function(**arguments))
            found[name] = tuple(dict.fromkeys(_expressions(values)))
    return {name: expressions for name, expressions in found.items() if expressions}


def _gives_formulas(function: Any) -> bool:
    returned = typing.get_type_hints(function).get("return")
    parts = {returned, *typing.get_args(returned)}
    return bool(parts & {derivations.Derivation, derivations.Kernel, sp.Expr})


@cache
def known_formulas() -> dict[tuple, str]:
    """Fingerprint of every characteristic (sub)expression that is derived, and its function."""
    known: dict[tuple, str] = {}
    seen: set[sp.Basic] = set()
    for name, expressions in derived().items():
        for expression in expressions:
            for part in parts_of(expression):
                if part in seen:
                    continue
                seen.add(part)
                if is_characteristic(part):
                    mark = fingerprint(part)
                    if mark is not None:
                        known.setdefault(mark, f"{name}: {part}")
    return known


def parts_of(expression: sp.Basic) -> Iterator[sp.Basic]:
    """Every subexpression, and every part of every short sum and product."""
    for node in sp.preorder_traversal(expression):
        if not isinstance(node, sp.Expr):
            continue
        yield node.expand() if isinstance(node, sp.MatMul) else node
        if isinstance(node, sp.Add | sp.Mul) and 2 < len(node.args) <= MAX_PARTS:
            for size in range(2, len(node.args)):
                for some in itertools.combinations(node.args, size):
                    yield node.func(*some)


@cache
def is_characteristic(expression: sp.Basic) -> bool:
    """More than an innocent bit of arithmetic: long enough and of the theory's make."""
    names = {*itertools.chain(*_names(expression))}
    if not names or len(names) > MAX_SYMBOLS:
        return False
    if isinstance(expression, sp.MatAdd):
        return sum(len(term.atoms(sp.MatrixSymbol)) >= 2 for term in expression.args) >= 2
    if isinstance(expression, _MATRIX) or _is_bell_curve(expression) or _is_split(expression):
        return False
    if int(sp.count_ops(expression)) >= 3 and expression.has(sp.pi, *_TRANSCENDENTAL):
        return True
    bare = expression.as_coeff_Mul()[1]  # neither sign nor reciprocal
    bare = 1 / bare if isinstance(bare, sp.Pow) and bare.exp.is_negative else bare
    operations = int(sp.count_ops(bare))
    if operations < 6 or len(names) < 2:  # below: a Pythagorean sum
        return False
    if operations >= 9:
        return True
    return any(_beside_one(node) for node in expression.atoms(sp.Add)) or any(
        root.base.is_Add and not root.exp.is_integer for root in expression.atoms(sp.Pow)
    )


def _is_bell_curve(expression: sp.Basic) -> bool:
    """exp(-x^2 / (2 s^2)), with nothing before it."""
    return isinstance(expression, sp.exp) and not expression.args[0].has(sp.Add, sp.pi)


def _is_split(expression: sp.Basic) -> bool:
    """c x + sqrt(1 - c^2) y: how anyone makes correlated normals."""
    for c in expression.free_symbols if isinstance(expression, sp.Add) else ():
        root = sp.sqrt(1 - c**2)
        rest = [term / c if not term.has(root) else term / root for term in expression.args]
        if len(rest) == 2 and all(part.is_Symbol for part in rest) and expression.has(root):
            return True
    return False


def _beside_one(node: sp.Add) -> bool:
    """d - 1 and the like."""
    return len(node.args) == 2 and abs(node.args[0]) == 1 and node.args[1].is_Symbol


def _opaque(node: sp.Basic) -> list[sp.Basic]:
    """The largest subexpressions that are not evaluated but stand for a number of their own."""
    if isinstance(node, sp.Number | sp.NumberSymbol | sp.Symbol | sp.MatrixSymbol):
        return []
    if isinstance(node, (sp.Add, sp.Mul, sp.Pow, *_MATRIX, *_SCALAR)):
        return [leaf for part in node.args for leaf in _opaque(part)]
    return [node]


@cache
def fingerprint(expression: sp.Basic) -> tuple | None:
    """Its values over all assignments of fixed numbers, sorted; None with too many names."""
    scalars, ordered = _names(expression)
    if len(scalars) + len(ordered) > MAX_SYMBOLS:
        return None
    orders = np.array(list(itertools.permutations(VALUES[: len(scalars)])))
    choices = np.array(list(itertools.permutations(range(len(ordered)))), int)
    marks = np.sort(_marks(expression, scalars, ordered, orders, choices))
    if not np.all(np.isfinite(marks)):
        return None
    return (len(scalars), len(ordered), *(float(f"{mark:.7g}") for mark in marks))


def _marks(
    expression: sp.Basic,
    scalars: list[sp.Basic],
    ordered: list[sp.Basic],
    orders: np.ndarray,
    choices: np.ndarray,
) -> np.ndarray:
    """|log |value|| at every order of the numbers and every choice of the matrices."""
    count = len(orders) * len(choices)
    shape = (count, 1, 1) if ordered else (count,)
    each = np.repeat(orders, len(choices), axis=0).astype(complex)
    numbers: dict[sp.Basic, Any] = {
        symbol: each[:, place].reshape(shape) for place, symbol in enumerate(scalars)
    }
    chosen = np.tile(choices, (len(orders), 1))
    numbers |= {symbol: MATRICES[chosen[:, place]] for place, symbol in enumerate(ordered)}
    with np.errstate(all="ignore"):
        values = _value(expression, numbers)
        if ordered:
            values = np.linalg.norm(values * np.ones(shape), axis=(-2, -1))
        return np.abs(np.log(np.abs(values) * np.ones(count)))


@cache
def _known_marks() -> dict[tuple[int, int], np.ndarray]:
    """All values in fingerprints of derived formulas, by how many names these have."""
    found: dict[tuple[int, int], list[float]] = {}
    for scalars, ordered, *marks in known_formulas():
        found.setdefault((scalars, ordered), []).extend(marks)
    return {names: np.sort(marks) for names, marks in found.items()}


@cache
def known_name(expression: sp.Basic) -> str | None:
    """The derived formula that an expression is, if it is one.

    Of a derived formula the fingerprint holds the value at any one assignment, so most expressions
    are told apart by one value.
    """
    scalars, ordered = _names(expression)
    marks = _known_marks().get((len(scalars), len(ordered)))
    if marks is None:
        return None
    orders, choices = np.array([VALUES[: len(scalars)]]), np.array([range(len(ordered))], int)
    (mark,) = _marks(expression, scalars, ordered, orders, choices)
    place = np.searchsorted(marks, mark)
    near = marks[max(place - 1, 0) : place + 1]
    if not np.any(np.abs(near - mark) <= 1e-6 * mark + 1e-9):
        return None
    return known_formulas().get(fingerprint(expression))


def _names(expression: sp.Basic) -> tuple[list[sp.Basic], list[sp.Basic]]:
    """What stands for a number of its own and what for a matrix; not the sizes of matrices."""
    hidden = {leaf: sp.Dummy() for leaf in _opaque(expression)}
    seen = expression.xreplace(hidden)
    matrices = seen.atoms(sp.MatrixSymbol)
    sizes = {symbol for matrix in matrices for symbol in matrix.shape}
    scalars = (seen.atoms(sp.Symbol) - {*hidden.values()} - sizes) | {*hidden}
    return sorted(scalars, key=str), sorted(matrices, key=str)


def _value(node: sp.Basic, numbers: dict[sp.Basic, Any]) -> Any:
    if node in numbers:
        return numbers[node]
    if isinstance(node, sp.Number | sp.NumberSymbol):
        return complex(node)
    values = [_value(part, numbers) for part in node.args]
    match node:
        case sp.Add() | sp.MatAdd():
            return sum(values[1:], start=values[0])
        case sp.Mul():
            return math.prod(values[1:], start=values[0])
        case sp.MatMul():
            result = values[0]
            for value in values[1:]:
                matrices = np.shape(result)[-1:] == np.shape(value)[-1:] == (3,)
                result = result @ value if matrices else result * value
            return result
        case sp.Transpose():
            return np.swapaxes(values[0], -2, -1)
        case sp.Pow():
            return values[0] ** values[1]
    return _SCALAR[node.func](*values)


# Source texts


def _copies(text: str) -> Iterator[Finding]:
    tree = ast.parse(text)
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Module)]
    for scope in scopes:
        readers = (_Reader({}), _Reader(_single_assignments(scope)))
        for node in _own_nodes(scope):
            if not isinstance(node, ast.BinOp | ast.Call | ast.UnaryOp):
                continue
            for read in dict.fromkeys(reader.read(node) for reader in readers):
                for part in parts_of(read):
                    name = known_name(part) if is_characteristic(part) else None
                    if name is not None:
                        yield Finding(node.lineno, ast.unparse(node), name)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function or module, those of the functions inside it left out."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _own_nodes(child)


def _single_assignments(scope: ast.AST) -> dict[str, ast.expr]:
    """Names of a scope that are assigned once, to one expression."""
    bound: dict[str, list[ast.expr | None]] = {}
    for node in _own_nodes(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.setdefault(node.id, []).append(None)
    for node in _own_nodes(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                bound[name] = [*bound[name][1:], value]
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=False):
                    if isinstance(target, ast.Name):
                        bound[target.id] = [*bound[target.id][1:], value]
            case _:
                pass
    return {name: values[0] for name, values in bound.items() if len(values) == 1 and values[0]}


class _Reader:
    """Turns an arithmetic expression of a source into sympy, unknown parts into symbols."""

    def __init__(self, inlined: dict[str, ast.expr]) -> None:
        self.inlined = inlined
        self.known: dict[tuple[ast.expr, int], Any] = {}

    def read(self, node: ast.expr, depth: int = 0) -> Any:
        if (node, depth) not in self.known:
            self.known[node, depth] = self._read(node, depth)
        return self.known[node, depth]

    def _read(self, node: ast.expr, depth: int) -> Any:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return sp.nsimplify(value) if value == int(value) else sp.Float(value)
            case ast.Name(id="pi") | ast.Attribute(attr="pi"):
                return sp.pi
            case ast.Name(id=name) if name in self.inlined and depth < MAX_INLINED:
                return self.read(self.inlined[name], depth + 1)
            case ast.Attribute(value=inside, attr="T" | "mT"):
                return self._matrix(inside, depth).T
            case ast.UnaryOp(op=ast.USub(), operand=inside):
                return -self.read(inside, depth)
            case ast.UnaryOp(op=ast.UAdd(), operand=inside):
                return self.read(inside, depth)
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                return sp.MatMul(self._matrix(left, depth), self._matrix(right, depth))
            case ast.BinOp(left=left, op=operation, right=right):
                return self._combine(operation, left, right, depth, node)
            case ast.Call(func=function, args=arguments, keywords=[]):
                name = ast.unparse(function).rpartition(".")[2]
                values = [self.read(argument, depth) for argument in arguments]
                plain = not any(isinstance(value, sp.MatrixExpr) for value in values)
                if name in _CALLS and plain and values:
                    try:
                        return _CALLS[name](*values)
                    except TypeError:
                        pass
                if name == "transpose" and len(arguments) == 1:
                    return self._matrix(arguments[0], depth).T
        return sp.Symbol(ast.unparse(node))

    def _matrix(self, node: ast.expr, depth: int) -> Any:
        value = self.read(node, depth)
        if isinstance(value, sp.MatrixExpr):
            return value
        scalar, rest = value.as_coeff_Mul() if isinstance(value, sp.Expr) else (1, value)
        factors = [part for part in sp.Mul.make_args(rest) if isinstance(part, sp.Symbol)]
        if not factors or len(factors) != len(sp.Mul.make_args(rest)):
            return _square(ast.unparse(node))
        product: Any = _square(factors[-1].name)
        return scalar * math.prod(factors[:-1], start=sp.S.One) * product

    def _combine(
        self, operation: ast.operator, left: ast.expr, right: ast.expr, depth: int, node: ast.expr
    ) -> Any:
        a, b = self.read(left, depth), self.read(right, depth)
        matrices = [isinstance(value, sp.MatrixExpr) for value in (a, b)]
        try:
            match operation:
                case ast.Add() | ast.Sub():
                    if any(matrices):
                        a, b = self._matrix(left, depth), self._matrix(right, depth)
                    return a + b if isinstance(operation, ast.Add) else a - b
                case ast.Mult() if not all(matrices):
                    return a * b
                case ast.Div() if not matrices[1]:
                    return a / b
                case ast.Pow() if not any(matrices):
                    return a**b
        except (TypeError, ValueError):
            pass
        return sp.Symbol(ast.unparse(node))


def _square(name: str) -> sp.MatrixSymbol:
    size = sp.Symbol("size", integer=True, positive=True)
    return sp.MatrixSymbol(name, size, size)
