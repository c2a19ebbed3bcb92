"""Stored results: what is saved comes back, in one move, with its provenance."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from importlib import metadata

import h5py
import numpy as np
import pytest
import xarray as xr

from experiments.results import STORED, code_version, fingerprint, load, provenance, save
from experiments.topics._registry import STUDIES
from experiments.topics._study import Study


@pytest.fixture
def dataset():
    return xr.Dataset(
        {"mean_square": (("width", "seed"), np.array([[1.0, np.nan, 3], [4, 5, np.inf]]))},
        coords={"width": [8, 16], "tokens": "zipf:1"},
        attrs=provenance({"width": [8, 16]}),
    )


def test_round_trip(dataset, tmp_path):
    save(dataset, tmp_path / "deeper" / "study.nc")
    again = load(tmp_path / "deeper" / "study.nc")
    xr.testing.assert_identical(again, dataset)
    assert not again.identical(dataset + 1)


def test_loading_leaves_the_file_free(dataset, tmp_path):
    path = tmp_path / "study.nc"
    save(dataset, path)
    again = load(path)
    save(dataset * 2, path)
    assert float(again.mean_square[0, 0]) == 1.0  # in memory, not a view of the file
    assert float(load(path).mean_square[0, 0]) == 2.0


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_ends_early_leaves_the_old_file(
    dataset, tmp_path, monkeypatch, function, failure
):
    path = tmp_path / "study.nc"
    save(dataset, path)

    def ends(*_):
        assert len(list(tmp_path.iterdir())) == 2  # the old file and what is written
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(os, function, ends)
        with pytest.raises(type(failure)):
            save(dataset * 2, path)
    assert [file.name for file in tmp_path.iterdir()] == ["study.nc"]
    xr.testing.assert_identical(load(path), dataset)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np, xarray as xr
from experiments.results import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
try:
    save(xr.Dataset({"x": ("n", np.random.default_rng(0).normal(size=100_000))}), Path(sys.argv[1]))
except OSError as error:
    print("refused", error.errno)
"""


def test_a_file_that_does_not_fit_is_an_os_error(tmp_path):
    """The HDF5 library itself ends the process when the disk is full; hence in one of its own."""
    pytest.importorskip("resource")
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "large.nc")],
        capture_output=True,
        text=True,
    )
    assert process.stdout == f"refused {errno.EFBIG}\n", process.stderr
    assert process.returncode == 0
    assert process.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_files_are_os_errors(dataset, tmp_path):
    with pytest.raises(OSError):  # noqa: PT011
        load(tmp_path / "missing.nc")
    path = tmp_path / "study.nc"
    save(dataset, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OSError):  # noqa: PT011
        load(path)


def test_provenance_says_what_made_the_numbers():
    stored = provenance({"seeds": 4, "width": 8})
    assert json.loads(stored["config"]) == {"seeds": 4, "width": 8}
    assert stored["code_version"] == code_version()
    assert stored["code_version"].startswith(metadata.version("dynsim") + "+")
    libraries = json.loads(stored["libraries"])
    assert libraries["jax"] == metadata.version("jax")
    assert libraries["numpy"] == np.__version__
    assert {"jaxlib", "equinox", "optax"} <= set(libraries)
    assert stored["device"].startswith(("cpu", "gpu", "cuda"))
    assert stored["python"].count(".") == 2


def test_provenance_names_what_changes_last_bits(monkeypatch):
    before = fingerprint({})
    monkeypatch.setenv("XLA_FLAGS", "--b=2 --a=1")
    assert provenance({})["xla_flags"] == "--a=1 --b=2"
    assert fingerprint({}) != before
    monkeypatch.setenv("XLA_FLAGS", "--a=1  --b=2")
    flags = fingerprint({})
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "float32")
    assert provenance({})["jax_settings"].endswith("=0 JAX_DEFAULT_MATMUL_PRECISION=float32")
    settings = fingerprint({})
    assert settings != flags
    monkeypatch.setattr("experiments.results.processor", lambda: "x86_64 avx")
    assert fingerprint({}) != settings


def test_provenance_counts_devices(monkeypatch):
    import jax

    one = provenance({})["device"]
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    assert provenance({})["device"] == f"{one} (4)"


def test_fingerprint_changes_with_config_and_nothing_else():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_fingerprint_changes_with_code_libraries_and_device(monkeypatch):
    from experiments import results

    before = fingerprint({"a": 1})
    for name, value in [
        ("code_version", "0.1.0+other"),
        ("libraries", "{}"),
        ("device", "gpu: H100"),
    ]:
        monkeypatch.setattr(
            results, "provenance", lambda config, at=name, to=value: {**provenance(config), at: to}
        )
        assert fingerprint({"a": 1}) != before


def test_every_study_has_its_own_fingerprint():
    prints = [study.fingerprint(full) for study in STUDIES.values() for full in (False, True)]
    assert len(set(prints)) >= len(STUDIES)
    assert len({study.fingerprint(False) for study in STUDIES.values()}) == len(STUDIES)


def test_a_study_labels_its_cells_and_reports_progress():
    def measure(width, vocab_size, seeds):
        return {"product": (("seed",), np.full(seeds, width * vocab_size))}

    cells = [{"width": 2, "vocab_size": 5}, {"width": 3, "vocab_size": 7}]
    study = Study("toy", lambda full: cells, measure, lambda full: {"seeds": 4 if full else 2})
    finished = []
    result = study.run(True, advance=lambda: finished.append(1))
    assert len(finished) == 2
    assert result.sizes == {"width": 2, "vocab_size": 2, "seed": 4}
    assert result.product.sel(width=3, vocab_size=7).values.tolist() == [21] * 4
    assert result.product.sel(width=2, vocab_size=7).isnull().all()  # not measured
    assert result.attrs["fingerprint"] == study.fingerprint(True) != study.fingerprint(False)
    assert json.loads(result.attrs["config"])["cells"] == cells


def test_a_failing_cell_fails_the_study():
    def measure(width):
        raise RuntimeError(f"width {width}")

    study = Study("toy", lambda full: [{"width": 2}], measure, lambda full: {})
    with pytest.raises(RuntimeError, match="width 2"):
        study.run(False)


def test_an_interruption_does_not_wait_for_a_cell_that_is_being_measured():
    started, released, finished = threading.Event(), threading.Event(), []

    def measure(width):
        if width == 2:
            assert started.wait(60)
            raise KeyboardInterrupt
        started.set()
        finished.append(released.wait(60))

    study = Study("toy", lambda full: [{"width": 2}, {"width": 3}], measure, lambda full: {})
    try:
        with pytest.raises(KeyboardInterrupt):
            study.run(False)
        assert not finished
    finally:
        released.set()


def test_variables_that_describe_cells_become_coordinates():
    study = Study(
        "toy",
        lambda full: [{"case": name} for name in ("a", "b")],
        lambda case: {"rule": ((), case * 2), "loss": (("width",), np.ones(2))},
        lambda full: {},
        coordinates=["rule"],
    )
    result = study.run(False)
    assert result.loss.rule.values.tolist() == ["aa", "bb"]


def test_the_package_holds_what_its_figures_need():
    from experiments.topics._figures import FIGURES

    for needs in (needs for _, needs in FIGURES.values()):
        for name in needs:
            dataset = load(STORED / f"{name}.nc")
            assert dataset.attrs["study"] == name
            assert {"config", "code_version", "libraries", "device"} <= set(dataset.attrs)


def test_stored_studies_are_netcdf_with_provenance(stored_studies, studies):
    for name in studies:
        dataset = load(stored_studies / f"{name}.nc")
        assert dataset.attrs["study"] == name
        assert {"config", "code_version", "libraries", "device", "fingerprint"} <= set(
            dataset.attrs
        )
        every_seed = {"seed", "cell"} & set(dataset.dims)  # cells of claims hold every seed
        assert every_seed or "loss_error" in dataset  # or theory
        with h5py.File(stored_studies / f"{name}.nc") as file:  # any HDF5 reader opens it
            assert set(dataset.data_vars) <= set(file)
