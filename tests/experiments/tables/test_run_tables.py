"""Tables of runs: what files become one, and which are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from transfer_runs import RATES, WIDTHS, cases, runs, stored, values

from dynsim import InputError, fit_transfer
from experiments.tables import _formats
from experiments.tables.runs import read_runs


def frame(**changes) -> pd.DataFrame:
    columns = dict(zip(("width", "learning_rate", "seed", "loss"), runs(**changes), strict=True))
    return pd.DataFrame(columns)


def test_columns_that_vary_make_groups(tmp_path):
    table = pd.concat([frame().assign(rule="sp", steps=9), frame().assign(rule="mup", steps=9)])
    table.to_csv(tmp_path / "a.csv", index=False)
    found, groups, notes = read_runs([tmp_path / "a.csv"], None, ())
    assert groups == ["rule"]
    assert notes == []
    assert len(found) == len(table)
    assert read_runs([tmp_path / "a.csv"], None, ("steps", "rule"))[1] == ["steps", "rule"]


def test_files_are_groups_unless_something_tells_them_apart(tmp_path):
    paths = [tmp_path / "sp.csv", tmp_path / "mup.csv"]
    for path in paths:
        frame().to_csv(path, index=False)
    found, groups, _ = read_runs(paths, None, ())
    assert groups == ["file"]
    assert set(found.file) == {"sp.csv", "mup.csv"}
    for path in paths:
        frame().assign(rule=path.stem).to_csv(path, index=False)
    assert read_runs(paths, None, ())[1] == ["rule"]
    for path, part in zip(paths, (WIDTHS[:2], WIDTHS[2:]), strict=True):
        frame(widths=part).to_csv(path, index=False)
    found, groups, notes = read_runs(paths, None, ())
    assert groups == []
    assert "parts of one sweep" in notes[0]
    (tmp_path / "deep").mkdir()
    twins = [tmp_path / "sp.csv", tmp_path / "deep" / "sp.csv"]
    for path in twins:
        frame().to_csv(path, index=False)
    assert read_runs(twins, None, ())[0].file.nunique() == 2


def test_a_file_without_a_column_of_the_groups_is_named(tmp_path):
    paths = [tmp_path / "runs.csv", tmp_path / "mup.csv"]
    frame().to_csv(paths[0], index=False)
    frame().assign(rule="mup").to_csv(paths[1], index=False)
    for group_by, within in (((), ()), (("rule",), ()), (("file",), ("rule",))):
        with pytest.raises(InputError, match=r"runs\.csv.* has no column rule.*group_by"):
            read_runs(paths, None, group_by, within)
    assert read_runs(paths, None, ("file",))[1] == ["file"]


def test_columns_of_sets_tell_groups_apart_where_they_vary(tmp_path):
    path = tmp_path / "all.csv"
    parts = [frame().assign(rule=rule, steps=steps, unit=1) for rule in "ab" for steps in (8, 9)]
    pd.concat(parts).to_csv(path, index=False)
    assert read_runs([path], None, (), ("steps", "unit"))[1] == ["rule", "steps"]
    assert read_runs([path], None, ("rule",), ("steps", "unit"))[1] == ["rule", "steps"]
    assert read_runs([path], None, (), ("file",))[1] == ["rule", "steps"]
    with pytest.raises(InputError, match=r"within.*must be one of rule, steps, unit, file"):
        read_runs([path], None, (), ("width",))


def test_runs_that_occur_again(tmp_path):
    path = tmp_path / "a.csv"
    pd.concat([frame(), frame().head(4)]).to_csv(path, index=False)
    found, _, notes = read_runs([path], None, ())
    assert len(found) == len(frame())
    assert notes == ["4 runs occur again with the same loss and count once"]
    other = frame().head(2)
    pd.concat([frame(), other.assign(loss=other.loss + 1)]).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"4 runs share their width, learning_rate, seed"):
        read_runs([path], None, ())
    pd.concat([frame().assign(steps=1), frame(loss_limit=2).assign(steps=2)]).to_csv(path)
    found, groups, _ = read_runs([path], None, ())  # with the index, which starts anew
    assert (groups, len(found)) == (["steps"], 2 * len(frame()))
    pd.concat([frame().assign(a=0, steps=1), frame(loss_limit=2).assign(a=0, steps=2)]).to_csv(
        path, index=False
    )
    with pytest.raises(InputError, match="group_by leaves out steps"):
        read_runs([path], None, ("a",))


@pytest.mark.parametrize(
    "cells", [["True", "False", ""], ["yes", " No", ""], ["1", "0", ""], ["TRUE", "false", "no"]]
)
def test_words_for_diverged(tmp_path, cells):
    path = tmp_path / "a.csv"
    table = frame().assign(diverged=np.resize(cells, len(frame())))
    table.to_csv(path, index=False)
    found, groups, _ = read_runs([path], None, ())
    assert groups == []
    assert found.loss.isna().tolist() == (table.diverged == cells[0]).tolist()


def test_diverged_of_other_types(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()  # read in its place: what is patched in below
    table = frame()
    for cells in (
        [True, None, False],
        [1.0, np.nan, 0.0],
        [1, 0, 0],
        pd.array([True, None, False]),
    ):
        flags = pd.Series(cells).take(np.resize([0, 1, 2], len(table))).reset_index(drop=True)
        read = table.assign(diverged=flags)
        monkeypatch.setattr(_formats, "parquet_table", lambda _, read=read: read)
        found, _, _ = read_runs([tmp_path / "a.parquet"], None, ())
        assert found.loss.isna().tolist() == np.resize([True, False, False], len(table)).tolist()


def test_other_words_for_diverged_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    frame().assign(diverged=["no", "maybe"] + ["no"] * (len(frame()) - 2)).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"column diverged, row 2 'maybe': must be true or false"):
        read_runs([path], None, ())


def test_a_column_that_says_what_diverged_and_one_without_seeds(tmp_path):
    path = tmp_path / "a.csv"
    table = frame(seeds=1)
    table.assign(diverged=table.learning_rate > 0.07).drop(columns="seed").to_csv(path, index=False)
    found, groups, notes = read_runs([path], None, ())
    assert groups == []
    assert found.loss.isna().sum() == (table.learning_rate > 0.07).sum() > 0
    assert notes == ["a.csv: no column seed, all runs count as one seed"]


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("width,learning_rate,seed,loss\n", "holds no runs"),
        ("width,seed,loss\n64,0,1\n", "has no column learning_rate (its columns: width, seed"),
        ("width,learning_rate,seed,loss\n64,1,0,2\nwide,1,1,2\n", "column width, row 2 'wide'"),
        ("width,learning_rate,seed,loss\n64,fast,0,2\n", "column learning_rate, row 1 'fast'"),
        ("width,learning_rate,seed,loss\n64,1,0,2\n64,1,1,bad\n", "column loss, row 2 'bad'"),
        ("width,learning_rate,seed,loss\n-64,1,0,2\n", "column width, row 1 -64.0"),
        ("width,learning_rate,seed,loss\n,1,0,2\n", "column width, row 1 nan"),
        ("width,learning_rate,seed,loss\n64,0,0,2\n", "column learning_rate, row 1 0.0"),
        ("width,learning_rate,seed,loss\n64,1,0,-2\n", "column loss, row 1 -2.0"),
        ("width,learning_rate,seed,loss\n64,1,,2\n", "column seed, row 1"),
        ("a,b\n1,2,3\n1\n4,5,6,7\n", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, named):
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(InputError) as error:
        read_runs([path], None, ())
    message = str(error.value)
    assert named in message
    assert "a.csv" in message
    assert "\n" not in message


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for name in ("missing.csv", "missing.nc", "missing.parquet"):
        with pytest.raises(InputError, match=rf"{name}': there is no such file"):
            read_runs([tmp_path / name], None, ())
    for name in ("a.csv", "a.nc"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00 not a table")
        with pytest.raises(
            InputError, match=rf"{name}.*(cannot be read|is binary data|is not UTF-8)"
        ):
            read_runs([tmp_path / name], None, ())
    with pytest.raises(InputError, match="must end in"):
        read_runs([tmp_path / "a.log"], None, ())
    with pytest.raises(InputError, match="FILE is missing"):
        read_runs([], None, ())

    def without(*_, **__):
        raise ImportError("no pyarrow")

    (tmp_path / "a.parquet").touch()
    monkeypatch.setattr(_formats, "parquet_table", without)
    with pytest.raises(InputError, match=r"pip install 'dynsim\[parquet\]'"):
        read_runs([tmp_path / "a.parquet"], None, ())
    with pytest.raises(InputError, match=r"missing.parquet': there is no such file"):
        read_runs([tmp_path / "missing.parquet"], None, ())
    monkeypatch.setattr(_formats, "parquet_table", lambda _: frame())
    assert len(read_runs([tmp_path / "a.parquet"], None, ())[0]) == len(frame())


def test_columns_that_group_nothing_useful(tmp_path):
    path = tmp_path / "a.csv"
    history = [frame(loss_limit=1 + 1 / step).assign(step=step) for step in range(1, 102)]
    pd.concat(history).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"group_by.*101 groups \(values: step 101\); last takes"):
        read_runs([path], None, ())
    with pytest.raises(InputError, match=r"group_by 'bogus': must be one of step, file"):
        read_runs([path], None, ("bogus",))
    with pytest.raises(InputError, match="rate"):
        read_runs([path], "hidden", ())


# netCDF sweeps


def sweep(embedding=(1.0,), hidden=RATES, horizons=(4,), vocab_sizes=(16,)) -> xr.Dataset:
    """A sweep with the surface's loss in the hidden rate, best at embedding LR 1."""
    loss = runs(rates=np.asarray(hidden), noise=0.001)[3].reshape(5, 1, 1, len(hidden), 2, 1)
    off = np.log(np.asarray(embedding))[None, None, :, None, None, None] ** 2
    later = np.arange(1, len(horizons) + 1)
    loss = loss * (1 + off) / later**0.1 * np.ones(len(vocab_sizes))[:, None, None, None, None]
    dims = ("width", "vocab_size", "embedding_lr", "hidden_lr", "seed", "horizon")
    return xr.Dataset(
        {"loss": (dims, loss), "diverged": (dims[:5], np.zeros(loss.shape[:5], dtype=bool))},
        coords={
            "width": WIDTHS.astype(int),
            "vocab_size": list(vocab_sizes),
            "embedding_lr": list(embedding),
            "hidden_lr": hidden,
            "seed": [0, 1],
            "horizon": list(horizons),
        },
    )


def metrics(table: pd.DataFrame):
    columns = ("width", "learning_rate", "seed", "loss")
    return fit_transfer(*(table[name].to_numpy() for name in columns), resamples=5)


def test_a_sweep_of_one_rate_is_its_table(tmp_path):
    table, groups, notes = read_runs(stored(tmp_path, sweep()), None, ())
    assert groups == []
    assert notes == ["sweep.nc: learning_rate is the hidden one"]
    direct = fit_transfer(*runs(noise=0.001), resamples=5)
    assert values(metrics(table)) == pytest.approx(values(direct))
    flipped = sweep().rename(embedding_lr="hidden_lr", hidden_lr="embedding_lr")
    table, _, notes = read_runs(stored(tmp_path, flipped), None, ())
    assert notes == ["sweep.nc: learning_rate is the embedding one"]
    assert values(metrics(table)) == pytest.approx(values(direct))


def test_a_sweep_of_two_rates_is_cut_at_the_best_of_the_other(tmp_path):
    both = sweep(embedding=(0.5, 1.0, 2.0, 4.0))
    table, groups, notes = read_runs(stored(tmp_path, both), None, ())
    assert groups == []
    assert "the embedding one is fixed, width by width" in notes[0]
    direct = fit_transfer(*runs(noise=0.001), resamples=5)
    assert values(metrics(table)) == pytest.approx(values(direct))
    table, _, notes = read_runs(stored(tmp_path, both), "embedding", ())
    assert set(table.learning_rate) == {0.5, 1.0, 2.0, 4.0}
    assert "the hidden one is fixed" in notes[0]


def test_diagonals_of_equal_ratio(tmp_path):
    hidden = 0.01 * 2.0 ** np.arange(5)
    both = sweep(embedding=tuple(3 * hidden), hidden=hidden)
    table, groups, notes = read_runs(stored(tmp_path, both), "both", ())
    assert groups == ["embedding_to_hidden"]
    assert sorted(set(table.embedding_to_hidden)) == [0.75, 1.5, 3, 6, 12]
    assert table[table.embedding_to_hidden == 3].learning_rate.nunique() == 5
    assert "4 diagonals with less than 3 rates left out" in notes[0]
    with pytest.raises(InputError, match=r"rate 'both'.*no diagonal"):
        read_runs(stored(tmp_path, sweep(embedding=(1.0, 1.7))), "both", ())


def test_sizes_and_horizons_of_a_sweep_are_groups(tmp_path):
    several = sweep(horizons=(4, 8), vocab_sizes=(16, 64))
    table, groups, _ = read_runs(stored(tmp_path, several), None, ())
    assert groups == ["vocab_size", "horizon"]
    assert len(table) == several.loss.size


def test_what_was_not_run_did_not_diverge(tmp_path):
    part = sweep()
    loss = part.loss.values.copy()
    loss[0, 0, 0, 0], loss[1, 0, 0, -1] = np.nan, np.nan
    diverged = part.diverged.values.copy()
    diverged[1, 0, 0, -1] = True
    part = part.assign(loss=(part.loss.dims, loss), diverged=(part.diverged.dims, diverged))
    table, _, _ = read_runs(stored(tmp_path, part), None, ())
    assert len(table) == part.loss.size - 2
    assert set(table[~np.isfinite(table.loss)].width) == {128}
    assert metrics(table).diverged == 2
    table, _, _ = read_runs(stored(tmp_path, part.drop_vars("diverged")), None, ())
    assert metrics(table).diverged == 4


def test_a_diverged_run_with_a_finite_loss_counts_at_the_last_horizon(tmp_path):
    several = sweep(horizons=(4, 8))
    diverged = several.diverged.values.copy()
    diverged[2, 0, 0, 3, 1] = True
    flagged = several.assign(diverged=(several.diverged.dims, diverged))
    table, _, _ = read_runs(stored(tmp_path, flagged), None, ())
    assert len(table) == several.loss.size
    worst = table[~np.isfinite(table.loss)]
    assert worst[["width", "seed", "horizon"]].values.tolist() == [[WIDTHS[2], 1, 8]]
    early = flagged.diverged.expand_dims(horizon=[4, 8]) & (flagged.horizon == 4)
    table, _, _ = read_runs(stored(tmp_path, flagged.assign(diverged=early)), None, ())
    assert table[~np.isfinite(table.loss)].horizon.tolist() == [4]
    alone = flagged.isel(horizon=1)
    table, _, _ = read_runs(stored(tmp_path, alone), None, ())
    assert metrics(table).diverged == 1


def test_frozen_layers_are_left_out_of_a_sweep(tmp_path):
    hidden = 0.01 * 2.0 ** np.arange(5)
    both = sweep(embedding=tuple(3 * hidden), hidden=hidden)
    frozen = both.reindex(
        embedding_lr=[0, *(3 * hidden)],
        hidden_lr=[0, *hidden],
        fill_value={"loss": 0.1, "diverged": False},
    )
    for rate in (None, "embedding", "both"):
        table, _, notes = read_runs(stored(tmp_path, frozen), rate, ())
        expected, _, _ = read_runs(stored(tmp_path, both), rate, ())
        pd.testing.assert_frame_equal(table, expected)
        assert notes[:2] == [
            f"sweep.nc: runs with {name} learning rate 0 left out"
            for name in ("hidden", "embedding")
        ]
    alone = sweep().assign_coords(embedding_lr=[0.0])
    table, _, notes = read_runs(stored(tmp_path, alone), None, ())
    assert len(table) == alone.loss.size
    assert notes == ["sweep.nc: learning_rate is the hidden one"]


def test_a_file_that_is_no_sweep(tmp_path):
    with pytest.raises(InputError, match="is not a sweep: it has no loss"):
        read_runs(stored(tmp_path, sweep().drop_vars("loss")), None, ())
    with pytest.raises(InputError, match="is not a sweep: it has no seed"):
        read_runs(stored(tmp_path, sweep().drop_vars("seed")), None, ())


# netCDF files of one learning rate


def test_a_file_of_one_learning_rate_is_its_table(tmp_path):
    table, groups, notes = read_runs(stored(tmp_path, cases()), None, ())
    assert (groups, notes) == (["case"], [])
    assert len(table) == 2 * 5 * 8 * 2  # the smallest rate was not run
    assert not np.isclose(table.learning_rate, RATES[0]).any()
    gone = table[~np.isfinite(table.loss)]
    assert gone[["case", "width", "seed"]].values.tolist() == [["a", 64, 1], ["b", 64, 1]]
    assert np.allclose(gone.learning_rate, RATES[-1])
    direct = runs(noise=0.001)
    kept = (direct[1] > RATES[0]) & ~(
        (direct[1] == RATES[-1]) & (direct[0] == 64) & (direct[2] == 1)
    )
    expected = fit_transfer(*(column[kept] for column in direct), resamples=5)
    first = metrics(table[table.case == "a"])
    assert first.diverged == 1
    assert first.loss_exponent.value == pytest.approx(expected.loss_exponent.value, rel=0.1)
    one = metrics(read_runs(stored(tmp_path, cases().isel(case=1)), None, ())[0])
    assert values(one) == pytest.approx(values(metrics(table[table.case == "b"])))


def test_flags_of_divergence_in_a_file_of_one_learning_rate(tmp_path):
    """True or 1 with a loss or without; NaN or no flag at all: a missing loss was not run."""
    whole = cases()
    truth = whole.assign(diverged=whole.diverged == 1)
    table, _, _ = read_runs(stored(tmp_path, truth), None, ())
    expected, _, _ = read_runs(stored(tmp_path, whole), None, ())
    pd.testing.assert_frame_equal(table, expected)
    finite = whole.assign(loss=whole.loss.where(whole.diverged != 1, 7.0))
    table, _, _ = read_runs(stored(tmp_path, finite), None, ())
    assert np.isfinite(table.loss).sum() == np.isfinite(expected.loss).sum() == len(table) - 2
    table, _, _ = read_runs(stored(tmp_path, whole.drop_vars("diverged")), None, ())
    assert len(table) == len(expected) - 2
    assert np.isfinite(table.loss).all()
    infinite = whole.assign(loss=whole.loss.where(whole.diverged != 1, np.inf))
    table, _, _ = read_runs(stored(tmp_path, infinite.drop_vars("diverged")), None, ())
    assert len(table) == len(expected)
    assert np.isinf(table.loss).sum() == 2


def test_coordinates_of_a_case_are_columns_and_those_of_runs_are_not(tmp_path):
    told = cases(
        ("x", "y", "z"),
        network=("case", ["mlp", "mlp", "linear"]),
        rule=("case", ["mup", "sp", "mup"]),
        steps=12,
        rate_at_width=(("case", "width", "learning_rate"), np.arange(135.0).reshape(3, 5, 9)),
    )
    table, groups, _ = read_runs(stored(tmp_path, told), None, ())
    assert groups == ["case", "network", "rule"]  # steps do not vary
    assert table[groups].drop_duplicates().values.tolist() == [
        ["x", "mlp", "mup"],
        ["y", "mlp", "sp"],
        ["z", "linear", "mup"],
    ]
    assert set(table.steps) == {12}
    assert "rate_at_width" not in table
    assert read_runs(stored(tmp_path, told), None, ("network", "rule"))[1] == ["network", "rule"]
    spread = told.set_index(case=["network", "rule"]).unstack("case")
    table, groups, _ = read_runs(stored(tmp_path, spread.drop_vars("rate_at_width")), None, ())
    assert groups == ["network", "rule"]
    assert len(table) == 3 * 5 * 8 * 2  # there is no linear network in sp


def test_many_cases_that_were_mostly_not_run(tmp_path):
    many = cases([f"case {k}" for k in range(75)]).reindex(
        learning_rate=np.concatenate([RATES, RATES * 100, RATES * 10_000])
    )
    table, groups, _ = read_runs(stored(tmp_path, many), None, ())
    assert groups == ["case"]
    assert table.groupby("case").size().tolist() == [5 * 8 * 2] * 75


def test_a_file_of_one_learning_rate_that_lacks_something(tmp_path):
    with pytest.raises(InputError, match="is not a sweep: it has no width, seed"):
        read_runs(stored(tmp_path, cases().drop_vars(["width", "seed"])), None, ())
    own = cases().rename(learning_rate="place")
    own = own.assign_coords(learning_rate=(("case", "place"), np.ones((2, 9))))
    with pytest.raises(InputError, match="learning_rate is no dimension of loss"):
        read_runs(stored(tmp_path, own), None, ())
    with pytest.raises(InputError, match=r"rate 'hidden'.*sweep\.nc has one learning_rate"):
        read_runs(stored(tmp_path, cases()), "hidden", ())
