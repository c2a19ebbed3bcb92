"""Files of every kind that commands read, in every state but the right one: one line, soon."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from command_lines import complaint, ending, surface
from coordinate_records import records

from dynsim import _files, _netcdf
from dynsim._files import read_file
from dynsim._netcdf import netcdf_bytes, read_netcdf
from dynsim.tokens import corpus_tokens

FREE = 64 * 2**20  # bytes of memory that the tests say are free
HANG = 300  # seconds on a busy machine

READERS = {  # the file's suffix, the command that reads it
    "runs, text": (".csv", "transfer {}"),
    "runs, JSON": (".json", "transfer {}"),
    "runs, Parquet": (".parquet", "transfer {}"),
    "sweep": (".nc", "optima {}"),
    "sweep, finished": (".nc", "sweep --widths 3 --vocab-sizes 4 --embedding-lrs 1 --hidden-lrs 1 "
                        "--seeds 1 --steps 1 --resume --out {}"),
    "records, text": (".csv", "coordinate-check {}"),
    "records, netCDF": (".nc", "parametrization mup --alignment measured:{}"),
    "counts": ("", "tokens counts:{}"),
    "tokenizer": (".json", "tokens tokenizer:{}"),
    "corpus": ("", "tokens corpus:{} --vocab-size 256"),
    "configuration": (".json", "recommend --base-width 64 --config {}"),
    "claims": (".toml", "verify --check {}"),
}  # fmt: skip


def whole(reader: str) -> bytes:
    """Content with which a reader begins well."""
    table = pd.read_csv(io.StringIO(surface()))
    match reader:
        case "runs, JSON":
            return str(table.to_json(orient="records")).encode()
        case "runs, Parquet" | "sweep" | "sweep, finished":
            return netcdf_bytes(table.to_xarray())
        case "records, netCDF":
            return netcdf_bytes(records().rename_axis("record").to_xarray())
        case "tokenizer":
            return json.dumps({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}).encode()
        case "configuration":
            return json.dumps({"hidden_size": 64, "vocab_size": 100}).encode()
        case "claims":
            return b'[[claim]]\nname = "one"\n'
    return surface().encode()


ODD = {
    "model": {"vocab": [[[], {}], 3], "unk_id": "x", "type": []},
    "added_tokens": [3, None],
    "hidden_size": [],
    "vocab_size": {"a": None},
    "columns": 3,
    "data": {"x": [[1], {}]},
}


def written(change: Callable[[bytes], bytes]) -> Callable[[Path, bytes], object]:
    return lambda path, content: path.write_bytes(change(content))


def huge(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(2**42)


STATES = {
    "empty": written(lambda _: b""),
    "cut": written(lambda content: content[: len(content) // 2]),
    "cut early": written(lambda content: content[:9]),
    "image": written(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
    "archive": written(lambda _: b"PK\x03\x04" + bytes(range(256))),
    "archive, damaged": written(lambda content: gzip.compress(content)[:-9]),
    "archive of more than the memory": written(lambda _: gzip.compress(bytes(FREE))),
    "HDF5 of another program": written(lambda _: b"\x89HDF\r\n\x1a\n" + bytes(200)),
    "zeros": written(lambda _: bytes(500)),
    "noise": written(lambda _: np.random.default_rng(0).bytes(5000)),
    "nested": written(lambda _: b"[" * 200_000),
    "odd types": written(lambda _: json.dumps(ODD).encode()),
    "list of odd types": written(lambda _: json.dumps([None, [[]], {"width": {}}, "x"]).encode()),
    "separators": written(lambda _: b",;\t|\r\n\r,,\n\"'\n" * 9),
    "folder": lambda path, _: path.mkdir(),
    "pipe": lambda path, _: os.mkfifo(path),
    "device": lambda path, _: path.symlink_to("/dev/zero"),
    "link to itself": lambda path, _: path.symlink_to(path),
    "link to nothing": lambda path, _: path.symlink_to("nothing"),
    "huge": huge,
}
# As a text, some of them.
MAY_BE_READ = {"cut", "cut early", "nested", "odd types", "list of odd types", "separators"}


@pytest.fixture(autouse=True)
def no_hang():
    def hang(*_):
        raise AssertionError(f"no end after {HANG} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(_files, "free_bytes", lambda: FREE)
    monkeypatch.setattr(_netcdf, "free_bytes", lambda: FREE)
    monkeypatch.setattr(_files, "PIPE_SECONDS", 0.1)


@pytest.mark.parametrize("reader", READERS)
def test_a_hostile_file_is_one_line(reader, tmp_path):
    suffix, command = READERS[reader]
    if suffix == ".parquet" and not find_spec("pyarrow"):
        pytest.skip("needs pyarrow")
    content = whole(reader)
    for number, (state, make) in enumerate(STATES.items()):
        path = tmp_path / f"{number}{suffix}"
        make(path, content)
        line = command.format(path).split()
        end = ending(line)
        assert complaint(line, end) is None, (state, complaint(line, end))
        assert end.code == 2 or state in MAY_BE_READ, (state, end)
        assert end.err.count("\n") <= 1, (state, end)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_permission_is_said_to_be_so(reader, tmp_path):
    path = tmp_path / f"locked{READERS[reader][0]}"
    path.write_bytes(whole(reader))
    path.chmod(0)
    end = ending(READERS[reader][1].format(path).split())
    assert (end.code, end.err.count("\n")) == (2, 1)
    assert "Permission denied" in end.err


def bomb(kind: str, path: Path) -> None:
    """A small file that unpacks to more than is free."""
    count = FREE
    if kind == "npz":
        with path.open("wb") as file:
            np.savez_compressed(file, counts=np.ones(count // 8 + 1))
    elif kind == "parquet":
        pd.DataFrame({"width": np.ones(count // 8)}).to_parquet(path)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("loss", (10**12,), "f8", chunks=(1000,), compression="gzip")


@pytest.mark.parametrize(
    ("kind", "command"),
    [("npz", "tokens counts:{}"), ("parquet", "transfer {}"), ("nc", "optima {}")],
)
def test_what_unpacks_to_more_than_the_memory_is_refused(kind, command, tmp_path):
    if kind == "parquet" and not find_spec("pyarrow"):
        pytest.skip("needs pyarrow")
    path = tmp_path / f"bomb.{kind}"
    bomb(kind, path)
    assert path.stat().st_size < FREE / 16
    end = ending(command.format(path).split())
    assert (end.code, end.err.count("\n")) == (2, 1)
    assert "memory" in end.err


def sweep_with(path: Path, **changed) -> None:
    """A sweep as another program may write it: without a digest, with some arrays in place."""
    small_sweep().assign_coords(changed).to_netcdf(path, engine="h5netcdf")


def linked(path: Path, link: object) -> None:
    with h5py.File(path, "w") as file:
        file["loss"] = link


def small_sweep() -> xr.Dataset:
    size = {"width": 2, "vocab_size": 1, "embedding_lr": 3, "hidden_lr": 3, "seed": 2, "horizon": 1}
    loss = np.random.default_rng(0).uniform(1, 2, list(size.values()))
    factors = {f"{name}_lr_factor": ("width", [1.0, 0.5]) for name in ("embedding", "hidden")}
    start = (("width", "vocab_size", "seed"), np.full((2, 1, 2), 3.0))
    rates = {"embedding_lr": [0.1, 0.2, 0.4], "hidden_lr": [0.1, 0.2, 0.4]}
    return xr.Dataset(
        {"loss": (tuple(size), loss), "initial_loss": start, **factors},
        coords={"width": [8, 16], "vocab_size": [4], **rates, "seed": [0, 1], "horizon": [5]},
    )


def table_with(path: Path, **columns) -> None:
    pd.read_csv(io.StringIO(surface())).assign(**columns).to_csv(path, index=False)


OTHER = {
    "sweep of no whole horizon": ("optima", ".nc", lambda p: sweep_with(p, horizon=[5.5]), "whole"),
    "sweep of no width": ("optima", ".nc", lambda p: sweep_with(p, width=[0, 8]), "positive"),
    "sweep of any width": ("optima", ".nc", lambda p: sweep_with(p, width=[8, np.inf]), "finite"),
    "sweep of factors in words": (
        *("optima", ".nc"),
        lambda p: sweep_with(p, hidden_lr_factor=("width", ["a", "b"])),
        "numbers as its hidden_lr_factor",
    ),
    "links in a circle": ("optima", ".nc", lambda p: linked(p, h5py.SoftLink("/loss")), "damaged"),
    "link to another file": (
        *("optima", ".nc"),
        lambda p: linked(p, h5py.ExternalLink("/dev/zero", "x")),
        "damaged",
    ),
    "nothing": ("optima", ".nc", lambda p: linked(p, h5py.Empty("f8")), "must be a sweep|damaged"),
    "integer of 400 digits": ("transfer", ".csv", lambda p: table_with(p, width="9" * 400), "inf"),
    "names that steer a terminal": (
        *("transfer", ".csv"),
        lambda p: table_with(p, **{"\x1b[31m\u202e": "x", "loss": "\x1b[31m\u202e"}),
        "u001b|x1b",
    ),
    "columns of two levels": (
        *("transfer", ".parquet"),
        lambda p: pd.DataFrame({("width", "a"): [1], ("loss", "b"): [2]}).to_parquet(p),
        "several levels",
    ),
}


@pytest.mark.parametrize("state", OTHER)
def test_a_file_that_means_something_else_is_one_line(state, tmp_path):
    command, suffix, make, said = OTHER[state]
    if suffix == ".parquet" and not find_spec("pyarrow"):
        pytest.skip("needs pyarrow")
    path = tmp_path / f"file{suffix}"
    make(path)
    line = [command, str(path)]
    end = ending(line)
    assert end.code == 2
    assert complaint(line, end) is None
    assert re.search(said, end.err), end.err
    assert end.err[:-1].isprintable()


@pytest.mark.slow
def test_a_damaged_header_leaves_nothing_else_on_stderr(tmp_path, monkeypatch):
    """h5netcdf fails once more where it closes a file that it could not open."""
    path = tmp_path / "sweep.nc"
    small_sweep().to_netcdf(path, engine="h5netcdf")
    whole, told = path.read_bytes(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda _: told.append(1))
    for place in range(96, 256, 4):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with contextlib.suppress(OSError):
            read_netcdf(path, trusted=True)
    gc.collect()
    assert not told


@pytest.mark.parametrize("config", [5, "[]", "null", "5", "no JSON"])
def test_a_result_without_a_config_is_not_taken_for_one(config, tmp_path):
    path = tmp_path / "sweep.nc"
    small_sweep().assign_attrs(config=config).to_netcdf(path, engine="h5netcdf")
    grid = ["--widths", "3", "--vocab-sizes", "4", "--embedding-lrs", "1", "--hidden-lrs", "1"]
    line = ["sweep", *grid, "--out", str(path), "--resume"]
    end = ending(line)
    assert complaint(line, end) is None
    assert "is not the file of a sweep" in end.err


def test_columns_of_lists_are_left_out_and_a_name_may_be_too_long(tmp_path):
    if find_spec("pyarrow"):
        table = pd.read_csv(io.StringIO(surface()))
        table["group"] = [[1, 2]] * len(table)
        table.to_parquet(tmp_path / "lists.parquet")
        end = ending(["transfer", str(tmp_path / "lists.parquet")])
        assert end.code == 0
        assert "left out group, whose cells are lists" in end.out + end.err
    end = ending(["optima", "a" * 300 + ".nc"])
    assert (end.code, end.err.count("\n")) == (2, 1)
    assert "File name too long" in end.err


def test_messages_are_short_and_say_what_a_table_lacks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.csv").write_text("width,learning_rate,seed,loss\n64,0.1,0,1.5\n")
    end = ending(["transfer", "one.csv"])
    assert end.code == 0
    assert "needs two widths" in " ".join(end.out.split())
    assert "    1 run, 0 diverged; widths none" in end.out
    names = [f"column{number}" for number in range(10_000)]
    Path("wide.csv").write_text("\n".join((",".join(names), ",".join("1" for _ in names))))
    Path("folder.nc").mkdir()
    with h5py.File("half.nc", "w") as file:
        file.create_dataset("loss", data=np.ones(3, np.float16))
    for command, said in (
        ("transfer wide.csv", "has no column width"),
        ("transfer folder.nc", "is no file"),
        ("optima folder.nc", "folder.nc"),
        ("optima half.nc", "must be a sweep"),
    ):
        end = ending(command.split())
        assert complaint(command.split(), end) is None, (command, end)
        assert (end.code, end.err.count("\n")) == (2, 1)
        assert said in end.err
        assert len(end.err) < 1200


@pytest.mark.parametrize(
    ("command", "rates", "losses"),
    [
        ("transfer", (0.01, 0.1, 1.0), (1e-300, 1e300)),
        ("transfer", (-1.0, 0.0, 1.0), (1.0, 2.0)),
        ("optima", (-1.0, 0.0, 1.0), (1.0, 2.0)),
        ("optima", (0.01, 0.1, 1.0), (1e-300, 1e300)),
    ],
)
def test_odd_numbers_of_a_table_warn_of_nothing(command, rates, losses, tmp_path):
    """A warning is an exception in these tests."""
    lines = [
        f"{width},{rate},{seed},{losses[(width + place + seed) % 2]}"
        for width in (3, 4, 5)
        for place, rate in enumerate(rates)
        for seed in (0, 1)
    ]
    path = tmp_path / "odd.csv"
    path.write_text("\n".join(("width,learning_rate,seed,loss", *lines)))
    end = ending([command, str(path)])
    assert complaint([command, str(path)], end) is None, end
    assert end.code in (0, 2)


def test_steps_that_do_not_fit_the_memory_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("dynsim._runs.free_bytes", lambda: FREE)
    for command in (
        "train --width 8 --vocab-size 8 --seeds 1 --steps 2147483647",
        "coordinate-check --widths 4 8 --vocab-sizes 4 --record 100000000 --steps 100000000",
    ):
        end = ending(command.split())
        assert (end.code, end.err.count("\n"), end.out) == (2, 1, "")
        assert "--steps" in end.err
        assert "are free" in end.err


def test_a_file_that_is_changed_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    path, stat, calls = tmp_path / "runs.csv", os.fstat, []
    path.write_text(surface())

    def changed(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:  # after it was read
            with path.open("a") as file:
                file.write("\n64,1,0,2")
        return stat(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", changed)
        with pytest.raises(OSError, match="changed while it was read"):
            read_file(path)
    assert len(calls) == 2
    assert read_file(path).endswith(b"64,1,0,2")


def test_hdf5_sees_the_bytes_whose_digest_was_compared(tmp_path, monkeypatch):
    path, dataset = tmp_path / "file.nc", xr.Dataset({"loss": ("width", [1.0, 2.0])})
    path.write_bytes(netcdf_bytes(dataset))

    def read_and_replaced(file, most):
        content = read_file(file, most)
        file.write_bytes(netcdf_bytes(dataset + 1))
        return content

    monkeypatch.setattr(_netcdf, "read_file", read_and_replaced)
    xr.testing.assert_identical(read_netcdf(path), dataset)
    xr.testing.assert_identical(read_netcdf(path), dataset + 1)


def test_a_pipe_is_read_to_its_end_but_not_waited_for_without_end(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.write(writing, b"5\n3\n1\n")
    os.close(writing)
    end = ending(["tokens", f"counts:/dev/fd/{reading}", "--json"])
    os.close(reading)
    assert (end.code, json.loads(end.out)["vocab_size"]) == (0, 3)
    reading, writing = os.pipe()  # whose writer says nothing
    with pytest.raises(OSError, match="nothing comes"):
        read_file(Path(f"/dev/fd/{reading}"))
    os.write(writing, bytes(100))
    with pytest.raises(OSError, match="fit the memory"):
        read_file(Path(f"/dev/fd/{reading}"), most=99)
    os.close(reading)
    os.close(writing)


def test_kept_tokens_of_another_text_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("DYNSIM_CACHE", str(tmp_path / "cache"))
    for name, text in (("one", "some words of text " * 50), ("other", "of other words " * 50)):
        (tmp_path / name).write_text(text)
    streams = {n: corpus_tokens(str(tmp_path / n), 260).stream for n in ("one", "other")}
    one, other = (tmp_path / "cache").glob("*.npy")
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.unlink()
    other.mkdir()  # neither read nor written
    for name, stream in streams.items():
        np.testing.assert_array_equal(corpus_tokens(str(tmp_path / name), 260).stream, stream)
    assert one.read_bytes() == first
    assert [file.name for file in one.parent.iterdir() if file.suffix == ".tmp"] == []
