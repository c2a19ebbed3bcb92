"""Sealed files: what is read is what was written, or the file is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr

from dynsim import _netcdf
from dynsim._files import Damaged, sealed, unsealed, write_file
from dynsim._netcdf import netcdf_bytes, read_netcdf


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    return xr.Dataset(
        {"loss": (("width", "seed"), random.normal(size=(3, 4))), "diverged": ("width", [0, 1, 0])},
        coords={"width": [8, 16, 32], "horizon": 5, "rule": ("width", ["a", "longer", "c"])},
        attrs={"config": "{}"},
    )


def test_every_flipped_bit_and_every_cut_is_noticed():
    content = bytes(range(40))
    data = sealed(content)
    assert unsealed(data) == content
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            assert unsealed(bytes(flipped)) is None  # the seal itself is none any more
            assert place // 8 >= len(content)
        except Damaged:
            pass
    assert all(unsealed(data[:length]) is None for length in range(len(data)))


def test_any_reader_opens_a_sealed_file_and_finds_checksums(dataset, tmp_path):
    path = tmp_path / "file.nc"
    write_file(path, netcdf_bytes(dataset))
    xr.testing.assert_identical(read_netcdf(path), dataset)
    with xr.open_dataset(path) as plain:
        xr.testing.assert_identical(plain.load(), dataset)
    with h5py.File(path) as file:
        assert all(file[name].fletcher32 for name in ("loss", "diverged", "width"))


def test_a_file_with_any_flipped_bit_is_refused_before_hdf5_opens_it(
    dataset, tmp_path, monkeypatch
):
    whole = netcdf_bytes(dataset)
    path = tmp_path / "file.nc"
    opened = []
    monkeypatch.setattr(_netcdf, "_opened", opened.append)
    random = np.random.default_rng(1)
    for place in random.integers(0, 8 * (len(whole) - 80), 200):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(Damaged, match="damaged"):
            read_netcdf(path)
    assert opened == []
    path.write_bytes(whole)
    read_netcdf(path)
    assert opened == [whole]


def test_reading_a_file_of_another_program_has_a_bound(dataset, tmp_path, monkeypatch):
    path = tmp_path / "file.nc"
    dataset.to_netcdf(path, engine="h5netcdf")
    xr.testing.assert_identical(read_netcdf(path), dataset)
    monkeypatch.setattr(_netcdf, "_PROBE", "while True: pass")
    monkeypatch.setattr(_netcdf, "PROBE_SECONDS", 0.2)
    with pytest.raises(Damaged, match="does not end"):
        read_netcdf(path)
    write_file(path, netcdf_bytes(dataset))  # sealed: needs no process
    xr.testing.assert_identical(read_netcdf(path), dataset)


def test_folders_and_impossible_names_are_os_errors(tmp_path):
    for path in (tmp_path, tmp_path / "a\0b.nc", tmp_path / ("a" * 300), tmp_path / "none.nc"):
        with pytest.raises(OSError):  # noqa: PT011
            read_netcdf(path)


def test_a_file_that_appears_is_not_overwritten(tmp_path):
    path = tmp_path / "file"
    write_file(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_file(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    write_file(path, b"third")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"third"
