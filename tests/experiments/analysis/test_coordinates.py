"""Coordinate checks: sizes against numpy, prescribed powers, verdicts, planted mistakes."""

from __future__ import annotations

import itertools
from functools import cache
from operator import itemgetter

import jax
import numpy as np
import pytest
import xarray as xr
from helpers import assert_refused

from dynsim.laboratory import (
    QUANTITIES,
    TERMS,
    NetworkSetup,
    SlopeBand,
    network_coordinates,
    reference_setup,
    scales,
    slope_bands,
    train_networks,
    vocabulary_alignment_exponent,
)
from dynsim.laboratory._columns import run_columns
from dynsim.laboratory._training import trained_networks
from dynsim.statistics import fit_exponent
from experiments.analysis import coordinates
from experiments.analysis.coordinates import (
    FAILURES,
    _judged,
    alignments,
    coordinate_document,
    findings,
    layer_verdict,
    measure_coordinates,
    setup_of,
    widening,
)
from experiments.cells.complete import complete_file
from experiments.cells.store import folder_of, open_store
from experiments.commands.coordinate_check import _complaint

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = {"width": 8, "vocab_size": 6, "depth": 1, "steps": 3, "precision": "float64"}
WIDTHS, STEPS, SEEDS = (16, 64), (1, 4), 8
NETWORKS = {
    "linear": {},
    "mlp": {"depth": 1},
    "transformer": {"depth": 1, "batch_size": 64, "context": 8, "head_width": 8},
}
HIDDEN = {
    "linear": set(),
    "mlp": {"hidden.0"},
    "transformer": {
        f"blocks.0.{name}" for name in ("query", "key", "value", "output", "up", "down")
    },
}
MISTAKES = {
    "none": {},
    "hidden LR": {"lr_exponents": "-1/2,0,-1/2"},
    "hidden LR half": {"lr_exponents": "-1/2,-1/2,-1/2"},
    "readout init": {"init_exponents": "0,-1/2,-1/2"},
    "readout LR": {"lr_exponents": "-1/2,-1,0"},
    "no hidden LR": {"hidden_lr": 0.0},
    "embedding LR": {"lr_exponents": "-1,-1,-1/2"},
    "hidden init": {"init_exponents": "0,0,-1"},
    "sp": {"parametrization": "sp"},
    "mfp": {"parametrization": "mfp"},
    "umup": {"parametrization": "umup"},
}


@cache
def measured(network: str, mistake: str) -> xr.Dataset:
    setup = NetworkSetup(
        network=network,
        width=WIDTHS[0],
        vocab_size=16,
        outputs=4,
        steps=max(STEPS),
        **NETWORKS[network],
        **MISTAKES[mistake],
    )
    return measure_coordinates(setup, WIDTHS, (16,), STEPS, SEEDS)


# Measurement


def numpy_mean_squares(setup, before, after):
    """The readout's sizes in a linear network, by numpy."""
    multiplier = scales(setup).multiplier
    weights = setup.law().frequencies
    z0, z1 = (multiplier.embedding * np.asarray(net.embedding) for net in (before, after))
    w0, w1 = (multiplier.readout * np.asarray(net.readout) for net in (before, after))

    def mean(x):
        return float(weights @ np.mean(x**2, axis=1))

    return {
        "input": mean(z1),
        "learned_input": mean(z1 - z0),
        "output": mean(z1 @ w1.T),
        "update": mean(z1 @ (w1 - w0).T),
        "initial": mean(z0 @ w0.T),
        "update_on_initial": mean(z0 @ (w1 - w0).T),
        "initial_on_learned": mean((z1 - z0) @ w0.T),
        "update_on_learned": mean((z1 - z0) @ (w1 - w0).T),
        "weight": np.mean(w0**2),
        "weight_update": np.mean((w1 - w0) ** 2),
    }


@pytest.mark.slow
def test_sizes_of_a_linear_network_are_numpys():
    setup = NetworkSetup(**{**TINY, "base_width": 4}, outputs=3, tokens="zipf:1")
    found = network_coordinates(setup, (1, 3), seeds=2)
    assert found.matrices == ("embedding", "readout")
    assert found.mean_square.shape == (2, 3, 2, len(QUANTITIES))
    columns = run_columns(setup, seeds=[0, 1])
    networks = [
        jax.tree.map(np.array, reached.state.network)
        for reached in trained_networks(setup, columns, [0, 1, 3])
    ]
    for seed, (place, nets) in itertools.product(range(2), enumerate(networks)):
        before, after = (jax.tree.map(itemgetter(seed), tree) for tree in (networks[0], nets))
        expected = numpy_mean_squares(setup, before, after)
        row = dict(zip(QUANTITIES, found.mean_square[seed, place, 1], strict=True))
        assert row == pytest.approx(expected, rel=1e-9)
        embedding = dict(zip(QUANTITIES, found.mean_square[seed, place, 0], strict=True))
        assert embedding["output"] == pytest.approx(expected["input"])
        assert embedding["update_on_initial"] == pytest.approx(expected["learned_input"])
        assert embedding["update"] == embedding["update_on_initial"]
        assert np.isnan(embedding["input"])


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_entries_move_by_the_learning_rate_and_terms_add_up(network):
    data = measured(network, "none").mean_square.sel(step=1, vocab_size=16)
    for width, matrix in itertools.product(WIDTHS, data.matrix.values):
        factor = scales(NetworkSetup(width=width))
        label = matrix if matrix in ("embedding", "readout") else "hidden"
        step = 0.01 * factor.multiplier.of(label) * factor.learning_rate.of(label)
        size = data.sel(width=width, matrix=matrix)
        moved = size.sel(quantity="weight_update").mean().item() ** 0.5
        assert moved == pytest.approx(step, rel=0.02)  # Adam's first step is a sign
        if label == "embedding":
            continue
        # The triangle inequality both ways: sizes are those of terms of one sum.
        rms = {name: np.sqrt(size.sel(quantity=name).to_numpy()) for name in QUANTITIES}
        rest = sum(rms[term] for term in TERMS if term != "initial")
        assert np.all(np.abs(rms["output"] - rms["initial"]) <= rest * (1 + 1e-4))
        both = rms["update_on_initial"] + rms["update_on_learned"]
        assert np.all(rms["update"] <= both * (1 + 1e-4))
        assert np.all(rms["update"] >= 0.9 * (rms["update_on_initial"] - rms["update_on_learned"]))


@pytest.mark.slow
def test_networks_are_those_that_training_makes():
    setup = NetworkSetup(**TINY, batch_size=5)
    trained = train_networks(setup, seeds=[1, 2], horizons=[1, 3])
    columns = run_columns(setup, seeds=[1, 2])
    for place, reached in enumerate(trained_networks(setup, columns, [1, 3])):
        shared, batch = reached.shared, reached.shared.task.evaluation()
        outputs = jax.vmap(lambda net: net(batch.tokens, shared.multiplier).outputs)(  # noqa: B023
            reached.state.network
        )
        error = np.asarray(outputs) - np.asarray(batch.targets)
        loss = 0.5 * np.sum(np.asarray(batch.weights)[..., None] * error**2, axis=(1, 2, 3))
        assert loss == pytest.approx(trained.loss[:, place], rel=1e-9)


@pytest.mark.slow
def test_seeds_in_pieces_give_the_same_numbers(monkeypatch):
    setup = NetworkSetup(**TINY)
    whole = network_coordinates(setup, (2,), seeds=3).mean_square
    monkeypatch.setattr("dynsim.laboratory._training.runs_within", lambda *_: 2)
    pieces = network_coordinates(setup, (2,), seeds=3).mean_square
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)


def test_a_tied_readout_is_measured_too():
    setup = NetworkSetup(**{**TINY, "network": "mlp"}, tied=True)
    found = network_coordinates(setup, (1,))
    assert found.matrices == ("embedding", "hidden.0", "readout")
    entries = found.mean_square[0, 0, :, QUANTITIES.index("weight")] ** 0.5
    multiplier = scales(setup).multiplier
    assert entries[2] / entries[0] == pytest.approx(multiplier.readout / multiplier.embedding)


def test_bad_steps_and_optimizers_are_refused():
    setup = NetworkSetup(**TINY)
    for steps in ((), (0,), (4,), (-1, 2)):
        assert_refused("record", lambda steps=steps: network_coordinates(setup, steps))
    sgd = NetworkSetup(**TINY, optimizer="sgd")
    assert_refused("optimizer", lambda: slope_bands(sgd, WIDTHS, "readout"))
    assert_refused("widths", lambda: measure_coordinates(setup, (8,), (4,), (1,), 2))
    assert_refused("widths", lambda: measure_coordinates(setup, (8, 8, 16), (4,), (1,), 2))
    assert_refused("vocab_sizes", lambda: measure_coordinates(setup, (8, 16), (), (1,), 2))
    assert_refused("widths", lambda: measure_coordinates(setup, (8, 0), (4,), (1,), 2))
    assert_refused("vocab_sizes", lambda: measure_coordinates(setup, (8, 16), (0,), (1,), 2))
    assert_refused("seeds", lambda: measure_coordinates(setup, (8, 16), (4,), (1,), 1))


@pytest.mark.slow
def test_an_interrupted_measurement_goes_on_after_the_finished_sizes(tmp_path, monkeypatch):
    counts = tmp_path / "counts"
    counts.write_text("3\n2\n1\n1\n")
    setup = NetworkSetup(**TINY | {"vocab_size": 4}, tokens=f"counts:{counts}")
    arguments = (setup, (4, 8), (2, 4), (1, 3), 2)
    whole = measure_coordinates(*arguments)
    measured, most = [], 3

    def counted(sized, *others):
        if len(measured) == most:
            raise KeyboardInterrupt
        measured.append((sized.width, sized.vocab_size))
        return network_coordinates(sized, *others)

    monkeypatch.setattr(coordinates, "network_coordinates", counted)
    path = tmp_path / "coordinates.nc"

    def resumed():
        return complete_file(path, lambda store: measure_coordinates(*arguments, store=store))

    with pytest.raises(KeyboardInterrupt):
        resumed()
    assert not path.exists()
    most = 100
    assert resumed().identical(whole)
    assert measured == [(4, 2), (4, 4), (8, 2), (8, 4)]
    assert path.exists()
    assert not folder_of(path).exists()
    with open_store(path, resume=True) as store:
        measure_coordinates(*arguments, store=store)
        counts.write_text("9\n2\n1\n1\n")  # other tokens are another measurement
        measure_coordinates(*arguments, store=store)
    assert len(measured) == 12


# Prescribed powers


def bands(parametrization, matrix, vocab_size=1, widths=(2**14, 2**18), **fields):
    setup = NetworkSetup(
        network="mlp", vocab_size=vocab_size, parametrization=parametrization, **fields
    )
    found = slope_bands(setup, widths, matrix, stable=False)
    return {term: (round(band.low, 3), round(band.high, 3)) for term, band in found.items()}


def test_powers_of_mup_at_small_vocabulary():
    assert bands("mup", "embedding") == {"initial": (0, 0), "update_on_initial": (0, 0)}
    assert bands("mup", "hidden.0") == {
        "initial": (0, 0),
        "update_on_initial": (0, 0),
        "initial_on_learned": (0, 0),
        "update_on_learned": (-0.5, 0),
    }
    assert bands("mup", "readout") == {
        "initial": (-0.5, -0.5),
        "update_on_initial": (0, 0),
        "initial_on_learned": (-0.5, 0),
        "update_on_learned": (-0.5, 0),
    }


def test_gauges_of_one_parametrization_have_the_same_powers():
    for matrix in ("embedding", "hidden.0", "hidden.1", "readout"):
        assert bands("mfp", matrix) == bands("mup", matrix)
        assert bands("ntk", matrix) == bands("sp", matrix)
    assert bands("sp", "readout")["initial_on_learned"] == (0, 0.5)  # stable if Omega = 1/2
    for slow in ("umup", "lv"):
        assert bands(slow, "embedding")["update_on_initial"] == (-0.5, -0.5)
        assert bands(slow, "hidden.0")["initial_on_learned"] == (-0.5, -0.5)


def test_written_exponents_move_the_powers_and_not_the_reference():
    wrong = {"lr_exponents": "-1/2,-1/2,-1/2", "init_exponents": "0,0,-1"}
    assert bands("mup", "hidden.0", **wrong)["update_on_initial"] == (0.5, 0.5)
    assert bands("mup", "hidden.0", **wrong)["initial"] == (0.5, 0.5)
    setup = NetworkSetup(**wrong)
    assert reference_setup(setup) == NetworkSetup()
    stable = slope_bands(setup, WIDTHS, "hidden.0")
    assert all(band.high <= 0 for band in stable.values())


def test_the_vocabulary_takes_alignment_from_hidden_layers():
    def exponent(vocab_size, widths=(2**10, 2**12), **fields):
        return vocabulary_alignment_exponent(NetworkSetup(vocab_size=vocab_size, **fields), widths)

    assert exponent(1) == pytest.approx(1, abs=1e-3)
    assert exponent(2**22) == pytest.approx(0.5, abs=1e-3)
    # At rho = 1 the local exponent is 3/4 (docs/theory/learning_rates.md#maximal-update-ratio).
    assert exponent(round(2 / np.pi * 2**11)) == pytest.approx(0.75, abs=0.01)
    large = bands("mup", "hidden.0", vocab_size=2**16, widths=(32, 64))
    assert large["update_on_initial"] == pytest.approx((-0.5, 0), abs=0.01)


# Verdicts


def synthetic(slope: float, term: str, noise: float = 0.0, widths=WIDTHS) -> xr.Dataset:
    """The measured linear network with one term of the readout replaced by a power law."""
    data = measured("linear", "none").copy(deep=True)
    d = np.array(widths, float)
    factor = np.exp(noise * np.resize([1.0, -1.0], SEEDS))  # the same mean at every width
    values = (d[:, None] ** (2 * slope)) * factor
    place = {"matrix": "readout", "quantity": term, "vocab_size": 16}
    for step in STEPS:
        data.mean_square.loc[{**place, "step": step}] = values
    return data


def verdict_of(data: xr.Dataset, term: str, step: int) -> str:
    (found,) = [
        f
        for f in findings(data, 0.15)
        if (f.matrix, f.term, f.step, f.along) == ("readout", term, step, "width")
    ]
    return found.verdict


def test_verdicts_follow_the_rule():
    term = "update_on_initial"
    setup = setup_of(measured("linear", "none"), 16)
    band = slope_bands(setup, WIDTHS, "readout")[term]
    assert band.high == 0
    for slope, first, last in (
        (0.2, "blows up", "blows up"),
        (0.1, "holds", "holds"),
        (band.low - 0.1, "holds", "holds"),
        (band.low - 0.2, "too small", "holds"),  # judged at the first step only
    ):
        data = synthetic(slope, term)
        assert [verdict_of(data, term, step) for step in STEPS] == [first, last]
    assert verdict_of(synthetic(-3, "update_on_learned"), "update_on_learned", 1) == "holds"
    assert verdict_of(synthetic(0.2, term, noise=1.0), term, 1) == "undecided"


def test_two_seeds_fail_no_right_network():
    """Terms that do not grow, with seeds that scatter; a power of one is told all the same."""
    random, widths, band = np.random.default_rng(0), [16, 32, 64], SlopeBand(-0.5, 0.0)
    failing = {"Student's": 0, "widened": 0}
    for _ in range(40):
        squares = np.exp(1.5 * random.normal(size=(3, 2)))
        _, verdict = _judged(widths, squares, band, 0.15, True)
        failing["widened"] += verdict in FAILURES
        slope = fit_exponent(widths, list(squares), power=0.5)
        failing["Student's"] += slope.low > 0.15 or slope.high < -0.65
    assert failing["widened"] == 0 < failing["Student's"]
    grows = np.array(widths)[:, None] ** 2.0 * np.exp(0.01 * random.normal(size=(3, 2)))
    assert _judged(widths, grows, band, 0.15, True)[1] == "blows up"
    assert widening(2, 3) > widening(3, 3) > widening(4, 3) == 1


def test_sizes_that_are_zero_or_not_finite():
    data = synthetic(0, "update_on_initial")
    data.mean_square.loc[{"quantity": "update_on_initial", "seed": 0, "width": 16}] = np.inf
    assert verdict_of(data, "update_on_initial", 1) == "diverged"
    data = synthetic(0, "update_on_initial")
    data.mean_square.loc[{"quantity": "update_on_initial", "width": 16}] = 0.0
    assert verdict_of(data, "update_on_initial", 1) == "frozen"
    assert verdict_of(data, "update_on_initial", 4) == "zero"  # judged at the first step only
    data = synthetic(0, "initial_on_learned")
    data.mean_square.loc[{"quantity": "initial_on_learned", "width": 16}] = 0.0
    found = [f for f in findings(data, 0.15) if f.verdict == "zero"]
    assert found
    assert layer_verdict(found) == "as predicted"


def test_layers_that_do_not_move_fail():
    document = coordinate_document(measured("mlp", "no hidden LR"), 0.15)
    verdicts = {layer["matrix"]: layer["verdict"] for layer in document["layers"]}
    assert verdicts == {"embedding": "as predicted", "hidden.0": "fails", "readout": "fails"}
    frozen = [row for row in document["slopes"] if row["verdict"] == "frozen"]
    assert {(row["matrix"], row["term"]) for row in frozen} == {
        (matrix, "update_on_initial") for matrix in ("hidden.0", "readout")
    }
    assert "is zero at m=16, step 1" in _complaint(frozen[0])


@pytest.mark.slow
def test_scores_of_one_token_need_not_move():
    setup = NetworkSetup(
        network="transformer", depth=1, context=1, head_width=8, batch_size=16, vocab_size=16
    )
    found = findings(measure_coordinates(setup, WIDTHS, (16,), (1,), 2), 0.15)
    verdicts = {f.matrix: f.verdict for f in found if f.term == "update_on_initial"}
    assert {matrix for matrix, verdict in verdicts.items() if verdict == "zero"} == {
        "blocks.0.query",
        "blocks.0.key",
    }
    assert "frozen" not in verdicts.values()


def test_growth_with_the_vocabulary_is_a_mistake():
    one = measured("linear", "none")
    grown = one.assign_coords(vocab_size=[64]).copy(deep=True)
    both = xr.concat([one, grown], "vocab_size", combine_attrs="override")
    assert not [
        f for f in findings(both, 0.15) if f.along == "vocab_size" and f.verdict in FAILURES
    ]
    place = {"quantity": "initial_on_learned", "vocab_size": 64}
    both.mean_square.loc[place] = both.mean_square.loc[place] * 4.0  # vocab_size^(1/2)
    wrong = [f for f in findings(both, 0.15) if f.along == "vocab_size" and f.verdict in FAILURES]
    assert {(f.matrix, f.term, f.at) for f in wrong} == {
        ("readout", "initial_on_learned", width) for width in WIDTHS
    }
    assert all(f.slope.value == pytest.approx(0.5) for f in wrong)


def failing(network: str, mistake: str) -> dict[str, set[str]]:
    """Layers that fail, with the terms that do."""
    found = [f for f in findings(measured(network, mistake), 0.15) if f.verdict in FAILURES]
    return {
        matrix: {f.term for f in found if f.matrix == matrix}
        for matrix in dict.fromkeys(f.matrix for f in found)
    }


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_correct_parametrizations_pass(network):
    for name in ("none", "mfp", "umup"):
        assert failing(network, name) == {}, name


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("mistake", ["hidden LR", "hidden LR half", "hidden init"])
def test_mistakes_in_hidden_layers_are_found_there(network, mistake):
    wrong = failing(network, mistake)
    term = "initial" if mistake == "hidden init" else "update_on_initial"
    assert {matrix for matrix, terms in wrong.items() if term in terms} == HIDDEN[network]
    assert "embedding" not in wrong


@pytest.mark.parametrize("network", NETWORKS)
def test_mistakes_in_the_readout_are_found_there(network):
    assert failing(network, "readout init").keys() == {"readout"}
    assert "initial_on_learned" in failing(network, "readout init")["readout"]
    assert failing(network, "readout LR").keys() == {"readout"}
    assert "update_on_initial" in failing(network, "readout LR")["readout"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_frozen_embedding_is_found(network):
    wrong = failing(network, "embedding LR")
    assert wrong["embedding"] == {"update_on_initial"}
    assert "readout" not in wrong


@pytest.mark.parametrize("network", NETWORKS)
def test_sp_fails_at_the_readout_and_says_why(network):
    assert failing(network, "sp") == {"readout": {"initial_on_learned"}}
    document = coordinate_document(measured(network, "sp"), 0.15)
    assert any("Omega = 1/2" in note for note in document["notes"])
    omega = {row["matrix"]: row["Omega"] for row in document["alignment"] if row["step"] == 1}
    assert omega["readout"]["measured"]["value"] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("network", NETWORKS)
def test_measured_alignment_is_the_derived_one(network):
    """The first matrix that reads the embedding, at the first step: finite-size A, U = 1/2."""
    rows = [row for row in alignments(measured(network, "none")) if row["step"] == 1]
    first = {"linear": "readout", "mlp": "hidden.0", "transformer": "blocks.0.value"}[network]
    (row,) = [row for row in rows if row["matrix"] == first]
    assert row["A"]["measured"]["value"] == pytest.approx(row["A"]["predicted"][0], abs=0.06)
    assert row["A"]["predicted"][0] < 0.9  # so that 1 would be refuted
    if network != "linear":
        assert row["U"]["measured"]["value"] == pytest.approx(0.5, abs=0.12)
        assert row["Omega"]["measured"]["value"] == pytest.approx(0.5, abs=0.12)
