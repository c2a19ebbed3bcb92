"""`dynsim regimes`: the figures, drawn again from stored studies."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dynsim import InputError
from experiments.output import (
    near_names,
    print_json,
    print_next,
    print_table,
    print_wrapped,
    progress_bar,
    writable_folder,
)
from experiments.precision import enable_x64
from experiments.topics._names import known_figures, known_names

from ._options import Json
from ._second_process import draw_stored, fewer_searches_for_cycles, second_process, study_in

if TYPE_CHECKING:
    from tqdm import tqdm

FEW_FIGURES = 4  # a second process starts in the time that so many take
# Those that take less than half of the time of the others are drawn last, so that both processes
# end at about the same time. The others after `HALF` take as long as those up to it.
LIGHT = (
    *("race", "transfer_coverage_one_seed", "proxies", "mean_field_accuracy"),
    *("hidden_layers_accuracy", "nonlinear_layers_accuracy", "transfer_coverage"),
    *("head_steps", "head_rates", "head_fixed_steps", "head_fixed_rates"),
    *("head_vocabulary_rates", "muon_scales", "muon_training", "muon_rows"),
)
HALF = "optimal_ratio"


@dataclass(frozen=True)
class Regimes:
    """Draw the figures from stored studies: interpolation, regime map, ranks, LR ratio.

    All of them, or those asked for by --figure.
    """

    figure: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """draw this figure only (may be repeated)"""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print the names of the figures and of the studies that each draws, and draw none"""
    out: Path = Path("dynsim-regimes")
    """folder for the figures"""
    format: Annotated[tuple[Literal["png", "pdf", "svg"], ...], tyro.conf.UseAppendAction] = ()
    """file format (may be repeated; png if none is given)"""
    data: Path | None = None
    """folder of stored studies (default: those that come with dynsim)"""
    json: Json = False

    def run(self) -> int:
        """Draws every figure whose studies lie in the data folder."""
        for name in self.figure:
            if name not in known_names("figure"):
                allowed = near_names(name, known_names("figure"), " (all: `list`)")
                raise InputError("figure", name, allowed)
        if self.list:
            for name in ("out", "format", "data"):
                if (given := getattr(self, name)) != getattr(Regimes, name):
                    text = " ".join(given) if isinstance(given, tuple) else str(given)
                    raise InputError(
                        name, text, "must be left out with `list`, which draws nothing"
                    )
            self._print_names({name: one.studies for name, one in known_figures().items()})
            return 0
        from experiments.results import STORED

        # What is wrong is said before the imports that take seconds.
        source = self.data or STORED
        names = _drawable(self.figure, source)
        writable_folder("out", self.out)
        several = len(names) > FEW_FIGURES
        try:
            beside = second_process() if several else contextlib.nullcontext()
            with fewer_searches_for_cycles(), beside as second:
                return self._run(names, source, second)
        finally:
            study_in.cache_clear()  # files may have changed when the next run reads them

    def _run(self, names: Sequence[str], source: Path, second: ProcessPoolExecutor | None) -> int:
        enable_x64()
        with progress_bar(len(names), "regimes") as bar:
            drawn = _drawn(names, source, self.out, self.format or ("png",), bar, second)
        paths = [path for name in names for path in drawn[name]]
        if self.json:
            print_json({"figures": paths, "data": source})
        else:
            print_wrapped(_answer(names, paths, self.out, self.data))
            print()
            for path in paths:
                print(path)
            print_next("all figures by name", ["regimes", "--list"])
        return 0

    def _print_names(self, needs: dict[str, tuple[str, ...]]) -> None:
        if self.json:
            print_json({"figures": needs})
            return
        rows = [[name, ", ".join(studies) or "theory alone"] for name, studies in needs.items()]
        print_wrapped(
            f"{len(rows)} figures can be drawn from studies that come with dynsim or that dynsim "
            "verify measures."
        )
        print()
        print_table(("figure", "drawn from (studies)"), rows)
        print_next("draw one", ["regimes", "--figure", "regime_interpolation"])


def _answer(names: Sequence[str], paths: Sequence[Path], folder: Path, data: Path | None) -> str:
    """What was drawn, from which numbers, and where it lies."""
    figures = "1 figure" if len(names) == 1 else f"{len(names)} figures"
    source = "the studies that come with dynsim" if data is None else str(data)
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    return f"{figures} drawn from {source}: {files} in {folder}, to be opened by a viewer."


def _drawable(asked: Sequence[str], source: Path) -> list[str]:
    """The figures to draw: those asked for, else all whose studies lie in the folder.

    Raises `InputError` for a folder without studies and for a figure whose studies are missing.
    """
    known = {name: one.studies for name, one in known_figures().items()}
    needed = {name: needs for name, needs in known.items() if not asked or name in asked}
    every = {need for needs in known.values() for need in needs}
    present = {need for need in every if (source / f"{need}.nc").exists()}
    if not present and any(needed.values()):
        raise InputError("data", str(source), "must hold studies written by dynsim verify")
    for name in asked:
        for missing in [need for need in needed[name] if need not in present]:
            raise InputError("data", str(source), f"must hold {missing}.nc, which {name} draws")
    return [name for name, needs in needed.items() if set(needs) <= present]


def _drawn(
    names: Sequence[str],
    source: Path,
    folder: Path,
    formats: Sequence[str],
    bar: tqdm,
    second: ProcessPoolExecutor | None,
) -> dict[str, list[Path]]:
    """The files of every figure.

    A second process draws some, from the end of the list, where the figures stand that share
    studies and formulas. Should it be lost, this one draws all.
    """
    heavy = [name for name in names if name not in LIGHT]
    middle = heavy.index(HALF) + 1 if HALF in heavy else len(heavy) // 2
    light = [name for name in names if name in LIGHT]
    waiting = deque([*heavy[:middle], *light, *heavy[middle:]])
    drawn = dict[str, list[Path]]()

    def draw_all(take: Callable[[], str], draw: Callable[..., list[Path]]) -> None:
        with contextlib.suppress(IndexError):  # no name is left to take
            while True:
                name = take()
                try:
                    drawn[name] = draw(name, source, folder, formats)
                except BrokenProcessPool:
                    waiting.append(name)
                    return
                bar.update()

    with ThreadPoolExecutor(1) as beside:
        elsewhere = None
        if second is not None:
            draw = partial(_drawn_by, second)
            elsewhere = beside.submit(draw_all, waiting.pop, draw)
        try:
            draw_all(waiting.popleft, draw_stored)
        finally:
            waiting.clear()
        if elsewhere is not None:
            elsewhere.result()
    draw_all(waiting.popleft, draw_stored)
    return drawn


def _drawn_by(process: ProcessPoolExecutor, *figure: Any) -> list[Path]:
    return process.submit(draw_stored, *figure).result()
