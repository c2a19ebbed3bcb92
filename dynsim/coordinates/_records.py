"""Records of coordinates: what is measured, and the tidy table that holds it.

With W the weight, multiplier included, and z its input, the output of a matrix after t steps is

    W_t z_t = W_0 z_0 + (W_t - W_0) z_0 + W_0 (z_t - z_0) + (W_t - W_0)(z_t - z_0).

A table has a row for every run, step, module and term, and the root mean square of the term over
coordinates and over the probe in `rms`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynsim._errors import InputError, check_integer
from dynsim._files import read_file, write_file
from dynsim._layers import LABELS
from dynsim._summary import summary

if TYPE_CHECKING:
    import pandas as pd

SUM = ("initial", "update_on_initial", "initial_on_learned", "update_on_learned")
"""the four terms of a matrix's output"""
TERMS: dict[str, str] = {
    "input": "z",
    "learned_input": "z - z0",
    "output": "W z",
    "initial": "W0 z0",
    "update_on_initial": "dW z0",
    "initial_on_learned": "W0 dz",
    "update_on_learned": "dW dz",
    "weight": "entries of W0",
    "weight_update": "entries of dW",
    "update": "change of the output",
    "decay": "learning rate x weight decay",
    "learning_rate": "learning rate",
    "epsilon": "epsilon / gradient entries",
}
"""every term and how messages write it; `update` is that of scores and of the model's outputs,
the last three are read from the optimizer"""
NO_MATRIX = ("scores", "outputs")
"""labels of what is no parameter: attention scores before the softmax, and the model's outputs"""
ALL_LABELS = (*LABELS, *NO_MATRIX)
COLUMNS = ("width", "vocab_size", "seed", "step", "module", "label", "term", "rms")
MORE_COLUMNS = ("fan_in", "fan_out", "reads_embedding", "tied", "trained")
SUFFIXES = (".csv", ".nc")
RUN = ["width", "vocab_size", "seed"]
CELL = [*RUN, "step", "module", "term"]


@dataclass(frozen=True)
class Matrix:
    """What a row says about its module beside its size.

    `reads_embedding`: its inputs depend on the token's (and position's) embedding alone; `tied`:
    another module has the same weight; `trained`: it takes part in training.
    """

    module: str
    label: str
    fan_in: int = 0
    fan_out: int = 0
    reads_embedding: bool = False
    tied: bool = False
    trained: bool = True


class RecordFile:
    """The rows of one run, kept in a file after every recorded step (`.csv` or `.nc`).

    Rows of other runs that the file holds stay. Raises `InputError` if it holds this run already.
    """

    def __init__(self, path: str | Path | None, width: int, vocab_size: int, seed: int):
        check_integer("width", width, 1)
        check_integer("vocab_size", vocab_size, 1)
        check_integer("seed", seed, 0)
        self.run = (width, vocab_size, seed)
        self.rows: list[dict[str, Any]] = []
        self.path = None if path is None else Path(path)
        self._before: pd.DataFrame | None = None
        if self.path is None:
            return
        if self.path.suffix not in SUFFIXES:
            raise InputError("file", str(self.path), f"must end in {' or '.join(SUFFIXES)}")
        if self.path.exists():
            held = read_records([self.path])
            if np.any(np.all(held[RUN].to_numpy() == np.array(self.run), axis=1)):
                allowed = f"holds a run of width {width}, vocabulary {vocab_size} and seed {seed}"
                raise InputError("file", str(self.path), f"{allowed} already: take another file")
            self._before = held
        else:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch()
                self.path.unlink()
            except OSError as error:
                raise InputError(
                    "file", str(self.path), f"must be writable ({error.strerror})"
                ) from None

    def described(self, title: str, steps: Sequence[int], memory: str) -> str:
        """A recorder in words: its run, the recorded steps, the file and what is kept."""
        width, vocab_size, seed = self.run
        return summary(
            title,
            width=width,
            vocab_size=vocab_size,
            seed=seed,
            steps=tuple(steps),
            file=str(self.path),
            memory=memory,
        )

    def add(self, step: int, matrix: Matrix, sizes: dict[str, float]) -> None:
        """The sizes of one module at one step."""
        width, vocab_size, seed = self.run
        for term, rms in sizes.items():
            self.rows.append(
                {
                    "width": width,
                    "vocab_size": vocab_size,
                    "seed": seed,
                    "step": step,
                    "module": matrix.module,
                    "label": matrix.label,
                    "term": term,
                    "rms": float(rms),
                    "fan_in": matrix.fan_in,
                    "fan_out": matrix.fan_out,
                    "reads_embedding": int(matrix.reads_embedding),
                    "tied": int(matrix.tied),
                    "trained": int(matrix.trained),
                }
            )

    def table(self) -> pd.DataFrame:
        """The rows of this run."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=[*COLUMNS, *MORE_COLUMNS])

    def save(self) -> None:
        """Writes all rows; a file that is being replaced is whole at every moment."""
        import pandas as pd

        if self.path is None:
            return
        whole = [part for part in (self._before, self.table()) if part is not None]
        write_records(pd.concat(whole, ignore_index=True), self.path)


def write_records(table: pd.DataFrame, path: Path) -> None:
    """Writes a table of records as `.csv` or `.nc`."""
    if path.suffix == ".csv":
        write_file(path, table.to_csv(index=False, quoting=csv.QUOTE_MINIMAL).encode())
    else:
        from dynsim._netcdf import netcdf_bytes

        write_file(path, netcdf_bytes(table.rename_axis("record").to_xarray()))


def read_records(files: Iterable[Path]) -> pd.DataFrame:
    """The rows of all files, checked; rows that occur again count once.

    Raises `InputError` with the file, and the column or row, for what cannot be used.

    **Example:**

    >>> from pathlib import Path
    >>> from dynsim.coordinates import read_records
    >>> head = "width,vocab_size,seed,step,module,label,term,rms,reads_embedding"
    >>> row = "64,100,0,0,fc,hidden,weight,0.125,1"
    >>> _ = Path("run.csv").write_text(f"{head}{chr(10)}{row}", encoding="utf-8")
    >>> read_records([Path("run.csv")])["rms"].tolist()
    [0.125]
    """
    import pandas as pd

    tables = [
        checked_records(_read(file), str(file)).assign(file=str(file)) for file in map(Path, files)
    ]
    if not tables:
        raise InputError("FILE", None, "give one or more files of records")
    table = pd.concat(tables, ignore_index=True)
    table = table.loc[~table.duplicated([*CELL, "rms"]).to_numpy()]
    again = table.duplicated(CELL).to_numpy()
    if np.any(again):
        row = table.loc[again].iloc[0]
        cell = ", ".join(f"{name} {row[name]}" for name in CELL)
        raise InputError("FILE", row.file, f"holds a run that another one repeats ({cell})")
    return table.reset_index(drop=True)


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    from dynsim._netcdf import read_netcdf

    if file.suffix not in SUFFIXES:
        raise InputError("FILE", str(file), f"must end in {' or '.join(SUFFIXES)}")
    try:
        if not file.exists():
            raise InputError("FILE", str(file), "there is no such file")
        if file.suffix == ".csv":
            text = io.StringIO(read_file(file).decode("utf-8-sig"))
            table = pd.read_csv(text, dtype={"module": str, "term": str})
        else:
            table = read_netcdf(file).to_dataframe().reset_index(drop=True)
    except InputError:
        raise
    except UnicodeDecodeError:
        raise InputError("FILE", str(file), "must be text in UTF-8") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged"])[0]
        raise InputError("FILE", str(file), f"cannot be read ({reason})") from None
    return table.drop(columns="file", errors="ignore")


def checked_records(table: pd.DataFrame, file: str = "table") -> pd.DataFrame:
    """The table with numbers where numbers belong. Raises `InputError` with column and row."""
    import pandas as pd

    table = table.copy()
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        present = ", ".join(map(str, table.columns))
        lacks = f"has no column {', '.join(missing)} (its columns: {present})"
        raise InputError("FILE", file, f"{lacks}: is it a table of recorded coordinates?")
    if table.empty:
        raise InputError("FILE", file, "holds no rows")
    for name in (*RUN, "step"):
        numbers: Any = pd.to_numeric(table[name], errors="coerce")
        least = 1 if name in ("width", "vocab_size") else 0
        wrong = ~((numbers >= least) & (numbers == numbers.round()))
        if wrong.any():
            raise _bad_cell(file, table, name, wrong, "must be a whole number")
        table[name] = numbers.astype(np.int64)
    sizes: Any = pd.to_numeric(table["rms"], errors="coerce")
    texts = table["rms"].astype(str).str.strip().str.lower()
    words = sizes.isna() & table["rms"].notna() & ~texts.isin(["nan", "inf", "-inf"])
    if words.any():
        raise _bad_cell(file, table, "rms", words, "is not a number")
    if np.any(sizes < 0):
        raise _bad_cell(file, table, "rms", sizes < 0, "must not be negative")
    table["rms"] = sizes.astype(float)
    for name, known in (("label", ALL_LABELS), ("term", tuple(TERMS))):
        wrong = ~table[name].isin(known)
        if np.any(wrong):
            raise _bad_cell(file, table, name, wrong, f"must be one of {', '.join(known)}")
    for name, default in zip(MORE_COLUMNS, (0, 0, 0, 0, 1), strict=True):
        if name not in table:
            table[name] = default
        table[name] = pd.to_numeric(table[name], errors="coerce").fillna(default).astype(int)
    return table


def _bad_cell(file: str, table: pd.DataFrame, column: str, wrong: Any, reason: str) -> InputError:
    row = int(np.argmax(np.asarray(wrong)))
    where = f"{file}, column {column}, row {row + 1}"
    return InputError(where, table[column].iloc[row], reason)


def check_grid(table: pd.DataFrame) -> dict[int, list[int]]:
    """The vocabularies to fit, each with its widths; 0 stands for one that follows the width.

    Either every width has the same vocabularies, or every width has one of its own.
    Raises `InputError` for fewer than two widths, and where widths cannot be compared.
    """
    at = {
        int(width): sorted(int(m) for m in table.vocab_size[table.width == width].unique())
        for width in sorted(table.width.unique())
    }
    if len(at) < 2:
        only = ", ".join(map(str, at))
        raise InputError("FILE", f"width {only}", "must hold two or more widths")
    sets = {tuple(sizes) for sizes in at.values()}
    if len(sets) == 1:
        return {m: list(at) for m in next(iter(sets))}
    if all(len(sizes) == 1 for sizes in at.values()):
        return {0: list(at)}
    width = next(d for d, sizes in at.items() if len(sizes) > 1)
    raise InputError(
        "FILE",
        f"width {width}",
        f"has the vocabularies {', '.join(map(str, at[width]))}: every width must have the same "
        "ones, or one of its own",
    )


def recorded_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Steps above 0 in order. Raises `InputError`."""
    wanted = tuple(steps) if isinstance(steps, Iterable) else (steps,)
    bad = [s for s in wanted if isinstance(s, bool) or not isinstance(s, int | np.integer) or s < 1]
    if bad or not wanted:
        raise InputError("steps", str(wanted), "must be numbers of optimizer steps, from 1 on")
    return tuple(sorted({int(step) for step in wanted}))
