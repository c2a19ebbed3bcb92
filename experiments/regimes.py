"""`dynsim regimes`: the figures, drawn again from stored studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynsim import InputError

from .output import print_json, writable_folder
from .precision import enable_x64
from .results import STORED, load

if TYPE_CHECKING:
    from .cli import Regimes


def run_regimes(options: Regimes) -> int:
    """Draws every figure whose studies lie in the data folder."""
    enable_x64()
    from .figures import FIGURES, draw

    source = options.data or STORED
    studies = {}
    for name in dict.fromkeys(need for _, needs in FIGURES.values() for need in needs):
        path = source / f"{name}.nc"
        try:
            studies[name] = load(path)
        except (OSError, ValueError) as error:
            if path.exists():
                raise InputError("--data", str(path), "must be a netCDF study") from error
    names = [name for name, (_, needs) in FIGURES.items() if set(needs) <= set(studies)]
    if not studies:
        raise InputError("--data", str(source), "must hold studies written by dynsim verify")
    folder = writable_folder("--out", options.out)
    paths = [path for name in names for path in draw(name, studies, folder)]
    if options.json:
        print_json({"figures": paths, "data": source})
    else:
        for path in paths:
            print(path)
    return 0
