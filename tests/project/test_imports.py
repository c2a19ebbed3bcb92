"""The room rule: derivations -> dynsim -> experiments, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("derivations", "dynsim", "experiments")
FILES = {
    room: sorted(file for file in (ROOT / room).rglob("*") if file.suffix in (".py", ".pyi"))
    for room in ROOMS
}


def imported(source: str, package: str = "") -> set[str]:
    """Dotted names that a module imports, anywhere in it; relative ones under `package`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            parents = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def reaches(source: str, module: str, package: str = "") -> bool:
    """Whether a module's source imports `module` or something inside it."""
    return any(
        name == module or name.startswith(module + ".") for name in imported(source, package)
    )


def test_the_parser_sees_every_form_of_import():
    source = "def f():\n    import jax.numpy as jnp\nfrom jax import _src\nfrom ..a import b\n"
    assert imported(source, "dynsim.x") == {
        "jax.numpy",
        "jax",
        "jax._src",
        "dynsim.a",
        "dynsim.a.b",
    }
    assert imported("from . import a", "dynsim") == {"dynsim", "dynsim.a"}
    assert reaches(source, "jax._src")
    assert not reaches("import jaxtyping", "jax")


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_files(room):
    assert len(FILES[room]) > 5


EVERY_FILE = [
    pytest.param(room, file, id=file.relative_to(ROOT).as_posix())
    for room, files in FILES.items()
    for file in files
]

FORBIDDEN = {
    "derivations": ("jax", "dynsim", "experiments", "diffrax", "optax"),
    "dynsim": ("experiments",),
    "experiments": (),
}


@pytest.mark.parametrize(("room", "file"), EVERY_FILE)
def test_imports_flow_one_way(room, file):
    source = file.read_text(encoding="utf-8")
    package = ".".join(file.parent.relative_to(ROOT).parts)
    # `python -m dynsim` is the command line, and nothing else.
    forbidden = () if file.name == "__main__.py" else FORBIDDEN[room]
    for module in (*forbidden, "jax._src", "jax.experimental"):
        assert not reaches(source, module, package), f"imports {module}"
    if room == "dynsim" and file.name != "_compiled.py":
        assert not reaches(source, "sympy", package), "imports sympy"
    assert "jax._src" not in source
    assert "jax.experimental" not in source


def test_one_module_is_the_door_to_sympy():
    assert reaches((ROOT / "dynsim/_compiled.py").read_text(encoding="utf-8"), "sympy")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_command_line_starts_without_jax_or_sympy():
    present = modules_after("import experiments.cli, dynsim; dynsim.Setup(); dynsim.token_law")
    assert not present & {"jax", "jaxlib", "sympy", "scipy", "matplotlib", "xarray", "derivations"}


def test_a_prediction_needs_no_sympy():
    """It would take a good part of a short one's time."""
    present = modules_after("from dynsim import Setup, predict; predict.__module__")
    assert "jax" in present
    assert not present & {"sympy", "derivations", "xarray", "matplotlib"}


def test_importing_names_brings_what_they_need():
    assert "jax" in modules_after("from dynsim import train")
    present = modules_after("import derivations")
    assert "sympy" in present
    assert not present & {"jax", "dynsim", "experiments"}


def test_the_stub_is_the_public_namespace():
    """Every name of `dynsim/__init__.pyi` can be imported, none is missing from dir()."""
    import dynsim

    tree = ast.parse((ROOT / "dynsim/__init__.pyi").read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names <= set(dir(dynsim))
    for name in names:
        assert getattr(dynsim, name) is not None


def test_a_name_that_cannot_be_imported_says_why():
    """Not that there is no such name, which is what Python makes of an error inside."""
    broken = "import equinox; del equinox.Module\nfrom dynsim.laboratory import train_networks"
    run = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True)
    assert run.returncode == 1
    assert "Module" in run.stderr.splitlines()[-1]
    assert "cannot import name 'train_networks'" not in run.stderr


def modules() -> dict[str, Path]:
    """Every module of the three rooms by dotted name."""
    found = {}
    for files in FILES.values():
        for file in files:
            if file.suffix == ".py":
                name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = file
    return found


def dependencies() -> dict[str, set[str]]:
    """The modules of the rooms that each of them imports, anywhere in it, types included."""
    known = modules()
    graph = {}
    for name, file in known.items():
        package = ".".join(file.parent.relative_to(ROOT).parts)
        names = imported(file.read_text(encoding="utf-8"), package) & set(known)
        # `from package import module` needs the module only.
        inside = {one.rpartition(".")[0] for one in names}
        graph[name] = {
            one for one in names - {name} if not (name.startswith(one) and one in inside)
        }
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every strongly connected set of two or more nodes, by repeated removal of free ones."""
    left = {name: set(used) for name, used in graph.items()}
    while True:
        needed = set().union(*left.values()) if left else set()
        free = {name for name, used in left.items() if not used & set(left) or name not in needed}
        if not free:
            return [sorted(left)] if left else []
        left = {name: used - free for name, used in left.items() if name not in free}


def test_the_search_for_cycles_finds_one():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_module_imports_itself_by_a_detour():
    assert cycles(dependencies()) == []


def test_no_folder_imports_itself_by_a_detour():
    """The same of the folders of dynsim and of experiments."""
    graph: dict[str, set[str]] = {}
    for name, used in dependencies().items():
        folder = folder_of(name)
        graph.setdefault(folder, set()).update({folder_of(one) for one in used} - {folder})
    assert cycles(graph) == []


def folder_of(module: str) -> str:
    """`dynsim.theory` of all in it; a module at the top of a room stands for itself."""
    parts = module.split(".")
    if len(parts) == 1 or not (ROOT / Path(*parts[:2])).is_dir():
        return module
    inside_a_topic = parts[1] == "topics" and (ROOT / Path(*parts[:3])).is_dir()
    return ".".join(parts[:3] if inside_a_topic else parts[:2])


def test_theory_imports_no_trainer():
    """Theory and networks are two routes to one number; theory borrows nothing from a trainer."""
    for name, used in dependencies().items():
        if name.startswith(("dynsim.theory", "dynsim.statistics", "dynsim.rules")):
            assert not [one for one in used if one.startswith("dynsim.laboratory")], name
