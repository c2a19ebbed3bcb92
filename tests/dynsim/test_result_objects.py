"""Results become datasets, tables and figures, each from one declaration."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rate_surfaces
import transfer_runs
import xarray as xr
from helpers import assert_refused
from matplotlib.axes import Axes

import dynsim
from dynsim import Setup
from dynsim._names import NAMES, name_of
from dynsim._results import Result, labelled, table
from dynsim.laboratory import NetworkSetup, network_coordinates, token_updates
from dynsim.plots import draw, style, write
from dynsim.plots._draw import DRAWINGS
from dynsim.plots._style import COLOURS, figure_format, panels
from dynsim.scaling.quantities._registry import QUANTITIES
from dynsim.statistics import LossSurface
from dynsim.theory import head_step
from dynsim.tokens import random_bigrams
from experiments.results import load, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = Setup(width=4, vocab_size=6, outputs=2, steps=3, optimizer="sgd", embedding_lr=0.5)
NETWORK = NetworkSetup(network="mlp", width=4, vocab_size=5, depth=1, steps=3)
ZIPF = dynsim.token_law("zipf:1", 50)
PAIRS = random_bigrams(ZIPF, 50, followers=3)


def linearised() -> Result:
    inputs = (lambda p, x: x @ p["w"], {"w": jnp.ones(3)}, jnp.eye(3), [1.0, 0.0, -1.0])
    return dynsim.predict_linearized(*inputs, [0, 1, 20, np.inf], x_test=jnp.ones((2, 3)))


def optimal() -> Result:
    setup = Setup(width=8, vocab_size=16, optimizer="sign", targets="sign")
    return dynsim.optimal_rates(setup, [1, 2], source="networks", seeds=2)


def surface() -> Result:
    loss = np.minimum(rate_surfaces.bowl((0.3, 2.0)), 1.25)[..., None] + 0.01 * np.arange(3)
    return LossSurface(rate_surfaces.RATES, rate_surfaces.RATES, loss, 1.2 + 0.01 * np.arange(3))


def compared() -> Result:
    found = dynsim.compare(SMALL, 2, particles=64, replicas=2)
    assert list(found.curves) == ["networks", "mean field", "flow", "linearised"]
    return found


def judged() -> dynsim.claims.Verdicts:
    """A claim of each form, on networks whose squared update is the derived one, or twice it."""
    stated = {"statement": "It is so.", "quantity": "projection_update_rms", "targets": "sign"}
    sizes = {"widths": [16, 32, 64], "optimizer": "sign"}
    one = {**stated, **sizes, "vocab_size": ["d", "4*d"], "form": "ratio", "tolerance": 0.1}
    other = {**stated, **sizes, "vocab_size": "d", "prediction": 0.7, "tolerance": 0.02, "steps": 1}
    derived = QUANTITIES["projection_update_rms"].derived

    def measure(measurement: Any, setup: Setup, labels: Any) -> Any:
        noise = 1 + 0.01 * np.cos(labels + setup.width)
        factor = 2 if setup.vocab_size > setup.width else 1
        return {"projection_update_rms": factor * derived(setup) ** 2 * noise}

    claims = [dynsim.claim("ratio", **one), dynsim.claim("power", **other)]
    return dynsim.verify(claims, measure=measure)


def exponent() -> Result:
    """Theory alone, at sizes that are trained in no time."""
    options = {"vocab_size": "d", "optimizer": "sign", "targets": "sign"}
    return dynsim.exponent("projection_step_rms", widths=[8, 16, 32], train=False, **options)


MADE: dict[str, Callable[[], Any]] = {
    "Training": lambda: dynsim.train(SMALL, 3, embedding_lrs=[0.1, 0.5], projection_lrs=[0.1, 1]),
    "TokenUpdates": lambda: token_updates(SMALL, 2),
    "NetworkTraining": lambda: dynsim.train(NETWORK, 2, horizons=[1, 3]),
    "Coordinates": lambda: network_coordinates(NETWORK, [1, 3], 2),
    "Prediction": lambda: dynsim.predict(SMALL, particles=64, replicas=2),
    "Flow": lambda: dynsim.gradient_flow(SMALL, np.linspace(0, 3, 5)),
    "LinearizedTraining": linearised,
    "Comparison": compared,
    "ScalingExponent": exponent,
    "Finding": lambda: judged()["ratio"],
    "FirstStep": lambda: dynsim.first_step("projection", "sign", [16, 64, 256], ZIPF),
    "HeadStep": lambda: head_step("head", "sign", [16, 64], ZIPF, PAIRS),
    "AgedUpdate": lambda: dynsim.aged_update(64, ZIPF, np.linspace(0, 1, 9)),
    "TokenLaw": lambda: ZIPF,
    "OptimalRates": optimal,
    "LossSurface": surface,
    "Transfer": lambda: transfer_runs.fitted(noise=0.003),
    "WidthCurve": lambda: made("Transfer").curves[0],
    "Recommendation": lambda: dynsim.recommend(512, 64, 1000, "zipf:1"),
}
# Dataclasses of the public interface that are no results, and single values that are part of one.
DESCRIPTIONS = {
    *("Setup", "NetworkSetup", "NetworkFamily", "NetworkModel", "HiddenRate", "Claim"),
    *("Linear", "ResidualMLP", "Transformer"),
    *("ClaimFile", "Axis", "Colour", "Family", "ScalingPath", "Measurement"),
}
PARTS = {
    *("Estimate", "ExponentFit", "RateExponent", "TransferParameter", "Resampled", "ZipfFit"),
    *("Optimum", "JointOptimum", "Outcome", "LayerValues", "RuleAnswer", "Regime", "SlopeBand"),
    *("Scales", "CorpusTokens", "ModelShape", "NetworkShape", "StepParts"),
    *("Asymptotic", "Boundary", "Curve", "Evidence", "Fitted", "MapNetworks"),
    *("Bigrams", "MuonRows", "MuonEmbeddingStep"),
    *("TransferCost", "OptimumTrend", "FeatureStatistics"),
}
PACKAGES = (
    *("tokens", "theory", "laboratory", "statistics", "search", "transfer", "rules"),
    *("claims", "maps", "scaling"),
)
METHODS = ("plot", "to_xarray", "to_dataframe")


@cache
def made(name: str) -> Any:
    return MADE[name]()


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    matplotlib.use("Agg")
    yield
    plt.close("all")


def public() -> dict[str, Any]:
    """Every name of dynsim and of the subpackages of its theory and its laboratory."""
    modules = [dynsim, *(getattr(dynsim, name) for name in PACKAGES)]
    return {name: getattr(one, name) for one in modules for name in one.__all__}


def test_every_public_result_is_one():
    classes = {
        name: one
        for name, one in public().items()
        if isinstance(one, type) and dataclasses.is_dataclass(one)
    }
    results = {name for name, one in classes.items() if all(hasattr(one, m) for m in METHODS)}
    assert results >= set(MADE)
    assert {name for name in results if issubclass(classes[name], Result)} <= set(DRAWINGS)
    others = set(classes) - results - DESCRIPTIONS - PARTS
    assert not others, f"results without a dataset, a table and a figure: {others}"


@pytest.mark.parametrize("name", MADE)
def test_a_dataset_says_what_it_holds(name, tmp_path):
    """Named dimensions, names and units of one table, the setup; the same after storage."""
    dataset = made(name).to_xarray()
    assert dataset.attrs["result"] == name
    assert isinstance(json.loads(dataset.attrs["setup"]), dict)
    for variable, array in dataset.variables.items():
        assert array.attrs["long_name"] == name_of(str(variable)).long_name
        assert array.attrs["units"] in ("1", "nat", "steps")
        assert set(array.dims) <= set(NAMES)
    save(dataset, tmp_path / "result.nc")
    xr.testing.assert_identical(load(tmp_path / "result.nc"), dataset)


@pytest.mark.parametrize("name", MADE)
def test_a_table_has_a_row_for_each_entry_of_the_main_array(name):
    result = made(name)
    dataset, frame = result.to_xarray(), result.to_dataframe()
    main = dataset[next(iter(type(result).arrays))]
    assert len(frame) == main.size
    assert frame[main.name].to_numpy() == pytest.approx(main.to_numpy().ravel(), nan_ok=True)
    assert set(main.dims) <= set(frame.columns)


@pytest.mark.parametrize("name", MADE)
def test_a_result_draws_itself(name, tmp_path):
    """In a new figure whose axes are labelled, or on given axes; a stored one looks the same."""
    result = made(name)
    first = result.plot()
    assert isinstance(first, Axes)
    for axes in first.figure.axes:
        assert axes.get_xlabel() or len(axes.get_xticklabels()) or axes.get_label() == "<colorbar>"
        assert axes.get_ylabel()
        assert axes.has_data()
    assert first.get_title(loc="left")  # what lines and bands are
    _, own = plt.subplots()
    assert result.plot(own) is own
    assert own.has_data()
    save(result.to_xarray(), tmp_path / "stored.nc")
    again = draw(load(tmp_path / "stored.nc"))
    assert again is not first
    for one, other in zip(first.figure.axes, again.figure.axes, strict=True):
        assert one.get_ylabel() == other.get_ylabel()
        for drawn, stored in zip(one.lines, other.lines, strict=True):
            values = [np.asarray(one.get_ydata(), np.float64) for one in (drawn, stored)]
            assert np.array_equal(*values, equal_nan=True)


def test_entries_are_those_of_the_fields():
    training = made("Training")
    dataset = training.to_xarray()
    assert dataset.loss.dims == ("rates", "seed", "step")
    assert np.array_equal(dataset.loss.sel(seed=2).isel(rates=1), training.loss[1, 2])
    assert dataset.embedding_lr.values.tolist() == [0.1, 0.5]
    frame = training.to_dataframe()
    row = frame[(frame.projection_lr == 1) & (frame.seed == 2) & (frame.step == 1)]
    assert row.loss.item() == training.loss[1, 2, 1]
    linear = made("LinearizedTraining").to_xarray()
    assert linear.outputs.dims == ("time", "point")
    assert linear.test_outputs.dims == ("time", "test_point")
    fixed = dynsim.first_step("embedding", "sign", [16, 64], ZIPF).to_xarray()
    assert fixed["mean"].shape == fixed.rms.shape == (2,)  # the mean does not depend on the width
    single = dynsim.first_step("hidden", "sign", 64, ZIPF)
    assert single.to_dataframe().rms.tolist() == [float(single.rms)]


def test_the_unit_of_a_loss_is_that_of_the_setup():
    classes = Setup(width=4, vocab_size=6, outputs=3, targets="onehot", steps=2)
    assert dynsim.train(classes, 1).to_xarray().loss.attrs["units"] == "nat"
    assert made("Training").to_xarray().loss.attrs["units"] == "1"


def test_an_array_without_a_name_is_no_part_of_a_dataset():
    with pytest.raises(KeyError, match="nameless"):
        labelled("Result", {"nameless": (("step",), [1.0])}, {})
    assert name_of("loss_error").units == name_of("loss").units
    frame = table(labelled("Result", {"loss": (("step",), [1.0, 2.0]), "ratio": ((), 3.0)}, {}))
    assert frame.columns.tolist() == ["step", "loss"]


def test_verdicts_are_a_result():
    """A row for each claim, in its tolerances; a claim's own figure has its form's numbers."""
    found = judged()
    dataset = found.to_xarray()
    assert dataset["claim"].to_numpy().tolist() == ["ratio", "power"]
    assert dataset.verdict.to_numpy().tolist() == [one.verdict for one in found]
    assert dataset.measured.to_numpy().tolist() == found.to_dataframe().measured.tolist()
    axes = found.plot()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ratio (!)", "power (!)"]
    ratio = found["ratio"].to_xarray()
    values = ratio.measured_ratio.to_numpy()
    assert values == pytest.approx([1, 1, 1, 2**0.5, 2**0.5, 2**0.5], abs=0.01)
    assert ratio["size"].to_numpy().tolist() == 2 * [16, 32, 64]
    assert (ratio.measured_ratio_low < values).all()
    assert (values < ratio.measured_ratio_high).all()
    assert ratio.attrs["measured_value"] == pytest.approx(2**0.25, abs=0.01)
    shown = found["ratio"].plot().figure
    assert "ratio: projection update RMS over the derived value" in shown.get_suptitle()
    assert found["ratio"].verdict in shown.get_suptitle()
    own = found["power"].plot()
    assert "power: power of $d$ in projection update RMS 0.50" in own.figure.get_suptitle()
    assert found["power"].to_xarray().attrs["claim"] == "power"
    assert "statement: It is so." in repr(found["power"])


def test_what_went_wrong_stands_in_the_figure():
    """Networks that diverged, and a single point, which has a marker."""
    rates = {"embedding_lr": 1e20, "projection_lr": 1e20}
    lost = dynsim.train(dataclasses.replace(SMALL, **rates), 2)
    axes = lost.plot()
    assert "2 of 2 diverged" in axes.get_title(loc="left")
    assert axes.lines[0].get_marker() == "o"
    assert made("Training").plot().lines[0].get_marker() != "o"


def test_only_results_are_drawn():
    assert_refused("dataset", lambda: draw(xr.Dataset()), "result")
    assert_refused("dataset", lambda: draw(xr.Dataset(attrs={"result": "Study"})), "result")


def test_figures_are_reproducible_and_have_one_style(tmp_path):
    """Drawn twice, the files are the same bytes; colours are those of the style."""

    def files(stem: str) -> list[bytes]:
        with style():
            figure, axes = panels()
            axes[0, 0].plot([1, 2], [3, 5])
        return [path.read_bytes() for path in write(figure, tmp_path / stem)]

    assert made("FirstStep").plot().lines[0].get_color() == COLOURS[0]
    assert files("one") == files("two")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf", ".svg"}
    assert b"<svg" in (tmp_path / "one.svg").read_bytes()
    with style():
        assert plt.rcParams["axes.spines.top"] is False
        assert tuple(plt.rcParams["axes.prop_cycle"].by_key()["color"]) == COLOURS
    assert plt.rcParams["axes.spines.top"] is True


def test_the_extension_decides_the_format():
    assert figure_format("plot", Path("a.b.PDF")) == "pdf"
    for name in ("a.jpg", "a", ".png", "a.pngx"):
        assert_refused("plot", lambda name=name: figure_format("plot", Path(name)), ".svg")


def test_importing_a_result_needs_no_matplotlib():
    """The figures are imported when something is drawn."""
    source = Path(importlib.import_module("dynsim._results").__file__ or "").read_text()
    assert "\nimport matplotlib" not in source
    assert "\nimport xarray" not in source


@pytest.mark.parametrize("before", [False, True])
def test_a_backend_loaded_by_the_first_figure_stays_interactive(before):
    """A notebook's backend switches this on while the first figure is drawn in the style."""
    kept = matplotlib.is_interactive()
    try:
        matplotlib.interactive(before)
        with style():
            matplotlib.interactive(True)
        assert matplotlib.is_interactive()
        with style():
            assert matplotlib.rcParams["axes.spines.top"] is False
            matplotlib.interactive(False)
        assert not matplotlib.is_interactive()
    finally:
        matplotlib.interactive(kept)
