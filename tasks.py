"""The project's tasks: `python tasks.py NAME ...` runs them in turn and stops at the first failure.

The tools are those of the environment whose Python runs this file (CONTRIBUTING.md, "Set up").
`.ci/run` runs the same tasks in fresh environments, and the tests as README.md starts them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLS = Path(sys.executable).parent
ALL_TESTS = ("-m", "pytest", "-n", "2", "--dist", "loadgroup")
TEST_ARGUMENTS = (*ALL_TESTS, "-m", "not slow")  # also in README.md


def run(*command: str) -> None:
    """Runs a command in the project's root; ends this process with its exit code if it fails."""
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:
        print(f"tasks.py: {' '.join(command)}: exit code {code}", file=sys.stderr)
        sys.exit(code)


def tool(name: str) -> str:
    """The tool of this environment."""
    return str(TOOLS / name)


def lint() -> None:
    """ruff: rules and layout of the code"""
    run(tool("ruff"), "check", ".")
    run(tool("ruff"), "format", "--check", ".")


def tidy() -> None:
    """ruff: repairs what `lint` finds, where it can"""
    run(tool("ruff"), "check", "--fix", ".")
    run(tool("ruff"), "format", ".")


def types() -> None:
    """pyright: types"""
    run(tool("pyright"), "--pythonpath", sys.executable)


def test() -> None:
    """pytest: the tests of README.md, on two processes"""
    run(sys.executable, *TEST_ARGUMENTS)


def slow() -> None:
    """pytest: the slow tests, which those of README.md leave out"""
    run(sys.executable, *ALL_TESTS, "-m", "slow")


def oldest() -> None:
    """pytest: all tests with the oldest versions that are allowed, in an environment of its own"""
    run(sys.executable, "tests/environments.py", "oldest")


def newest() -> None:
    """pytest: all tests with the newest versions that are allowed, in an environment of its own"""
    run(sys.executable, "tests/environments.py", "newest")


def docs() -> None:
    """sphinx: the documentation, in docs/_build/html; a warning is an error"""
    html = ("-b", "html", "docs", "docs/_build/html")
    run(tool("sphinx-build"), "-W", "--keep-going", "-q", *html)


def pdf() -> None:
    """the theory pages as docs/_build/dynsim-theory.pdf, from the built pages (chromium)"""
    run(sys.executable, "docs/_ext/theory_pdf.py")


def figures() -> None:
    """every figure of docs/figures, drawn again from the stored studies, and the maps"""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "experiments.cli", "regimes", "--out", folder)
        for file in sorted(Path(folder).glob("*.png")):
            shutil.copy(file, ROOT / "docs/figures" / file.name)
    corpus = ("--tokens", "corpus", "--batch-size", "4096", "--y", "vocab_size=256:50000:200")
    for name, options in {
        "map_networks": ("--networks", "5x4"),
        "map_corpus": (*corpus, "--colour", "mup_share"),
    }.items():
        file = ROOT / f"docs/figures/{name}.png"
        run(sys.executable, "-m", "experiments.cli", "map", *options, "--plot", str(file))


def screenshots() -> None:
    """the explorer's pictures in docs/figures, in a browser (chromium and the extra `test`)"""
    run(sys.executable, "docs/_ext/explorer_page.py")


TASKS: dict[str, Callable[[], None]] = {
    "lint": lint,
    "tidy": tidy,
    "type": types,
    "test": test,
    "slow": slow,
    "oldest": oldest,
    "newest": newest,
    "docs": docs,
    "pdf": pdf,
    "figures": figures,
    "screenshots": screenshots,
}


def main(names: list[str]) -> int:
    """Runs the named tasks; without a name or with an unknown one, lists them."""
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        for name, task in TASKS.items():
            print(f"{name:<11} {task.__doc__}")
        return 2 if unknown else 0
    for name in names:
        print(f"== {name}", flush=True)
        TASKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
