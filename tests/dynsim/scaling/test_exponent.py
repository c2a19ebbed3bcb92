"""Exponents along a path: known power laws come back, and what is missing or diverges is said."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import assert_refused
from power_quantity import Power

import dynsim
from dynsim import Setup
from dynsim.scaling import (
    Unavailable,
    family,
    measured_cells,
)
from dynsim.scaling._budget import _between, _half_width, budget_seconds
from dynsim.scaling._columns import TimeLeft, mean_field_solutions, slope
from dynsim.scaling._exponent import named_quantity
from dynsim.scaling._fitted import fitted
from dynsim.scaling.quantities import _mean_field

exponent: Any = dynsim.exponent  # tests know which columns there are

pytestmark = pytest.mark.usefixtures("quick_compilation")


WIDTHS = [32, 64, 128]


def test_every_route_finds_a_known_power():
    reports: list[dynsim.ScalingExponent] = []
    found = exponent(
        Power(0.7), widths=WIDTHS, predict="asymptotic", tolerance=0.1, report=reports.append
    )
    assert float(found.asymptotic.exponent) == 0.7
    assert found.derived == pytest.approx(0.7, abs=1e-12)
    assert found.mean_field.value == pytest.approx(0.7, abs=1e-12)
    # three independent errors of 1 %: sigma / sqrt(sum of squares of ln size about its mean)
    assert found.mean_field.error == pytest.approx(0.01 / (math.log(2) * math.sqrt(2)))
    assert found.measured.low < 0.7 < found.measured.high
    assert found.verdict == "holds"
    assert found.wide.sizes[0] == 128
    assert found.wide.sizes[-1] == 10**6
    assert found.local.derived == pytest.approx(0.7, abs=1e-12)
    assert [one.measured for one in reports] == [None, None]
    assert [one.mean_field is None for one in reports] == [True, False]
    assert found.why == {}


def test_a_wrong_prediction_fails():
    assert exponent(Power(0.7), widths=WIDTHS, predict=0.5).verdict == "fails"


def test_what_is_missing_says_why():
    missing = ("asymptotic", "derived", "mean_field")
    found = exponent(Power(missing=missing), widths=WIDTHS, train=False)
    assert (found.asymptotic, found.derived, found.mean_field, found.measured) == (None,) * 4
    assert {name: found.why[name] for name in missing} == {n: f"no {n} for it" for n in missing}
    assert found.why["measured"] == "no network was trained"
    assert found.verdict is None
    assert "no power of power is known" in repr(found)


def test_a_slope_of_theory_needs_a_value_at_every_size():
    found = exponent(Power(largest=64), widths=WIDTHS, predict=0.7)
    assert found.derived is found.mean_field is None
    assert found.values["derived"] == pytest.approx([32**0.7, 64**0.7, math.nan], nan_ok=True)
    assert found.values["mean_field"] == pytest.approx([32**0.7, 64**0.7, math.nan], nan_ok=True)
    assert found.why["derived"] == "no derived so wide (at `width` 128)"
    assert found.why["mean_field"] == "no mean_field so wide (from `width` 128 on)"
    assert slope(np.array([1, 2]), np.array([-1.0, 2.0])) is None


def test_theory_beyond_the_measured_sizes_says_why_it_ends():
    found = exponent(Power(largest=1000), widths=WIDTHS, train=False)
    assert found.mean_field.value == found.derived == pytest.approx(0.7, abs=1e-12)
    assert np.isfinite(found.wide.mean_field).tolist() == (found.wide.sizes < 1000).tolist()
    assert found.why["wide_mean_field"] == "no mean_field so wide (from `width` 2048 on)"
    assert "no derived so wide" in found.why["wide_derived"]


def test_the_mean_field_is_begun_before_formulas_are_derived():
    """What it refuses then is said by its own column."""
    calls = []

    class Begun(Power):
        def begin_mean_field(self, setup):
            calls.append(("begun", setup.width))
            self.mean_field([setup])

        def derived(self, setup):
            calls.append(("derived", setup.width))
            return super().derived(setup)

    found = exponent(Begun(missing=("mean_field",)), widths=WIDTHS, train=False)
    assert calls[:2] == [("begun", WIDTHS[0]), ("derived", WIDTHS[0])]
    assert found.why["mean_field"] == "no mean_field for it"


@pytest.mark.parametrize("name", ["loss", "projection_step_rms", "alignment"])
def test_quick_columns_are_begun(name, monkeypatch):
    begun = []
    monkeypatch.setattr(_mean_field, "begin_prediction", begun.append)
    one = Setup(width=8, vocab_size=4, steps=2, optimizer="sign")
    named_quantity(name).begin_mean_field(one)
    assert begun == [one]
    with pytest.raises(Unavailable):
        named_quantity("incoherent_rms").begin_mean_field(one)


def test_mean_field_solutions_have_a_time_limit():
    quantity, along = named_quantity("projection_step_rms"), family("width", [8, 16], vocab_size=4)
    late = mean_field_solutions(quantity, along, along.sizes, TimeLeft(0.0))
    assert np.isnan(late.values).all()
    assert late.reason == "the budget leaves no time for it"


class Signed(Power):
    """A quantity that is negative in many networks, and in its mean in some resamples."""

    def trained(self, setup, seeds, progress):
        progress(1.0)
        return {"y": np.where(np.arange(len(seeds)) < 3, -1.0, 2.0)}


@pytest.mark.filterwarnings("error")
def test_a_quantity_that_is_not_positive_in_some_resamples_has_no_interval():
    found = exponent(Signed(), widths=WIDTHS, predict=0.7)
    assert found.measured.value == pytest.approx(0.0)
    assert math.isnan(found.measured.low)
    assert found.why["verdict"].startswith("the quantity is no positive number in some resamples")
    assert found.why["verdict"] in found.notes


def test_sizes_that_share_initial_weights_have_networks_of_their_own():
    """Setups that differ in batches, steps or rates alone draw the same weights for a label."""
    quantity = Power()
    exponent(quantity, batch_sizes=[2, 4, 8], width=16, seeds=[1, 5])
    labels = sorted(labels for _, labels in quantity.runs)
    assert labels == [[1, 5], [7, 11], [13, 17]]
    quantity.runs.clear()
    exponent(quantity, widths=WIDTHS, seeds=[1, 5])
    assert sorted(quantity.runs) == [(width, [1, 5]) for width in WIDTHS]
    twice = family("steps", [1, 2]).setups()
    assert_refused("seeds", lambda: measured_cells(quantity, twice, [2**31]))


def test_networks_of_two_batch_sizes_are_independent():
    """Of full and half batches the initial loss, which has no batch, would be the same number."""
    quantity = named_quantity("loss")
    setups = family("batch_size", [2, 4], width=8, vocab_size=4, embedding_lr=0, projection_lr=0)
    full, half = measured_cells(quantity, setups.setups(), 2)
    assert not np.isin(full.samples, half.samples).any()


def test_a_size_whose_networks_diverge_is_left_out_and_said():
    found = exponent(Power(0.7, lost=(1, 2)), widths=[*WIDTHS, 256], predict=0.7)
    assert found.diverged.tolist() == [0, 2, 0, 0]
    assert np.isnan(found.values["measured"][1])
    assert found.measured.value == pytest.approx(0.7, abs=0.1)
    assert found.verdict == "undecided"  # it is no power law along all sizes asked for
    assert "2 of 8 networks diverged at `width` 64" in found.notes
    assert any("left out" in note for note in found.notes)


def test_fewer_than_two_finite_sizes_have_no_slope():
    found = exponent(Power(lost=(0,)), widths=[64, 128], predict=0.7)
    assert found.measured is None
    assert "fewer than two sizes" in found.why["measured"]
    assert found.verdict is None


@pytest.mark.parametrize("options", [{"seeds": 1}, {"quantity": Power(noise=0.0)}])
def test_without_an_interval_there_is_no_verdict(options):
    found = exponent(**{"quantity": Power(), "widths": WIDTHS, "predict": 0.7} | options)
    assert found.verdict is None
    assert "no interval" in found.why["verdict"]


def test_seeds_are_labels_and_cells_may_come_from_elsewhere():
    quantity = Power()
    kept = {width: np.full(2, float(width)) for width in WIDTHS}

    def stored(measurement, setup, seeds):
        assert measurement.name == "power"
        assert seeds.tolist() == [5, 9]
        return {"y": kept[setup.width]}

    found = exponent(quantity, widths=WIDTHS, seeds=[5, 9], measure=stored)
    assert quantity.runs == []
    assert found.measured.value == pytest.approx(1.0, abs=1e-12)


def test_cells_come_in_the_order_of_the_sizes_with_all_progress():
    parts: list[float] = []
    setups = family("width", WIDTHS).setups()
    cells = measured_cells(Power(noise=0.0), setups, 2, progress=parts.append)
    assert [one.samples[0] for one in cells] == pytest.approx([w**0.7 for w in WIDTHS])
    assert sum(parts) == pytest.approx(1.0)


def test_the_first_update_of_networks_has_the_derived_power():
    """At fixed vocabulary and width far above it, the projection's update is aligned: power 1."""
    along = family("width", [64, 128], vocab_size=4, optimizer="sign", targets="sign")
    quantity = named_quantity("projection_step_rms")
    found: Any = fitted(along.sizes, measured_cells(quantity, along.setups(), 16)).fit
    values = np.array([quantity.derived(setup) for setup in along.setups()])
    derived: Any = slope(np.array(along.sizes), values)
    assert quantity.asymptotic(along).exponent == 1
    assert found.low < derived < found.high
    assert found.high - found.low < 0.3


def test_the_dataset_holds_columns_samples_and_verdict(tmp_path):
    from experiments.results import load, save

    found = exponent(Power(), widths=WIDTHS, vocab_size="min(d^2/8, 50000)", predict=0.7)
    save(found.to_xarray(), tmp_path / "exponent.nc")
    dataset = load(tmp_path / "exponent.nc")
    assert dataset.width.to_numpy().tolist() == WIDTHS
    assert dataset.samples.dims == ("width", "seed")
    assert dataset.attrs["verdict"] == found.verdict
    assert dataset.attrs["measured_slope"] == found.measured.value
    assert json.loads(dataset.attrs["setup"])["vocab_size"] == "min(d^2/8, 50000)"
    assert list(found.to_dataframe().width) == WIDTHS
    assert dynsim.plots.draw(dataset).get_xscale() == "log"


@pytest.mark.parametrize(
    ("field", "options", "fragment"),
    [
        ("quantity", {"quantity": "projection_step"}, "projection_step_rms"),
        ("vocab_sizes", {"widths": WIDTHS, "vocab_sizes": [1, 2]}, "beside `widths`"),
        ("predict", {"predict": "0.5x"}, "17/20"),
        ("predict", {"predict": "1/0"}, "finite"),
        ("predict", {"predict": math.nan}, "finite"),
        (
            "predict",
            {"quantity": Power(missing=("asymptotic",)), "predict": "asymptotic"},
            "no asy",
        ),
        ("tolerance", {"predict": 1, "tolerance": 0}, "above 0"),
        ("tolerance", {"tolerance": 0.1}, "without"),
        ("budget", {"budget": "soon"}, "60s or 10m"),
        ("budget", {"budget": 0}, "at least 1 s"),
        ("budget", {"budget": "9s", "train": False}, "no network is trained"),
        ("seeds", {"budget": "9s", "seeds": 99}, "`budget` chooses it"),
        ("seeds", {"train": False, "seeds": [1, 2]}, "no network is trained"),
        ("measure", {"train": False, "measure": measured_cells}, "no network is trained"),
        ("vocab_size", {"vocab_size": "d^-1/2"}, "write d^(-1/2)"),
        ("optimizer", {"optimizer": "adm"}, "one of"),
        ("embedding_lr", {"quantity": "embedding_step_rms", "embedding_lr": 0}, "positive"),
    ],
)
def test_bad_input_is_one_line(field, options, fragment):
    given = {"quantity": Power(), **options}

    def call() -> object:
        return exponent(**given)

    with pytest.raises(dynsim.InputError) as caught:
        call()
    assert fragment in caught.value.written(lambda name: f"`{name}`")
    assert_refused(field, call)


def test_a_budget_reads_times():
    assert [budget_seconds(text) for text in ("60s", "10m", 90, "1.5 min")] == [60, 600, 90, 90]


def test_a_budget_chooses_sizes_and_seeds():
    quantity, reports = Power(), []

    def report(result: dynsim.ScalingExponent) -> None:
        reports.append((result, len(quantity.runs)))

    found = exponent(quantity, budget="2s", vocab_size="4*d", report=report, predict="asymptotic")
    (first, trained), (planned, _), _ = reports
    assert (first.asymptotic.exponent, first.plan, trained) == (found.asymptotic.exponent, None, 0)
    assert planned.plan is found.plan
    assert planned.derived == found.derived
    assert found.plan is not None
    assert found.plan.sizes == found.family.sizes
    assert len(found.plan.sizes) >= 3
    assert len(found.seeds) == found.plan.seeds >= 8
    expected = interval_of_equal_scatter(found.plan.sizes, found.plan.seeds, 0.05)
    assert found.plan.half_width == pytest.approx(expected, rel=0.6)  # scatter of eight networks


def test_the_expected_interval_is_that_of_networks_whose_scatter_falls_with_their_size(random):
    """A power law between the sizes that are timed, and as at the larger one beyond."""
    sizes, seeds, draws = (64, 128, 256, 512, 1024), 12, 20_000
    scatters = _between((64, 256), (0.04**2, 0.01**2), sizes)
    assert np.sqrt(scatters) == pytest.approx([0.04, 0.02, 0.01, 0.01, 0.01])
    means = random.normal(size=(draws, len(sizes))) * np.sqrt(scatters / seeds)
    slopes = np.polyfit(np.log(sizes), means.T, 1)[0]
    assert _half_width(sizes, seeds, scatters) == pytest.approx(2.0 * slopes.std(), rel=0.03)


def interval_of_equal_scatter(sizes: Sequence[int], seeds: int, scatter: float) -> float:
    logs = np.log(np.asarray(sizes, dtype=float))
    return 1.96 * scatter / math.sqrt(seeds * np.sum((logs - logs.mean()) ** 2))


class Bent(Power):
    """ln y = power ln s + bend (ln s / 64)^2: local slopes run through the power at 64."""

    def __init__(self, power, bend, **options):
        super().__init__(power, noise=0.01, **options)
        self.bend = bend

    def value(self, setup):
        return super().value(setup) * np.exp(self.bend * np.log(setup.width / 64) ** 2)


def test_local_slopes_that_run_away_are_no_power_law():
    """Slopes between neighbours differ by 2 bend ln 2, twice from first to last of four sizes."""
    found = exponent(Bent(0.5, 0.1), widths=[32, 64, 128, 256], predict=0.55, tolerance=0.1)
    assert found.no_power_law is not None
    assert found.no_power_law in found.notes
    first, last = found.octaves[1][[0, -1]]
    assert last - first == pytest.approx(4 * 0.1 * np.log(2), abs=0.06)
    assert found.no_power_law == (
        f"no power law at these sizes: local slope runs from {first:.2f} to {last:.2f}"
    )
    assert found.verdict == "undecided"
    assert any("two largest sizes" in doubt or "interval" in doubt for doubt in found.doubts)
    theory = exponent(Bent(0.5, 0.1), widths=[32, 64, 128, 256], train=False)
    assert theory.no_power_law is not None
    assert "from 0.43 to 0.71" in theory.no_power_law  # 0.5 + 0.1 ln 2 (-1 and 3)
    assert exponent(Power(0.5, noise=0.01), widths=[32, 64, 128, 256]).no_power_law is None


def test_a_limit_that_is_far_is_said():
    """At a million the derived power is 0.5 + 2 bend ln(size / 64)."""
    found = exponent(Bent(0.5, 0.002, missing=("mean_field",)), widths=[32, 64], train=False)
    assert found.far_from_limit is not None
    assert "1000000" in found.far_from_limit
    assert f"{found.local.derived[-1]:.3f}" in found.far_from_limit
    assert "1/2 = 0.5" in found.far_from_limit
    assert exponent(Power(0.5), widths=[32, 64], train=False).far_from_limit is None


def test_without_networks_no_number_of_them_is_printed():
    assert "seeds" not in repr(exponent(Power(0.5), widths=[32, 64], train=False))
    assert "seeds: 8" in repr(exponent(Power(0.5), widths=[32, 64]))


class Overstated(Power):
    """A formula with another power than that of the networks."""

    def derived(self, setup):
        return super().derived(setup) * setup.width**0.2


def test_an_interval_without_theory_is_said():
    found = exponent(Overstated(0.5, noise=0.01), widths=WIDTHS)
    assert found.theory_outside is not None
    assert "derived slope at these sizes, 0.700" in found.theory_outside
    assert found.theory_outside in found.notes
    assert exponent(Overstated(0.5), widths=WIDTHS, train=False).theory_outside is None
    solved = exponent(Overstated(0.5, noise=0.01, missing=("derived",)), widths=WIDTHS)
    assert solved.theory_outside is None  # the mean field has the networks' power
    lost = exponent(Overstated(0.5, noise=0.01, lost=range(8)), widths=[32, 64, 128, 256])
    assert lost.theory_outside is None  # its slope is that of other sizes


def test_an_epsilon_that_rules_is_said():
    """At init mup an embedding's gradient is sqrt(n) / (d m), the projection's 1 / sqrt(m)."""
    sizes = {"widths": [50, 100, 200], "vocab_size": 100, "optimizer": "adam", "targets": "sign"}
    trained = Power(0.5, missing=("mean_field",))
    assert exponent(trained, epsilon=4e-7, **sizes).large_epsilon is None
    assert exponent(trained, epsilon=1e-4, train=False, **sizes).large_epsilon is None
    solved = exponent(Power(0.5), epsilon=4e-7, train=False, **sizes).large_epsilon
    assert "`width` 800, 3200" in solved  # the sizes that mean-field theory solves beyond these
    found = exponent(trained, epsilon=0.9e-6, **sizes)
    assert found.large_epsilon is not None
    assert "at `width` 200, where" in found.large_epsilon
    assert "(at 200: 9e-07 against the embedding's 5e-05)" in found.large_epsilon
    assert exponent(trained, epsilon=0.9e-6, outputs=4, **sizes).large_epsilon is None
    assert exponent(trained, epsilon=0.9e-6, batch_size=10, **sizes).large_epsilon is None
    assert exponent(trained, epsilon=0.9e-6, embedding_lr=0.0, **sizes).large_epsilon is None
    falling = exponent(trained, epsilon="0.015*d^(-2)", **sizes)
    assert "at `width` 50, 100, where" in str(falling.large_epsilon)
    assert exponent(trained, **(sizes | {"optimizer": "sign"})).large_epsilon is None


def test_the_first_update_of_the_projection_does_not_know_the_embeddings_gradient():
    """Where epsilon rules the embedding, the projection still moves as by sign."""
    setup = {"widths": [64, 128], "vocab_size": 4096, "epsilon": 1e-7, "train": False}
    adam, sign = (
        exponent("projection_step_rms", optimizer=one, **setup) for one in ("adam", "sign")
    )
    assert adam.curve.mean_field == pytest.approx(sign.curve.mean_field, rel=0.01)
    assert adam.large_epsilon is None
    moved = exponent("embedding_step_rms", optimizer="adam", **setup)
    assert "against the embedding's" in str(moved.large_epsilon)


def test_what_is_derived_for_a_small_epsilon_is_withheld_where_it_is_not():
    """The embedding's first update by a large epsilon has another power than that of sign."""
    setup = {"widths": [64, 128], "vocab_size": 1024, "optimizer": "adam", "train": False}
    small = exponent("embedding_step_rms", epsilon=1e-12, **setup)
    assert small.asymptotic is not None
    assert small.derived is not None
    large = exponent("embedding_step_rms", epsilon=1e-5, **setup)
    assert large.asymptotic is None
    assert large.derived is None
    assert "`epsilon` is over 1 % of the embedding's gradient" in large.why["asymptotic"]
    assert large.mean_field.value < small.mean_field.value - 0.3
    assert exponent("projection_step_rms", epsilon=1e-5, **setup).derived is not None
