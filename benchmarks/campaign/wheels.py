"""Wheels for a machine without a package index: `python -m benchmarks.campaign.wheels FOLDER`.

Downloads dynsim's dependencies as wheels of the versions in constraints.txt, without what the
machine has. Its packages are a file as `pip list --format=freeze` prints it there, or those that
stand in `USUAL`, which an image with JAX, PyTorch and their friends has. JAX itself is never
carried: its wheels belong to the card's driver. On the machine:

    python3 -m pip install --no-index --no-deps --target SITE FOLDER/*.whl
    PYTHONPATH=SITE python3 -m benchmarks.campaign --out OUT
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("docstring-parser", "typeguard")  # by tyro, of the command line
ON_THE_CARD = {"jax", "jaxlib"}
USUAL = {
    *("numpy", "scipy", "sympy", "diffrax", "optax", "jaxtyping", "equinox", "matplotlib"),
    *("contourpy", "xarray", "pandas", "h5py", "tqdm", "tokenizers", "psutil", "lazy-loader"),
}
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)  # pip compares a platform's number exactly


def missing(present: Iterable[str]) -> list[str]:
    """Requirements with their versions that are not among the packages present."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=\[]", one)[0] for one in project["dependencies"]]
    have = {_normal(name) for name in present} | ON_THE_CARD
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    versions = {_normal(name): version for name, version in pinned.items()}
    wanted = [name for name in map(_normal, (*names, *NEEDED)) if name not in have]
    return [f"{name}=={versions[name]}" for name in wanted]


def download(folder: Path, requirements: Sequence[str], python: str) -> int:
    """pip's exit code."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--implementation", "cp", "--python-version", python, *platforms),
            *("--platform=manylinux2014_x86_64", "-d", str(folder), *requirements),
        ]
    ).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.campaign.wheels", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of Python there (default 3.12)")
    parser.add_argument("--present", type=Path, help="what `pip list --format=freeze` prints there")
    options = parser.parse_args(arguments)
    present: Iterable[str] = USUAL
    if options.present is not None:
        lines = options.present.read_text(encoding="utf-8").splitlines()
        present = [re.split(r"==| @ ", line)[0] for line in lines if line]
    requirements = missing(present)
    print("\n".join(requirements) or "nothing is missing there")
    return download(options.folder, requirements, options.python) if requirements else 0


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
