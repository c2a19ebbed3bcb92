"""The directive `compiled-formulas`: which derivation is evaluated where, read from the source.

A table of all calls of `evaluate` and `compiled` of `dynsim._compiled` in the packages that
compute: the derivations that their first argument comes from, and the module.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("dynsim", "experiments", "benchmarks")
DOOR = "dynsim/_compiled.py"  # the only module that compiles
COMPILERS = ("evaluate", "compiled")
MAX_DEPTH = 12


@dataclass(frozen=True)
class Use:
    """One compiled expression: where, and the functions of `derivations` that it comes from."""

    module: str
    line: int
    derivations: frozenset[str]


def sources(root: Path = ROOT) -> dict[str, str]:
    """Text of every module of the packages that compute, by path."""
    files = (file for package in PACKAGES for file in sorted((root / package).rglob("*.py")))
    return {file.relative_to(root).as_posix(): file.read_text("utf-8") for file in files}


def uses(root: Path = ROOT) -> list[Use]:
    """Every compiled expression of the packages, in order of module and line."""
    return [
        use
        for module, text in sources(root).items()
        if module != DOOR and any(name in text for name in COMPILERS)
        for use in uses_in(module, text)
    ]


def uses_in(module: str, text: str) -> list[Use]:
    """Every compiled expression of one module."""
    tree = ast.parse(text)
    reader = _Reader(tree)
    found = [
        Use(module, call.lineno, reader.origins(call.args[0] if call.args else call, call))
        for call in reader.calls
        if _name(call.func) in reader.compilers
    ]
    return sorted(found, key=lambda use: use.line)


def _name(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


class _Reader:
    """Follows a value of a module back to the functions of `derivations` that gave it."""

    def __init__(self, tree: ast.Module) -> None:
        self.parents = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }
        self.functions = {
            node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
        self.calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        self.derivations, self.direct, self.compilers = {"derivations"}, {}, set()
        self.bindings: dict[tuple[str, ast.AST], list[tuple[ast.AST, ast.AST]]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.derivations |= {
                    alias.asname
                    for alias in node.names
                    if alias.name == "derivations" and alias.asname
                }
            elif isinstance(node, ast.ImportFrom):
                module = (node.module or "").split(".")
                for alias in node.names:
                    local = alias.asname or alias.name
                    if module[0] == "derivations" and not node.level:
                        self.direct[local] = alias.name
                    elif module[-1] in ("_compiled", "dynsim") and alias.name in COMPILERS:
                        self.compilers.add(local)
                    elif alias.name == "_compiled":
                        self.compilers |= {f"{local}.{name}" for name in COMPILERS}

    def origins(self, value: ast.AST, place: ast.AST, depth: int = 0) -> frozenset[str]:
        """Names of the functions of `derivations` in `value`, names followed from `place`."""
        found: set[str] = set()
        if depth > MAX_DEPTH:
            return frozenset()
        for node in ast.walk(value):
            if isinstance(node, ast.Attribute) and _name(node.value) in self.derivations:
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if node.id in self.direct:
                    found.add(self.direct[node.id])
                elif node.id not in self.derivations:
                    for source, there in self._bindings(node.id, place):
                        found |= self.origins(source, there, depth + 1)
        return frozenset(name for name in found if _is_function(name))

    def _bindings(self, name: str, place: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
        """Expressions that a name may stand for: assigned, looped over, returned or handed in."""
        if (name, place) not in self.bindings:
            self.bindings[name, place] = self._found_bindings(name, place)
        return self.bindings[name, place]

    def _found_bindings(self, name: str, place: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
        scope, bound = self._scope(place), []
        while scope is not None:
            for node in ast.walk(scope):
                match node:
                    case ast.Assign(targets=targets, value=source):
                        bound += [(source, node) for t in targets if _binds(t, name)]
                    case ast.AnnAssign(target=target, value=ast.expr() as source):
                        bound += [(source, node)] if _binds(target, name) else []
                    case (
                        ast.For(target=target, iter=source)
                        | ast.comprehension(target=target, iter=source)
                    ):
                        bound += [(source, node)] if _binds(target, name) else []
                    case _:
                        pass
            if isinstance(scope, ast.FunctionDef):
                bound += self._handed_in(name, scope)
            if bound:
                return bound
            scope = self._scope(self.parents[scope]) if scope in self.parents else None
        function = self.functions.get(name)
        if function is None:
            return []
        returned = (node for node in ast.walk(function) if isinstance(node, ast.Return))
        return [(node.value, node) for node in returned if node.value is not None]

    def _handed_in(self, name: str, function: ast.FunctionDef) -> list[tuple[ast.AST, ast.AST]]:
        parameters = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
        bound: list[tuple[ast.AST, ast.AST]] = []
        for call in self.calls:
            if _name(call.func) != function.name:
                continue
            bound += [(word.value, call) for word in call.keywords if word.arg == name]
            if name in parameters and parameters.index(name) < len(call.args):
                bound.append((call.args[parameters.index(name)], call))
        return bound

    def _scope(self, node: ast.AST) -> ast.AST | None:
        """The function around a node, or the module."""
        while node in self.parents and not isinstance(node, ast.FunctionDef):
            node = self.parents[node]
        return node


def _binds(target: ast.AST, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(target))


def _is_function(name: str) -> bool:
    import derivations

    value = getattr(derivations, name, None)
    return callable(value) and not isinstance(value, type)


def table(found: list[Use]) -> list[tuple[str, str]]:
    """Rows (derivation, modules that evaluate it), in alphabetical order."""
    modules: dict[str, set[str]] = {}
    for use in found:
        for name in use.derivations:
            modules.setdefault(name, set()).add(use.module)
    return [(name, ", ".join(sorted(modules[name]))) for name in sorted(modules)]


def setup(app: Any) -> dict[str, bool]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class CompiledFormulas(SphinxDirective):
        """No arguments."""

        def run(self) -> list[nodes.Node]:
            for module in sources():
                self.env.note_dependency(str(ROOT / module))
            block = nodes.table()
            group = nodes.tgroup(cols=2)
            group += [nodes.colspec(colwidth=width) for width in (40, 60)]
            heads = nodes.row()
            heads += [
                nodes.entry("", nodes.paragraph(text=t)) for t in ("derivation", "evaluated in")
            ]
            body = nodes.tbody()
            for cells in table(uses()):
                row = nodes.row()
                row += [
                    nodes.entry("", nodes.paragraph("", "", nodes.literal(text=cell)))
                    for cell in cells
                ]
                body += row
            group += [nodes.thead("", heads), body]
            block += group
            return [block]

    app.add_directive("compiled-formulas", CompiledFormulas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
