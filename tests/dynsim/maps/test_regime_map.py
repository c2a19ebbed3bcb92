"""Maps against the functions of one point, and lines against what is equal on them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_refused

import derivations
from derivations import symbols as s
from dynsim import (
    aged_update,
    coherence,
    evaluate,
    first_step,
    optimal_learning_rates,
    predict,
    regime_map,
    restoration_displacement,
    token_law,
)
from dynsim.maps import COLOURS, axis, axis_of
from dynsim.maps._networks import trained
from dynsim.maps._plane import plane
from dynsim.scaling import Unavailable
from dynsim.scaling.quantities._registry import QUANTITIES
from dynsim.scaling.quantities._restoration import MUP_START, NEVER
from dynsim.theory import batch_effective_vocab_size

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZES = {"x": "width=16:4096:5", "y": "vocab_size=16:5000:4"}
COLUMNS = range(5)
BATCH = 300


def widths_of(result):
    return result.x.values


def laws_of(result, name):
    return [token_law(name, int(size)) for size in result.y.values]


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "counts"
    path.write_text("\n".join(map(str, np.round(1e6 / np.arange(1, 5001) ** 0.9))))
    return f"counts:{path}"


@pytest.mark.parametrize("tokens", ["uniform", "zipf:0.8", "zipf:1.2", "counts"])
@pytest.mark.parametrize("options", [{}, {"batch_size": BATCH}, {"optimizer": "sgd"}], ids=str)
def test_cells_are_the_first_step(tokens, options, counts):
    """Local exponent and RMS at every cell, for laws that are cut off at every vocabulary."""
    name = counts if tokens == "counts" else tokens
    slopes, sizes = (
        regime_map(colour, tokens=name, **SIZES, **options) for colour in ("local_exponent", "rms")
    )
    optimizer, batch = options.get("optimizer", "sign"), options.get("batch_size", 0)
    for row, law in enumerate(laws_of(slopes, name)):
        step = first_step("projection", optimizer, widths_of(slopes), law, batch_size=batch)
        known = np.isfinite(slopes.values[row])
        exponents, rms = np.asarray(step.local_exponent)[known], np.asarray(step.rms)[known]
        assert slopes.values[row, known] == pytest.approx(exponents, rel=1e-9)
        assert sizes.values[row, known] == pytest.approx(0.01 * rms, rel=1e-9)
    assert np.isfinite(slopes.values).sum() >= (12 if optimizer == "sgd" else 18)


def test_cells_of_a_path_and_of_a_zipf_axis():
    """m = d^0.7 follows the width; the exponent of the law is an axis."""
    result = regime_map(
        "local_exponent", "width=20:2000:5", "zipf=0:1.5:4", vocab_size="d^0.7", batch_size="2*m"
    )
    for (row, column), value in np.ndenumerate(result.values):
        width = result.x.values[column]
        law = token_law(f"zipf:{result.y.values[row]}", round(width**0.7))
        step = first_step("projection", "sign", width, law, batch_size=2 * law.vocab_size)
        assert value == pytest.approx(float(step.local_exponent), rel=1e-9)


@pytest.mark.parametrize("tokens", ["zipf:1", "counts"])
def test_share_of_mass_is_that_of_the_tokens_above_their_crossover(tokens, counts):
    name = counts if tokens == "counts" else tokens
    result = regime_map("mup_share", tokens=name, **SIZES)
    for row, law in enumerate(laws_of(result, name)):
        for column, width in enumerate(widths_of(result)):
            share = law.frequencies[coherence(float(width), law) > 1].sum()
            assert result.values[row, column] == pytest.approx(share, abs=1e-12)


def test_share_of_mass_in_a_batch_counts_tokens_of_their_own_derived_ratio():
    """The token's own mean square share of the batch decides, and the crossover is its root."""
    result = regime_map("mup_share", tokens="zipf:1", batch_size=BATCH, **SIZES)
    square = derivations.alignment(of_one_token=True, mini_batch=True).alignment_square
    for row, law in enumerate(laws_of(result, "zipf:1")):
        values = {
            s.frequency: law.frequencies,
            s.frequency_square_sum: law.power_sum(2),
            s.batch_size: BATCH,
        }
        alignment = np.asarray(evaluate(square, values))
        for column, width in enumerate(widths_of(result)):
            share = law.frequencies[2 / np.pi * (width - 1) * alignment > 1].sum()
            assert result.values[row, column] == pytest.approx(share, abs=1e-12)


def test_cells_of_an_aged_embedding():
    for outputs, batch, optimizer in ((1, 0, "adam"), (16, 0, "adam"), (1, BATCH, "sign")):
        result = regime_map(
            "local_exponent",
            "width=16:4096:4",
            "age=0.001:1:3",
            vocab_size=4000,
            outputs=outputs,
            batch_size=batch,
            optimizer=optimizer,
            embedding_lr=1e-3,
        )
        for row, age in enumerate(result.y.values):
            aged = aged_update(
                result.x.values,
                token_law("uniform", 4000),
                age,
                effective_outputs=outputs,
                batch_size=batch,
                embedding_lr=1e-3,
            )
            assert result.values[row] == pytest.approx(np.asarray(aged.local_exponent), rel=1e-9)


def test_later_updates_have_the_age_of_the_updates_before_them():
    """T updates: the last one acts on an embedding that has moved T - 1 times."""
    result = regime_map(
        "rms", "steps=1:9:9:lin", "embedding_lr=0.01:0.1:2", projection_lr=1e-6, vocab_size=512
    )
    for (row, column), value in np.ndenumerate(result.values):
        age = result.y.values[row] * (result.x.values[column] - 1)
        aged = aged_update(256, token_law("uniform", 512), age)
        assert value == pytest.approx(1e-6 * float(aged.rms), rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokens": "zipf:0.7", "targets": "gaussian"},
        {"outputs": 8},
        {"outputs": 8, "target_rank": 3},
        {"batch_size": BATCH},
        {"batch_size": BATCH, "outputs": "d^0.5"},
        {"batch_size": BATCH, "optimizer": "adam"},
        {"optimizer": "smoothed-sign", "epsilon": 1e-5},
        {"optimizer": "adam", "epsilon": 1e-7},
    ],
    ids=str,
)
def test_cells_are_the_quantity_restoration(options):
    """The derived value of every setup, 0 where it is aligned from the start; else no value."""
    axes = {"x": "width=16:1024:4", "y": "vocab_size=16:5000:3"}
    result = regime_map("restoration", **axes, **options)
    assert (result.values > 0).any()
    drawn = plane(result.x, result.y, options)
    for (row, column), value in np.ndenumerate(result.values):
        setup = drawn.setup(result.x.values[column], result.y.values[row])
        try:
            expected = QUANTITIES["restoration"].derived(setup)
        except Unavailable as reason:
            expected = 0.0 if str(reason) == MUP_START else np.nan
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "options",
    [
        {"init": "sp"},
        {"loss": "ce", "targets": "onehot", "outputs": 4},
        {"schedule": "cosine"},
        {"target_rank": "n", "outputs": "d^0.5"},
    ],
    ids=str,
)
def test_no_end_is_drawn_where_none_is_derived(options):
    axes = {"x": "width=16:1024:4", "y": "vocab_size=64:5000:3"}
    assert_refused("colour", lambda: regime_map("restoration", **axes, **options), "no value")


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "outputs": 8},
        {"outputs": 8, "tokens": "zipf:0.4"},
        {"init": "sp", "tokens": "zipf:0.5"},
    ],
    ids=str,
)
def test_cells_outside_the_formula_are_marked(options):
    """What is drawn is what the quantity derives from the setup's own residuals and self term."""
    axes = {"x": "width=16:1024:4", "y": "vocab_size=16:5000:4"}
    drawn = plane(axis("x", axes["x"]), axis("y", axes["y"]), options)
    result = regime_map("rms", **axes, **options)
    assert np.isnan(result.values).any()
    for (row, column), value in np.ndenumerate(result.values):
        setup = drawn.setup(result.x.values[column], result.y.values[row])
        if np.isfinite(value):
            expected = QUANTITIES["projection_step_rms"].derived(setup)
            assert value == pytest.approx(expected, rel=0.07)


@pytest.mark.parametrize("optimizer", ["sgd", "sign"])
def test_a_map_of_one_heavy_token_with_a_random_residual_is_refused(optimizer):
    """Its RMS depends on the residual that the token happens to have; the exponent hardly does."""
    axes = {"x": "width=16:1024:4", "y": "vocab_size=16:5000:4"}
    options = {"outputs": 8, "tokens": "zipf:1", "optimizer": optimizer}
    assert_refused("colour", lambda: regime_map("rms", **axes, **options), "equal size")
    if optimizer == "sign":
        slopes = regime_map("local_exponent", **axes, **options)
        assert np.isfinite(slopes.values[:, -1]).all()


def test_later_updates_are_not_drawn_once_the_projection_has_moved():
    axes = {"x": "width=64:1024:2", "y": "vocab_size=100:5000:2"}
    assert_refused("colour", lambda: regime_map("rms", steps=9, **axes), "projection")
    few = {"outputs": 4, "steps": 9, "embedding_lr": 0.001}
    assert_refused("colour", lambda: regime_map("local_exponent", **axes, **few), "at least 16")
    assert_refused("colour", lambda: regime_map("optimal_rate_ratio", steps=9, **axes), "one upd")


def test_networks_that_never_reach_the_end_are_counted_as_that():
    """Finite networks without a value did not diverge."""
    measured = []

    def never(measurement, setup, labels, progress=None):
        measured.append(setup)
        flat = np.full((3, len(labels)), float(setup.width))
        return {"mean_square": flat, "incoherent": flat, "embedding_lr": np.array([0.1])}

    drawn = plane(axis("x", "width=64:128:2"), axis("y", "vocab_size=500:1000:2"), {})
    found = trained(drawn, COLOURS["restoration"], (1, 1), 2, lambda *one: 0.1, never, print)
    assert measured
    assert found.left_out == {NEVER: 1}


def test_points_with_more_types_than_the_law_are_left_out_before_training(tmp_path):
    """A law of 20 types has no network of 100: counted with its reason, the others are trained."""
    (tmp_path / "counts.txt").write_text("".join(f"{20 - i}\n" for i in range(20)))
    measured = []

    def made(measurement, setup, labels, progress=None):
        measured.append((setup.width, setup.vocab_size))
        return {"projection_step_rms": np.full(len(labels), 0.25)}

    law = {"tokens": f"counts:{tmp_path / 'counts.txt'}"}
    drawn = plane(axis("x", "width=64:128:2"), axis("y", "vocab_size=10:100:2"), law)
    found = trained(drawn, COLOURS["rms"], (1, 2), 2, lambda *one: 0.5, made, print)
    assert measured == [(64, 10)]
    assert found.left_out == {"`vocab_size` must be at most 20, the types of the token law": 1}
    assert found.y.tolist() == [10]


def test_one_network_at_a_point_has_no_interval_and_misses_nothing():
    def made(measurement, setup, labels, progress=None):
        return {"projection_step_rms": np.full(len(labels), 0.25)}

    drawn = plane(axis("x", "width=64:128:2"), axis("y", "vocab_size=10:100:2"), {})
    found = trained(drawn, COLOURS["rms"], (1, 1), 1, lambda *one: 0.9, made, print)
    assert found.value == pytest.approx(0.5)
    assert np.isnan([found.low, found.high]).all()
    assert not found.misses.any()


@pytest.mark.parametrize(("init", "targets"), [("mup", "sign"), ("sp", "gaussian")])
def test_cells_are_the_ratio_of_optimal_rates(init, targets):
    result = regime_map("optimal_rate_ratio", init=init, targets=targets, tokens="zipf:1", **SIZES)
    for row, law in enumerate(laws_of(result, "zipf:1")):
        rates = optimal_learning_rates(widths_of(result), law, init=init, targets=targets)
        ratio = np.asarray(rates.embedding) / np.asarray(rates.projection)
        assert result.values[row] == pytest.approx(ratio, rel=1e-9)


def test_alignment_is_one_without_noise_and_a_root_of_the_width_without_signal():
    """One token: the RMS of sum |e| over d; many: 1/sqrt(d)."""
    one = regime_map("alignment", "width=64:1024:3", axis_of("vocab_size", [1, 10**7]))
    assert one.values[0] == pytest.approx(np.sqrt(2 / np.pi), rel=0.01)
    assert one.values[1] == pytest.approx(one.x.values**-0.5, rel=0.01)


def test_average_over_a_batch_is_that_of_its_own_tokens():
    """A batch of few tokens is a small vocabulary, whatever the vocabulary is."""
    result = regime_map(
        "local_exponent", "batch_size=2:1000:4", "vocab_size=64:1e5:3", averaged_over="batch"
    )
    for (row, column), value in np.ndenumerate(result.values):
        law = token_law("uniform", int(result.y.values[row]))
        size = batch_effective_vocab_size(law, int(result.x.values[column]))
        same = token_law("uniform", 1)
        rho = 2 / np.pi * 255 / size
        assert same.vocab_size == 1
        assert value == pytest.approx(0.5 + 0.5 * 256 / 255 * rho / (1 + rho), rel=1e-9)


# Lines


def points_of(result, name):
    (line,) = [one for one in result.boundaries if one.name == name]
    return np.concatenate(line.curves).T


def test_the_boundary_is_where_coherent_and_incoherent_power_are_equal():
    uniform = regime_map("local_exponent", **SIZES)
    width, vocab_size = points_of(uniform, "first_step")
    assert vocab_size == pytest.approx(2 / np.pi * (width - 1), rel=1e-9)
    assert len(width) > 100
    zipf = regime_map("local_exponent", tokens="zipf:0.6", **SIZES)
    width, vocab_size = points_of(zipf, "first_step")
    for d, m in zip(width[::20], vocab_size[::20], strict=True):
        sides = [token_law("zipf:0.6", int(one)) for one in (np.floor(m), np.ceil(m))]
        square = [law.mean_alignment_square for law in sides]
        assert square[1] <= np.pi / 2 / (d - 1) * (1 + 1e-9)
        assert square[0] >= np.pi / 2 / (d - 1) * (1 - 1e-9)


def test_the_boundary_of_a_batch_is_its_effective_vocabulary():
    result = regime_map("local_exponent", tokens="zipf:0.5", batch_size=BATCH, **SIZES)
    width, vocab_size = points_of(result, "batch")
    for d, m in zip(width[::20], vocab_size[::20], strict=True):
        sizes = [
            batch_effective_vocab_size(token_law("zipf:0.5", int(one)), BATCH)
            for one in (np.floor(m), np.ceil(m))
        ]
        assert sizes[0] * (1 - 1e-9) <= 2 / np.pi * (d - 1) <= sizes[1] * (1 + 1e-9)


def test_the_boundary_of_an_age_is_the_end_of_the_lv_regime():
    result = regime_map("local_exponent", "width=16:4096:4", "age=0.001:1:3", vocab_size=40000)
    width, age = points_of(result, "restoration")
    ends = [restoration_displacement(one, 40000) for one in width[::25]]
    assert age[::25] == pytest.approx(ends, rel=1e-6)


def test_the_self_term_counts_beyond_the_square_of_the_width():
    """kappa = 1 at 1/P_2 = d^2 (1 + 1/d) under muP."""
    result = regime_map("optimal_rate_ratio", x="width=16:200:4", y="vocab_size=16:100000:4")
    width, vocab_size = points_of(result, "self_term")
    assert vocab_size == pytest.approx(width**2 * (1 + 1 / width), rel=1e-6)


# What has no value


def test_cells_without_a_value_are_counted_by_reason(counts):
    result = regime_map(
        "local_exponent", "width=16:4096:5", "vocab_size=100:20000:8", tokens=counts
    )
    beyond = result.y.values > 5000
    assert np.isnan(result.values[beyond]).all()
    assert np.isfinite(result.values[~beyond]).all()
    ((reason, count),) = result.missing_counts.items()
    assert count == 5 * beyond.sum()
    assert "5000 types" in reason
    table = result.to_dataframe()
    assert (table.missing == reason).sum() == count
    assert f"{count} cells: {reason}" in repr(result).replace("\n    ", " ")


def test_a_corpus_is_tokenised_once_and_cut_off(text_folder):
    """The law of every vocabulary is the most frequent types of the largest one."""
    law = f"corpus:{text_folder}"
    result = regime_map(
        "local_exponent", "width=16:4096:4", "vocab_size=20:600:3", tokens=law, batch_size=BATCH
    )
    frequencies = token_law(law, 600).frequencies
    assert "tokenised once, into 600 types" in " ".join(result.notes)
    for row, size in enumerate(result.y.values):
        kept = frequencies[: int(size)] / frequencies[: int(size)].sum()
        square, cube = np.sum(kept**2), np.sum(kept**3)
        numerator = cube + (square - cube) / BATCH
        rho = 2 / np.pi * (result.x.values - 1) * numerator / (square + (1 - square) / BATCH)
        growth = result.x.values / (result.x.values - 1) * rho / (1 + rho)
        assert result.values[row] == pytest.approx(0.5 + growth / 2, rel=1e-9)


def test_integers_are_rounded_and_said():
    one = axis("x", "batch_size=1:10:50")
    assert one.values.tolist() == list(range(1, 11))
    assert one.rounded == "50 values of `batch_size` are rounded to 10 distinct integers"
    assert axis("x", "zipf=0:1.5:4").values == pytest.approx([0, 0.5, 1, 1.5])
    assert axis("x", "age=0.01:1:3").values == pytest.approx([0.01, 0.1, 1])
    assert axis("x", "age=0:1:3:lin").values == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize(
    ("field", "given", "words"),
    [
        ("x", {"x": "width"}, "NAME=LOW:HIGH:N"),
        ("x", {"x": "width=1:2"}, "NAME=LOW:HIGH:N"),
        ("x", {"x": "width=16:x:3"}, "NAME=LOW:HIGH:N"),
        ("x", {"x": "widht=16:64:3"}, "did you mean width"),
        ("x", {"x": "width=64:16:3"}, "LOW below HIGH"),
        ("x", {"x": "width=64:64:3"}, "LOW below HIGH"),
        ("x", {"x": "width=16:64:1"}, "N from 2"),
        ("x", {"x": "width=16:64:99999"}, "N from 2"),
        ("x", {"x": "width=16:64:3:sqrt"}, ":lin or :log"),
        ("x", {"x": "width=0:64:3"}, "between 1 and"),
        ("x", {"x": "width=nan:64:3"}, "LOW below HIGH"),
        ("x", {"x": "width=1.1:1.4:3"}, "two integers"),
        ("x", {"x": "age=0:1:3", "vocab_size": 9}, "positive LOW"),
        ("y", {"y": "width=16:64:3"}, "another axis"),
        ("y", {"x": "age=0.1:1:3", "y": "steps=2:4:2"}, "beside age"),
        ("width", {"width": 64}, "it is an axis"),
        ("tokens", {"x": "zipf=0:1:3", "tokens": "zipf:1"}, "the axis zipf"),
        ("x", {"x": "projection_lr=0.1:1:3"}, "no effect on local_exponent"),
        ("x", {"x": "outputs=1:8:3"}, "unless `steps` is above 1".replace("`steps`", "--steps")),
        ("x", {"x": "batch_size=1:100:3"}, "no effect on local_exponent here"),
        ("colour", {"colour": "exponent"}, "must be one of local_exponent"),
        ("colour", {"optimizer": "smoothed-sign"}, "no first step is derived"),
        ("colour", {"colour": "optimal_rate_ratio", "batch_size": 8}, "full batch"),
        ("colour", {"colour": "restoration", "optimizer": "sgd"}, "sign or smoothed-sign or adam"),
        ("colour", {"steps": 5, "batch_size": 8, "optimizer": "sign", "tokens": "zipf:1"}, "uni"),
        ("theory", {"colour": "loss", "theory": "closed"}, "must be mean_field"),
        ("networks", {"networks": "5"}, "5x4"),
        ("networks", {"networks": "0x4"}, "5x4"),
        ("networks", {"colour": "mup_share", "networks": "2x2", "tokens": "zipf:1"}, "not measur"),
        ("averaged_over", {"colour": "mup_share", "averaged_over": "batch"}, "must be law"),
        ("vocab_size", {"y": "zipf=0:1:3", "vocab_size": "d+1"}, "sums"),
        ("network", {"network": "mlp"}, "must be linear"),
        ("widht", {"widht": 3}, "no option"),
    ],
    ids=str,
)
def test_a_map_that_makes_no_sense_is_refused(field, given, words):
    assert_refused(field, lambda: regime_map(**{**SIZES, **given}), words)


# Mean field and networks


class Kept(dict):
    """A store in memory that counts what is computed."""

    def read(self, name, identity):
        return self.get((name, identity))

    def write(self, name, identity, arrays):
        self[name, identity] = arrays


@pytest.mark.slow
def test_rates_and_updates_of_a_mean_field_map_share_one_solution():
    store, solver = Kept(), {"particles": 64, "replicas": 2}
    axes = {"x": "steps=1:4:4:lin", "y": "embedding_lr=0.01:0.1:2"}
    sizes = {"width": 64, "vocab_size": 64, "projection_lr": 0.02}
    parts = []
    result = regime_map("loss", **axes, **sizes, **solver, store=store, progress=parts.append)
    assert len(store) == 1
    assert sum(parts) == pytest.approx(1)
    setup = plane(result.x, result.y, sizes).setup(4, 0.1)
    direct = predict(setup, **solver, embedding_lrs=result.y.values, projection_lrs=[0.02, 0.02])
    assert result.values == pytest.approx(direct.loss[:, 1:5])
    assert result.errors == pytest.approx(direct.loss_error[:, 1:5])
    again = regime_map("loss", **axes, **sizes, **solver, store=store)
    assert len(store) == 1
    assert np.array_equal(again.values, result.values)


@pytest.mark.slow
def test_networks_stand_on_the_map_with_their_interval():
    """Local exponents between two widths; points that are too large are left out and counted."""
    store = Kept()
    axes = {"x": axis_of("width", [48, 2**30]), "y": axis_of("vocab_size", [8, 400])}
    result = regime_map("local_exponent", **axes, networks="2x2", seeds=6, store=store)
    found = result.networks
    assert found is not None
    assert found.left_out == {"`networks` too large to train at this point": 2}
    assert found.x.tolist() == [48, 48]
    assert found.y.tolist() == [8, 400]
    assert not found.misses.any()
    assert (found.low < found.value).all()
    assert (found.high - found.low < 0.5).all()
    width = np.array([34.0, 68.0])
    step = first_step("projection", "sign", width, token_law("uniform", 8))
    slope = np.diff(np.log(np.asarray(step.rms)))[0] / np.log(2)
    assert found.theory[0] == pytest.approx(slope)
    assert len(store) == 4
    again = regime_map("local_exponent", **axes, networks="2x2", seeds=6, store=store)
    assert again.networks is not None
    assert np.array_equal(again.networks.value, found.value)
    assert len(store) == 4


def test_a_dataset_holds_everything_and_draws_the_same_figure(counts):
    result = regime_map(
        "local_exponent",
        "width=16:4096:5",
        "vocab_size=100:20000:8",
        tokens=counts,
        networks="1x1",
        seeds=2,
    )
    dataset = result.to_xarray()
    assert dataset.local_exponent.dims == ("vocab_size", "width")
    assert np.array_equal(dataset.local_exponent, result.values, equal_nan=True)
    assert dataset.boundary_first_step.shape[1] == 2
    assert dataset.network_value.size == 1
    axes = result.plot()
    assert axes.get_xlabel() == "width $d$"
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert any("cells: the token law has 5000 types" in text for text in labels)
    assert any(r"\rho=1" in text for text in labels)
    assert any("networks at 1 points, 2 seeds" in text for text in labels)
