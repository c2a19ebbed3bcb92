"""Tables as people have them: dialects, cells, equal numbers, and columns that look like groups."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from helpers import assert_refused
from transfer_runs import RATES, WIDTHS, runs

from dynsim import InputError
from experiments.tables._cells import decimal_mark, numbers
from experiments.tables.options import TableOptions
from experiments.tables.runs import read_runs, what_was_read

COLUMNS = ["width", "learning_rate", "seed", "loss"]


def frame(**changes) -> pd.DataFrame:
    table = pd.DataFrame(dict(zip(COLUMNS, runs(**changes), strict=True)))
    return table.assign(width=table.width.astype(int), seed=table.seed.astype(int))


def read(path, *group_by, **options):
    return read_runs([path], None, group_by, (), TableOptions(**options))


def assert_same_runs(found, expected=None) -> None:
    """The table holds these runs, to the digits that a text keeps."""
    expected = frame() if expected is None else expected
    found = found[COLUMNS].astype(float).sort_values(COLUMNS[:3]).to_numpy()
    assert found == pytest.approx(expected.sort_values(COLUMNS[:3]).to_numpy(), rel=1e-9)


def write(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def csv(table=None, **options) -> str:
    return (frame() if table is None else table).to_csv(index=False, **options)


DIALECTS = {
    "spaces": lambda: csv().replace(",", ", "),
    "semicolon": lambda: csv(sep=";"),
    "tab": lambda: csv(sep="\t"),
    "bar": lambda: csv(sep="|"),
    "aligned": lambda: csv(sep=" ").replace(" ", "   "),
    "comment": lambda: "# sweep of march\n" + csv() + "# end\n",
    "savetxt": lambda: "# " + csv(sep=" "),
    "mark": lambda: "\ufeff" + csv(),
    "semicolon and decimal comma": lambda: csv(sep=";").replace(".", ","),
    "index": lambda: frame().to_csv(),
    "row labels": lambda: frame().to_csv().removeprefix(","),
    "trailing separator": lambda: csv().replace("\n", ",\n").replace(",\n", "\n", 1),
    "windows": lambda: csv(lineterminator="\r\n"),
    "capitals and blanks": lambda: csv().replace("width,learning_rate", "Width,Learning Rate", 1),
    "hint for spreadsheets": lambda: "sep=;\n" + csv(sep=";"),
    "tracker": lambda: csv().replace(
        "width,learning_rate,seed,loss",
        "params.width,params.learning_rate,params.seed,metrics.loss",
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_of_csv(tmp_path, dialect):
    found, groups, _ = read(write(tmp_path / "RUNS.CSV", DIALECTS[dialect]()))
    assert groups == []
    assert_same_runs(found)


def test_encodings_and_compressions(tmp_path):
    for encoding in ("utf-16", "utf-16-le", "utf-8-sig"):
        assert_same_runs(read(write(tmp_path / "a.csv", csv(), encoding))[0])
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(csv(sep="\t").encode()))
    assert_same_runs(read(tmp_path / "a.tsv.gz")[0])
    latin = write(tmp_path / "b.csv", csv(frame().assign(place="Zürich")), "latin-1")
    assert_refused("FILE", lambda: read(latin), "not UTF-8", "--encoding", "latin-1")
    assert_same_runs(read(latin, encoding="latin-1")[0])
    assert_refused("--encoding", lambda: read(latin, encoding="latin-0"), "must be an encoding")
    assert_refused("FILE", lambda: read(tmp_path / "sheet.xlsx"), "save the sheet as CSV")


def test_json_in_its_forms(tmp_path):
    rows = frame().to_dict("records")
    nested = [
        {
            "config": {"width": r["width"], "learning_rate": r["learning_rate"]},
            "seed": r["seed"],
            "summary": {"loss": r["loss"]},
        }
        for r in rows
    ]
    lost = [json.loads(json.dumps(row)) | {"loss": float("nan")} for row in rows[:1]]
    texts = {
        "a.jsonl": "\n".join(map(json.dumps, rows)),
        "b.json": json.dumps(rows),
        "c.json": json.dumps(frame().to_dict("list")),
        "d.ndjson": "\n".join(map(json.dumps, nested)),
    }
    for orient in ("columns", "index", "split", "table"):
        texts[f"{orient}.json"] = frame().to_json(orient=orient, double_precision=15)
    for name, text in texts.items():
        assert_same_runs(read(write(tmp_path / name, text))[0])
    found = read(write(tmp_path / "e.jsonl", "\n".join(map(json.dumps, lost + rows[1:]))))[0]
    assert found.loss.isna().sum() == 1
    for text, fragment in (("{", "as JSON"), ("[1, 2]", "an object for each run"), (" ", "empty")):
        assert_refused("FILE", lambda text=text: read(write(tmp_path / "f.json", text)), fragment)


def test_parquet_with_an_index_and_lists(tmp_path):
    pytest.importorskip("pyarrow")
    table = frame().assign(layers=[[1, 2]] * len(frame()))
    table.set_index("width").to_parquet(tmp_path / "a.PARQUET")
    found, groups, notes = read(tmp_path / "a.PARQUET")
    assert groups == []
    assert "left out layers" in notes[0]
    assert_same_runs(found)


def test_columns_by_option_and_rows_by_condition(tmp_path):
    table = frame().rename(columns={"width": "h", "learning_rate": "lr", "loss": "smooth loss"})
    other = table.assign(**{"smooth loss": 9.0})
    both = pd.concat([table.assign(bs=128), other.assign(bs=256)]).assign(loss=1.0)
    path = write(tmp_path / "a.csv", csv(both))
    roles = {"width_column": "h", "learning_rate_column": "lr", "loss_column": "smooth loss"}
    for condition in ("bs=128", "bs<200", "bs != 256", "bs=128.0"):
        found, groups, notes = read(path, **roles, where=(condition,))
        assert groups == []
        assert "90 of 180 rows" in notes[0]
        assert_same_runs(found)
    assert read(path, **roles)[1] == ["bs"]
    assert_refused("FILE", lambda: read(path), "--width-column", "such as h", "such as lr")
    assert_refused("--loss-column", lambda: read(path, loss_column="los"), "smooth loss")
    for where, fragment in (("bs=1", "leaves no rows"), ("b=1", "column"), ("bs", "COLUMN=VALUE")):
        assert_refused("where", lambda where=where: read(path, **roles, where=(where,)), fragment)


@pytest.mark.parametrize("base", ["2", "10", "e"])
def test_logarithmic_rates(tmp_path, base):
    factor = np.log({"2": 2.0, "10": 10.0, "e": np.e}[base])
    table = frame().assign(learning_rate=np.log(frame().learning_rate) / factor)
    path = write(tmp_path / "a.csv", csv(table))
    assert_same_runs(read(path, log_rates=base)[0])
    with pytest.raises(InputError, match="log_rates"):
        read(path)


def test_numbers_as_people_write_them():
    cells = pd.Series(["1,024", "12 288", "1_000", "2e-3", "nan", "", " 64 ", "1.5"])
    expected = [1024, 12288, 1000, 2e-3, np.nan, np.nan, 64, 1.5]
    assert numbers(cells).to_numpy() == pytest.approx(expected, nan_ok=True)
    cells = pd.Series(["0,001", "1.024", "12.288,5", "1e-3"])
    assert numbers(cells, ",").to_numpy() == pytest.approx([0.001, 1024, 12288.5, 1e-3])
    assert np.isnan(numbers(pd.Series(["12,34,5", "wide", "1.2.3"]))).all()
    assert decimal_mark([pd.Series(["0,5", "1,024"])])[0] == ","
    assert decimal_mark([pd.Series(["1,024"]), pd.Series(["2.5"])]) == (".", None)
    assert decimal_mark([pd.Series(["1,024", "2"])])[1].tolist() == ["1,024"]


def test_a_mark_that_can_be_read_two_ways_is_asked_for(tmp_path):
    path = write(tmp_path / "a.csv", "width;learning_rate;loss\n64;1;1,234\n64;2;1,235\n")
    assert_refused(f"{path}, column loss, row 1", lambda: read(path), "1,234", "--decimal")
    assert read(path, decimal=",")[0].loss.tolist() == [1.234, 1.235]


def rounded() -> pd.DataFrame:
    """The same rates in single precision for one seed, and by another order of computing."""
    table = frame(seeds=3, noise=1e-3)
    single = table.learning_rate.astype(np.float32).astype(float)
    exact = table.learning_rate.where(table.seed != 1, single)
    return table.assign(learning_rate=exact.where(table.seed != 2, np.exp(np.log(exact) + 1e-15)))


def test_rates_that_differ_by_rounding_are_one(tmp_path):
    path = write(tmp_path / "a.csv", csv(rounded()))
    found, _, notes = read(path)
    assert found.learning_rate.nunique() == len(RATES)
    assert any("are 9: they differ by rounding alone" in note for note in notes)
    assert set(found.groupby(["width", "learning_rate"]).size()) == {3}


def test_rates_of_few_digits_are_those_of_the_other_seeds(tmp_path):
    """Half precision of one seed, three printed digits of another. A scan in steps of half a
    percent stays one, since a run has two of these rates."""
    table = frame(seeds=3)
    half = table.learning_rate.astype(np.float16).astype(float)
    printed = table.learning_rate.map("{:.2e}".format).astype(float)
    rates = np.select([table.seed == 1, table.seed == 2], [half, printed], table.learning_rate)
    assert len(np.unique(rates)) > 2 * len(RATES)
    path = write(tmp_path / "a.csv", csv(table.assign(learning_rate=rates)))
    found, _, notes = read(path)
    assert found.groupby(["width", "learning_rate"]).seed.nunique().eq(3).all()
    assert found.learning_rate.nunique() == len(RATES)
    assert f"are taken as {len(RATES)}: they differ by up to 0.00" in "".join(notes)
    scan = frame(seeds=1).assign(learning_rate=frame(seeds=1).groupby("width").cumcount())
    scan.learning_rate = 0.01 * 1.005**scan.learning_rate
    found, _, notes = read(write(tmp_path / "b.csv", csv(scan)))
    assert (found.learning_rate.nunique(), "taken as" in "".join(notes)) == (len(RATES), False)


def test_the_only_column_of_seeds_is_the_seed_under_any_name(tmp_path):
    table = frame(seeds=2).rename(columns={"seed": "config/random_seed"})
    found, groups, notes = read(write(tmp_path / "a.csv", csv(table)))
    assert (found.seed.nunique(), groups) == (2, [])
    assert "seed is config/random_seed" in "".join(notes)
    two = table.assign(data_seed=table["config/random_seed"])
    notes = read(write(tmp_path / "a.csv", csv(two)), ignore=("data_seed",))[2]
    assert "no column seed" in "".join(notes)


def test_seeds_of_two_kinds_are_labels(tmp_path):
    small = write(tmp_path / "small.csv", csv(frame(widths=WIDTHS[:2])))
    named = frame(widths=WIDTHS[2:]).assign(seed=lambda table: "run" + table.seed.astype(str))
    large = write(tmp_path / "large.csv", csv(named))
    found, groups, _ = read_runs([small, large], None, ())
    assert groups == []
    assert set(found.seed) == {"0", "1", "run0", "run1"}


def test_columns_that_only_look_like_groups(tmp_path):
    """Functions of the width, outcomes and bookkeeping, beside a rule that makes groups."""
    one = frame()
    diverged = one.learning_rate > 0.07
    one = one.assign(
        n_params=12 * one.width**2,
        depth=np.log2(one.width).astype(int),
        State=np.where(diverged, "crashed", "finished"),
        exit=np.where(diverged, 1, 0),
        loss=one.loss.mask(diverged),
        log_lr=np.log(one.learning_rate),
        data_seed=one.seed + 100,
        host=[f"node{k % 7}" for k in range(len(one))],
    )
    both = pd.concat([one.assign(rule="mup"), one.assign(rule="sp", loss=one.loss + 1)])
    both = both.assign(Name=[f"run-{k}" for k in range(len(both))], Runtime=np.sqrt(np.arange(180)))
    for table, expected in ((one, []), (both, ["rule"])):
        path = write(tmp_path / "a.csv", csv(table))
        found, groups, notes = read(path)
        assert groups == expected
        assert found.loss.isna().sum() == diverged.sum() * len(table) // len(one)
        told = "\n".join(notes)
        for names, reason in (
            ("n_params, depth", "a function of the width"),
            ("State, exit", "says how a run ended"),
            ("data_seed", "a function of the seed"),
        ):
            assert f"not used as groups: {names} ({reason})" in told
    assert "Name" in told
    assert "Runtime" in told
    many = one.assign(**{f"c{k}": np.arange(len(one)) + k for k in range(30)})
    assert re.search(r"c18, c19 and 1\d more \(differs", "\n".join(read(write(path, csv(many)))[2]))
    assert "rule" not in told
    assert read(write(tmp_path / "a.csv", csv(one)), "State")[1] == ["State"]


def test_groups_that_no_clash_asks_for_are_kept_where_each_is_a_sweep(tmp_path):
    """Two rules on rates of their own, and on seeds of their own; and one that says the same."""
    apart = pd.concat([frame().assign(rule="a"), frame(rates=RATES * 1.3).assign(rule="b")])
    assert read(write(tmp_path / "a.csv", csv(apart)))[1] == ["rule"]
    seeds = pd.concat([frame().assign(rule="a"), frame().assign(rule="b", seed=frame().seed + 9)])
    assert read(write(tmp_path / "a.csv", csv(seeds)))[1] == ["rule"]
    named = pd.concat([frame().assign(rule=r, key=k) for r, k in (("a", "x"), ("b", "y"))])
    assert read(write(tmp_path / "a.csv", csv(named)))[1] == ["rule", "key"]
    crossed = [frame().assign(rule=r, wd=w) for r in "ab" for w in ("0.1", "0.10000000149")]
    crossed = pd.concat([*crossed, frame().assign(rule="a", wd="0")])
    crossed = crossed.drop_duplicates(["width", "learning_rate", "seed", "rule", "wd"])
    assert read(write(tmp_path / "a.csv", csv(crossed)))[0].wd.nunique() == 2
    assert read(write(tmp_path / "a.csv", csv(crossed)), ignore=("rule",))[1] == ["wd"]


def test_words_for_a_lost_run_and_for_one_that_was_not_finished(tmp_path):
    loss = frame().loss.astype(str)
    words = loss.copy()
    for k, word in enumerate(["nan", "Diverged", "inf", "", "OOM", "running"]):
        words.iloc[k] = word
    table = frame().assign(loss=words)
    found, _, notes = read(write(tmp_path / "a.csv", csv(table)))
    assert len(found) == len(table) - 2
    assert found.loss.isna().sum() == 4
    assert "2 runs without a loss left out: not finished" in "".join(notes)
    spellings = ["DIVERGED!", "diverged at step 300", "NaN", "#NUM!", "n.a.", "overflow", "-inf"]
    words = loss.copy()
    words.iloc[: len(spellings)] = spellings
    found = read(write(tmp_path / "a.csv", csv(frame().assign(loss=words))))[0]
    assert found.loss.isna().to_numpy().tolist() == [k < 7 for k in range(len(found))]
    state = frame().assign(state=["diverged", "running"] + ["finished"] * (len(frame()) - 2))
    found, groups, notes = read(write(tmp_path / "a.csv", csv(state)))
    assert (groups, found.loss.isna().sum(), len(found)) == ([], 1, len(state))
    assert "1 runs are running by their state" in "".join(notes)


def test_the_last_row_of_each_run(tmp_path):
    history = [frame(loss_limit=1 + 1 / step).assign(epoch=step) for step in (1, 2, 3)]
    table = pd.concat(history)
    early = (table.epoch == 3) & (table.width == 64) & (table.learning_rate == RATES[4])
    table = table[~(early & (table.seed == 0))]
    both = pd.concat([table.assign(rule="a"), table.assign(rule="b")])
    notes = read(write(tmp_path / "a.csv", csv(both)))[2]
    assert "`last` epoch takes the last row of each run" in "".join(notes)
    found, groups, notes = read(tmp_path / "a.csv", last="epoch")
    assert groups == ["rule"]
    assert len(found) == 2 * len(frame())
    assert found.loss.isna().sum() == 2
    assert "2 runs ended before the largest epoch" in "".join(notes)
    whole = found[found.loss.notna() & (found.rule == "a")]
    assert whole.loss.max() <= history[-1].loss.max()
    assert_refused("--last", lambda: read(tmp_path / "a.csv", last="step"), "epoch, rule")


def test_a_column_twice_and_a_rate_of_zero(tmp_path):
    path = write(tmp_path / "a.csv", "width,learning_rate,loss,loss\n64,1,2,3\n")
    assert_refused("FILE", lambda: read(path), "column loss twice")
    path = write(tmp_path / "a.csv", "width,learning_rate,loss\n64,0,2\n64,1,2\n")
    assert_refused(f"{path}, column learning_rate, row 1", lambda: read(path), "--where")
    assert len(read(path, where=("learning_rate>0",))[0]) == 1
    path = write(tmp_path / "a.csv", "width,learning_rate,loss\n64,0,001,2\n64,0,002,2\n")
    assert_refused("FILE", lambda: read(path), "names 3 columns", "4 cells")


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path):
    path = tmp_path / "L\udce4ufe.csv"
    path.write_text(csv())
    found, groups, _ = read(path)
    assert groups == []
    assert set(found.file) == {"L\\xe4ufe.csv"}
    assert what_was_read(found, [path]).startswith("read 90 runs from 1 file: 5 widths (64, 128")
