"""The check on records whose powers are known: verdicts, intervals, alignment, bad files."""

from __future__ import annotations

from fractions import Fraction

import coordinate_records as known
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from coordinate_records import records
from helpers import assert_refused

import derivations
from dynsim.coordinates import (
    check_coordinates,
    parametrization_powers,
    read_records,
    recorded_alignment,
    stability_alignment,
)
from dynsim.coordinates._records import write_records
from dynsim.coordinates._slopes import fitted_line, pooled_intervals


def test_known_powers_come_back_and_pass():
    found = check_coordinates(records())
    assert found.verdict == "as predicted"
    for slope in found.slopes:
        assert slope.slope.value == pytest.approx(known.MUP[slope.module][slope.term])


SHIFTED = {  # what is shifted, by how much, and which module must fail with which words
    "hidden init": ({("block.fc", "weight"): 0, ("block.fc", "initial"): 0.5}, "off by width^0.5"),
    "hidden rate": (
        {("block.fc", "weight_update"): 0, ("block.fc", "update_on_initial"): 1},
        "which is the embedding's or the vector's rate",
    ),
    "readout multiplier": (
        {
            ("lm_head", "weight"): 0,
            ("lm_head", "weight_update"): 0,
            ("lm_head", "initial"): 0.5,
            ("lm_head", "update_on_initial"): 1,
            ("lm_head", "initial_on_learned"): 1,
            ("lm_head", "update_on_learned"): 1,
        },
        "readout multiplier missing",
    ),
    "slow embedding": (
        {("wte", "weight_update"): -1, ("wte", "update_on_initial"): -1},
        "the hidden's",
    ),
}


@pytest.mark.parametrize("mistake", SHIFTED)
def test_a_shifted_power_fails_at_its_module(mistake):
    changed, words = SHIFTED[mistake]
    found = check_coordinates(records(changed, noise=0.02, widths=(64, 128, 256, 512)))
    (module,) = found.failing
    assert module.name == next(iter(changed))[0]
    assert any(words in text for text in module.mistakes), module.mistakes


def test_growth_that_comes_from_below_is_handed_on():
    """The readout's terms grow because its inputs do: only the module below is to blame."""
    grown = {
        ("block.fc", "weight_update"): 0,
        ("block.fc", "update_on_initial"): 1,
        ("lm_head", "learned_input"): 1,
        ("lm_head", "initial_on_learned"): 1,
        ("lm_head", "update_on_learned"): 1,
    }
    found = check_coordinates(records(grown))
    assert [module.name for module in found.failing] == ["block.fc"]
    handed = {slope.term for slope in found.slopes if slope.verdict == "handed on"}
    assert handed == {"initial_on_learned", "update_on_learned"}


def test_growth_without_a_cause_is_not_handed_on():
    grown = {("lm_head", "learned_input"): 1, ("lm_head", "initial_on_learned"): 1}
    assert [m.name for m in check_coordinates(records(grown)).failing] == ["lm_head"]


@pytest.mark.parametrize("name", ["sp", "ntk"])
def test_right_mup_is_not_the_standard_parametrization(name):
    """SP's readout starts as width^-1/2."""
    found = check_coordinates(records(), name)
    assert [module.name for module in found.failing] == ["lm_head"]


def test_exponents_of_ones_own_are_those_of_a_name():
    own = parametrization_powers("exponents:0,-1/2,-1:0,-1,-1")
    mup = parametrization_powers("mup")
    assert (own.weight, own.update) == (mup.weight, mup.update)
    assert parametrization_powers("umup").update["embedding"] == -0.5


def test_a_layer_without_updates_is_frozen_unless_it_is_not_trained():
    table = records()
    moved = table.term.isin(["weight_update", "update_on_initial", "update_on_learned"])
    table.loc[moved & (table.module == "block.fc"), "rms"] = 0.0
    found = check_coordinates(table)
    assert [module.name for module in found.failing] == ["block.fc"]
    assert "does not learn" in found.failing[0].mistakes[0]
    table["trained"] = (table.module != "block.fc").astype(int)
    assert check_coordinates(table).verdict == "as predicted"


def test_the_first_step_of_a_warm_up_is_left_out():
    table = records()
    table.loc[(table.step == 1) & table.term.str.contains("update"), "rms"] = 0.0
    found = check_coordinates(table)
    assert found.verdict == "as predicted"
    assert found.steps == (2,)
    assert "learning rate 0" in found.notes[0]


def test_a_run_that_diverges_fails():
    table = records()
    table.loc[(table.term == "update_on_learned") & (table.width == 256), "rms"] = np.inf
    assert {m.name for m in check_coordinates(table).failing} == {"block.fc", "lm_head"}


def test_two_widths_and_one_seed_decide_nothing():
    found = check_coordinates(records(widths=(64, 128)))
    assert found.verdict == "undecided"
    assert "add a width or a seed" in found.notes[-1]


def test_intervals_of_one_seed_cover_the_slope():
    """Three widths, four modules whose noise is half shared: 95 % are promised."""
    random = np.random.default_rng(1)
    widths, covered, count = np.log([64.0, 128.0, 256.0]), 0, 0
    for _ in range(400):
        shared = random.standard_normal(3)
        lines = {
            k: fitted_line(widths, 0.05 * (shared + random.standard_normal(3)) / 2**0.5)
            for k in range(4)
        }
        for one in pooled_intervals(lines, dict.fromkeys(lines, "term")).values():
            covered += one.low <= 0 <= one.high
            count += 1
    assert 0.92 <= covered / count <= 0.995


def test_a_module_that_scatters_more_than_others_has_a_wider_interval():
    """Three widths, three seeds, four modules, of which one has four times the noise."""
    random = np.random.default_rng(1)
    widths, covered, trials = np.repeat(np.log([64.0, 128.0, 256.0]), 3), 0, 400
    for _ in range(trials):
        noise = random.standard_normal((4, 9)) * np.array([[0.2], [0.05], [0.05], [0.05]])
        lines = {k: fitted_line(widths, one) for k, one in enumerate(noise)}
        noisy = pooled_intervals(lines, dict.fromkeys(lines, "term"))[0]
        covered += noisy.low <= 0 <= noisy.high
    assert 0.92 <= covered / trials <= 0.995


def test_alignment_comes_back_and_bounds_the_rates(tmp_path):
    """A = 0.8 and Omega = 1/2 of the hidden matrix, Omega = 1 of the readout."""
    powers = {
        ("block.fc", "update_on_initial"): -0.2,
        ("block.fc", "update_on_learned"): -0.4,
        ("lm_head", "update_on_learned"): -0.25,
    }
    write_records(records(powers), tmp_path / "runs.csv")
    found = recorded_alignment([tmp_path / "runs.csv"])
    alignment = stability_alignment(found)
    assert alignment.hidden == derivations.layer_alignment("4/5", "3/5", "1/2")
    assert alignment.readout == derivations.layer_alignment(1, "3/4", 1)
    solved = derivations.solve_stability(derivations.parametrization("mup"), "adam", alignment)
    assert solved.layers["hidden"].lr_exponent == Fraction(-4, 5)


def test_a_vocabulary_that_follows_the_width_is_one_path():
    found = check_coordinates(records(vocab_sizes={d: 4 * d for d in known.WIDTHS}))
    assert found.verdict == "as predicted"
    assert {slope.vocab_size for slope in found.slopes} == {0}
    assert "large-vocabulary regime" in found.notes[0]


@pytest.mark.parametrize("suffix", [".csv", ".nc"])
def test_files_come_back(tmp_path, suffix):
    file = tmp_path / f"runs{suffix}"
    write_records(records(), file)
    pd.testing.assert_frame_equal(
        read_records([file])[list(records())], records(), check_dtype=False
    )


def bad(tmp_path, **cells):
    """A file in which cells of the first rows are something else, or a column is missing (None)."""
    table = records().astype(object)
    for column, value in cells.items():
        if value is None:
            del table[column]
        else:
            table.loc[0, column] = value
    table.to_csv(tmp_path / "bad.csv", index=False)
    return [tmp_path / "bad.csv"]


CELLS = {
    "has no column width": {"width": None},
    "row 1 'wide': must be a whole number": {"width": "wide"},
    "row 1 '-3': must be a whole number": {"width": -3},
    "is not a number": {"rms": "large"},
    "must not be negative": {"rms": -1.0},
    "must be one of embedding": {"label": "head"},
    "must be one of input": {"term": "loss"},
}


@pytest.mark.parametrize("words", CELLS)
def test_a_bad_cell_is_named(tmp_path, words):
    with pytest.raises(ValueError, match=r"bad\.csv") as caught:
        read_records(bad(tmp_path, **CELLS[words]))
    assert words.partition("'")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "wide.csv").write_bytes("width\n1\n".encode("utf-16"))
    (tmp_path / "damaged.nc").write_bytes(b"no netCDF")
    for name in ("empty.csv", "wide.csv", "damaged.nc", "missing.csv", "runs.txt"):
        assert_refused("FILE", lambda n=name: read_records([tmp_path / n]), name)
    one = records(widths=(64,))
    assert_refused("FILE", lambda: check_coordinates(one), "two or more widths")
    mixed = pd.concat([records(), records(widths=(64,), vocab_sizes={64: 7})])
    assert_refused("FILE", lambda: check_coordinates(mixed), "width 64", "vocabularies 7, 100")
    unknown = lambda: check_coordinates(records(), "foo")  # noqa: E731
    assert_refused("parametrization", unknown, "umup", "exponents:")
    short = lambda: check_coordinates(records(), "exponents:0,1")  # noqa: E731
    assert_refused("parametrization", short, "such as exponents:0,-1/2,-1:0,-1,-1")
    assert_refused("tolerance", lambda: check_coordinates(records(), tolerance=0), "0.01 to 1")
    other = records()
    other.loc[other.rms != records(rng=1, noise=1).rms, "rms"] *= 2
    write_records(records(), tmp_path / "a.csv")
    write_records(other, tmp_path / "b.csv")
    twice = lambda: read_records([tmp_path / "a.csv", tmp_path / "b.csv"])  # noqa: E731
    assert_refused("FILE", twice, "that another one repeats")


def test_the_check_becomes_a_table_a_dataset_and_a_figure():
    found = check_coordinates(records(SHIFTED["hidden init"][0], noise=0.02))
    table = found.to_dataframe()
    assert len(table) == len(found.slopes)
    wrong = table[(table.module == "block.fc") & (table.term == "weight")]
    assert np.all(wrong.slope - wrong.allowed_high > 0.3)
    dataset = found.to_xarray()
    assert dataset.slope.dims == ("power",)
    assert dataset.attrs["verdict"] == found.verdict == "fails"
    whole = found.plot()
    assert len(whole.figure.axes) > 6
    _, axes = plt.subplots()
    assert found.plot(axes) is axes
    hidden = table.module[table.label == "hidden"].nunique()
    assert len(axes.lines) == hidden * min(2, len(found.steps))
    plt.close("all")
