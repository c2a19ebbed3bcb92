"""`dynsim regimes`: the figures, drawn again from stored studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynsim import InputError
from experiments.output import print_json, writable_folder
from experiments.precision import enable_x64

from ._options import Json


@dataclass(frozen=True)
class Regimes:
    """Draw the figures from stored studies: interpolation, regime map, ranks, LR ratio."""

    out: Path = Path("dynsim-regimes")
    """folder for the figures"""
    data: Path | None = None
    """folder of stored studies (default: those that come with dynsim)"""
    json: Json = False

    def run(self) -> int:
        """Draws every figure whose studies lie in the data folder."""
        from experiments.results import STORED, load

        enable_x64()
        from experiments.topics._figures import FIGURES, draw

        source = self.data or STORED
        studies = {}
        for name in dict.fromkeys(need for _, needs in FIGURES.values() for need in needs):
            path = source / f"{name}.nc"
            try:
                studies[name] = load(path)
            except (OSError, ValueError) as error:
                if path.exists():
                    raise InputError("data", str(path), "must be a netCDF study") from error
        names = [name for name, (_, needs) in FIGURES.items() if set(needs) <= set(studies)]
        if not studies:
            raise InputError("data", str(source), "must hold studies written by dynsim verify")
        folder = writable_folder("out", self.out)
        paths = [path for name in names for path in draw(name, studies, folder)]
        if self.json:
            print_json({"figures": paths, "data": source})
        else:
            for path in paths:
                print(path)
        return 0
