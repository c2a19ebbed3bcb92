"""Runs the tests with the oldest and the newest versions that pyproject.toml allows.

    python tests/environments.py oldest newest [--smoke] [--folder FOLDER] [--latest]

Makes a virtual environment for each, with Python's own venv and pip, and runs all tests there, or
with `--smoke` a few quick ones. An environment that is in FOLDER already is used as it is; without
FOLDER they are removed at the end. The oldest environment has the oldest Python that the project
allows and constraints-oldest.txt. The newest has the newest Python of `NEWER` that is installed,
also by pyenv, and constraints-newest.txt, or with `--latest` whatever the package index has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = ("3.11",)
NEWER = ("3.13", "3.12")
SMOKE = (
    "tests/dynsim/test_setup.py",
    "tests/dynsim/laboratory/test_scales.py",
    "tests/dynsim/theory/test_first_step_values.py",
    "tests/dynsim/tokens/test_token_files.py",
    "tests/experiments/test_cells.py",
    "tests/project/test_cuda_lowering.py",
)


def python(versions: Iterable[str]) -> str | None:
    """A Python of the first of these versions that runs here."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        named = shutil.which(f"python{version}")
        places = [sys.executable, *sorted(map(str, installed.glob(f"{version}.*/bin/python")))]
        for place in (*([named] if named else []), *places):
            code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
            ran = subprocess.run([place, "-c", code], capture_output=True, text=True)
            if ran.returncode == 0 and ran.stdout.strip() == version:
                return place
    return None


def environment(folder: Path, interpreter: str, constraints: Sequence[str]) -> Path:
    """The Python of an environment that holds the project and what its tests need."""
    own = folder / "bin" / "python"
    if not own.exists():
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        install = [str(own), "-m", "pip", "install", "-q", *constraints, f"{ROOT}[suite]"]
        subprocess.run(install, check=True)
    return own


def tested(name: str, folder: Path, smoke: bool, latest: bool) -> int:
    """pytest's exit code in one environment, 0 where its Python is missing."""
    versions = OLDEST if name == "oldest" else NEWER
    interpreter = python(versions)
    if interpreter is None:
        print(f"{name}: no Python {' or '.join(versions)} here, left out", flush=True)
        return 0
    file = ROOT / f"constraints-{name}.txt"
    constraints = [] if latest and name == "newest" else ["-c", str(file)]
    own = environment(folder / name, interpreter, constraints)
    about = "import sys, jax, numpy; print('Python', sys.version.split()[0], end=', ')"
    about += "; print('JAX', jax.__version__, end=', '); print('numpy', numpy.__version__)"
    print(f"== {name}", flush=True)
    subprocess.run([str(own), "-c", about], check=True)
    which = SMOKE if smoke else ("-n", "2", "--dist", "loadgroup")
    command = [str(own), "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    return subprocess.run(command, cwd=ROOT).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=("oldest", "newest"))
    parser.add_argument("--smoke", action="store_true", help="a few quick tests only")
    parser.add_argument("--folder", type=Path, help="where environments are kept")
    parser.add_argument("--latest", action="store_true", help="newest: without constraints")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        codes = [tested(name, folder, options.smoke, options.latest) for name in options.names]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
