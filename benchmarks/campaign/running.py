"""Which cells are measured within the time that is left, how they are kept and brought back.

A slice is one run of the command. Each item has a folder of finished cells (`experiments.cells`),
kept beside the results while the machine lives. What a slice brings back is one netCDF file for
each item that has finished cells, `campaign.json` (what was done, with what, and what not) and
`cells.zip`, from which the next slice goes on, also on another machine of the same kind.
"""

from __future__ import annotations

import gc
import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynsim import InputError
from dynsim._files import read_file
from dynsim._text_files import decoded, json_document
from experiments.cells.complete import CellJob
from experiments.cells.store import REPEATABLE, Store, folder_of, open_store
from experiments.results import provenance, save, write_file
from experiments.topics._study import Cell, measured_cell

from .items import Item

CELLS, REPORT = "cells.zip", "campaign.json"
LARGEST_FILE = 16 * 2**20
RESERVED = 20.0  # seconds, for what is written at the end of a slice
PACKING = 45.0  # seconds between two packings, so that a killed slice loses little
ATTEMPTS = 2  # after as many failures a cell is left out
HISTORY: dict[str, type] = {"slices": list, "items": dict}  # of earlier slices, in the report
MEMBER = re.compile(r"[a-z_]+\.nc\.cells/[0-9a-f]+\.npz")


@dataclass
class Clock:
    """Seconds of this slice, and of all of them, that are left."""

    slice_seconds: float
    total_seconds: float
    started: float = field(default_factory=time.monotonic)

    def used(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float:
        return min(self.slice_seconds - RESERVED, self.total_seconds) - self.used()


class Campaign:
    """The campaign's state: finished cells in `work`, results in `out`.

    `before` is a folder with the files of an earlier slice, or None. `say` takes lines for people.
    Raises `InputError` where another process works in `work`, or `before` holds nothing to go on
    from.
    """

    def __init__(
        self,
        items: Sequence[Item],
        full: bool,
        out: Path,
        work: Path,
        before: Path | None,
        clock: Clock,
        say: Callable[[str], object],
    ):
        self.items, self.full, self.out, self.work = items, full, out, work
        self.clock, self.say = clock, say
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.history = self._history(before)
        self.stores: dict[str, Store] = {}
        self._packed = 0.0

    def run(self) -> bool:
        """Measures what the time allows; whether everything is finished."""
        with ExitStack() as stack:
            for item in self.items:
                path = self.work / f"{item.name}.nc"
                store = stack.enter_context(open_store(path, True, REPEATABLE))
                self.stores[item.name] = store
            try:
                for in_budget in (True, False):
                    for item in self.items:
                        self._measure(item, in_budget)
            finally:
                self.pack()
            return all(not self._missing(item) for item in self.items)

    def _measure(self, item: Item, in_budget: bool) -> None:
        """The item's missing cells, as long as there is time: in the first round its own."""
        for cell, job in self._missing(item):
            done = self._record(item, cell)
            if done["failures"] >= ATTEMPTS:
                continue
            seconds = self.estimate(item, cell)
            budget = item.budget - self._spent(item)
            if in_budget and seconds > budget:
                continue
            if seconds > self.clock.left():
                if not in_budget:
                    self.say(
                        f"{item.name} {_described(cell)}: left out, about {seconds:.0f} s of "
                        f"{max(self.clock.left(), 0):.0f} s left"
                    )
                continue
            self._one(item, cell, job)
            if self.clock.used() - self._packed > PACKING:
                self.pack()

    def _one(self, item: Item, cell: Cell, job: CellJob) -> None:
        done, started = self._record(item, cell), time.monotonic()
        try:
            arrays = measured_cell(job.job)
        except Exception as error:  # the next cell may do: this one's network may be too large
            done["failures"] += 1
            done["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
            self.say(f"{item.name} {_described(cell)}: {done['error']}")
        else:
            self.stores[item.name].write(job.name, job.identity, arrays)
            done.pop("error", None)
            taken = time.monotonic() - started
            self.say(f"{item.name} {_described(cell)}: {taken:.1f} s")
            done["measured_seconds"] = taken
        done["seconds"] += time.monotonic() - started
        gc.collect()

    def estimate(self, item: Item, cell: Cell) -> float:
        """Seconds of a cell: as the item says, times how much longer finished cells took."""
        config = item.study.config(self.full)
        return item.estimate(cell, config) * self._pace(item)

    def _pace(self, item: Item) -> float:
        config = item.study.config(self.full)
        records = self.history["items"].get(item.name, {})
        found = [
            records[key]["measured_seconds"] / item.estimate(cell, config)
            for cell in item.study.cells(self.full)
            if "measured_seconds" in records.get(key := _key(cell), {})
        ]
        return sorted(found)[len(found) // 2] if found else 1.0

    def _missing(self, item: Item) -> list[tuple[Cell, CellJob]]:
        store = self.stores[item.name]
        pairs = zip(item.study.cells(self.full), item.study.jobs(self.full), strict=True)
        return [(c, job) for c, job in pairs if store.read(job.name, job.identity) is None]

    def _record(self, item: Item, cell: Cell) -> dict[str, Any]:
        records = self.history["items"].setdefault(item.name, {})
        return records.setdefault(_key(cell), {"seconds": 0.0, "failures": 0})

    def _spent(self, item: Item) -> float:
        return sum(done["seconds"] for done in self.history["items"].get(item.name, {}).values())

    def _history(self, before: Path | None) -> dict[str, Any]:
        """What earlier slices did; their cells are put where they were."""
        empty: dict[str, Any] = {name: kind() for name, kind in HISTORY.items()}
        known = [folder for folder in (before, self.out) if folder and (folder / REPORT).exists()]
        if before is not None and before not in known:
            raise InputError("before", str(before), f"must hold {REPORT} of an earlier slice")
        if not known:
            return empty
        try:
            found = json_document(decoded(read_file(known[0] / REPORT, LARGEST_FILE)))
            history = _history_of(found)
            with zipfile.ZipFile(known[0] / CELLS) as cells:
                for name in filter(MEMBER.fullmatch, cells.namelist()):
                    target = self.work / name
                    if not target.exists():
                        target.parent.mkdir(exist_ok=True)
                        target.write_bytes(cells.read(name))
            return history
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
        ) as error:
            reason = str(error).split("\n")[0]
            raise InputError("before", str(known[0]), f"is damaged ({reason})") from None

    def pack(self) -> None:
        """Writes what has been found so far into `out`, each file in one move."""
        self._packed = self.clock.used()
        lines: dict[str, list[str]] = {}
        counts: dict[str, str] = {}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
            for item in self.items:
                store = self.stores[item.name]
                cells, found = [], []
                jobs = item.study.jobs(self.full)
                for cell, job in zip(item.study.cells(self.full), jobs, strict=True):
                    arrays = store.read(job.name, job.identity)
                    if arrays is not None:
                        cells.append(cell)
                        found.append(arrays)
                        file = folder_of(store.path) / f"{job.name}.npz"
                        packed.write(file, f"{file.parent.name}/{file.name}")
                counts[item.name] = f"{len(cells)} of {len(jobs)} cells"
                if cells:
                    data = item.study.dataset(cells, found, self.full)
                    lines[item.name] = list(item.report(data))
                    save(data, self.out / f"{item.name}.nc")
        write_file(self.out / CELLS, content.getvalue())
        report = {
            "finished": counts,
            "found": lines,
            "provenance": provenance({"full": self.full}) | _torch(),
            "slices": [*self.history["slices"], self._slice()],
            "items": self.history["items"],
        }
        write_file(self.out / REPORT, json.dumps(report, indent=1).encode())
        for file in self.out.iterdir():
            if file.stat().st_size > LARGEST_FILE:
                self.say(f"{file.name}: more than {LARGEST_FILE // 2**20} MiB")

    def _slice(self) -> dict[str, Any]:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        return {"ended": ended, "seconds": round(self.clock.used(), 1)}


def seconds_of_slices(folder: Path | None) -> float:
    """What the slices of a folder took together."""
    if folder is None or not (folder / REPORT).exists():
        return 0.0
    try:
        report = json_document(decoded(read_file(folder / REPORT, LARGEST_FILE)))
        seconds = float(sum(one["seconds"] for one in report["slices"]))
        return seconds if seconds >= 0 else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # which `Campaign` refuses


def _history_of(report: Any) -> dict[str, Any]:
    """What a report says of earlier slices. Raises `TypeError` where that is no report's."""
    found = {name: report[name] for name in HISTORY}
    if any(type(found[name]) is not kind for name, kind in HISTORY.items()):
        raise TypeError("no report of a campaign")
    for records in found["items"].values():
        for record in records.values():
            if not {"seconds", "failures"} <= set(record):
                raise TypeError("a cell without its seconds")
    return found


def _torch() -> dict[str, str]:
    from benchmarks.laboratory_throughput import torch

    return {"torch": "missing" if torch is None else torch.__version__}


def _key(cell: Cell) -> str:
    return json.dumps(dict(cell), sort_keys=True)


def _described(cell: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in cell.values())
