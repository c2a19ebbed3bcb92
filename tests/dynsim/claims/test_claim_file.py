"""Claim files: what is read is what was written, and every mistake is one line with its place."""

from __future__ import annotations

import datetime
import pickle
import re
from dataclasses import replace

import pytest

from dynsim import InputError, claim
from dynsim.claims import claim_file, claim_text

GOOD = '''\
# What all claims share.
[defaults]
tokens = "zipf:0.8"
optimizer = "sign"

[[claim]]
name = "my-projection"
statement = """
The projection's first update along m = d^0.7
grows like d^0.65."""
quantity = "projection_update_rms"
widths = [128, 256, 512, 1024]
vocab_size = "d^0.7"
batch_size = 4096
prediction = "1 - mu/2"  # a formula
tolerance = 0.05
rival = 1
source = "Hayou & Liu 2025, arXiv 2506.15025"
registered = 2026-11-26

[claim.full]
widths = [256, 512]
seeds = 64

[[claim]]
name = "my-ratio"
statement = "The measured update is the derived one."
quantity = "projection_update_rms"
form = "ratio"
widths = [64, 128]
vocab_size = ["d", "4*d"]
tolerance = 0.1
'''


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "my_claims.toml"

    def write(text: str = GOOD):
        path.write_text(text, encoding="utf-8")
        return claim_file(path)

    return write


def test_a_claim_is_what_the_file_says(written):
    first, second = written().claims
    assert first.statement == "The projection's first update along m = d^0.7 grows like d^0.65."
    assert (first.along, first.sizes, first.seeds) == ("width", (128, 256, 512, 1024), 8)
    assert first.options == {
        "tokens": "zipf:0.8",
        "optimizer": "sign",
        "vocab_size": "d^0.7",
        "batch_size": 4096,
    }
    assert first.registered == datetime.date(2026, 11, 26)
    assert first.stated() == pytest.approx(1 - 0.7 / 2)
    full = first.at_full()
    assert (full.sizes, full.seeds, full.options) == ((256, 512), 64, first.options)
    assert second.stated() == 1.0
    assert [path.setup(128).vocab_size for path in second.families] == [128, 512]


def test_python_and_file_say_the_same(written):
    one = claim(
        name="my-ratio",
        statement="The measured update is the derived one.",
        quantity="projection_update_rms",
        form="ratio",
        widths=[64, 128],
        vocab_size=["d", "4*d"],
        tokens="zipf:0.8",
        optimizer="sign",
        tolerance=0.1,
    )
    assert one.digest == written().claims[1].digest


def test_a_printed_claim_says_what_is_measured(written):
    """Sizes, networks at each, band and rival: what a verdict rests on."""
    shown = repr(replace(written().claims[0], rival=0.5))
    for line in (
        "widths: 128, 256, 512, 1024",
        "seeds: 8",
        "prediction: 1 - mu/2 ± 0.05",
        "rival: 0.5",
    ):
        assert f"  {line}\n" in f"{shown}\n"


def test_text_and_file_are_the_same_claims(written, tmp_path):
    claims = written().claims
    again = tmp_path / "again.toml"
    again.write_text(claim_text(claims), encoding="utf-8")
    read = claim_file(again).claims
    assert [one.content for one in read] == [one.content for one in claims]
    assert [one.digest for one in read] == [one.digest for one in claims]


def test_digests_see_what_matters(written):
    """Of the file every byte; of a claim what it says, and not how the file is laid out."""
    before = written()
    commented = written(GOOD.replace("# a formula", "# some formula"))
    assert commented.digest != before.digest
    assert [one.digest for one in commented.claims] == [one.digest for one in before.claims]
    shared = written(GOOD.replace('"zipf:0.8"', '"zipf:0.9"'))
    assert not {one.digest for one in shared.claims} & {one.digest for one in before.claims}
    for old, new in (
        ("tolerance = 0.05", "tolerance = 0.06"),
        ("seeds = 64", "seeds = 65"),
        ('"1 - mu/2"', '"1 - mu/3"'),
        ("2026-11-26", "2026-11-27"),
        ("grows like d^0.65", "grows as d^0.65"),
    ):
        changed = written(GOOD.replace(old, new)).claims
        assert changed[0].digest != before.claims[0].digest, new
        assert changed[1].digest == before.claims[1].digest, new


def test_orders_are_those_of_the_path(written):
    first = written().claims[0]
    assert first.orders() == {"mu": 0.7, "nu": 0.0, "beta": 0.0, "alpha": 0.8}
    along = written(
        GOOD.replace("widths = [128, 256, 512, 1024]", "vocab_sizes = [64, 128]")
        .replace('vocab_size = "d^0.7"', 'width = "4*m"')
        .replace("batch_size = 4096", 'batch_size = "d^2"')
        .replace("widths = [256, 512]", "")
    ).claims[0]
    assert along.orders() == {"mu": 1.0, "nu": 0.0, "beta": 2.0, "alpha": 0.8}


WRONG = [
    # what is replaced, by what, line, fragments
    ("tokens =", "token =", 3, "defaults: token", "nearest is tokens"),
    ("optimizer =", "optimiser =", 4, "the nearest is optimizer"),
    ('"sign"', "3", 4, "optimizer 3: must be a text"),
    ('"zipf:0.8"', '"zapf:0.8"', 3, "my-projection", "tokens 'zapf:0.8'"),
    ("my-projection", "my projection", 7, "name 'my projection'"),
    ('"my-ratio"', '"my-projection"', 26, "one claim only"),
    ("[128, 256, 512, 1024]", "[128, 256, 512, 64]", 12, "widths", "must increase"),
    ("[128, 256, 512, 1024]", "[128.5, 256]", 12, "widths 128.5: must be an integer"),
    ("[128, 256, 512, 1024]", "[128]", 12, "two sizes or more"),
    ("[128, 256, 512, 1024]", "[]", 12, "two sizes or more"),
    ("[128, 256, 512, 1024]", '"d"', 12, "must be a list of integers"),
    ('"d^0.7"', '"d^-1/2"', 13, "ambiguous", "d^(-1/2)"),
    ('"d^0.7"', '"d^8"', 13, "at width 128", "must be an integer"),
    ('"d^0.7"', '["d", "m"]', 13, "one path for an exponent"),
    ("4096", "-1", 14, "batch_size"),
    ("4096", '"B"', 14, "must not depend on itself"),
    ('"1 - mu/2"', '"1 - nu/beta"', 15, "must be a finite number"),
    ('"1 - mu/2"', '"1 - mv/2"', 15, "'mv' is no variable"),
    ('"1 - mu/2"', "nan", 15, "prediction nan: must be finite"),
    ('"1 - mu/2"', "inf", 15, "must be finite"),
    ('"1 - mu/2"', "true", 15, "must be a number or a formula"),
    ('"1 - mu/2"', '"1e9"', 15, "at most 1e+06"),
    ("tolerance = 0.05", "tolerance = 0", 16, "must be a positive finite number"),
    ("tolerance = 0.05", "tolerance = nan", 16, "must be a positive finite number"),
    ("tolerance = 0.05", "tolerance = " + "9" * 400, 16, "must be a positive finite number"),
    ('"1 - mu/2"', "9" * 400, 15, "must be finite"),
    ("tolerance = 0.05\n", "", 6, "tolerance is missing"),
    (
        "tolerance = 0.05",
        "tolerance = 0.4",
        17,
        "rival 1: must lie",
        "outside the band [0.25, 1.05]",
    ),
    ("2026-11-26", "2026-11-26T00:00:00", 19, "must be a date"),
    ("2026-11-26", '"2026-11-26"', 19, "must be a date"),
    ("seeds = 64", "seed = 6.4", 23, "must be an integer"),
    ("seeds = 64", "sedes = 64", 23, "the nearest is seeds"),
    ("seeds = 64", "seeds = 1", 23, "at least 2"),
    ("seeds = 64\n", 'seeds = 64\nvocab_size = "d^8"\n', 24, "at width 256", "full.vocab_size"),
    ("[claim.full]\nwidths = [256, 512]\nseeds = 64", "full = {seeds = 1}", 21, "seeds 1"),
    ("[claim.full]\nwidths = [256, 512]\nseeds = 64", "full.sedes = 9", 21, "sedes 9"),
    ("widths = [256, 512]", "vocab_sizes = [256, 512]", 21, "must keep the size that grows"),
    ('form = "ratio"', 'form = "ratios"', 29, "must be one of exponent, ratio"),
    ('form = "ratio"', "", 25, "prediction is missing"),
    ("widths = [64, 128]", "widths = [64, 128]\nvocab_sizes = [1, 2]", 30, "exactly one size"),
    ("widths = [64, 128]\n", "", 25, "exactly one size must grow"),
    ("tolerance = 0.1", 'tolerance = 0.1\nagainst = "theory"', 33, "derived or mean_field"),
    ("tolerance = 0.1", 'tolerance = 0.1\nprediction = "asymptotic"', 33, "for a ratio"),
    ("[[claim]]", "[[claims]]", 6, "claims is no table", "tables are claim and defaults"),
    ("[[claim]]", "[[claim]", 6, "is not TOML"),
    ('"sign"', '"sign', 4, "is not TOML"),
    ('"sign"', "sign", 4, "stands between quotes"),
    (GOOD, "", None, "holds no [[claim]]"),
    (GOOD, "claim = 3", 1, "must be written [[claim]]"),
    (GOOD, "claim = [3]", None, "must be a table"),
    (GOOD, "[claim]\nname = 'x'", 1, "must be written [[claim]]"),
    (GOOD, "[[claim]]\nname = 'x'", 1, "claim x: statement is missing"),
    (GOOD, "[[claim]]\nfull = 3", 2, "must be a table"),
    (GOOD, "x = " + "[" * 5000, None, ""),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "fragments"),
    [pytest.param(a, b, c, d, id=f"{number}") for number, (a, b, c, *d) in enumerate(WRONG)],
)
def test_a_mistake_is_one_line_with_its_place(written, old, new, line, fragments):
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        written(GOOD.replace(old, new, 2 if "claim]" in old else 1))
    message = caught.value.written(lambda field: f"--{field}")
    assert "\n" not in message
    assert "`" not in message
    assert "my_claims.toml" in message
    if line is not None:
        assert re.search(rf"my_claims.toml, line {line}: ", message), message
    for fragment in fragments:
        assert fragment in message, message
    assert "--" not in message.partition(": ")[2]  # keys of a file are no options
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_lines_are_found_behind_texts_of_several_lines(written):
    """A key inside a text is no key."""
    text = GOOD.replace("grows like", 'widths = [3]\ngrows """, like').replace('"""', "'''")
    with pytest.raises(InputError):
        written(text)
    text = GOOD.replace("grows like", "widths = [3]\ngrows like").replace("1024]", "1024.5]")
    with pytest.raises(InputError, match=r"line 13: claim my-projection: widths 1024\.5"):
        written(text)


def test_a_file_that_cannot_be_read(tmp_path):
    for missing, reason in (("none.toml", "No such file"), (".", "Is a directory")):
        with pytest.raises(InputError) as error:
            claim_file(tmp_path / missing)
        assert error.value.written(str).startswith(
            f"{tmp_path / missing}: cannot be read: {reason}"
        )
    path = tmp_path / "latin.toml"
    path.write_bytes(b"x = 1\n# \xe9t\xe9")
    with pytest.raises(InputError, match=r"latin\.toml, line 2: is not UTF-8 text"):
        claim_file(path)
    path.write_bytes(b"#" * 2**21)
    with pytest.raises(InputError, match="at most 1048576 bytes"):
        claim_file(path)
