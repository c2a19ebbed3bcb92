"""What each option means, from where it is defined."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache


@cache
def documented(described: type) -> dict[str, str]:
    """The text under each field of a dataclass and of the classes that it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(described.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for statement, after in zip(body.body, body.body[1:], strict=False):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(after, ast.Expr):
                continue
            if isinstance(statement.target, ast.Name) and isinstance(after.value, ast.Constant):
                found[statement.target.id] = " ".join(str(after.value.value).split())
    return found
